//! Admission: limits on what is in flight in the whole process, shared between clients. Bytes are
//! charged as they arrive, never because a length announces them.
mod internal;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::budget::{Budget, Held};
use crate::config::Limits;
use crate::fault::Fault;
use crate::transport::peer::Peer;
pub(crate) use internal::Internal;

/// Requests that wait for their client may be this many times as many as those that do not: they
/// take a little memory and no time of TF Serving.
const WAITING: u64 = 4;

const REQUESTS: &str = "limits.max_inflight_requests";
const BYTES: &str = "limits.max_inflight_bytes";

/// What is in flight, its limits, and the peers that hold it.
#[derive(Debug)]
pub struct Admission {
    requests: Budget,
    waiting: Budget,
    streams: Budget,
    bytes: Budget,
    max_connections_per_peer: AtomicU64,
    /// The shares of the peers that are connected, and how many connections each has.
    peers: Mutex<HashMap<Peer, (Arc<Share>, u64)>>,
}

/// What one peer holds. All its connections have the same one.
#[derive(Debug)]
pub(crate) struct Share {
    admission: Arc<Admission>,
    peer: Peer,
    requests: Held,
    waiting: Held,
    streams: Held,
    bytes: Held,
}

/// One connection of a peer, counted until dropped.
#[derive(Debug)]
pub(crate) struct Connected(pub(crate) Arc<Share>);

/// One admitted request. Gives back what it was charged for when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    share: Arc<Share>,
    state: State,
    charged: u64,
}

/// What a request counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In flight.
    Running,
    /// Its client has to send or to read.
    Waiting,
    /// A stream that is passed through or answered here.
    Stream,
    /// Nothing but its bytes.
    Memory,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let requests = limits.max_inflight_requests as u64;
        let bytes = limits.max_inflight_bytes;
        Arc::new(Self {
            requests: Budget::new(requests, "requests", REQUESTS),
            waiting: Budget::new(requests * WAITING, "unfinished requests and unread answers", REQUESTS),
            streams: Budget::new(limits.max_streams as u64, "streams", "limits.max_streams"),
            bytes: Budget::new(bytes, "message bytes", BYTES),
            max_connections_per_peer: AtomicU64::new(limits.max_connections_per_peer),
            peers: Mutex::default(),
        })
    }

    /// Changes the limits. What is in flight stays, even if it is more.
    pub(crate) fn set_limits(&self, limits: &Limits) {
        let requests = limits.max_inflight_requests as u64;
        self.requests.set_max(requests);
        self.waiting.set_max(requests * WAITING);
        self.streams.set_max(limits.max_streams as u64);
        self.bytes.set_max(limits.max_inflight_bytes);
        self.max_connections_per_peer.store(limits.max_connections_per_peer, Relaxed);
    }

    /// Requests in flight, those that wait for their client included.
    pub(crate) fn requests(&self) -> usize {
        (self.requests.used() + self.waiting.used()) as usize
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.used()
    }

    pub(crate) fn streams(&self) -> u64 {
        self.streams.used()
    }

    /// Counts one more connection of a peer; `None` if it has too many already.
    pub(crate) fn connect(self: &Arc<Self>, peer: &Peer) -> Option<Connected> {
        let mut peers = self.peers();
        let (share, connections) =
            peers.entry(peer.clone()).or_insert_with(|| (Arc::new(Share::new(self, peer)), 0));
        let max = self.max_connections_per_peer.load(Relaxed);
        if max > 0 && *connections >= max {
            return None;
        }
        *connections += 1;
        Some(Connected(Arc::clone(share)))
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<Peer, (Arc<Share>, u64)>> {
        // Nothing done under the lock panics halfway.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut peers = self.0.admission.peers();
        if let Some((_, connections)) = peers.get_mut(&self.0.peer) {
            *connections -= 1;
            if *connections == 0 {
                peers.remove(&self.0.peer);
            }
        }
    }
}

impl Share {
    fn new(admission: &Arc<Admission>, peer: &Peer) -> Self {
        Self {
            admission: Arc::clone(admission),
            peer: peer.clone(),
            requests: Held::default(),
            waiting: Held::default(),
            streams: Held::default(),
            bytes: Held::default(),
        }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Admits a request.
    ///
    /// # Errors
    ///
    /// Too many requests are in flight, or more of this peer than its share.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Ticket, Fault> {
        self.ticket(State::Running)
    }

    /// Admits a stream that is not judged.
    ///
    /// # Errors
    ///
    /// Too many streams are open, or more of this peer than its share.
    pub(crate) fn open(self: &Arc<Self>) -> Result<Ticket, Fault> {
        self.ticket(State::Stream)
    }

    fn ticket(self: &Arc<Self>, state: State) -> Result<Ticket, Fault> {
        let ticket = Ticket { share: Arc::clone(self), state, charged: 0 };
        ticket.take()?;
        Ok(ticket)
    }
}

