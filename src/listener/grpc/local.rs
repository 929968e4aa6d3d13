//! Calls that are answered here: gRPC health and reflection, as tonic services behind a small
//! adapter to `h2`.
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response, Uri};
use http_body::{Body as _, Frame};
use tonic_health::pb::health_server::HealthServer;
use tower::util::BoxCloneSyncService;
use tower::{Service as _, ServiceExt as _};

use super::Client;
use super::responder::{Responder, Stop};
use super::write::Writer;
use crate::fault::Fault;
use crate::lifecycle::HealthService;
use crate::pipeline::Shard;
use crate::proto::DESCRIPTORS;
use crate::transport::deadline::Deadline;

const HEALTH: &str = "/grpc.health.v1.Health/";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/";
const REFLECTION_ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/";

/// While draining, a watch has this long to hand out the last news, so that it does not hold its
/// connection.
const LAST_NEWS: Duration = Duration::from_millis(250);

/// Bytes that one call may send: requests of health and reflection are short, and tonic keeps each
/// in memory until it is complete.
const MAX_REQUESTS: usize = 256 << 10;

type TonicService = BoxCloneSyncService<Request<Incoming>, Response<tonic::body::Body>, Infallible>;

/// The services; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    health: TonicService,
    reflection: TonicService,
    reflection_alpha: TonicService,
}

impl Local {
    /// # Errors
    /// The descriptors cannot be read.
    pub(crate) fn new(health: HealthService) -> Result<Self, tonic_reflection::server::Error> {
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // The details of errors.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        Ok(Self {
            health: BoxCloneSyncService::new(HealthServer::new(health)),
            reflection: BoxCloneSyncService::new(builder().build_v1()?),
            reflection_alpha: BoxCloneSyncService::new(builder().build_v1alpha()?),
        })
    }

    /// The service for a path, unless the path is for TF Serving. A path with a query is no method
    /// of ours.
    pub(crate) fn service(&self, uri: &Uri) -> Option<TonicService> {
        let path = uri.path();
        // All of ours, and none of TF Serving's, begin so.
        if !path.starts_with("/grpc.") || uri.query().is_some() {
            return None;
        }
        let services = [
            (HEALTH, &self.health),
            (REFLECTION, &self.reflection),
            (REFLECTION_ALPHA, &self.reflection_alpha),
        ];
        services.into_iter().find(|(prefix, _)| path.starts_with(prefix)).map(|(_, service)| service.clone())
    }
}

/// Serves one such call.
pub(super) async fn serve(
    shard: Rc<Shard>,
    client: Rc<Client>,
    service: TonicService,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let responder = Responder::new(respond, Rc::clone(&client.backlog));
    let mut ticket = match client.share.open() {
        Ok(ticket) => ticket,
        Err(fault) => return responder.fail(fault.trailers(None)),
    };
    let deadline = match Deadline::read(request.headers(), tokio::time::Instant::now()) {
        Ok(deadline) => deadline,
        Err(fault) => return responder.fail(fault.trailers(None)),
    };
    let config = shard.config();
    let work = pin!(async {
        let writer = Writer::new(&responder, &mut ticket, &config.limits);
        let mut answer = pin!(relay(writer, service, request));
        tokio::select! {
            biased;
            done = &mut answer => return done,
            () = shard.drain.begun() => {}
        }
        tokio::time::timeout(LAST_NEWS, answer).await.unwrap_or(Err(Fault::Draining.into()))
    });
    match responder.bounded(deadline, work).await {
        Ok(()) | Err(Stop::ClientCancelled) => {}
        Err(Stop::Fault(fault)) => responder.fail(fault.trailers(None)),
    }
}

async fn relay(
    mut writer: Writer<'_>,
    mut service: TonicService,
    request: Request<RecvStream>,
) -> Result<(), Stop> {
    let Ok(ready) = service.ready().await;
    let Ok(response) = ready.call(request.map(Incoming::new)).await;
    let (head, mut body) = response.into_parts();
    let end = body.is_end_stream();
    writer.responder.head(Response::from_parts(head, ()), end)?;
    if end {
        return Ok(());
    }
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|status| Fault::Upstream {
            code: status.code(),
            message: status.message().to_owned(),
        })?;
        match frame.into_data() {
            Ok(data) => writer.data(data, None).await?,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return writer.end(Some(trailers)).await.map(drop);
                }
            }
        }
    }
    writer.end(None).await.map(drop)
}

/// A request's body as tonic reads bodies.
#[derive(Debug)]
pub(crate) struct Incoming {
    stream: RecvStream,
    /// What it may still send.
    left: usize,
}

impl Incoming {
    fn new(stream: RecvStream) -> Self {
        Self { stream, left: MAX_REQUESTS }
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Self { stream, left } = &mut *self;
        if let Some(data) = std::task::ready!(stream.poll_data(cx)) {
            let data = data.and_then(|data| {
                *left = left.checked_sub(data.len()).ok_or(h2::Reason::ENHANCE_YOUR_CALM)?;
                stream.flow_control().release_capacity(data.len())?;
                Ok(Frame::data(data))
            });
            return Poll::Ready(Some(data));
        }
        stream
            .poll_trailers(cx)
            .map(|trailers| trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}
