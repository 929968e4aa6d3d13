//! The path of a request, the same for every listener; [`run()`] shows all of it.
//!
//! A listener admits a request, reads its message, and gives both to [`run()`], which answers with
//! an [`Answer`] or a [`Fault`]. No stage knows the listener, and no stage writes to the client.
mod annotations;
mod answer;
pub(crate) mod batch;
pub(crate) mod census;
mod context;
mod fan_out;
pub(crate) mod identity;
pub(crate) mod json;
mod json_examples;
mod mistakes;
pub(crate) mod offload;
mod operation;
pub(crate) mod options;
mod profile;
pub(crate) mod repair_metadata;
pub(crate) mod report;
pub(crate) mod request_metrics;
mod resolve;
mod run;
mod send;
mod sent;
mod stages;
pub(crate) mod text_findings;
pub(crate) mod trace;
mod verdict;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;

pub(crate) use annotations::ResponseAnnotations;
pub(crate) use answer::{Answer, WholeAnswer};
pub(crate) use context::{Progress, RequestContext, RequestMessage};
pub(crate) use identity::Identities;
pub(crate) use run::{forward, run};

use crate::census::{Census, Recently};
use crate::config::Config;
use crate::fault::Fault;
use crate::lifecycle::DrainHandle;
use crate::limiter::ShardHandle;
use crate::limiter::admission::{Internal, Share, Ticket};
use crate::models::catalog::Catalog;
use crate::models::refresher::Refresher;
use crate::preprocessing::Preprocessing;
use crate::profile::Sample;
use crate::retry::budget::Budget;
use crate::retry::policy::Attempts;
use crate::runs::RunHandle;
use crate::telemetry::clients::Clients;
use crate::telemetry::events::Events;
use crate::telemetry::mistakes::Mistakes;
use crate::telemetry::recent::Recent;
use crate::telemetry::traces::Tracer;
use crate::transport::deadline::Deadline;
use crate::upstream::pool::Pool;

/// What the requests of one thread share.
#[derive(Debug)]
pub(crate) struct Shard {
    /// The configuration in force, which a reload replaces.
    pub config: RefCell<LiveConfig>,
    pub pool: Rc<Pool>,
    pub catalog: Arc<Catalog>,
    pub refresher: Refresher,
    /// `None`: as many calls to TF Serving as there are requests.
    pub limiter: Option<ShardHandle>,
    /// The runs that requests share are handed over with it.
    pub runs: RunHandle,
    /// What such runs count as.
    pub own: Internal,
    /// Where work on large messages runs.
    pub offload: offload::Offload,
    pub retry_budget: RefCell<Budget>,
    pub drain: DrainHandle,
    /// The last clients that were identified.
    pub identities: identity::Identities,
    /// `None`: nothing is traced.
    pub tracer: Option<Rc<Tracer>>,
    /// The clients that metrics name.
    pub clients: Arc<Clients>,
    /// Who does what wrong how often.
    pub mistakes: Arc<Mistakes>,
    /// The forms of requests, and those that this thread saw last.
    pub census: Arc<Census>,
    pub recently: Recently,
    /// Compares values with the training data.
    pub preprocessing: Arc<Preprocessing>,
    /// The values of the request that is compared now.
    pub sample: RefCell<Sample>,
    /// What the operators' page shows.
    pub recent: Arc<Recent>,
    /// The names of models that only clients know.
    pub unknown_models: Arc<Recent>,
    /// What the log says about single requests.
    pub events: Arc<Events>,
    /// Requests seen so far: numbers them.
    pub requests: Cell<u32>,
}

/// The configuration in force, as one thread reads it.
pub(crate) type LiveConfig = Cache<Arc<ArcSwap<Config>>, Arc<Config>>;

impl Shard {
    /// The configuration for a request or a connection that begins now. It keeps it to its end.
    #[inline]
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(self.config.borrow_mut().load())
    }

    /// The retries that a call may have.
    #[inline]
    pub(crate) fn attempts(&self, config: &Config) -> Attempts {
        match self.limiter {
            Some(_) => Attempts::with_limiter().retry_lost(config.retry_lost),
            None => Attempts::without_limiter(),
        }
    }

    /// The number of the next request.
    pub(crate) fn next_number(&self) -> u32 {
        let number = self.requests.get();
        self.requests.set(number.wrapping_add(1));
        number
    }

    /// Tells the runs that requests share whether a drain is under way.
    pub(crate) fn set_draining(&self, draining: bool) {
        for entry in self.catalog.snapshot().values() {
            for version in entry.versions.values() {
                let all = version.all_runs().filter_map(|(_, runs)| runs.as_ref().ok());
                all.for_each(|runs| runs.set_draining(&self.runs, draining));
            }
        }
    }

    /// Admits a request before its message is read.
    ///
    /// # Errors
    /// Too many requests are in flight or queued, this client has more than its share of them, or
    /// the queue is longer than the deadline allows.
    pub(crate) fn admit(&self, share: &Arc<Share>, deadline: Deadline) -> Result<Ticket, Fault> {
        if let Some(limiter) = &self.limiter {
            limiter.check(share.peer().key(), || self.catalog.len() <= 1, deadline.at())?;
        }
        share.enter()
    }
}