impl Ticket {
    /// Charges the request for bytes that it holds in memory.
    ///
    /// # Errors
    ///
    /// All requests together hold too many, or those of this peer more than its share.
    pub(crate) fn charge(&mut self, bytes: u64) -> Result<(), Fault> {
        let Share { admission, bytes: held, .. } = &*self.share;
        self.charged += bytes;
        let outcome = admission.bytes.take(held, bytes);
        match outcome {
            Err(_) if self.charged > admission.bytes.max() => {
                Err(Fault::TooLarge { size: self.charged, limit: admission.bytes.max(), setting: BYTES })
            }
            outcome => outcome,
        }
    }

    /// Charges the request for memory that the sidecar is about to allocate for it, such as the
    /// output of a repair.
    ///
    /// # Errors
    ///
    /// As for [`Ticket::charge`].
    pub(crate) fn reserve(&mut self, bytes: u64) -> Result<(), Fault> {
        let (size, limit) = (self.charged.saturating_add(bytes), self.share.admission.bytes.max());
        if size > limit {
            let what = "the request, decompressed and repaired,";
            return Err(Fault::Outgrown { what, size, limit, setting: BYTES });
        }
        self.charge(bytes)
    }

    /// The same for memory that the request can do without. Charges nothing if there is too little.
    pub(crate) fn try_reserve(&mut self, bytes: u64) -> bool {
        let before = self.charged;
        let reserved = self.reserve(bytes).is_ok();
        if !reserved {
            self.release(self.charged - before);
        }
        reserved
    }

    /// Gives back bytes that the request does not hold any more, at most what it was charged for.
    pub(crate) fn release(&mut self, bytes: u64) {
        let bytes = bytes.min(self.charged);
        if bytes > 0 {
            self.charged -= bytes;
            self.share.admission.bytes.give(&self.share.bytes, bytes);
        }
    }

    /// A ticket for bytes alone, beside this one.
    pub(crate) fn memory(&self) -> Self {
        Self { share: Arc::clone(&self.share), state: State::Memory, charged: 0 }
    }

    /// Changes what the request is charged for to so many bytes.
    ///
    /// # Errors
    ///
    /// As for [`Ticket::charge`].
    pub(crate) fn set_charge(&mut self, bytes: u64) -> Result<(), Fault> {
        match bytes.checked_sub(self.charged) {
            Some(more) => self.charge(more),
            None => {
                self.release(self.charged - bytes);
                Ok(())
            }
        }
    }

    /// The request waits for its client to send or to read, so it does not count as one that TF
    /// Serving has to answer, unless too many of other peers wait. Streams always count as what
    /// they are.
    ///
    /// # Errors
    ///
    /// More of this peer wait than its share.
    pub(crate) fn set_waiting(&mut self) -> Result<(), Fault> {
        if self.state != State::Running {
            return Ok(());
        }
        let Share { admission, waiting: held, .. } = &*self.share;
        match admission.waiting.take(held, 1) {
            Ok(()) => {
                self.give();
                self.state = State::Waiting;
                Ok(())
            }
            Err(fault) => {
                let is_fair = admission.waiting.is_fair(held);
                admission.waiting.give(held, 1);
                if is_fair { Ok(()) } else { Err(fault) }
            }
        }
    }

    /// The request does not wait for its client any more.
    ///
    /// # Errors
    ///
    /// Too many requests are in flight, or more of this peer than its share.
    pub(crate) fn set_running(&mut self) -> Result<(), Fault> {
        if self.state == State::Waiting {
            self.give();
            self.state = State::Running;
            self.take()?;
        }
        Ok(())
    }

    /// How long a client that stalls is waited for: `normal`, but less the more of the memory for
    /// messages is in use.
    pub(crate) fn patience(&self, normal: Duration) -> Duration {
        normal.mul_f64(self.share.admission.bytes.slack())
    }

    fn budget(&self) -> Option<(&Budget, &Held)> {
        let share = &*self.share;
        match self.state {
            State::Running => Some((&share.admission.requests, &share.requests)),
            State::Waiting => Some((&share.admission.waiting, &share.waiting)),
            State::Stream => Some((&share.admission.streams, &share.streams)),
            State::Memory => None,
        }
    }

    fn take(&self) -> Result<(), Fault> {
        self.budget().map_or(Ok(()), |(budget, held)| budget.take(held, 1))
    }

