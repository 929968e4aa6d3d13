//! The requests that wait, by bucket and client: start-time fair queueing among the clients.
//!
//! A client has a *tag*: the virtual time at which its next request is due. While more wait than
//! fit into a run, the clients with the least tags are served first, and a tag moves on with what
//! was served. A client that was idle starts at the present virtual time: it gets no credit for the
//! time that it did not use.
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use slab::Slab;

use super::Request;
use super::chains::{Chain, Chains, List, Node, Place};
use crate::concurrency::Micros;

/// Idle clients are forgotten when there are so many.
const MIN_PURGE: usize = 64;

/// Virtual time, in rows times their cost.
pub(super) type Tag = u64;

#[derive(Debug)]
pub(super) struct Waiting<T> {
    chains: Chains<T>,
    peers: Slab<Peer>,
    by_key: BTreeMap<u64, u32>,
    purge_at: usize,
    flows: Slab<Flow>,
    now: Tag,
    rows: u64,
    /// The backlogs by length. Kept only while many rows wait: see [`Waiting::rank`].
    by_rows: Option<BTreeSet<(u64, u32)>>,
    max_rows: u64,
}

/// A client.
#[derive(Debug)]
struct Peer {
    key: u64,
    tag: Tag,
    rows: u64,
    flows: u32,
    chain: Chain,
}

/// The requests of a client in a bucket.
#[derive(Debug)]
struct Flow {
    peer: u32,
    chain: Chain,
    /// It is in the bucket's heap.
    ranked: bool,
}

/// The requests of a bucket.
#[derive(Debug)]
pub(super) struct Lane {
    chain: Chain,
    pub(super) rows: u64,
    pub(super) requests: usize,
    /// Clients with requests here.
    peers: u64,
    flows: BTreeMap<u64, u32>,
    purge_at: usize,
    /// The clients by tag. A tag may have grown since.
    heap: BinaryHeap<Reverse<(Tag, u64, u32)>>,
}

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            chain: Chain::EMPTY,
            rows: 0,
            requests: 0,
            peers: 0,
            flows: BTreeMap::new(),
            purge_at: MIN_PURGE,
            heap: BinaryHeap::new(),
        }
    }
}

