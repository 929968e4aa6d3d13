//! The operations of a graph and of its function library, with their attributes: one pass, nothing
//! of the tensors in it.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Read, Seek};

use super::fields::{Fields, Payload, ReadError};

/// Different operations, and different attributes of one, far beyond what TensorFlow has.
const MAX_OPS: usize = 16 << 10;
const MAX_ATTRS: usize = 256;
/// Different functions.
const MAX_FUNCTIONS: usize = 256 << 10;
/// Bytes of names and edges that are kept of the nodes. Beyond it the graph is not followed.
const MAX_EDGES: usize = 24 << 20;
/// What a number in an edge list costs, and a name besides its bytes.
const EDGE: usize = 8;
const NAME: usize = 64;

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    pub node: String,
    /// The function of the library that holds it; empty in the main graph.
    pub function: String,
}

/// An attribute as the nodes of one operation have it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttrUse {
    /// The first node that has it.
    pub first: Place,
    /// A node that lacks it.
    pub lacking: Option<Place>,
    /// The dtypes that it has been, one bit for each number of `types.proto`; 0 if it is no dtype.
    pub types: u64,
    /// Whether it has been something else than false, 0 and empty.
    pub is_set: bool,
    /// The smallest and largest number that it has been.
    pub numbers: Option<(i64, i64)>,
}

/// An operation as the nodes use it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpUse {
    pub nodes: u64,
    /// The first node; one in the main graph if there is any.
    pub first: Place,
    pub attrs: BTreeMap<String, AttrUse>,
    /// How many of its nodes are in the main graph, which TensorFlow checks on load.
    pub in_main: u64,
}

/// One node of the main graph or one function of the library, with the indices of what it leads to.
#[derive(Debug, Default)]
pub(super) struct Vertex {
    pub(super) ops: BTreeSet<u32>,
    pub(super) leads_to: BTreeSet<u32>,
}

/// What a graph and its function library use.
#[derive(Debug, Default)]
pub struct Graph {
    pub ops: BTreeMap<String, OpUse>,
    pub functions: BTreeSet<String>,
    /// Function names by alias of the caller, if a node calls a function that does not exist.
    pub unknown_functions: BTreeMap<String, Place>,
    /// Inputs of nodes of the main graph that no node has.
    pub unknown_inputs: BTreeMap<String, Place>,
    /// Whether the edges are complete, so that it is known which signature reaches what.
    pub is_followed: bool,
    pub(super) names: HashMap<String, u32>,
    pub(super) vertices: Vec<Vertex>,
    pub(super) op_names: Vec<String>,
    /// How many nodes the main graph has.
    pub nodes: u64,
    /// Whether some limit was reached, so that operations may be missing.
    pub is_cut: bool,
}

/// A node as it was read.
#[derive(Default)]
struct Node {
    name: String,
    op: String,
    inputs: Vec<String>,
    calls: Vec<String>,
    attrs: Vec<Attr>,
}

#[derive(Default)]
struct Attr {
    name: String,
    is_set: bool,
    types: u64,
    number: Option<i64>,
}

