//! Confirms that a small difference between a shared and a lone run is rounding.
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::context::{Progress, RequestContext};
use super::super::request_metrics::RequestMetrics;
use super::super::send::send;
use super::super::{Shard, stages};
use super::run::{Called, is_of_another_version, own_context, read};
use crate::batch::{Slicer, copies, identical};
use crate::config::AccessLog;
use crate::fault::Fault;
use crate::runs::Confirmation;
use crate::telemetry::metrics::{Door, Method};
use crate::transport::deadline::Deadline;
use crate::transport::framing::copied_bytes;
use crate::wire::Rope;

/// While one difference is being confirmed, no other is.
const MAX_TIME: Duration = Duration::from_secs(30);

/// Makes a run of copies of a member's rows, as many as its shared run had, and compares its rows.
/// Rows that do not depend on each other are the same bit by bit: the kernels are the same.
pub(crate) async fn confirm(shard: Rc<Shard>, confirmation: Box<Confirmation>) {
    let runs = Arc::clone(confirmation.turn.runs());
    let (progress, since) = (Progress::new("waiting for the upstream"), Instant::now());
    let mut metrics = RequestMetrics::new(Door::Grpc, Method::Predict, since, 1, AccessLog::Off);
    metrics.set_model(&runs.model_metrics);
    let config = shard.config();
    let mut cx = own_context(&shard, &config, &progress, &mut metrics);
    cx.deadline = Deadline::until(since + MAX_TIME);
    let Confirmation { turn, part, head, rows, place } = *confirmation;
    cx.head = head;
    // It is no part of what its client traces.
    drop(cx.head.take_trace());
    cx.head.set_changed();
    cx.head.accept_uncompressed();
    let message = copies(&runs.signature, &part, place.offset, place.rows);
    let held: usize = part.inputs.iter().map(|input| input.values.len()).sum();
    let called = call(&mut cx, message, (held + rows.message.len()) as u64).await;
    let message = match called {
        Ok(Called::Answered { message, .. }) => message,
        Ok(called) => return turn.differs(&format!("no answer ({})", called.code())),
        Err(fault) => return turn.differs(&format!("no answer ({})", fault.code())),
    };
    if is_of_another_version(&message, runs.version) {
        return;
    }
    let own = Slicer::new(&message, place.rows).and_then(|mut slicer| {
        slicer.next(place.offset)?;
        slicer.next(rows.count)
    });
    match own {
        Ok(own) => match identical(&rows.message, &own) {
            Ok(()) => turn.same(),
            Err(divergence) => turn.differs(&divergence.to_string()),
        },
        Err(error) => turn.differs(&error.to_string()),
    }
}

/// `held`: bytes that the request no longer answers for.
async fn call(cx: &mut RequestContext<'_>, message: Rope, held: u64) -> Result<Called, Fault> {
    cx.ticket.reserve(held + copied_bytes(&message) as u64)?;
    let frames = stages::frames(cx, message)?;
    let reply = send(cx, &frames).await?;
    read(cx, reply).await
}
