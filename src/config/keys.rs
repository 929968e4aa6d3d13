//! Every key of the configuration file, a line each: format, whether a change is `live` or needs a
//! `restart` (`each`: its own keys say so), and help. Reading, reloading, `check --print`, the
//! reference and the JSON Schema come from these tables; the defaults are those of the types.
use std::path::PathBuf;

use super::cursor::Cursor;
use super::format::{Maybe, Numbers, Renames, Texts, UnlessZero};
use super::identity::Sources;
use super::problem::Problem;
use super::profile_check::{Check, ProfilePath};
use super::rule_keys::RuleKeys;
use super::rules::{RuleKey, Rules};
use super::scalars::{
    Address, Choice, Concurrency, FileMode, FilePath, LogFilter, Number, OffOr, OnOff, Share, Size, Text,
    Time,
};
use super::table::{Both, Field, Key, Named, Optional, Reload, Table, keys};
use super::{
    AccessLog, Config, Limits, ListenTls, LogFormat, MAX_MESSAGE_BYTES, UndeclaredModels, UpstreamTls,
};
use crate::batch::Settings;
use crate::repair::policy::{
    MissingInputs, Mode, ModelPolicy, Policy, RowAgreement, ShortLists, SmallInts, Unrepairable,
};
use crate::repair::transform::{Phase, When};
use crate::repair::{Repair, RuleValues, Switch, TRANSFORM, WHEN};

