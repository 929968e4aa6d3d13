//! The places as one thread gets them: its desk, what other threads hand to it, and its requests' turns.
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Handed, Places, Waiter};
use crate::fault::Fault;
use crate::governor::Sent;

/// The places as one thread gets them.
#[derive(Debug, Clone)]
pub struct Desk {
    pub(super) places: Arc<Places>,
    pub(super) number: usize,
}

/// What other threads hand to the requests of this one; there are never more of them than places.
#[derive(Debug)]
pub struct Inbox(pub(super) mpsc::UnboundedReceiver<Handed>);

/// The right to have one request in flight; given back when dropped.
#[derive(Debug)]
pub struct Place {
    pub(super) desk: Desk,
    pub(super) sent: Sent,
    pub(super) held: bool,
}

/// A request in the queue; leaves it when dropped.
#[derive(Debug)]
pub struct Turn {
    pub(super) desk: Desk,
    number: i64,
    place: oneshot::Receiver<Place>,
    served: bool,
}

/// Where a request that must wait stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Back,
    /// It had a place already and was sent back.
    Front,
}

impl Desk {
    /// Takes a place, if one is free and nobody waits.
    pub fn take(&self) -> Option<Place> {
        if self.places.queued.load(SeqCst) > 0 { None } else { self.places.try_take(self.number) }
    }

    /// Refuses a request that would wait in vain. Costs nothing while nobody waits: made for the door, before the message is read.
    pub fn check(&self, deadline: Option<Instant>) -> Result<(), Fault> {
        if self.places.queued.load(SeqCst) == 0 {
            return Ok(());
        }
        self.places.admit(&self.places.state(), deadline, Order::Back)
    }

    /// Stands in the queue; [`Turn::come`] gives the place.
    pub fn wait(&self, deadline: Option<Instant>, order: Order) -> Result<Turn, Fault> {
        let places = &self.places;
        let mut state = places.state();
        places.admit(&state, deadline, order)?;
        if state.queue.is_empty() {
            state.limit.waits(places.now());
        }
        let (sender, place) = oneshot::channel();
        let number = match order {
            Order::Back => {
                state.next += 1;
                let number = state.next;
                state.queue.push_back(Waiter { number, desk: self.number, turn: sender });
                number
            }
            Order::Front => {
                state.front -= 1;
                let number = state.front;
                state.queue.push_front(Waiter { number, desk: self.number, turn: sender });
                number
            }
        };
        // Counted before the look at the free places: one that is given back from now on finds this request.
        places.queued.fetch_add(1, SeqCst);
        places.hand_out(&mut state, Some(self.number));
        Ok(Turn { desk: self.clone(), number, place, served: false })
    }
}

impl Inbox {
    /// Passes on what other threads hand over, until the places are gone.
    pub async fn deliver(mut self) {
        while let Some((turn, place)) = self.0.recv().await {
            // A place whose request is gone goes to the next one when it is dropped here.
            turn.send(place).ok();
        }
    }
}

impl Place {
    /// The server has answered, whatever its answer.
    pub fn answered(mut self) {
        self.held = false;
        self.desk.places.give_back(true, self.desk.number);
    }

    /// The server had no room for the request; nothing was run.
    pub fn refused(self) {
        self.desk.places.refused(self.sent);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.held {
            self.desk.places.give_back(false, self.desk.number);
        }
    }
}

impl Turn {
    /// Waits for the place.
    pub async fn come(mut self) -> Option<Place> {
        let place = (&mut self.place).await.ok();
        self.served = place.is_some();
        place
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.served {
            return;
        }
        let mut state = self.desk.places.state();
        // Not there: it was its turn. A place that was handed over and not fetched goes back with the channel.
        if let Ok(at) = state.queue.binary_search_by_key(&self.number, |waiter| waiter.number) {
            state.queue.remove(at);
            self.desk.places.left(&mut state);
        }
    }
}