pub(super) struct Builder {
    graph: Graph,
    op_index: HashMap<String, u32>,
    /// Bytes that the edges take.
    edges: usize,
    nodes: BTreeSet<u32>,
    /// Uses of names, which are checked at the end: node or function, by whom.
    inputs: BTreeMap<u32, Place>,
    calls: BTreeMap<u32, Place>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            graph: Graph { is_followed: true, ..Graph::default() },
            op_index: HashMap::new(),
            edges: 0,
            nodes: BTreeSet::new(),
            inputs: BTreeMap::new(),
            calls: BTreeMap::new(),
        }
    }

    /// Reads a `FunctionDefLibrary` (function.proto).
    pub(super) fn library<R: Read + Seek>(
        &mut self,
        from: &mut Fields<R>,
        end: u64,
    ) -> Result<(), ReadError> {
        while let Some((number, payload)) = from.next(end)? {
            match (number, payload) {
                (1, Payload::Bytes(length)) => {
                    let end = from.end_of(length);
                    self.function(from, end)?;
                }
                (_, payload) => from.pass(payload)?,
            }
        }
        Ok(())
    }

    /// Reads a `FunctionDef`: its name is in field 1, its nodes in field 3.
    fn function<R: Read + Seek>(&mut self, from: &mut Fields<R>, end: u64) -> Result<(), ReadError> {
        let mut name = String::new();
        let mut vertex = Vertex::default();
        while let Some((number, payload)) = from.next(end)? {
            match (number, payload) {
                (1, Payload::Bytes(length)) => {
                    let end = from.end_of(length);
                    while let Some((number, payload)) = from.next(end)? {
                        match (number, payload) {
                            (1, Payload::Bytes(length)) => name = from.name(length)?,
                            (_, payload) => from.pass(payload)?,
                        }
                    }
                }
                (3, Payload::Bytes(length)) => {
                    let end = from.end_of(length);
                    let node = read_node(from, end)?;
                    self.node(node, &name, &mut vertex);
                }
                (_, payload) => from.pass(payload)?,
            }
        }
        if self.graph.functions.len() < MAX_FUNCTIONS {
            self.vertex(&format!("()/{name}"), vertex);
            self.graph.functions.insert(name);
        } else {
            (self.graph.is_cut, self.graph.is_followed) = (true, false);
        }
        Ok(())
    }

    /// Reads a node of the main graph.
    pub(super) fn main_node<R: Read + Seek>(
        &mut self,
        from: &mut Fields<R>,
        end: u64,
    ) -> Result<(), ReadError> {
        let mut node = read_node(from, end)?;
        self.graph.nodes += 1;
        let mut vertex = Vertex::default();
        if !self.graph.is_followed {
            self.node(node, "", &mut vertex);
            return Ok(());
        }
        for input in std::mem::take(&mut node.inputs) {
            let id = self.id(node_of(&input));
            vertex.leads_to.insert(id);
            self.edges += EDGE;
            self.inputs
                .entry(id)
                .or_insert_with(|| Place { node: node.name.clone(), function: String::new() });
        }
        let name = node.name.clone();
        self.node(node, "", &mut vertex);
        let id = self.vertex(&name, vertex);
        self.nodes.insert(id);
        Ok(())
    }

    fn vertex(&mut self, name: &str, vertex: Vertex) -> u32 {
        let id = self.id(name);
        self.edges += EDGE * (vertex.ops.len() + vertex.leads_to.len());
        if let Some(slot) = self.graph.vertices.get_mut(id as usize) {
            *slot = vertex;
        }
        if self.edges > MAX_EDGES {
            self.graph.is_followed = false;
            self.graph.names = HashMap::new();
            self.graph.vertices = Vec::new();
            (self.inputs, self.calls, self.nodes) = Default::default();
        }
        id
    }

    fn id(&mut self, name: &str) -> u32 {
        if let Some(id) = self.graph.names.get(name) {
            return *id;
        }
        let id = self.graph.vertices.len() as u32;
        self.edges += name.len() + NAME;
        self.graph.vertices.push(Vertex::default());
        self.graph.names.insert(name.to_owned(), id);
        id
    }

    /// Counts a node's operation and attributes, and notes what it calls.
    fn node(&mut self, node: Node, function: &str, vertex: &mut Vertex) {
        let place = Place { node: node.name, function: function.to_owned() };
        if self.graph.is_followed {
            for call in node.calls {
                let id = self.id(&format!("()/{call}"));
                vertex.leads_to.insert(id);
                self.calls.entry(id).or_insert_with(|| place.clone());
            }
        }
        let known = self.op_index.len();
        let index = match self.op_index.get(&node.op) {
            Some(index) => *index,
            None if known >= MAX_OPS => {
                self.graph.is_cut = true;
                return;
            }
            None => {
                self.graph.op_names.push(node.op.clone());
                self.op_index.insert(node.op.clone(), known as u32);
                known as u32
            }
        };
        vertex.ops.insert(index);
        let is_main = function.is_empty();
        let used = self.graph.ops.entry(node.op).or_default();
        let first = used.first.clone();
        if used.nodes == 0 || is_main && used.in_main == 0 {
            used.first = place.clone();
        }
        for attr in &node.attrs {
            let is_new = !used.attrs.contains_key(&attr.name);
            if is_new && used.attrs.len() >= MAX_ATTRS {
                self.graph.is_cut = true;
                continue;
            }
            let seen = used.attrs.entry(attr.name.clone()).or_insert_with(|| AttrUse {
                first: place.clone(),
                // The nodes before this one did not have it.
                lacking: (used.nodes > 0).then_some(first.clone()),
                ..AttrUse::default()
            });
            seen.types |= attr.types;
            seen.is_set |= attr.is_set;
            if let Some(number) = attr.number {
                let (least, most) = seen.numbers.unwrap_or((number, number));
                seen.numbers = Some((least.min(number), most.max(number)));
            }
        }
        if used.attrs.len() > node.attrs.len() {
            let has: BTreeSet<&str> = node.attrs.iter().map(|attr| attr.name.as_str()).collect();
            for (name, seen) in &mut used.attrs {
                if seen.lacking.is_none() && !has.contains(name.as_str()) {
                    seen.lacking = Some(place.clone());
                }
            }
        }
        used.nodes += 1;
        used.in_main += u64::from(is_main);
    }

    /// The graph, with calls and inputs that lead nowhere. The library may come after the nodes.
    pub(super) fn finish(mut self) -> Graph {
        let graph = &mut self.graph;
        if graph.is_followed {
            // A node whose operation is the name of a function calls it.
            let called: Vec<(u32, u32)> = graph
                .functions
                .iter()
                .filter_map(|name| {
                    Some((*self.op_index.get(name)?, *graph.names.get(&format!("()/{name}"))?))
                })
                .collect();
            for (op, function) in called {
                for vertex in graph.vertices.iter_mut().filter(|vertex| vertex.ops.contains(&op)) {
                    vertex.leads_to.insert(function);
                }
            }
            let by_id: HashMap<u32, &String> = graph.names.iter().map(|(name, id)| (*id, name)).collect();
            let name = |id: &u32| by_id.get(id).map_or("", |name| name.as_str());
            for (id, place) in &self.calls {
                let function = name(id).trim_start_matches("()/");
                if !graph.functions.contains(function) {
                    graph.unknown_functions.insert(function.to_owned(), place.clone());
                }
            }
            for (id, place) in self.inputs.iter().filter(|(id, _)| !self.nodes.contains(id)) {
                graph.unknown_inputs.insert(name(id).to_owned(), place.clone());
            }
        }
        graph.ops.retain(|name, _| !graph.functions.contains(name));
        self.graph
    }
}

