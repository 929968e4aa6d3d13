//! Which operations a signature needs: from its outputs through the nodes and functions of the
//! graph, up to its inputs.
use std::collections::BTreeSet;

use super::graph::{Graph, node_of};
use crate::signature::Signature;

impl Graph {
    /// The operations that a call of the signature needs; `None` if that is not known.
    pub fn reached_by(&self, signature: &Signature) -> Option<BTreeSet<&str>> {
        if !self.is_followed {
            return None;
        }
        let id = |tensor: &str| self.names.get(node_of(tensor)).copied();
        let fed: BTreeSet<u32> = signature.inputs.iter().filter_map(|info| id(&info.tensor_name)).collect();
        let mut seen: BTreeSet<u32> =
            signature.outputs.iter().filter_map(|info| id(&info.tensor_name)).collect();
        let mut left: Vec<u32> = seen.iter().copied().collect();
        let mut ops = BTreeSet::new();
        while let Some(next) = left.pop() {
            let Some(vertex) = self.vertices.get(next as usize).filter(|_| !fed.contains(&next)) else {
                continue;
            };
            ops.extend(
                vertex.ops.iter().filter_map(|op| self.op_names.get(*op as usize)).map(String::as_str),
            );
            left.extend(vertex.leads_to.iter().filter(|other| seen.insert(**other)));
        }
        Some(ops)
    }

    /// Whether the main graph has the node of a tensor; `None` if that is not known.
    pub fn has_tensor(&self, tensor: &str) -> Option<bool> {
        let id = self.names.get(node_of(tensor));
        self.is_followed.then(|| {
            id.is_some_and(|id| self.vertices.get(*id as usize).is_some_and(|vertex| !vertex.ops.is_empty()))
        })
    }
}
