// Fills the page from /api, every two seconds while it is visible.
"use strict";

const find = (id) => document.getElementById(id);

// All text comes from clients and models, so it is only set as textContent, never as HTML.
function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function row(cells) {
  const made = element("tr");
  for (const [text, className] of cells) made.append(element("td", text, className));
  return made;
}

function showReady(state) {
  find("ready").textContent = state.ready ? "ready" : "not ready";
  find("ready").className = state.ready ? "" : "problem";
}

// What is wrong, each sentence once: most of what keeps the sidecar from being ready is a problem of
// the upstream or of a model, too.
function showStatus({ readiness, upstream, advice }) {
  find("upstream").textContent = upstream.up ? `TF Serving at ${upstream.address} is up.` : upstream.problem;
  find("upstream").className = upstream.up ? "" : "problem";
  const problems = new Set([...readiness.missing, ...readiness.problems]);
  problems.delete(upstream.problem);
  if (advice) problems.add(advice);
  find("problems").replaceChildren(...[...problems].map((problem) => element("li", problem)));
  find("problems").hidden = problems.size === 0;
}

function showUnknown({ entries }) {
  const rows = entries.map((entry) =>
    row([
      [entry.last, "when"],
      [String(entry.count), "number"],
      [entry.model, "text"],
      [entry.client, "text"],
      [entry.lines.join("\n"), "text"],
    ]),
  );
  find("unknown").tBodies[0].replaceChildren(...rows);
  find("unknown").hidden = rows.length === 0;
  find("unknown-note").hidden = rows.length > 0;
}

function showRecent({ entries, missed }) {
  const rows = entries.map((entry) =>
    row([
      [entry.last, "when"],
      [String(entry.count), "number"],
      [entry.outcome, entry.outcome.includes("reject") ? "refused" : ""],
      [entry.signature ? `${entry.model} / ${entry.signature}` : entry.model],
      [entry.client, "text"],
      [entry.lines.join("\n"), "text"],
    ]),
  );
  find("recent").tBodies[0].replaceChildren(...rows);
  find("recent").hidden = rows.length === 0;
  let note = rows.length === 0 ? "None yet: all requests conformed." : "Newest first.";
  if (missed > 0) note += ` ${missed} more arrived too fast to be listed; the metrics count all of them.`;
  find("recent-note").textContent = note;
}

function showTensors(signature) {
  const table = element("table");
  const head = element("tr");
  for (const title of ["", "name", "dtype", "shape"]) head.append(element("th", title));
  const body = element("tbody");
  for (const [direction, tensors] of [["input", signature.inputs], ["output", signature.outputs]]) {
    for (const tensor of tensors ?? []) {
      body.append(row([[direction], [tensor.name, "text"], [tensor.dtype, "text"], [tensor.shape, "text"]]));
    }
  }
  table.append(element("thead"), body);
  table.tHead.append(head);
  return table;
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

function showModels(models) {
  const open = new Set([...document.querySelectorAll("#models details[open]")].map((details) => details.dataset.key));
  const made = [];
  for (const model of models) {
    made.push(element("h3", model.name + (model.mode ? ` (mode ${model.mode})` : "")));
    if (model.problem) made.push(element("p", model.problem));
    for (const version of model.versions ?? []) {
      const labels = version.labels?.length ? `, ${version.labels.join(", ")}` : "";
      for (const signature of version.signatures ?? []) {
        const details = element("details");
        details.dataset.key = `${model.name}/${version.version}/${signature.name}`;
        details.open = open.has(details.dataset.key);
        details.append(element("summary", `version ${version.version}${labels}: ${signature.name}`), showTensors(signature));
        if (signature.batching) {
          const wrong = ["off", "not possible"].includes(signature.batching.state);
          details.append(element("p", batchingText(signature.batching), wrong ? "problem" : ""));
        }
        made.push(details);
      }
    }
  }
  find("models").replaceChildren(...made);
  find("models-note").hidden = models.length > 0;
}

async function get(path, type) {
  const response = await fetch(path, { cache: "no-store" });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return type === "text" ? response.text() : response.json();
}

async function refresh() {
  try {
    const [status, recent, models, unknown, config] = await Promise.all([
      get("/api/status"), get("/api/repairs"), get("/api/models"), get("/api/unknown_models"),
      get("/api/config", "text"),
    ]);
    showReady(status.readiness);
    showStatus(status);
    showUnknown(unknown);
    showRecent(recent);
    showModels(models);
    find("config").textContent = config;
  } catch (error) {
    find("ready").textContent = `the sidecar does not answer (${error.message})`;
  }
}

refresh();
setInterval(() => { if (!document.hidden) refresh(); }, 2000);
