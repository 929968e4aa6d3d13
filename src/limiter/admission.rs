//! Admission: limits on the requests and message bytes in flight in the whole process. Bytes are
//! charged before they are read.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::config::Limits;
use crate::fault::Fault;
use crate::telemetry::metrics::Inflight;

/// The requests and bytes in flight, and their limits.
#[derive(Debug)]
pub struct Admission {
    requests: AtomicUsize,
    bytes: AtomicU64,
    max_requests: usize,
    max_bytes: u64,
}

/// One admitted request. Releases what it was charged for when dropped.
#[derive(Debug)]
pub struct Ticket {
    admission: Arc<Admission>,
    charged: u64,
    /// The part of it that was reserved.
    reserved: u64,
    gauge: Inflight,
}

impl Admission {
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            requests: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            max_requests: limits.max_inflight_requests,
            max_bytes: limits.max_inflight_bytes,
        })
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Admits a request.
    ///
    /// # Errors
    ///
    /// If too many requests are in flight.
    pub fn enter(self: &Arc<Self>) -> Result<Ticket, Fault> {
        // Counted first, so that two requests at the same time cannot both be the last one.
        let ticket = Ticket { admission: Arc::clone(self), charged: 0, reserved: 0, gauge: Inflight::new() };
        if self.requests.fetch_add(1, Ordering::Relaxed) >= self.max_requests {
            let limit = self.max_requests as u64;
            return Err(Fault::QueueFull {
                what: "requests",
                setting: "limits.max_inflight_requests",
                limit,
            });
        }
        Ok(ticket)
    }
}

impl Ticket {
    /// Charges the request for more bytes. A request that is alone always gets them: the limit is
    /// on the sum of all requests, and TF Serving would have accepted a message of this size.
    ///
    /// # Errors
    ///
    /// If other requests have bytes in flight and the sum exceeds the limit.
    pub fn charge(&mut self, bytes: u64) -> Result<(), Fault> {
        let before = self.admission.bytes.fetch_add(bytes, Ordering::Relaxed);
        let others = before.saturating_sub(self.charged);
        self.charged += bytes;
        self.gauge.add_bytes(bytes);
        if others > 0 && before.saturating_add(bytes) > self.admission.max_bytes {
            let limit = self.admission.max_bytes;
            return Err(Fault::QueueFull {
                what: "message bytes",
                setting: "limits.max_inflight_bytes",
                limit,
            });
        }
        Ok(())
    }
}

impl Ticket {
    /// Charges the request for memory that the sidecar is about to allocate for it, such as the
    /// output of a repair. Unlike for a message that arrives, a request that is alone is no
    /// exception, beyond the first MiB.
    ///
    /// # Errors
    ///
    /// The sum of all requests exceeds the limit.
    pub fn reserve(&mut self, bytes: u64) -> Result<(), Fault> {
        let (limit, setting) = (self.admission.max_bytes, "limits.max_inflight_bytes");
        let what = "the request, decompressed and repaired,";
        if bytes > limit.max(FREE_ALONE) {
            let size = self.charged.saturating_add(bytes);
            return Err(Fault::Outgrown { what, size, limit, setting });
        }
        let before = self.admission.bytes.fetch_add(bytes, Ordering::Relaxed);
        let others = before.saturating_sub(self.charged);
        self.charged += bytes;
        self.reserved += bytes;
        self.gauge.add_bytes(bytes);
        if before.saturating_add(bytes) <= limit || others == 0 && self.reserved <= FREE_ALONE {
            return Ok(());
        }
        if self.charged > limit {
            return Err(Fault::Outgrown { what, size: self.charged, limit, setting });
        }
        Err(Fault::QueueFull { what: "message bytes", setting, limit })
    }
}

/// What a request that is alone may reserve, however large its message is: room for what every
/// repair needs.
const FREE_ALONE: u64 = 1 << 20;

impl Drop for Ticket {
    fn drop(&mut self) {
        self.admission.requests.fetch_sub(1, Ordering::Relaxed);
        if self.charged > 0 {
            self.admission.bytes.fetch_sub(self.charged, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(requests: usize, bytes: u64) -> Arc<Admission> {
        Admission::new(&Limits {
            max_inflight_requests: requests,
            max_inflight_bytes: bytes,
            ..crate::config::Config::default().limits
        })
    }

    #[test]
    fn a_request_above_the_limit_is_refused_and_not_counted() {
        let admission = admission(2, 100);
        let first = admission.enter().unwrap();
        let _second = admission.enter().unwrap();
        assert!(matches!(admission.enter(), Err(Fault::QueueFull { limit: 2, .. })));
        assert_eq!(admission.requests(), 2);
        drop(first);
        assert!(admission.enter().is_ok());
    }

    #[test]
    fn requests_share_the_byte_limit_but_a_single_one_always_fits() {
        let admission = admission(9, 100);
        let mut large = admission.enter().unwrap();
        large.charge(1000).unwrap();
        large.charge(1000).unwrap();
        let mut other = admission.enter().unwrap();
        assert!(other.charge(1).is_err());
        drop(other);
        drop(large);
        assert_eq!((admission.requests(), admission.bytes()), (0, 0));
        let (mut a, mut b) = (admission.enter().unwrap(), admission.enter().unwrap());
        a.charge(60).unwrap();
        b.charge(40).unwrap();
        assert!(b.charge(1).is_err());
    }

    #[test]
    fn what_is_allocated_for_a_request_that_is_alone_is_limited_too() {
        let admission = admission(9, 10 << 20);
        let mut alone = admission.enter().unwrap();
        alone.charge(20 << 20).unwrap();
        alone.reserve(1 << 20).unwrap();
        let error = alone.reserve(1).unwrap_err();
        assert!(matches!(error, Fault::Outgrown { size, .. } if size == (21 << 20) + 1), "{error}");
        drop(alone);
        let (mut a, mut b) = (admission.enter().unwrap(), admission.enter().unwrap());
        a.reserve(6 << 20).unwrap();
        b.reserve(4 << 20).unwrap();
        assert!(matches!(b.reserve(1), Err(Fault::QueueFull { .. })));
        drop((a, b));
        assert_eq!(admission.bytes(), 0);
        // Sizes that do not fit in memory are refused without wrapping around.
        let mut huge = admission.enter().unwrap();
        assert!(huge.reserve(u64::MAX).is_err());
        drop(huge);
        assert_eq!(admission.bytes(), 0);
    }
}
