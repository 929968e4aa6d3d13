//! Who sent a request, as metrics and the status page name it. Limits and fair shares do not use
//! it: metadata can be forged.
use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, header};
use smallvec::SmallVec;

use super::Shard;
use super::context::RequestContext;
use crate::config::{Config, IdentitySource};
use crate::fault::Fault;
use crate::repair::fix::Language;
use crate::telemetry::clients::Client;
use crate::telemetry::events::printable;
use crate::telemetry::metrics::OutcomeLabel;
use crate::telemetry::trace_parent::TraceParent;
use crate::telemetry::traffic::Traffic;
use crate::transport::peer::Peer;
use crate::upstream::call::TRACEPARENT;

/// Bytes of a name; more are cut off.
const MAX_NAME: usize = 128;

/// Clients that a thread keeps: telling who sent a request then takes no allocation and no lock.
const MAX_KEPT: usize = 64;
/// Bytes of the user agent and the metadata that name a client which is kept.
const MAX_KEPT_BYTES: usize = 256;

/// The clients that were identified last, each in the place that its headers hash to.
#[derive(Debug)]
pub(crate) struct Identities(RefCell<Box<[Option<Identified>]>>);

impl Default for Identities {
    fn default() -> Self {
        Self(RefCell::new(std::iter::repeat_with(|| None).take(MAX_KEPT).collect()))
    }
}

/// The client of a request, and what it depends on.
#[derive(Debug)]
struct Identified {
    config: Arc<Config>,
    peer: u64,
    /// The user agent, and the metadata that may name the client.
    headers: SmallVec<[Box<[u8]>; 1]>,
    client: Client,
    /// Stands for the client in the census.
    key: u64,
    /// Counts its requests, as long as the generation is this one.
    traffic: Arc<Traffic>,
    generation: u64,
}

impl Shard {
    /// Counts a request of the client that sent these headers, and returns what stands for the
    /// client in the census.
    fn count_request(&self, config: &Arc<Config>, peer: &Peer, headers: &HeaderMap) -> u64 {
        let agent = headers.get(header::USER_AGENT);
        self.identified(config, peer, agent, headers, |identified| {
            identified.traffic.request();
            identified.key
        })
    }

    fn identified<T>(
        &self,
        config: &Arc<Config>,
        peer: &Peer,
        agent: Option<&HeaderValue>,
        headers: &HeaderMap,
        with: impl FnOnce(&Identified) -> T,
    ) -> T {
        let values: SmallVec<[&[u8]; 2]> = values(config, agent, headers).collect();
        let hash = values
            .iter()
            .fold(peer.key(), |hash, value| (hash.rotate_left(5) ^ ends(value)).wrapping_mul(MIX));
        let at = (hash >> 32) as usize % MAX_KEPT;
        let generation = self.mistakes.generation();
        if let Some(Some(kept)) = self.identities.0.borrow().get(at)
            && kept.peer == peer.key()
            && kept.generation == generation
            && Arc::ptr_eq(&kept.config, config)
            && kept.headers.iter().map(|value| &**value).eq(values.iter().copied())
        {
            return with(kept);
        }
        let identified = self.find_out(config, peer, agent, headers);
        let done = with(&identified);
        if values.iter().map(|value| value.len()).sum::<usize>() <= MAX_KEPT_BYTES
            && let Some(kept) = self.identities.0.borrow_mut().get_mut(at)
        {
            *kept = Some(identified);
        }
        done
    }

    #[cold]
    fn find_out(
        &self,
        config: &Arc<Config>,
        peer: &Peer,
        agent: Option<&HeaderValue>,
        headers: &HeaderMap,
    ) -> Identified {
        let sources = &config.client_identity;
        let client = match sources.iter().find_map(|source| name(source, peer, headers)) {
            Some(name) => self.clients.named(&name),
            None if sources.is_empty() => self.clients.unnamed(),
            None => self.clients.unknown(),
        };
        let language = agent.and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let client = client.speaking(Language::of_user_agent(language));
        let counts = self.mistakes.traffic(client.name(), SystemTime::now());
        // Looked up again with the next request if another thread holds the lock.
        let (traffic, generation) =
            counts.unwrap_or_else(|| (Arc::default(), self.mistakes.generation().wrapping_sub(1)));
        let headers = values(config, agent, headers).map(Into::into).collect();
        let (config, peer, key) = (Arc::clone(config), peer.key(), self.census.client(client.name()));
        Identified { config, peer, headers, client, key, traffic, generation }
    }
}

