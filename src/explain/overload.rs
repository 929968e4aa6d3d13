//! Errors by which TensorFlow Serving says that it is overloaded and did not run the request.

/// What TensorFlow Serving has too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overload {
    /// gRPC had no thread for the call. It answers RESOURCE_EXHAUSTED.
    NoThread,
    /// The batch queue had no room for the request. It answers UNAVAILABLE.
    BatchQueueFull,
}

/// How gRPC's error begins (`grpc: sync server thread manager`).
pub(super) const NO_THREAD: &str = "Server Threadpool Exhausted";
/// How the batch scheduler's error begins (`shared_batch_scheduler.h`).
pub(super) const BATCH_QUEUE_FULL: &str = "The batch scheduling queue";

/// The overload that a message reports. The caller also checks the code: a model may write any
/// text.
pub fn overload(message: &str) -> Option<Overload> {
    if message.starts_with(NO_THREAD) {
        Some(Overload::NoThread)
    } else if message.starts_with(BATCH_QUEUE_FULL) {
        Some(Overload::BatchQueueFull)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reports_overload_only_at_its_beginning() {
        assert_eq!(overload("Server Threadpool Exhausted"), Some(Overload::NoThread));
        let full = "The batch scheduling queue to which this task was submitted is full; currently 2";
        assert_eq!(overload(full), Some(Overload::BatchQueueFull));
        assert_eq!(overload("no such id: Server Threadpool Exhausted"), None);
        assert_eq!(overload(""), None);
    }
}
