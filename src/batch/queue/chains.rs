//! The waiting requests in one slab, each linked into three lists: those of its bucket, of its
//! client, and of both. Adding and removing take constant time.
use slab::Slab;

use super::Request;
use crate::concurrency::Micros;

const NONE: u32 = u32::MAX;

/// The lists that a request is in.
#[derive(Debug, Clone, Copy)]
pub(super) enum List {
    Bucket = 0,
    Peer = 1,
    Flow = 2,
}

/// A list in order of arrival.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    head: u32,
    tail: u32,
}

#[derive(Debug)]
pub(super) struct Node<T> {
    /// Counts all requests that ever waited.
    pub(super) seq: u64,
    pub(super) came: Micros,
    pub(super) bucket: u32,
    pub(super) peer: u32,
    pub(super) flow: u32,
    pub(super) request: Request<T>,
    links: [Chain; 3],
}

#[derive(Debug)]
pub(super) struct Chains<T> {
    nodes: Slab<Node<T>>,
    seq: u64,
}

/// Where a new request belongs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) bucket: u32,
    pub(super) peer: u32,
    pub(super) flow: u32,
}

impl Chain {
    pub(super) const EMPTY: Self = Self { head: NONE, tail: NONE };

    pub(super) fn is_empty(self) -> bool {
        self.head == NONE
    }

    pub(super) fn first(self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    pub(super) fn last(self) -> Option<u32> {
        (self.tail != NONE).then_some(self.tail)
    }
}

impl<T> Chains<T> {
    pub(super) fn new() -> Self {
        Self { nodes: Slab::new(), seq: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Stores a request; it is in no list yet.
    pub(super) fn insert(&mut self, place: Place, request: Request<T>, came: Micros) -> u32 {
        self.seq += 1;
        let Place { bucket, peer, flow } = place;
        let links = [Chain::EMPTY; 3];
        self.nodes.insert(Node { seq: self.seq, came, bucket, peer, flow, request, links }) as u32
    }

    pub(super) fn get(&self, at: u32) -> Option<&Node<T>> {
        self.nodes.get(at as usize)
    }

    /// Takes a request out of the slab; it must be in no list any more.
    pub(super) fn take(&mut self, at: u32) -> Option<Node<T>> {
        self.nodes.try_remove(at as usize)
    }

    /// A number for the request that is never used again.
    pub(super) fn number(&self, at: u32) -> u64 {
        let seq = self.get(at).map_or(0, |node| node.seq);
        (seq << 32) | u64::from(at)
    }

    /// The request with that number, if it still waits.
    pub(super) fn find(&self, number: u64) -> Option<u32> {
        let at = number as u32;
        (self.get(at)?.seq as u32 == (number >> 32) as u32).then_some(at)
    }

    pub(super) fn append(&mut self, chain: &mut Chain, list: List, at: u32) {
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.links[list as usize] = Chain { head: chain.tail, tail: NONE };
        }
        match self.nodes.get_mut(chain.tail as usize) {
            Some(last) => last.links[list as usize].tail = at,
            None => chain.head = at,
        }
        chain.tail = at;
    }

    pub(super) fn unlink(&mut self, chain: &mut Chain, list: List, at: u32) {
        let Some(node) = self.get(at) else { return };
        let Chain { head: before, tail: after } = node.links[list as usize];
        match self.nodes.get_mut(before as usize) {
            Some(node) => node.links[list as usize].tail = after,
            None => chain.head = after,
        }
        match self.nodes.get_mut(after as usize) {
            Some(node) => node.links[list as usize].head = before,
            None => chain.tail = before,
        }
    }
}