pub(super) static CONFIG: Table<Config> = Table {
    keys: keys! { Config;
        upstream: Address::new(), restart, "TF Serving's gRPC address: `host:port`, `https://host:port` or `unix:///path`.";
        listen: Address::new(), restart, "Where clients connect with gRPC: `ip:port` or `unix:///path`. Port 0 picks a free port.";
        admin_listen: Address::new(), restart, "Where metrics, health checks, drain and the status page are served over HTTP.";
        admin_token_file: Maybe(FilePath), live, "A file with a token. With it (`authorization: Bearer TOKEN`), clients on other machines may drain and undrain over `admin_listen`; otherwise only this machine may. The file is read at each such request.";
        admin_hosts: Texts("names"), live, "Host names under which a drain or undrain may be sent to `admin_listen`, apart from IP addresses and `localhost`.";
        drain_listen: Maybe(Address::new()), restart, "An address on which `GET /drain` starts a drain, and nothing else is served: for the preStop hook of Kubernetes (`httpGet`). This drain is taken back when TF Serving was restarted. Every client that can connect there can drain.";
        listen_socket_mode: FileMode, restart, "The permissions of the Unix socket of `listen`. A client needs write permission to connect.";
        admin_socket_mode: FileMode, restart, "The permissions of the Unix sockets of `admin_listen` and `drain_listen`. A program that may connect may drain.";
        rest_listen: OffOr(Address::new()), restart, "Where clients use TF Serving's REST API (JSON over HTTP): `ip:port` or `unix:///path`, by convention `0.0.0.0:8601`. TF Serving itself needs no REST port. See [rest.md](rest.md).";
        rest_timeout: Time { zero: false }, live, "The time for a REST request that does not say how long it may take (`x-timeout`, `grpc-timeout`).";
        rest_cors: Texts("origins"), live, "Origins of web pages that may use the REST API, such as `https://app.example.com`; `*` for all.";
        rest_upstream: OffOr(Address::new()), restart, "TF Serving's own REST port (`host:port`). Paths outside of `/v1/` are passed to it, such as TF Serving's metrics. With `off`, they are not found.";
        workers: Number::new(1, 1024), restart, "Worker threads. A request stays on the thread of its client connection. One more thread accepts connections, polls TF Serving and serves `admin_listen`. The default respects CPU affinity and the CPU limit of a container.", default "one per CPU";
        upstream_connections: Number::new(1, 64), restart, "The most HTTP/2 connections to TF Serving per worker. The next one is made when 64 calls run on each of those before.";
        upstream_concurrency: Concurrency, restart, "How many Predict, Classify, Regress and MultiInference requests are sent to TF Serving at a time; the rest wait in a queue. `auto` finds the number with the most answers a second. `off` sets no limit. Requests that TF Serving refuses because all its threads are busy are sent again, except with `off`. See [overload.md](overload.md).";
        limits: &LIMITS, each, "What requests and connections may take; more is refused. When more than half of `max_inflight_bytes`, `max_inflight_requests` or `max_streams` is in use, each client (by the name in its TLS certificate, else by IP address; each connection from the same host or pod is a client of its own) has a fair share: a client that holds more leaves an eighth to the others, and one that holds little may go an eighth beyond the limit.";
        retry_lost: OnOff, live, "Whether a request is sent again when its connection to TF Serving is lost before an answer. It may have run, so `on` is only for models that may run a request twice.";
        undeclared_models: Choice(&[("allow", UndeclaredModels::Allow), ("refuse", UndeclaredModels::Refuse)]), live, "What happens to requests for models that are not listed under `models`: their signatures are read on the first request, or they are refused.";
        allow_reload: OnOff, live, "Whether HandleReloadConfigRequest is forwarded. TF Serving does not authenticate it.";
        server_batching: OnOff, live, "Set to `on` if TF Serving runs with `--enable_batching`. Requests with zero rows would hang it and are then refused.";
        poll_interval: Time { zero: false }, live, "How often TF Serving is asked which versions of each model it serves.";
        connect_timeout: Time { zero: false }, live, "The longest time to connect to TF Serving.";
        drain_delay: Time { zero: true }, live, "How long a drain goes on accepting connections and requests although the sidecar is already unready, so that clients and load balancers learn of it first.";
        drain_timeout: Time { zero: true }, live, "How long a drain waits for requests in flight after `drain_delay`.";
        reload_interval: Time { zero: true }, live, "How often the configuration file, certificates, keys and authorities are read again. A change is used once it was read twice, so that a file that is still being written is not. `0s`: only on SIGHUP.";
        listen_tls: Optional { table: &LISTEN_TLS, blank: ListenTls::blank }, each, "TLS for client connections. Without it they are plain HTTP/2.";
        upstream_tls: &UPSTREAM_TLS, each, "Certificates for an `https://` upstream.";
        client_identity: Sources, live, "What names a client in the label `client` of metrics and on the status page: the first source that gives a name. `tls_san`: the URI (SPIFFE) or DNS name in the client's certificate. `{metadata: KEY}`: the value of a key of the request metadata. `user_agent`: the user agent as name and major.minor version, such as `grpc-python/1.62`. `peer`: the IP address. `off`: clients are not named. Metadata can be forged, so a name is only shown; limits and fair shares are by peer. See [operations.md](operations.md#who-sends-what).";
        max_clients: Number::new(1, 1024), restart, "Names of clients in metrics, in the life of the process. Later ones are counted together as `__other__`.";
        traffic_census: OnOff, live, "Whether the distinct forms of requests are kept in memory, without values: what tells before a rollout which clients a new version would refuse. See [rollouts.md](rollouts.md).";
        log_format: Choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]), restart, "The format of log lines on stderr.";
        access_log: Choice(&[("off", AccessLog::Off), ("problems", AccessLog::Problems), ("all", AccessLog::All)]), live, "Which requests have a line in the log, written at their end: none, those that do not conform, have a warning or are not answered OK, or all. Events of repairs and refusals are logged in any case. See [operations.md](operations.md#access-log).";
        log: LogFilter, live, "Which log lines are written: a level, or `target=level,...`.";
        otlp_endpoint = Field::<Config, _, _> { get: |config| &config.otlp.endpoint, get_mut: |config| &mut config.otlp.endpoint, format: OffOr(Address::new()) }, restart, "An OpenTelemetry collector that takes traces as OTLP over gRPC: `host:port`, `https://host:port` or `unix:///path`. With `off`, nothing is traced. See [operations.md](operations.md#traces).";
        otlp_sample = Field::<Config, _, _> { get: |config| &config.otlp.sample, get_mut: |config| &mut config.otlp.sample, format: Share }, restart, "The share of requests without a `traceparent` that is traced. For the others, the client's `traceparent` decides.";
        otlp_sample_mismatches = Field::<Config, _, _> { get: |config| &config.otlp.mismatches, get_mut: |config| &mut config.otlp.mismatches, format: Number::new(0, 1 << 20) }, restart, "Requests a second that are traced because they do not conform, besides those that `otlp_sample` selects.";
        otlp_service_name = Field::<Config, _, _> { get: |config| &config.otlp.service_name, get_mut: |config| &mut config.otlp.service_name, format: Text("name") }, restart, "The name of the service in traces (`service.name`).";
        otlp_resource = Field::<Config, _, _> { get: |config| &config.otlp.resource, get_mut: |config| &mut config.otlp.resource, format: Texts("`key=value`") }, restart, "Further attributes of the resource in traces, such as `k8s.pod.name=NAME`.";
        rename_model: Renames, live, "Names of models under which clients ask for other ones: `{OLD: NEW}`. The request is for NEW then, is checked by its policy, and is sent so (rule `rename_model`). In modes `off` and `observe` it is sent as it came.";
        defaults = Field::<Config, _, _> { get: |config| &config.defaults.defaults, get_mut: |config| &mut config.defaults.defaults, format: &DEFAULTS }, each, "The policy of every model.";
        models = Named { name: "MODEL", table: &MODEL, get: |config: &Config| &config.models, get_mut: |config| &mut config.models, base: of_defaults, inherits: true }, each, "Models and their policies. Their signatures are read at startup, and the sidecar is not ready until that is done.";
    },
    ..Table::EMPTY
};