/// What the name of a client depends on beside its connection.
fn values<'a>(
    config: &'a Config,
    agent: Option<&'a HeaderValue>,
    headers: &'a HeaderMap,
) -> impl Iterator<Item = &'a [u8]> {
    let of = |value: Option<&'a HeaderValue>| value.map_or(&[][..], HeaderValue::as_bytes);
    let metadata = config.client_identity.iter().filter_map(move |source| match source {
        IdentitySource::Metadata(key) => Some(of(headers.get(key))),
        _ => None,
    });
    std::iter::once(of(agent)).chain(metadata)
}

/// An odd number with no pattern in its bits, from the golden ratio.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

/// The first and last bytes of a value and its length, as a number.
fn ends(value: &[u8]) -> u64 {
    let word = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let (first, last) = (word(value.first_chunk()), word(value.last_chunk()));
    first.wrapping_mul(MIX) ^ last ^ value.len() as u64
}

/// What metrics and the log say about who sent a request.
#[derive(Debug)]
pub(crate) struct Caller {
    pub client: Client,
    user_agent: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
}

impl Caller {
    /// Who sent these headers; the client is named by the first configured source that has a name.
    pub(crate) fn new(shard: &Shard, config: &Arc<Config>, peer: &Peer, headers: &HeaderMap) -> Self {
        let agent = headers.get(header::USER_AGENT);
        let client = shard.identified(config, peer, agent, headers, |identified| identified.client.clone());
        Self { client, user_agent: agent.cloned(), traceparent: headers.get(TRACEPARENT).cloned() }
    }

    /// A caller whose headers are gone.
    pub(crate) fn unknown(shard: &Shard) -> Self {
        Self { client: shard.clients.unknown(), user_agent: None, traceparent: None }
    }

    pub(super) fn user_agent(&self) -> Option<Cow<'_, str>> {
        clean(self.user_agent.as_ref()?.as_bytes())
    }

    /// The trace that the request belongs to, as W3C Trace Context has it.
    pub(super) fn trace_id(&self) -> Option<&str> {
        trace_id(self.traceparent.as_ref()?.as_bytes())
    }
}

impl RequestContext<'_> {
    /// Who sent the request.
    pub(super) fn client(&self) -> &Client {
        &self.caller().client
    }

    /// Counts the request for its client.
    pub(super) fn count_request(&mut self) {
        let client = self.shard.count_request(self.config, self.peer, self.head.request().headers());
        self.metrics.set_counted(client);
    }

    fn caller(&self) -> &Caller {
        self.metrics.caller(|| match self.head.request().headers() {
            // They went along with a run that requests share.
            headers if headers.is_empty() => Caller::unknown(self.shard),
            headers => Caller::new(self.shard, self.config, self.peer, headers),
        })
    }

    /// Finds out who sent a request that is refused, while its headers are here.
    pub(crate) fn identify_refused(&self, fault: &Fault) {
        if fault.is_refusal() {
            self.caller();
        }
        if fault.outcome() == OutcomeLabel::Rejected {
            self.trace_mismatch();
        }
    }
}

/// The trace id of a valid `traceparent`, in the digits that it has there.
fn trace_id(traceparent: &[u8]) -> Option<&str> {
    TraceParent::parse(traceparent)?;
    std::str::from_utf8(traceparent.get(TraceParent::TRACE_ID)?).ok()
}

