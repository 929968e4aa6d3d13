//! One call on the server's side: reads it, records it, and answers as the script or the models
//! say.
use std::future::poll_fn;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use prost::bytes::{Bytes, BytesMut};

use super::super::framing::{compress, frame, percent_encode};
use super::super::pace::pause;
use super::Shared;
use super::answer::{answer, delay};
use super::call::{Call, End};
use super::load::{Load, Taken};
use super::script::{Act, Gate, take};

/// Serves one call.
pub(super) struct Handler {
    pub(super) shared: Arc<Shared>,
    /// Ends the connection; `true` means abruptly.
    pub(super) end: tokio::sync::mpsc::Sender<bool>,
    /// The number of the connection.
    pub(super) number: usize,
}

impl Handler {
    pub(super) async fn serve(self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let (head, mut body) = request.into_parts();
        // With its query, as gRPC servers look methods up.
        let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let mut call = Call {
            connection: self.number,
            path: path.clone(),
            headers: head.headers,
            body: Bytes::new(),
            message: Bytes::new(),
            compressed: false,
            end: End::Open,
        };
        let thread = Busy::new(&self.shared);
        if self.shared.options.echoes.contains(&path) {
            let at = self.record(call);
            let end = self.echo(at, body, respond).await;
            return self.ended(at, end);
        }
        let complete = read(&mut body, &mut call).await;
        let message = call.message.clone();
        if let Some(load) = self.shared.options.load {
            return self.under_load(load, &thread, &path, &message, respond).await;
        }
        let at = self.record(call);
        let end = match complete {
            Err(error) => End::Cancelled(error.reason()),
            Ok(()) if thread.over_the_limit => self.refuse(respond, 8, "Server Threadpool Exhausted", None),
            Ok(()) => self.act(&path, &message, respond).await,
        };
        self.ended(at, end);
    }

    /// Refuses the call or answers it after a time, by the calls in progress when it arrived.
    async fn under_load(
        &self,
        load: Load,
        thread: &Busy,
        path: &str,
        message: &[u8],
        mut respond: SendResponse<Bytes>,
    ) {
        let (inflight, random) = (thread.before + 1, &self.shared.random);
        match load.take(inflight, random) {
            Taken::Refused => drop(self.refuse(respond, 8, "Server Threadpool Exhausted", None)),
            Taken::Runs(time) => {
                let reset = poll_fn(|cx| respond.poll_reset(cx));
                if tokio::time::timeout(time, reset).await.is_err() {
                    self.act(path, message, respond).await;
                }
            }
        }
    }

    /// Does what the script says, or answers from the models.
    async fn act(&self, path: &str, message: &[u8], mut respond: SendResponse<Bytes>) -> End {
        let act = take(&mut self.shared.script.lock().unwrap(), path);
        match act {
            Some(Act::Status { code, text }) => return self.refuse(respond, code, &text, None),
            Some(Act::Details { code, text, details }) => {
                return self.refuse(respond, code, &text, Some(&details));
            }
            Some(Act::Reset(reason)) => {
                respond.send_reset(reason);
                return End::Dropped;
            }
            Some(Act::Close) => {
                let _ = self.end.send(true).await;
                // Dropping the stream before the connection ends would send RST_STREAM.
                let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
                return End::Dropped;
            }
            Some(Act::GoAway) => {
                let _ = self.end.send(false).await;
            }
            Some(Act::Message(message)) => return self.reply(respond, &message, false, Pause::None).await,
            Some(Act::Hold(ref gate)) => {
                tokio::select! {
                    () = gate.opened() => {}
                    reset = poll_fn(|cx| respond.poll_reset(cx)) => return End::Cancelled(reset.ok()),
                }
            }
            Some(Act::Halves(_) | Act::Break | Act::Gzip) | None => {}
        }
        if let Some(delay) = delay(&self.shared.options.delays, path, message) {
            tokio::select! {
                () = pause(delay) => {}
                reset = poll_fn(|cx| respond.poll_reset(cx)) => return End::Cancelled(reset.ok()),
            }
        }
        let answer = answer(&self.shared.models.lock().unwrap(), path, message);
        let message = match answer {
            Ok(message) => message,
            Err((code, text)) => return self.refuse(respond, code, &text, None),
        };
        match act {
            Some(Act::Halves(gate)) => self.reply(respond, &message, false, Pause::Until(gate)).await,
            Some(Act::Break) => self.reply(respond, &message, false, Pause::Break).await,
            Some(Act::Gzip) => self.reply(respond, &message, true, Pause::None).await,
            _ => self.reply(respond, &message, false, Pause::None).await,
        }
    }

    /// Sends initial metadata, one message and trailers.
    async fn reply(&self, mut respond: SendResponse<Bytes>, message: &[u8], gzip: bool, pause: Pause) -> End {
        let mut head = self.head();
        let message = if gzip {
            head.headers_mut().insert("grpc-encoding", HeaderValue::from_static("gzip"));
            compress(message)
        } else {
            message.to_vec()
        };
        let Ok(mut stream) = respond.send_response(head, false) else { return End::Cancelled(None) };
        let mut rest = frame(&message, gzip);
        if !matches!(pause, Pause::None) {
            let half = rest.split_to(rest.len() / 2);
            if stream.send_data(half, false).is_err() {
                return End::Cancelled(None);
            }
        }
        match pause {
            Pause::None => {}
            Pause::Until(gate) => {
                tokio::select! {
                    () = gate.opened() => {}
                    reset = poll_fn(|cx| stream.poll_reset(cx)) => return End::Cancelled(reset.ok()),
                }
            }
            Pause::Break => {
                drain(&mut stream, 0).await;
                stream.send_reset(Reason::INTERNAL_ERROR);
                return End::Dropped;
            }
        }
        let sent =
            stream.send_data(rest, false).and_then(|()| stream.send_trailers(self.trailers(0, "", None)));
        if sent.is_err() { End::Cancelled(None) } else { End::Answered(0) }
    }

