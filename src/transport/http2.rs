//! The HTTP/2 settings towards clients and upstream, each with its reason.

/// Bytes that a peer may send on one stream before we read them. A large tensor arrives in a few
/// bursts, not in steps of 64 KiB.
pub(crate) const STREAM_WINDOW: u32 = 4 << 20;
/// The same for all streams of a connection together. Limits the memory that requests can take
/// before admission.
pub(crate) const CONNECTION_WINDOW: u32 = 16 << 20;
/// Bytes that the upstream may send of one answer before its client has taken them. TF Serving is
/// near, so this is enough to keep it sending, and it is what an unread answer can hold.
const ANSWER_WINDOW: u32 = 1 << 20;
/// The same for the answers of the upstream, without a limit: an answer that its client does not
/// read must not stop those of other clients. Memory is limited by stream, and by what the answers
/// are charged for while they wait.
const UPSTREAM_WINDOW: u32 = (1 << 31) - 1;
/// A tensor of 600 KB is one frame, not 37: fewer system calls, fewer frame headers, and the
/// message is one segment.
pub(crate) const MAX_FRAME: u32 = 1 << 20;
/// Room for request metadata such as tokens and tracing baggage, with a limit.
pub(crate) const MAX_HEADER_LIST: u32 = 64 << 10;
/// Bytes that one stream may hold in the connection's send queue. They are not copied (they are the
/// frames as received), so the limit is for backpressure: a peer that does not read stops only its
/// own stream.
pub(crate) const SEND_BUFFER: usize = 1 << 20;
/// Calls that one client connection may have open. Far above `max_inflight_requests`, so that calls
/// beyond that limit are refused at once instead of waiting for a stream.
pub(crate) const MAX_STREAMS: u32 = 4096;
/// Streams of a peer that were reset while we still hold them. They cost little, and clients with
/// deadlines cancel often. One poll of a connection cannot bring as many, and each poll takes them.
const RESET_STREAMS: usize = 1024;

/// For connections of clients.
pub(crate) fn server() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_concurrent_reset_streams(RESET_STREAMS)
        // A count over the connection's lifetime: a client whose uploads are refused early uses it
        // up some day. `frames` limits the rate instead.
        .max_local_error_reset_streams(None);
    builder
}

/// For connections to the upstream.
pub(crate) fn client() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(ANSWER_WINDOW)
        .initial_connection_window_size(UPSTREAM_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESET_STREAMS)
        // A count over the connection's lifetime: each answer that comes after its deadline adds to
        // it, and 1,024 of them would end a healthy connection with all its calls.
        .max_local_error_reset_streams(None)
        // Applies until the server's SETTINGS arrive; gRPC servers usually set no limit.
        .initial_max_send_streams(MAX_STREAMS as usize)
        .enable_push(false);
    builder
}