static LIMITS: Table<Limits> = Table {
    keys: keys! { Limits;
        max_message_bytes: Size::up_to(MAX_MESSAGE_BYTES as u64), live, "The largest message, after decompression. TF Serving accepts no more than the default.";
        max_inflight_bytes: Size::up_to(u64::MAX), live, "Memory for all messages in flight, as they arrive: requests, what they decompress to, and answers that clients do not read.";
        max_inflight_requests: Number::new(1, 1 << 20), live, "Requests in flight, including those that wait for TF Serving. Requests that are not complete yet and those whose client does not read the answer do not count; there may be four times as many of them.";
        max_queued_requests: Number::new(1, 1 << 20), live, "Requests that wait for TF Serving. If there are more, the model and the client with the most waiting requests lose their newest.";
        max_streams: Number::new(1, 1 << 20), live, "Open streams of all methods that are not checked: health, reflection, model status and other services.";
        max_connections: Number::new(1, 1 << 20), live, "Client connections. The limit is lower if the process may not open enough file descriptors; some are reserved for `admin_listen` and TF Serving. Further connections are closed at once.";
        max_connections_per_peer: UnlessZero(Number::new(0, 1 << 20)), live, "Client connections with the same name in their TLS certificate, or from the same IP address. Connections from the same host or pod are not limited. Not set, or 0: no limit.";
        handshake_timeout: Time { zero: false }, live, "The longest time for the TLS handshake of a client, for the beginning of HTTP/2 after it, and for the headers of a request to `admin_listen`.";
        body_idle_timeout: Time { zero: false }, live, "The longest time between two pieces of a request's message.";
        min_body_rate: Size::up_to(1 << 30), live, "The lowest average rate, in bytes per second, of a message that takes longer than `body_idle_timeout`.";
        body_timeout: Time { zero: false }, live, "The longest time for a request's message to arrive.";
        write_idle_timeout: Time { zero: false }, live, "The longest time that a client may read nothing of its answer. It is shorter while more than half of `max_inflight_bytes` is in use.";
        connection_idle_timeout: Time { zero: true }, live, "How long a client connection may be without a request before it is closed (GOAWAY). `0s`: no limit.";
        max_connection_age: Time { zero: true }, live, "How old a client connection may become before its client is told to use a new one (GOAWAY). `0s`: no limit.";
        max_connection_age_grace: Time { zero: true }, live, "How long requests on a connection that was told to end because of its age may take.";
        keepalive_interval: Time { zero: true }, live, "After how long without a new request a client is sent an HTTP/2 PING. `0s`: never.";
        keepalive_timeout: Time { zero: false }, live, "How long a client may take to answer a PING before its connection is closed.";
        max_elements: UnlessZero(Number::new(0, 1 << 48)), live, "The largest number of elements in one tensor, by its shape. Not set, or 0: no limit.";
        max_fill_bytes: Size::up_to(u64::MAX), live, "The largest tensor of which a message does not carry all values. One value in a list fills a tensor of any shape, so a message of a few bytes could make TF Serving allocate any amount.";
    },
    ..Table::EMPTY
};