    /// Sends a trailers-only answer, as gRPC servers do if there is no message.
    fn refuse(&self, mut respond: SendResponse<Bytes>, code: i32, text: &str, details: Option<&[u8]>) -> End {
        let mut head = self.head();
        head.headers_mut().extend(self.trailers(code, text, details));
        if respond.send_response(head, true).is_err() { End::Cancelled(None) } else { End::Answered(code) }
    }

    /// Sends each chunk back as it arrives; answers OK when the caller half-closes.
    async fn echo(&self, at: usize, mut body: RecvStream, mut respond: SendResponse<Bytes>) -> End {
        let Ok(mut stream) = respond.send_response(self.head(), false) else { return End::Cancelled(None) };
        loop {
            let chunk = tokio::select! {
                chunk = body.data() => chunk,
                reset = poll_fn(|cx| stream.poll_reset(cx)) => return End::Cancelled(reset.ok()),
            };
            match chunk {
                Some(Ok(chunk)) => {
                    let _ = body.flow_control().release_capacity(chunk.len());
                    self.shared.calls.send_modify(|calls| {
                        let mut whole = BytesMut::from(&calls[at].body[..]);
                        whole.extend_from_slice(&chunk);
                        calls[at].body = whole.freeze();
                    });
                    if stream.send_data(chunk, false).is_err() {
                        return End::Cancelled(None);
                    }
                }
                Some(Err(error)) => return End::Cancelled(error.reason()),
                None => break,
            }
        }
        if stream.send_trailers(self.trailers(0, "", None)).is_err() {
            End::Cancelled(None)
        } else {
            End::Answered(0)
        }
    }

    fn record(&self, call: Call) -> usize {
        let mut at = 0;
        if self.shared.options.forgets {
            return at;
        }
        self.shared.calls.send_modify(|calls| {
            at = calls.len();
            calls.push(call);
        });
        at
    }

    fn ended(&self, at: usize, end: End) {
        if !self.shared.options.forgets {
            self.shared.calls.send_modify(|calls| calls[at].end = end);
        }
    }

    fn head(&self) -> Response<()> {
        let mut head = Response::new(());
        head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        append(head.headers_mut(), &self.shared.options.initial_metadata);
        head
    }

    fn trailers(&self, code: i32, text: &str, details: Option<&[u8]>) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(code));
        if !text.is_empty() {
            trailers.insert("grpc-message", HeaderValue::from_str(&percent_encode(text)).unwrap());
        }
        if let Some(details) = details {
            use base64::Engine as _;
            let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(details);
            trailers.insert("grpc-status-details-bin", HeaderValue::from_str(&text).unwrap());
        }
        append(&mut trailers, &self.shared.options.trailing_metadata);
        trailers
    }
}

/// What happens between the two halves of an answer.
enum Pause {
    None,
    Until(Gate),
    Break,
}

/// A server thread in use: TensorFlow Serving's synchronous gRPC server holds one for each call.
struct Busy {
    shared: Arc<Shared>,
    /// The calls in progress before this one.
    before: usize,
    over_the_limit: bool,
}

impl Busy {
    fn new(shared: &Arc<Shared>) -> Self {
        let before = shared.busy.fetch_add(1, Ordering::Relaxed);
        let over_the_limit = before >= shared.threads.load(Ordering::Relaxed);
        Self { shared: shared.clone(), before, over_the_limit }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.shared.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads the whole body into `call`, and its first message.
async fn read(body: &mut RecvStream, call: &mut Call) -> Result<(), h2::Error> {
    let mut whole = BytesMut::new();
    let outcome = loop {
        match body.data().await {
            Some(Ok(chunk)) => {
                let _ = body.flow_control().release_capacity(chunk.len());
                whole.extend_from_slice(&chunk);
            }
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    call.body = whole.freeze();
    if let Some((prefix, message)) = call.body.split_at_checked(5) {
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let message = &message[..length.min(message.len())];
        call.compressed = prefix[0] == 1;
        call.message = if call.compressed {
            let mut plain = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(message);
            if decoder.read_to_end(&mut plain).is_ok() { plain.into() } else { Bytes::new() }
        } else {
            call.body.slice_ref(message)
        };
    }
    outcome
}

/// Waits until at most `left` bytes are in the send buffer, or the stream has ended.
async fn drain(stream: &mut SendStream<Bytes>, left: usize) {
    stream.reserve_capacity(left + 1);
    let _ = poll_fn(|cx| stream.poll_capacity(cx)).await;
}

fn append(headers: &mut HeaderMap, pairs: &[(String, String)]) {
    for (name, value) in pairs {
        headers
            .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
}