    fn give(&self) {
        if let Some((budget, held)) = self.budget() {
            budget.give(held, 1);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.give();
        self.release(u64::MAX);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::IpAddr;

    use super::*;

    /// A ticket of a peer of its own, within these limits.
    pub(crate) fn ticket(limits: &Limits) -> Ticket {
        connect(&Admission::new(limits), [10, 0, 0, 1]).0.enter().unwrap()
    }

    fn admission(requests: usize, bytes: u64) -> Arc<Admission> {
        Admission::new(&Limits {
            max_inflight_requests: requests,
            max_inflight_bytes: bytes,
            ..crate::config::Config::default().limits
        })
    }

    fn connect(admission: &Arc<Admission>, ip: [u8; 4]) -> Connected {
        admission.connect(&Peer::from_ip(IpAddr::from(ip))).unwrap()
    }

    #[test]
    fn a_request_above_the_limit_is_refused_and_not_counted() {
        let admission = admission(2, 100);
        let connection = connect(&admission, [10, 0, 0, 1]);
        let first = connection.0.enter().unwrap();
        let _second = connection.0.enter().unwrap();
        assert!(matches!(connection.0.enter(), Err(Fault::QueueFull { limit: 2, .. })));
        assert_eq!(admission.requests(), 2);
        drop(first);
        assert!(connection.0.enter().is_ok());
    }

    #[test]
    fn requests_share_the_byte_limit() {
        let admission = admission(9, 100);
        let connection = connect(&admission, [10, 0, 0, 1]);
        let (mut a, mut b) = (connection.0.enter().unwrap(), connection.0.enter().unwrap());
        a.charge(60).unwrap();
        b.charge(40).unwrap();
        assert!(matches!(b.charge(1), Err(Fault::QueueFull { limit: 100, .. })));
        a.release(60);
        b.charge(59).unwrap();
        drop((a, b));
        assert_eq!((admission.requests(), admission.bytes()), (0, 0));
    }

    #[test]
    fn a_request_that_alone_exceeds_the_byte_limit_is_too_large() {
        let mut ticket = ticket(&Limits { max_inflight_bytes: 100, ..Limits::default() });
        ticket.charge(100).unwrap();
        let fault = ticket.charge(1).unwrap_err();
        assert!(matches!(fault, Fault::TooLarge { size: 101, limit: 100, .. }), "{fault}");
    }

    #[test]
    fn requests_that_wait_for_their_client_leave_room_for_others() {
        let admission = admission(2, 100);
        let connection = connect(&admission, [10, 0, 0, 1]);
        let mut waiting: Vec<Ticket> = Vec::new();
        for _ in 0..2 * WAITING {
            let mut ticket = connection.0.enter().unwrap();
            ticket.set_waiting().unwrap();
            waiting.push(ticket);
        }
        let mut other = connection.0.enter().unwrap();
        assert!(other.set_waiting().is_err(), "that many may not wait");
        drop(other);
        waiting.pop().unwrap().set_running().unwrap();
        waiting.pop().unwrap().set_running().unwrap();
        let (_a, _b) = (connection.0.enter().unwrap(), connection.0.enter().unwrap());
        assert!(waiting.pop().unwrap().set_running().is_err());
        drop(waiting);
        assert_eq!(admission.requests(), 2);
    }

    #[test]
    fn connections_of_one_address_have_one_share() {
        let admission = admission(16, 100);
        let one = connect(&admission, [10, 0, 0, 1]);
        let two = connect(&admission, [10, 0, 0, 1]);
        let other = connect(&admission, [10, 0, 0, 2]);
        assert!(Arc::ptr_eq(&one.0, &two.0) && !Arc::ptr_eq(&one.0, &other.0));
        drop((one, two));
        assert_eq!(admission.peers().len(), 1);
        drop(other);
        assert!(admission.peers().is_empty());
    }

    #[test]
    fn connections_of_a_peer_are_limited_if_a_limit_is_set() {
        let admission = Admission::new(&Limits { max_connections_per_peer: 1, ..Limits::default() });
        let first = connect(&admission, [10, 0, 0, 1]);
        let peer = Peer::from_ip(IpAddr::from([10, 0, 0, 1]));
        assert!(admission.connect(&peer).is_none());
        let _other = connect(&admission, [10, 0, 0, 2]);
        drop(first);
        assert!(admission.connect(&peer).is_some());
    }

    #[test]
    fn what_is_allocated_for_a_request_is_limited_before_it_is() {
        let admission = admission(9, 10 << 20);
        let connection = connect(&admission, [10, 0, 0, 1]);
        let mut alone = connection.0.enter().unwrap();
        alone.charge(8 << 20).unwrap();
        let error = alone.reserve((2 << 20) + 1).unwrap_err();
        assert!(matches!(error, Fault::Outgrown { size, .. } if size == (10 << 20) + 1), "{error}");
        // Sizes that do not fit in memory are refused without wrapping around.
        assert!(alone.reserve(u64::MAX).is_err());
        assert_eq!(admission.bytes(), 8 << 20);
        alone.reserve(2 << 20).unwrap();
        let mut other = connection.0.enter().unwrap();
        assert!(matches!(other.reserve(1), Err(Fault::QueueFull { .. })));
        drop((alone, other));
        assert_eq!(admission.bytes(), 0);
    }
}