static LISTEN_TLS: Table<ListenTls> = Table {
    keys: keys! { ListenTls;
        cert: FilePath, live, "The certificate chain in PEM format, leaf first.";
        key: FilePath, live, "The private key in PEM format.";
        client_ca: Maybe(FilePath), live, "Certificate authorities in PEM format. Clients must then present a certificate signed by one of them.";
    },
    required: &["cert", "key"],
    together: &["cert", "key"],
    ..Table::EMPTY
};

pub(super) static UPSTREAM_TLS: Table<UpstreamTls> = Table {
    keys: keys! { UpstreamTls;
        ca: Maybe(FilePath), live, "The certificate authorities to trust, in PEM format. Without it, those of the system.";
        cert: Maybe(FilePath), live, "The certificate chain to present to TF Serving, in PEM format.";
        key: Maybe(FilePath), live, "The private key of `cert`.";
        domain: Maybe(Text("name")), live, "The name in TF Serving's certificate, if it is not the host of `upstream`.";
    },
    together: &["cert", "key"],
    ..Table::EMPTY
};

/// What `defaults`, models and signatures have in common.
pub(super) static POLICY: Table<Policy> = Table {
    keys: keys! { Policy;
        mode: Choice(MODES), live, "`off` forwards requests unread. `observe` forwards them too, and reports what it would have done. `repair` repairs requests that have exactly one right reading and refuses other mistakes. `strict` refuses every request that does not conform.";
        unrepairable: Choice(&[("reject", Unrepairable::Reject), ("forward", Unrepairable::Forward)]), live, "What mode `repair` does with a request that no rule can fix.";
        missing_inputs: Choice(&[("forward", MissingInputs::Forward), ("refuse", MissingInputs::Refuse)]), live, "What happens to a request whose only problem is a missing input. The signature may have a default that its metadata does not show.";
        row_agreement: Choice(&[("forward", RowAgreement::Forward), ("refuse", RowAgreement::Refuse)]), live, "What happens to a request whose inputs with a declared dimension 0 of -1 differ in it. `forward` sends it with a warning (`tfs-sidecar-warning`), because they need not be the same rows: ragged tensors, graphs, one user beside many items. Shapes are repaired only where the rows agree.";
        batch_first = RuleKey("batch_first"), live, "Reads a tensor with one dimension too few as a single row, even if a dimension of size 1 would also fit elsewhere.";
        column_vector = RuleKey("column_vector"), live, "Reads `[k,1]` as `[1,k]` where `[-1,k]` is declared.";
        round_f64: Choice(&[("allow", true), ("refuse", false)]), live, "Whether float64 values may be rounded to float32. With `refuse`, they are only cast if every value stays exact.";
        small_ints: Choice(&[("warn", SmallInts::Warn), ("allow", SmallInts::Allow), ("refuse", SmallInts::Refuse)]), live, "Whether integers of 8 or 16 bits are cast where a float type is declared. Each number stays exact, but the model may take pixels or PCM samples scaled; `warn` says so in `tfs-sidecar-warning`.";
        short_lists: Choice(&[("refuse", ShortLists::Refuse), ("allow", ShortLists::Allow)]), live, "What happens to a list of several values that is shorter than its shape. TensorFlow repeats the last value.";
        shield_ranks: OnOff, live, "Refuses wrong ranks also in mode `observe` and under `unrepairable: forward`, which otherwise forward them as the client sent them. With oneDNN on (the default on current CPUs), an input of rank 2 or 3 for a convolution ends the whole TF Serving process. Mode `off` always forwards.";
        profile_check: Check, live, "What happens to requests whose values do not look like the training data (`profile`). `warn` forwards them with a warning (`tfs-sidecar-warning`), `refuse` refuses them, `off` does not look. Of each input at most `budget` values (4096) of `sample` rows (64) are looked at, and one answer in `answers` (64). See [preprocessing.md](preprocessing.md).";
        explain_upstream: OnOff, live, "Appends an explanation to known error texts of TF Serving: what they mean and who can fix it (docs/errors.md). Never in mode `off`.";
        probe: OnOff, live, "Sends each new version one request of zeros (or empty strings) before the sidecar is ready. What only fails when a request reaches it, such as a missing operation or missing weights, then keeps it unready. Errors that the zeros themselves may cause do not count.";
    },
    ..Table::EMPTY
};

