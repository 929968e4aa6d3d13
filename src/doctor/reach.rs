//! Which operations a signature needs: from its outputs through the nodes and functions of the
//! graph, up to its inputs.
use std::collections::BTreeSet;

use super::graph::{Graph, node_of};
use crate::signature::{Signature, TensorInfo};

impl Graph {
    /// The operations that a call of the signature needs; `None` if that is not known.
    pub fn reached_by(&self, signature: &Signature) -> Option<BTreeSet<&str>> {
        let names = |infos: &'_ [TensorInfo]| -> Vec<String> {
            infos.iter().map(|info| info.tensor_name.clone()).collect()
        };
        self.reached_from(&names(&signature.outputs), &names(&signature.inputs))
    }

    /// The operations that these tensors need, if those are fed; `None` if that is not known.
    pub(super) fn reached_from(&self, fetched: &[String], fed: &[String]) -> Option<BTreeSet<&str>> {
        if !self.is_followed {
            return None;
        }
        let id = |tensor: &String| self.names.get(node_of(tensor)).copied();
        let fed: BTreeSet<u32> = fed.iter().filter_map(id).collect();
        let mut seen: BTreeSet<u32> = fetched.iter().filter_map(id).collect();
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
