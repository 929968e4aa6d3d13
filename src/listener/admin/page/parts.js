// The parts that the page is made of. All text comes from clients and models, so it is only set as
// text, never as HTML.

export const find = (id) => document.getElementById(id);

export function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// Sets a text only if it differs, so that a selection in it stays.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Makes the children of a node show the items. A child with the same key is updated, not replaced,
// so that it stays open and keeps the focus.
export function show(parent, items, keyOf, make, update) {
  const focused = document.activeElement;
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const child = old.get(key) ?? make(item);
    child.dataset.key = key;
    old.delete(key);
    update(child, item);
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
  for (const child of old.values()) child.remove();
  if (focused && focused !== document.activeElement && parent.contains(focused)) focused.focus();
}

// A row of cells: [class, text or node].
export function cells(node, all) {
  while (node.children.length > all.length) node.lastElementChild.remove();
  all.forEach(([className, value], at) => {
    let cell = node.children[at];
    if (value instanceof Node) {
      if (cell) cell.replaceWith(value);
      else node.append(value);
      return;
    }
    if (!cell || cell.localName !== "span") {
      const made = element("span");
      if (cell) cell.replaceWith(made);
      else node.append(made);
      cell = made;
    }
    cell.className = className;
    say(cell, value);
  });
}

export const number = (value) => value.toLocaleString("en");

export function percent(share) {
  if (share === null || share === undefined) return "";
  if (share > 0 && share < 0.001) return "< 0.1 %";
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}

// How long ago, by the clock of the sidecar.
export function ago(time, now) {
  const seconds = Math.max(0, Math.round((Date.parse(now) - Date.parse(time)) / 1000));
  if (seconds < 5) return "just now";
  for (const [size, unit] of [[86400, "day"], [3600, "hour"], [60, "minute"]]) {
    const count = Math.floor(seconds / size);
    if (count > 0) return `${count} ${unit}${count > 1 ? "s" : ""} ago`;
  }
  return `${seconds} seconds ago`;
}

export function when(label, time, now) {
  const made = element("time", `${label}${ago(time, now)}`, "when");
  made.dateTime = time;
  made.title = time;
  return made;
}

const WIDTH = 121;
const HEIGHT = 26;

function drawn(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Bars from the right: the newest sample is the last.
function bars(values, top) {
  return values
    .map((value, at) => {
      if (value === 0) return "";
      const height = Math.max(1.5, (value / top) * (HEIGHT - 2));
      return `M${WIDTH - values.length + at} ${HEIGHT}v${-height.toFixed(1)}h1V${HEIGHT}z`;
    })
    .join("");
}

// Requests of the last hour, and on top of them those that mismatch.
export function sparkline({ requests, mismatches }) {
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const text = `last hour: ${number(sum(mismatches))} of ${number(sum(requests))} requests mismatch`;
  const svg = drawn("svg", {
    class: "spark", role: "img", "aria-label": text, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none",
  });
  const title = drawn("title", {});
  title.textContent = text;
  const top = Math.max(1, ...requests);
  svg.append(title, drawn("path", { class: "all", d: bars(requests, top) }));
  svg.append(drawn("path", { class: "wrong", d: bars(mismatches, top) }));
  return svg;
}

// Copies a text. Browsers offer `navigator.clipboard` only to HTTPS and localhost.
async function copy(text) {
  if (navigator.clipboard) {
    try {
      return await navigator.clipboard.writeText(text);
    } catch {
      // Not allowed here: the old way.
    }
  }
  const area = element("textarea", text, "hidden");
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  focused?.focus();
}

export function copyButton(text, what) {
  const button = element("button", "Copy");
  button.type = "button";
  button.setAttribute("aria-label", `Copy ${what}`);
  button.addEventListener("click", async () => {
    await copy(text());
    button.textContent = "Copied";
    say(find("said"), `copied ${what}`);
    setTimeout(() => {
      button.textContent = "Copy";
      say(find("said"), "");
    }, 2000);
  });
  return button;
}
