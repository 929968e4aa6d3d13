// Fills the page from api/, every two seconds while it is visible. All paths are relative, so that
// the page works behind a prefix.
import { cells, copyButton, element, find, number, percent, say, show, sparkline, when } from "./parts.js";

const REFRESH = 2000;
const SHOWN_CLIENTS = 20;
// A population stability index above which the page lists a feature.
const DRIFTS = 0.1;
const LANGUAGES = { python: "Python", go: "Go", java: "Java", node: "Node.js", dotnet: ".NET", rest: "REST" };
const OUTCOMES = {
  repaired: "repaired", rejected: "refused", would_repair: "would be repaired",
  would_reject: "would be refused", warned: "warned", passed: "forwarded as it is",
};
const PATHS = {
  status: "api/status", models: "api/models", clients: "api/clients", fixes: "api/fixes",
  history: "api/history", changes: "api/changes", recent: "api/repairs", unknown: "api/unknown_models",
  findings: "api/findings",
};

let data;
let all = false;

const clientName = (name) => ({ "": "clients (not named)", "__other__": "all other clients", "__unknown__": "unknown client" })[name] ?? name;
const modelName = (name) => (name === "__unknown__" ? "unknown models" : name);
const outcomeClass = (outcome) => (outcome.includes("reject") ? "bad" : outcome.includes("repair") ? "fair" : "");