/// The node of a tensor name: `dense/MatMul:0` and `^dense/MatMul` are of `dense/MatMul`.
pub(super) fn node_of(tensor: &str) -> &str {
    let tensor = tensor.strip_prefix('^').unwrap_or(tensor);
    tensor.split(':').next().unwrap_or(tensor)
}

/// Reads a `NodeDef` (node_def.proto).
fn read_node<R: Read + Seek>(from: &mut Fields<R>, end: u64) -> Result<Node, ReadError> {
    let mut node = Node::default();
    while let Some((number, payload)) = from.next(end)? {
        match (number, payload) {
            (1, Payload::Bytes(length)) => node.name = from.name(length)?,
            (2, Payload::Bytes(length)) => node.op = from.name(length)?,
            (3, Payload::Bytes(length)) => node.inputs.push(from.name(length)?),
            (5, Payload::Bytes(length)) => {
                let end = from.end_of(length);
                let attr = read_attr(from, end, &mut node.calls)?;
                node.attrs.push(attr);
            }
            (_, payload) => from.pass(payload)?,
        }
    }
    Ok(node)
}

/// Reads an entry of `NodeDef.attr`.
fn read_attr<R: Read + Seek>(
    from: &mut Fields<R>,
    end: u64,
    calls: &mut Vec<String>,
) -> Result<Attr, ReadError> {
    let mut attr = Attr::default();
    while let Some((number, payload)) = from.next(end)? {
        match (number, payload) {
            (1, Payload::Bytes(length)) => attr.name = from.name(length)?,
            (2, Payload::Bytes(length)) => {
                let end = from.end_of(length);
                read_value(from, end, &mut attr, calls)?;
            }
            (_, payload) => from.pass(payload)?,
        }
    }
    Ok(attr)
}

/// Reads an `AttrValue` (attr_value.proto): dtypes, numbers and function names, in lists too.
fn read_value<R: Read + Seek>(
    from: &mut Fields<R>,
    end: u64,
    attr: &mut Attr,
    calls: &mut Vec<String>,
) -> Result<(), ReadError> {
    while let Some((number, payload)) = from.next(end)? {
        match (number, payload) {
            (1, Payload::Bytes(length)) => {
                attr.is_set |= length > 0;
                let end = from.end_of(length);
                while let Some((number, payload)) = from.next(end)? {
                    match (number, payload) {
                        (9, Payload::Bytes(length)) => {
                            let end = from.end_of(length);
                            read_function_name(from, end, calls)?;
                        }
                        (_, payload) => from.pass(payload)?,
                    }
                }
            }
            (3, Payload::Varint(value)) => {
                attr.number = Some(value as i64);
                attr.is_set |= value != 0;
            }
            (5, Payload::Varint(value)) => attr.is_set |= value != 0,
            (2, Payload::Bytes(length)) => {
                attr.is_set |= length > 0;
                from.pass(payload)?;
            }
            (6, Payload::Varint(value)) => {
                attr.is_set = true;
                attr.types |= 1u64.checked_shl(value as u32).unwrap_or(0);
            }
            (10, Payload::Bytes(length)) => {
                attr.is_set = true;
                let end = from.end_of(length);
                read_function_name(from, end, calls)?;
            }
            (_, payload) => {
                attr.is_set = true;
                from.pass(payload)?;
            }
        }
    }
    Ok(())
}

/// Reads the name of a `NameAttrList`.
fn read_function_name<R: Read + Seek>(
    from: &mut Fields<R>,
    end: u64,
    calls: &mut Vec<String>,
) -> Result<(), ReadError> {
    while let Some((number, payload)) = from.next(end)? {
        match (number, payload) {
            (1, Payload::Bytes(length)) => calls.push(from.name(length)?),
            (_, payload) => from.pass(payload)?,
        }
    }
    Ok(())
}