static DEFAULTS: Table<Policy> = Table {
    base: Some(&POLICY),
    keys: keys! { Policy;
        rules = Rules { opt_in: false }, live, "Switches rules of tier 1 off by name.";
    },
    ..Table::EMPTY
};

/// What models and signatures have in common.
static POLICY_WITH_RULES: Table<Policy> = Table {
    base: Some(&POLICY),
    keys: keys! { Policy;
        profile = Field::<Policy, _, _> { get: |policy| &policy.profile, get_mut: |policy| &mut policy.profile, format: ProfilePath }, live, "A file that says what the training data looked like, as `tfs-sidecar profile build` makes it. Requests are compared with it. It is read again when it changes.";
        rules = Rules { opt_in: true }, live, "Switches rules of tier 1 off and rules of tier 2 on, by name. Some rules take a list of inputs instead of a switch. Rules of tier 2 assume something about one model, so `defaults` does not take them.";
    },
    ..Table::EMPTY
};

static MODEL: Table<ModelPolicy> = Table {
    base: Some(&Field {
        get: |model: &ModelPolicy| &model.defaults,
        get_mut: |model| &mut model.defaults,
        format: &POLICY_WITH_RULES,
    }),
    keys: keys! { ModelPolicy;
        signatures = Named { name: "SIGNATURE", table: &SIGNATURE, get: |model: &ModelPolicy| &model.signatures, get_mut: |model| &mut model.signatures, base: of_model, inherits: true }, each, "Policies of single signatures, for what differs from the model's.";
    },
    ..Table::EMPTY
};

static SIGNATURE: Table<Policy> = Table {
    base: Some(&Both(&POLICY_WITH_RULES, &OF_SIGNATURE)),
    keys: keys! { Policy;
        inputs = Named { name: "INPUT", table: &INPUT, get: |policy: &Policy| &policy.inputs, get_mut: |policy| &mut policy.inputs, base: |_| RuleValues::default(), inherits: false }, each, "What only the owner of the model knows about an input.";
        batching: &BATCHING, each, "Batching of concurrent requests.";
    },
    check: Some(check_signature),
    ..Table::EMPTY
};

static INPUT: Table<RuleValues> =
    Table { base: Some(&OF_INPUT), check: Some(check_transforms), ..Table::EMPTY };

/// What rules take for a signature and for an input, as their own files declare it.
static OF_SIGNATURE: RuleKeys<Policy> = RuleKeys {
    of: |switch| if let Switch::Signature(key) = switch { Some(key) } else { None },
    shared: &[],
    get: |policy| &policy.values,
    get_mut: |policy| &mut policy.values,
};

static OF_INPUT: RuleKeys<RuleValues> = RuleKeys {
    of: |switch| if let Switch::Input(key) = switch { Some(key) } else { None },
    shared: &[&TRANSFORM, &WHEN],
    get: |values| values,
    get_mut: |values| values,
};

