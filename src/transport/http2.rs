//! The HTTP/2 settings of both legs, each with its reason.

/// What a peer may send on one stream before we read it: a large tensor arrives in a few bursts,
/// not in 64 KiB steps.
pub const STREAM_WINDOW: u32 = 4 << 20;
/// The same for all streams of a connection together; it bounds what unadmitted requests can put
/// into memory.
pub const CONNECTION_WINDOW: u32 = 32 << 20;
/// A 600 KB tensor is one frame, not 37: fewer system calls, fewer heads, and the message needs no
/// gathering.
pub const MAX_FRAME: u32 = 1 << 20;
/// Request metadata: tokens and tracing baggage fit, a flood does not.
pub const MAX_HEADER_LIST: u32 = 64 << 10;
/// What one stream may hold ready in the connection's send queue. It is shared memory (the frames
/// that came in), so the bound is there for backpressure: a peer that does not read stops its own
/// stream only.
pub const SEND_BUFFER: usize = 4 << 20;
/// Calls that one client connection may have open: far above `max_inflight_requests`, so that
/// admission answers and not a silent wait.
pub const MAX_STREAMS: u32 = 4096;
/// A request stream reset while we still hold it costs little; clients that cancel a lot are normal
/// (deadlines).
const RESET_STREAMS: usize = 1024;

pub fn server() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_concurrent_reset_streams(RESET_STREAMS);
    builder
}

pub fn client() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESET_STREAMS)
        // Until the server's SETTINGS are read there is no limit to honour; gRPC servers set none.
        .initial_max_send_streams(MAX_STREAMS as usize)
        .enable_push(false);
    builder
}