impl<T> Waiting<T> {
    pub(super) fn new(max_rows: u64) -> Self {
        Self {
            chains: Chains::new(),
            peers: Slab::new(),
            by_key: BTreeMap::new(),
            purge_at: MIN_PURGE,
            flows: Slab::new(),
            now: 0,
            rows: 0,
            by_rows: None,
            max_rows,
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Adds a request to a bucket and returns its number.
    pub(super) fn push(&mut self, lane: &mut Lane, bucket: u32, request: Request<T>, now: Micros) -> u64 {
        let peer = self.peer(request.peer);
        let flow = self.flow(lane, request.peer, peer);
        let rows = request.rows;
        self.resize(peer, |before| before + rows);
        self.rows += rows;
        let at = self.chains.insert(Place { bucket, peer, flow }, request, now);
        let (client, of_both) = (&mut self.peers[peer as usize], &mut self.flows[flow as usize]);
        if client.chain.is_empty() {
            client.tag = client.tag.max(self.now);
        }
        self.chains.append(&mut lane.chain, List::Bucket, at);
        self.chains.append(&mut client.chain, List::Peer, at);
        lane.peers += u64::from(of_both.chain.is_empty());
        self.chains.append(&mut of_both.chain, List::Flow, at);
        lane.rows += rows;
        lane.requests += 1;
        let number = self.chains.number(at);
        if !of_both.ranked {
            of_both.ranked = true;
            let seq = self.chains.get(at).map_or(0, |node| node.seq);
            lane.heap.push(Reverse((client.tag, seq, flow)));
        }
        self.rank();
        number
    }

    /// The place of the request with this number, and its bucket.
    pub(super) fn find(&self, number: u64) -> Option<(u32, u32)> {
        let at = self.chains.find(number)?;
        Some((at, self.chains.get(at)?.bucket))
    }

    /// The newest request of the client with the longest backlog, with its bucket, if that client
    /// has at least `more` rows more than `peer`.
    pub(super) fn newest_of_longest(&self, peer: u64, more: u64) -> Option<(u32, u32)> {
        let own = self.by_key.get(&peer).map_or(0, |at| self.peers[*at as usize].rows);
        let (rows, longest) = self.by_rows.as_ref()?.last()?;
        let at = self.peers[*longest as usize].chain.last()?;
        (*rows >= own + more).then(|| self.chains.get(at).map(|node| (at, node.bucket)))?
    }

    /// Removes one request.
    pub(super) fn remove(&mut self, lane: &mut Lane, at: u32) -> Option<Node<T>> {
        let (peer, flow, rows) = self.chains.get(at).map(|node| (node.peer, node.flow, node.request.rows))?;
        self.resize(peer, |before| before - rows);
        self.chains.unlink(&mut lane.chain, List::Bucket, at);
        self.chains.unlink(&mut self.peers[peer as usize].chain, List::Peer, at);
        let of_both = &mut self.flows[flow as usize].chain;
        self.chains.unlink(of_both, List::Flow, at);
        lane.peers -= u64::from(of_both.is_empty());
        lane.rows -= rows;
        lane.requests -= 1;
        self.rows -= rows;
        self.rank();
        self.chains.take(at)
    }

    /// The oldest request of a bucket.
    pub(super) fn oldest(&self, lane: &Lane) -> Option<&Node<T>> {
        self.chains.get(lane.chain.first()?)
    }

    /// The tag of the client that is due next in a bucket, and its first request there.
    pub(super) fn head(&mut self, lane: &mut Lane) -> Option<(Tag, u32)> {
        while let Some(Reverse((tag, _, at))) = lane.heap.peek().copied() {
            let flow = &mut self.flows[at as usize];
            let client = &self.peers[flow.peer as usize];
            let Some(first) = flow.chain.first() else {
                flow.ranked = false;
                lane.heap.pop();
                continue;
            };
            if client.tag > tag {
                lane.heap.pop();
                let seq = self.chains.get(first).map_or(0, |node| node.seq);
                lane.heap.push(Reverse((client.tag, seq, at)));
                continue;
            }
            return Some((tag, first));
        }
        None
    }

    /// Takes the next requests of a bucket for as long as `fits` says so of the rows that they
    /// would have together with those before, in order of arrival. Each row costs its client
    /// `cost`. With `all`, the order of clients does not matter: everything fits.
    pub(super) fn take(
        &mut self,
        lane: &mut Lane,
        cost: u64,
        all: bool,
        mut fits: impl FnMut(&Request<T>) -> bool,
        mut each: impl FnMut(Request<T>),
    ) {
        let mut taken = Vec::new();
        loop {
            let at = if all { lane.chain.first() } else { self.head(lane).map(|(_, at)| at) };
            let Some(at) = at else { break };
            let Some(node) = self.chains.get(at) else { break };
            if !fits(&node.request) {
                break;
            }
            let peer = &mut self.peers[node.peer as usize];
            self.now = self.now.max(peer.tag);
            peer.tag += node.request.rows.max(1) * cost.max(1);
            let Some(node) = self.remove(lane, at) else { break };
            if all { each(node.request) } else { taken.push(node) }
        }
        taken.sort_unstable_by_key(|node| node.seq);
        for node in taken {
            each(node.request);
        }
    }

    /// How many rows of a bucket would be served before a new request of that client.
    pub(super) fn ahead(&self, lane: &Lane, peer: u64, rows: u64) -> u64 {
        let own = self.by_key.get(&peer).map_or(0, |at| self.peers[*at as usize].rows);
        ((own + rows) * lane.peers).min(lane.rows)
    }

    /// Forgets the clients of a bucket that is dropped.
    pub(super) fn forget(&mut self, lane: &mut Lane) {
        lane.heap.clear();
        for at in std::mem::take(&mut lane.flows).into_values() {
            let flow = self.flows.remove(at as usize);
            self.peers[flow.peer as usize].flows -= 1;
        }
    }

    fn peer(&mut self, key: u64) -> u32 {
        if let Some(at) = self.by_key.get(&key) {
            return *at;
        }
        if self.by_key.len() >= self.purge_at {
            // They are ahead of the others by one request at most.
            self.peers.retain(|_, peer| {
                let idle = peer.chain.is_empty() && peer.flows == 0;
                if idle {
                    self.by_key.remove(&peer.key);
                }
                !idle
            });
            self.purge_at = (2 * self.by_key.len()).max(MIN_PURGE);
        }
        let peer = Peer { key, tag: self.now, rows: 0, flows: 0, chain: Chain::EMPTY };
        let at = self.peers.insert(peer) as u32;
        self.by_key.insert(key, at);
        at
    }

    fn flow(&mut self, lane: &mut Lane, key: u64, peer: u32) -> u32 {
        if let Some(at) = lane.flows.get(&key) {
            return *at;
        }
        if lane.flows.len() >= lane.purge_at {
            let (flows, peers) = (&mut self.flows, &mut self.peers);
            lane.heap.retain(|Reverse((_, _, at))| {
                let flow = &mut flows[*at as usize];
                flow.ranked = !flow.chain.is_empty();
                flow.ranked
            });
            lane.flows.retain(|_, at| {
                let flow = &flows[*at as usize];
                let kept = flow.ranked;
                if !kept {
                    peers[flow.peer as usize].flows -= 1;
                    flows.remove(*at as usize);
                }
                kept
            });
            lane.purge_at = (2 * lane.flows.len()).max(MIN_PURGE);
        }
        let at = self.flows.insert(Flow { peer, chain: Chain::EMPTY, ranked: false }) as u32;
        self.peers[peer as usize].flows += 1;
        lane.flows.insert(key, at);
        at
    }

    fn resize(&mut self, peer: u32, change: impl Fn(u64) -> u64) {
        let client = &mut self.peers[peer as usize];
        let (before, after) = (client.rows, change(client.rows));
        client.rows = after;
        if let Some(by_rows) = &mut self.by_rows {
            by_rows.remove(&(before, peer));
            if after > 0 {
                by_rows.insert((after, peer));
            }
        }
    }

    /// Backlogs are ranked while more than half of the rows wait that may, until it is less than a
    /// quarter: most of the time nobody needs the order.
    fn rank(&mut self) {
        if self.by_rows.is_none() && self.rows > self.max_rows / 2 {
            let backlogs = self.peers.iter().filter(|(_, peer)| peer.rows > 0);
            self.by_rows = Some(backlogs.map(|(at, peer)| (peer.rows, at as u32)).collect());
        } else if self.by_rows.is_some() && self.rows < self.max_rows / 4 {
            self.by_rows = None;
        }
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.peers.len() + self.flows.len()
    }
}