// Whether an entry passes the filter; `texts` are searched.
function passes(texts, model, outcome) {
  const words = find("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = texts.join("\n").toLowerCase();
  const wanted = [find("model").value, find("outcome").value];
  return words.every((word) => text.includes(word))
    && (wanted[0] === "" || model === wanted[0])
    && (wanted[1] === "" || outcome === undefined || outcome.includes(wanted[1]));
}

const filtered = () => find("search").value !== "" || find("model").value !== "" || find("outcome").value !== "";

// The REST listener is another port of the same host, as far as the page can know. A Unix socket has none.
function showRest(rest) {
  const port = rest?.address.match(/:(\d+)$/)?.[1];
  find("openapi").hidden = port === undefined;
  if (port !== undefined) find("openapi").href = `${rest.tls ? "https" : "http"}://${location.hostname}:${port}/v1/openapi.json`;
}

function showStatus({ readiness, upstream, rest, advice, load, pod, sidecar_version: version, config_problems: settings }) {
  say(find("ready"), readiness.ready ? "ready" : "not ready");
  find("ready").className = `pill ${readiness.ready ? "good" : "bad"}`;
  say(find("pod"), pod ?? "");
  document.title = `${readiness.ready ? "" : "(not ready) "}${pod ? `${pod} - ` : ""}tfs-sidecar`;
  say(find("version"), `version ${version}`);
  say(find("upstream"), upstream.up ? `TF Serving at ${upstream.address} is up.` : upstream.problem ?? "TF Serving is not connected.");
  find("upstream").className = upstream.up ? "" : "bad";
  showRest(rest);
  // Each sentence once: what keeps the sidecar from being ready is often a problem of a model too.
  const problems = new Set([...readiness.missing, ...readiness.problems]);
  for (const shown of [upstream.problem, ...settings]) problems.delete(shown);
  if (advice) problems.add(advice);
  show(find("problems"), [...problems], (text) => text, (text) => element("li", text), () => {});
  find("problems").hidden = problems.size === 0;
  const facts = [
    ["Calls in flight to TF Serving", load.upstream_limit === null ? "no limit" : `${load.upstream_inflight} of ${load.upstream_limit}`],
    ["Waiting for a permit", load.queued_requests === null ? "none" : number(load.queued_requests)],
    ["Requests in flight", number(load.inflight_requests)],
    ["Held in memory", `${number(Math.round(load.inflight_bytes / 1024))} KiB`],
    ["Client connections", number(load.connections)],
  ];
  show(find("load"), facts, ([name]) => name, ([name]) => {
    const made = element("div");
    made.append(element("dt", name), element("dd"));
    return made;
  }, (made, [, value]) => say(made.lastElementChild, value));
}

// One sentence about the runs that requests share.
function batchingText({ state, why, probation_left, max_rows, queue_rows, cost, runs, rows }) {
  if (state === "not possible" || state === "off") return `Batching is ${state}: ${why}.`;
  const parts = [`Batching is ${state}`];
  if (state === "on probation") parts.push(`answers of shared runs are used after ${probation_left} more runs were compared`);
  if (cost) parts.push(`a run takes ${cost.run_us} µs and ${cost.row_us} µs a row`);
  if (runs) parts.push(`${runs} in flight at most, with ${rows} of at most ${max_rows} rows`);
  parts.push(`${queue_rows} rows wait`);
  return `${parts.join("; ")}.`;
}

function tensors({ inputs, outputs }) {
  const table = element("table");
  const head = element("tr");
  for (const title of ["tensor", "name", "dtype", "shape"]) {
    const cell = element("th", title);
    cell.scope = "col";
    head.append(cell);
  }
  table.append(element("thead"), element("tbody"));
  table.tHead.append(head);
  for (const [direction, infos] of [["input", inputs], ["output", outputs]]) {
    for (const { name, dtype, shape } of infos ?? []) {
      const row = element("tr");
      row.append(element("td", direction), ...[name, dtype, shape].map((text) => element("td", text, "mono")));
      table.tBodies[0].append(row);
    }
  }
  return table;
}

function showModels(models) {
  const signatures = models.flatMap((model) => (model.versions ?? []).flatMap((version) =>
    (version.signatures ?? []).map((signature) => ({ model, version, signature }))));
  const items = signatures.filter(({ model, signature }) => passes([model.name, signature.name], model.name));
  const broken = models.filter((model) => model.problem).map((model) => ({ model }));
  const key = ({ model, version, signature }) => [model.name, version?.version, signature?.name].join("/");
  show(find("models"), [...broken, ...items], key, ({ signature }) => {
    if (!signature) return element("p", undefined, "bad");
    const made = element("details");
    made.append(element("summary"), element("div"));
    return made;
  }, (made, { model, version, signature }) => {
    if (!signature) return say(made, `Model ${model.name} is not served: ${model.problem}`);
    const labels = version.labels?.length ? ` (${version.labels.join(", ")})` : "";
    const batching = signature.batching;
    const wrong = ["off", "not possible"].includes(batching?.state);
    const state = batching ? `, batching ${batching.state}` : "";
    say(made.firstElementChild, `${model.name}, version ${version.version}${labels}: ${signature.name}, mode ${model.mode}${state}`);
    const shown = JSON.stringify(signature);
    if (made.dataset.shown === shown) return undefined;
    made.dataset.shown = shown;
    made.lastElementChild.replaceChildren(tensors(signature), ...(batching ? [element("p", batchingText(batching), wrong ? "bad" : "note")] : []));
    return undefined;
  });
  find("models-note").hidden = models.length > 0;
  const select = find("model");
  const names = new Set(data.fixes.map((fix) => fix.model));
  for (const model of models) names.add(model.name);
  show(select, ["", ...[...names].sort()], (name) => name, (name) => element("option", name === "" ? "all models" : modelName(name)), (option, name) => {
    option.value = name;
  });
}

function showShares({ models }) {
  const rows = Object.entries(models).map(([model, series]) => {
    const sum = (values) => values.reduce((total, value) => total + value, 0);
    const [requests, mismatches] = [sum(series.requests), sum(series.mismatches)];
    const isOf = (fix) => (model === "__unknown__" ? fix.kind === "MODEL_UNKNOWN" || fix.model === model : fix.model === model);
    const wrong = data.fixes.filter((fix) => isOf(fix) && fix.outcome !== "warned");
    const first = wrong.map((fix) => fix.first).sort()[0];
    return { model, series, requests, mismatches, first };
  });
  const shown = rows.filter(({ model }) => passes([model], model));
  shown.sort((left, right) => right.mismatches - left.mismatches || right.requests - left.requests);
  show(find("shares"), shown, ({ model }) => model, () => {
    const made = element("li");
    made.append(element("div", undefined, "line"));
    return made;
  }, (made, { model, series, requests, mismatches, first }) => {
    const share = requests ? mismatches / requests : null;
    cells(made.firstElementChild, [
      ["name", modelName(model)],
      [`share ${mismatches ? "bad" : "good"}`, percent(share)],
      ["count", `${number(mismatches)} of ${number(requests)} requests`],
      ["", sparkline(series)],
      ["when", first ? when("first seen ", first, data.status.now) : ""],
    ]);
  });
  find("share-note").textContent = rows.length === 0
    ? "No requests yet."
    : "In the last hour: requests that were repaired or refused, or would be. Grey bars are requests, red ones those that mismatch.";
}

function fixText(fix) {
  const where = [fix.input && `input ${fix.input}`, fix.signature && `signature ${fix.signature}`, fix.version && `version ${fix.version}`];
  return where.filter(Boolean).join(", ");
}

function makeMistake() {
  const made = element("details");
  const body = element("div", undefined, "fix");
  const line = element("div", undefined, "copy");
  const code = element("pre");
  line.append(code, copyButton(() => code.textContent, "the fix"));
  body.append(element("p"), element("p", undefined, "mono"), line, element("p", undefined, "note"));
  made.append(element("summary", undefined, "line"), body);
  return made;
}

function updateMistake(made, fix) {
  const [summary, body] = made.children;
  const input = fix.input ? ` for ${fix.input}` : "";
  cells(summary, [
    ["name", `${fix.kind}${input}`],
    [`share ${outcomeClass(fix.outcome)}`, OUTCOMES[fix.outcome] ?? fix.outcome],
    ["count", `${number(fix.count)} ${fix.count === 1 ? "request" : "requests"}${fix.share === null ? "" : `, ${percent(fix.share)}`} to ${modelName(fix.model)}`],
    ["when", when("last seen ", fix.last, data.status.now)],
  ]);
  const [meaning, detail, line, where] = body.children;
  say(meaning, fix.meaning);
  say(detail, fix.change || fix.detail);
  say(line.firstElementChild, fix.fix);
  line.lastElementChild.setAttribute("aria-label", `Copy the fix for ${fix.kind}${input}`);
  const language = LANGUAGES[fix.language];
  where.replaceChildren(`${fixText(fix)}${language ? `; ${language}` : ""}; `, when("first seen ", fix.first, data.status.now));
}

function showClients({ clients, missed }) {
  const mistakes = new Map();
  for (const fix of data.fixes) {
    const texts = [fix.client, clientName(fix.client), fix.model, fix.signature, fix.input, fix.kind, fix.outcome, fix.language, fix.fix, fix.change, fix.detail];
    if (!passes(texts, fix.model, fix.outcome)) continue;
    mistakes.set(fix.client, [...(mistakes.get(fix.client) ?? []), fix]);
  }
  const wrong = clients.filter(({ client }) => mistakes.has(client));
  const shown = all ? wrong : wrong.slice(0, SHOWN_CLIENTS);
  show(find("clients"), shown, ({ client }) => client, () => {
    const made = element("details");
    made.append(element("summary", undefined, "line"), element("div", undefined, "mistakes rows"));
    return made;
  }, (made, client) => {
    const history = data.history.clients[client.client];
    const languages = client.languages.map((language) => LANGUAGES[language]).filter(Boolean);
    cells(made.firstElementChild, [
      ["name", clientName(client.client)],
      [languages.length ? "tag" : "", languages.join(", ")],
      [`share ${client.mismatches ? "bad" : ""}`, client.requests ? percent(client.share) : ""],
      ["count", `${number(client.mismatches)} of ${number(client.requests)} requests`],
      ["", history ? sparkline(history) : ""],
      ["when", when("last seen ", client.last, data.status.now)],
    ]);
    const key = (fix) => [fix.language, fix.model, fix.signature, fix.input, fix.kind, fix.outcome].join("\n");
    show(made.lastElementChild, mistakes.get(client.client), key, makeMistake, updateMistake);
  });
  const conform = clients.filter((client) => client.requests > 0 && client.mismatches === 0).length;
  const parts = [];
  if (wrong.length > 0) parts.push(`${wrong.length} ${wrong.length === 1 ? "client sends" : "clients send"} something wrong${filtered() ? " that passes the filter" : ""}. Open a client, then a mistake, and copy the line to change.`);
  else parts.push(data.fixes.length > 0 ? "Nothing passes the filter." : "None yet: all requests conformed.");
  if (conform > 0) parts.push(`${conform} ${conform === 1 ? "client" : "clients"} made no mistake.`);
  if (missed > 0) parts.push(`${number(missed)} mistakes came too fast to be listed; the metrics count all of them.`);
  say(find("who-note"), parts.join(" "));
  find("more-clients").hidden = all || wrong.length <= SHOWN_CLIENTS;
  say(find("more-clients"), `Show all ${wrong.length} clients`);
}

const SHOWN_FORMS = 10;
const WORSE = {
  repaired: "is repaired now", unjudged: "cannot be judged", forwarded: "is forwarded although it does not conform",
  depends_on_sizes: "depends on sizes", depends_on_values: "depends on values", refused: "is refused now",
};

function forecastText(forecast) {
  if (forecast === null) return "";
  const worse = forecast.forms.filter(({ class: kind }) => kind in WORSE);
  const lines = worse.slice(0, SHOWN_FORMS).map(({ client, class: kind, inputs, requests, text }) =>
    `${client || "a client"} (${number(requests)} ${requests === 1 ? "request" : "requests"}) ${WORSE[kind]}: sends ${inputs}${text ? `; ${text}` : ""}`);
  if (worse.length > SHOWN_FORMS) lines.push(`and ${worse.length - SHOWN_FORMS} more forms of requests`);
  if (forecast.outputs_gone.length > 0) lines.push(`outputs that are gone: ${forecast.outputs_gone.join(", ")}`);
  return [`What it means for the clients: ${forecast.summary}`, ...lines].join("\n");
}

function showChanges(changes) {
  const problems = data.status.config_problems;
  show(find("config-problems"), problems, (text) => text, (text) => element("li", text, "bad"), () => {});
  find("config-problems").hidden = problems.length === 0;
  const shown = changes.filter(({ model, changes: lines }) => passes([model, ...lines], model));
  show(find("changes"), shown, ({ at, model, from, to }) => [at, model, from, to].join(), () => {
    const made = element("li");
    made.append(element("div", undefined, "line"), element("p", undefined, "text mono"), element("p", undefined, "text forecast"));
    return made;
  }, (made, { at, model, from, to, changes: lines, more, forecast }) => {
    const what = from === null ? `version ${to} is served` : from === to ? `version ${to} has other signatures` : `version ${from} to ${to}`;
    const same = lines.length === 0 && from !== null ? ", same signatures" : "";
    cells(made.firstElementChild, [["name", `${model}: ${what}${same}`], ["when", when("", at, data.status.now)]]);
    const text = [...lines, ...(more ? [`and ${more} more changes`] : [])].join("\n");
    say(made.children[1], text);
    made.children[1].hidden = text === "";
    say(made.lastElementChild, forecastText(forecast));
    made.lastElementChild.hidden = forecast === null;
  });
  find("changes-note").hidden = shown.length > 0 || problems.length > 0;
}

function showEntries(list, entries, name) {
  const shown = entries.filter(({ client, kind, lines, model, outcome, signature }) =>
    passes([client, kind, model, outcome, signature, ...lines], model, outcome));
  const key = ({ client, lines, model, outcome, signature }) => [client, model, signature, outcome, ...lines].join("\n");
  show(list, shown, key, () => {
    const made = element("li");
    made.append(element("div", undefined, "line"), element("p", undefined, "text mono"));
    return made;
  }, (made, entry) => {
    cells(made.firstElementChild, [
      ["name", name(entry)],
      [outcomeClass(entry.outcome), OUTCOMES[entry.outcome.replace(" ", "_")] ?? entry.outcome],
      ["count", `${number(entry.count)} ${entry.count === 1 ? "time" : "times"}`],
      ["when", when("", entry.last, data.status.now)],
    ]);
    say(made.lastElementChild, entry.lines.join("\n"));
  });
  return shown.length;
}

// What was found in the values of requests, and how far they are from the training data.
function showFindings({ signatures }) {
  const passing = signatures.filter(({ model }) => ["", model].includes(find("model").value));
  const findings = passing.flatMap((of) => of.findings.map((finding) => ({ ...finding, of })));
  const shown = findings.filter(({ client, input, kind, text, of }) => passes([client, input, kind, text, of.model, of.signature], of.model));
  show(find("findings"), shown, ({ client, input, kind, of }) => [of.model, of.signature, client, input, kind].join("\n"), () => {
    const made = element("li");
    made.append(element("div", undefined, "line"), element("p", undefined, "text mono"));
    return made;
  }, (made, finding) => {
    cells(made.firstElementChild, [
      ["name", `${clientName(finding.client)} to ${finding.of.model} / ${finding.of.signature}: ${finding.input}`],
      ["share bad", finding.kind],
      ["count", `${number(finding.requests)} ${finding.requests === 1 ? "request" : "requests"}`],
      ["when", when("last seen ", finding.last, data.status.now)],
    ]);
    say(made.lastElementChild, finding.text);
  });
  const moved = passing.flatMap((of) => of.drift.map((drift) => ({ ...drift, of })));
  show(find("drift"), moved.filter(({ index }) => index >= DRIFTS), ({ input, feature, of }) => [of.model, of.signature, input, feature].join("\n"), () => {
    const made = element("li");
    made.append(element("div", undefined, "line"));
    return made;
  }, (made, { input, feature, index, of }) => {
    cells(made.firstElementChild, [
      ["name", `${of.model} / ${of.signature}: ${input}, feature ${feature}`],
      ["share fair", "drifts"],
      ["count", `stability index ${index.toFixed(2)}`],
    ]);
  });
  const rows = signatures.reduce((total, of) => total + of.rows, 0);
  let note = `${number(rows)} rows of requests were compared with the training data.`;
  if (signatures.length === 0) note = "No model has a profile.";
  else if (findings.length === 0) note += " Nothing was found.";
  else if (shown.length === 0) note += " Nothing passes the filter.";
  say(find("values-note"), note);
}

function showLists() {
  const unknown = showEntries(find("unknown"), data.unknown.entries, ({ model, client }) => `${model}, asked for by ${clientName(client)}`);
  find("unknown-note").hidden = unknown > 0;
  const { entries, missed } = data.recent;
  const recent = showEntries(find("recent"), entries, ({ client, model, signature }) =>
    `${clientName(client)} to ${signature ? `${model} / ${signature}` : model}`);
  let note = "Newest first; of each client and mistake, only the last few.";
  if (entries.length === 0) note = "None yet: all requests conformed.";
  else if (recent === 0) note = "Nothing passes the filter.";
  if (missed > 0) note += ` ${number(missed)} more arrived too fast to be listed; the metrics count all of them.`;
  say(find("recent-note"), note);
}

function showAll() {
  if (!data) return;
  showStatus(data.status);
  showModels(data.models);
  showShares(data.history);
  showClients(data.clients);
  showChanges(data.changes);
  showFindings(data.findings);
  showLists();
}

async function get(path) {
  const response = await fetch(path, { cache: "no-store" });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return path === "api/config" ? response.text() : response.json();
}

async function refresh() {
  try {
    const names = Object.keys(PATHS);
    const answers = await Promise.all([...names.map((name) => get(PATHS[name])), get("api/config")]);
    data = Object.fromEntries(names.map((name, at) => [name, answers[at]]));
    showAll();
    say(find("config"), answers.at(-1));
  } catch (error) {
    say(find("ready"), "does not answer");
    find("ready").className = "pill bad";
    find("ready").title = error.message;
  }
}

async function loop() {
  const began = performance.now();
  if (!document.hidden) await refresh();
  // A long list, or a slow network, is asked for less often.
  setTimeout(loop, Math.max(REFRESH, 10 * (performance.now() - began)));
}

find("filter").addEventListener("input", showAll);
find("filter").addEventListener("submit", (event) => event.preventDefault());
find("more-clients").addEventListener("click", () => {
  all = true;
  showAll();
  find("clients").children[SHOWN_CLIENTS]?.firstElementChild.focus();
});
loop();