fn name<'a>(source: &IdentitySource, peer: &'a Peer, headers: &'a HeaderMap) -> Option<Cow<'a, str>> {
    let value = |key| headers.get(key).map(|value: &http::HeaderValue| value.as_bytes());
    match source {
        IdentitySource::TlsSan => clean(peer.certified_name()?.as_bytes()),
        IdentitySource::Metadata(key) => clean(headers.get(key)?.as_bytes()),
        IdentitySource::UserAgent => clean(product(value(header::USER_AGENT)?)),
        IdentitySource::Peer => clean(peer.name().as_bytes()),
    }
}

/// The first product of a user agent, with the major and minor version: `grpc-python/1.62` of
/// `grpc-python/1.62.1 grpc-c/39.0.0 (linux; chttp2)`. A version that is no number, such as a
/// commit, is left out: every build would be a client of its own.
fn product(agent: &[u8]) -> &[u8] {
    let agent = agent.trim_ascii();
    let first = agent.split(|byte| *byte == b' ').next().unwrap_or_default();
    let Some(slash) = first.iter().position(|byte| *byte == b'/') else { return first };
    let version = &first[slash + 1..];
    let mut dots = 0;
    let end = version.iter().position(|byte| match byte {
        b'.' => {
            dots += 1;
            dots == 2
        }
        byte => !byte.is_ascii_digit(),
    });
    let commit = dots == 0 && end.is_some_and(|end| version[end].is_ascii_alphabetic());
    let version = if commit { &[] } else { &version[..end.unwrap_or(version.len())] };
    let version = version.strip_suffix(b".").unwrap_or(version);
    match version {
        [] => &first[..slash],
        version => &first[..slash + 1 + version.len()],
    }
}

/// A name of printable ASCII and bounded length; `None` if it is empty. Other bytes become `_`.
fn clean(name: &[u8]) -> Option<Cow<'_, str>> {
    let name = name.trim_ascii();
    let name = name[..name.len().min(MAX_NAME)].trim_ascii_end();
    (!name.is_empty()).then(|| printable(name, MAX_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_agents_are_reduced_to_name_and_minor_version() {
        for (agent, expected) in [
            ("grpc-python/1.62.1 grpc-c/39.0.0 (linux; chttp2)", "grpc-python/1.62"),
            ("grpc-go/1.60.0", "grpc-go/1.60"),
            ("grpc-java-netty/1.58.0", "grpc-java-netty/1.58"),
            ("grpc-node-js/1.9.5", "grpc-node-js/1.9"),
            ("grpc-dotnet/2.59.0 (.NET 8.0.1; CLR 8.0.1; net8.0; linux; x64)", "grpc-dotnet/2.59"),
            ("fraud-scorer/2.3.1 grpc-go/1.60.0", "fraud-scorer/2.3"),
            ("grpc-go/1.61.0-dev", "grpc-go/1.61"),
            ("app/1", "app/1"),
            ("app/1.", "app/1"),
            ("app/7f3a9c2", "app"),
            ("app/2.0rc1", "app/2.0"),
            ("app/f3a9c2", "app"),
            ("app/v1.2", "app"),
            ("app", "app"),
            (" app/1.2.3 ", "app/1.2"),
            ("", ""),
        ] {
            assert_eq!(product(agent.as_bytes()), expected.as_bytes(), "{agent}");
        }
    }

    #[test]
    fn the_trace_id_is_read_from_a_valid_traceparent_only() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let of = |text: &str| trace_id(text.as_bytes()).map(str::to_owned);
        assert_eq!(of(&format!("00-{id}-00f067aa0ba902b7-01")).as_deref(), Some(id));
        assert_eq!(of(&format!("00-{id}-00f067aa0ba902b7")), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn names_are_printable_and_short() {
        assert_eq!(clean(b" team a ").unwrap(), "team a");
        assert_eq!(clean("z\u{fc}rich\t\"".as_bytes()).unwrap(), "z__rich_\"");
        assert_eq!(clean(b"\xff\0").unwrap(), "__");
        assert_eq!(clean(b"  "), None);
        assert_eq!(clean(&[b'x'; 1_000]).unwrap().len(), MAX_NAME);
    }
}