static BATCHING: Table<Settings> = Table {
    keys: keys! { Settings;
        enabled: OnOff, live, "Whether concurrent requests may share a run of the model. Only the owner of a model knows that its rows do not depend on each other; `probation` and `verify_sample` check it. See [batching.md](batching.md).";
        max_rows: UnlessZero(Number::new(1, 1 << 31)), live, "The most rows of a run; 64 if not set. Larger requests are split if `enabled` or `split_oversize` is on.";
        max_queue_rows: Number::new(1, 1 << 31), live, "The most rows that wait for a run. Further requests are refused (RESOURCE_EXHAUSTED).";
        max_delay: Time { zero: true }, live, "How long a request may wait for others although a run could start. `0s`: not at all; requests are gathered only while a run is in flight.";
        slo_p99: Time { zero: true }, live, "The latency that 99 % of the members should stay below. Runs become smaller when they do not. `0s`: no bound.";
        verify_sample: Share, live, "The share of members that are also run alone, answered from that, and compared.";
        probation: Number::new(0, 1 << 20), live, "Of so many runs of each version, all members are also run alone, answered from that, and compared. Answers of shared runs are used after that. 0: at once.";
        allowed_batch_sizes: Numbers(Number::new(1, 1 << 31)), live, "The only numbers of rows that a run may have, for models that are compiled for each size. Runs are filled to the next one with copies of the last row. Not set: any.";
    },
    ..Table::EMPTY
};

const MODES: &[(&str, Mode)] =
    &[("off", Mode::Off), ("observe", Mode::Observe), ("repair", Mode::Repair), ("strict", Mode::Strict)];

impl ListenTls {
    /// What the section is read over; both files are required.
    fn blank() -> Self {
        Self { cert: PathBuf::new(), key: PathBuf::new(), client_ca: None }
    }
}

fn of_defaults(config: &Config) -> ModelPolicy {
    ModelPolicy { defaults: config.defaults.defaults.clone(), ..ModelPolicy::default() }
}

fn of_model(model: &ModelPolicy) -> Policy {
    model.defaults.clone()
}

/// Settings of `batching` that go together.
fn check_batching(policy: &Policy, at: &Cursor<'_>) {
    let batching = &policy.batching;
    let limit = batching.rows_per_run();
    let largest = batching.allowed_batch_sizes.last().copied().unwrap_or(limit);
    if batching.max_rows > 0 && largest != batching.max_rows {
        let path = at.path_of("batching.allowed_batch_sizes");
        let what = format!(
            "the largest of `allowed_batch_sizes` ({largest}) must be `max_rows` ({})",
            batching.max_rows
        );
        at.push(Problem::at(at.node.place, path, &what));
    }
    if limit > batching.max_queue_rows {
        let path = at.path_of("batching.max_queue_rows");
        let what = format!(
            "`max_queue_rows` ({}) is less than the rows of a run ({limit})",
            batching.max_queue_rows
        );
        at.push(Problem::at(at.node.place, path, &what));
    }
}

/// `when: raw` looks at the numbers of a request as they are before the scaler.
fn check_transforms(values: &RuleValues, at: &Cursor<'_>) {
    let Some(entry) = at.get(WHEN.name).filter(|_| values.when() == When::Raw) else { return };
    let only_numbers = values.transforms().is_some_and(|transforms| {
        transforms.has_numbers() && transforms.list.iter().all(|one| one.phase() == Phase::Numbers)
    });
    if !only_numbers {
        let text = "`when: raw` is for numbers alone: `standardize`, `scale` and `clip`";
        at.child(entry).report(Problem::text(text).hint("leave it out, or set `when: always`"));
    }
}

fn check_signature(policy: &Policy, at: &Cursor<'_>) {
    check_split(policy, at);
    check_batching(policy, at);
}

fn check_split(policy: &Policy, at: &Cursor<'_>) {
    let split = Repair::find("split_oversize").is_some_and(|rule| policy.rules.contains(rule));
    if split && policy.batching.max_rows == 0 {
        let path = at.path_of("rules.split_oversize");
        let problem = Problem::at(at.node.place, path, "`batching.max_rows` is required to split requests");
        at.push(problem.hint("add `batching: {max_rows: 64}` to the signature"));
    }
}
