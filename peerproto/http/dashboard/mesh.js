// The mesh: this node in the middle, its peers around it, and each of them in words below.

import { curl } from "./api.js";
import { $, brief, count, element, number, rate, say, source, svg, time, visible } from "./text.js";

const GLYPHS = { ok: "✓", busy: "…", bad: "✕" };

const from = source();
let picture = null; // what was drawn last, as text
const rows = new Map(); // by name
const before = new Map(); // by name, the counters as they were

// How a peer stands: a class, a word, and why. Where something changes all the time, some of it is
// always on its way: that alone is told as a fact.
export function standing(peer) {
  if (peer.keeps_up) return ["ok", "in step", ""];
  const why = peer.out_of_step.map(visible).join("; ");
  if (!peer.connected) return ["bad", "not connected", why === "not connected yet" ? "" : why];
  return ["busy", "out of step", why];
}

export function setUpMesh() {
  $("mesh").append(from);
  new ResizeObserver(() => {
    if (last) draw(...last);
  }).observe($("picture"));
}

let last = null;

// Why the node is not to be relied on, beside that it is not up to date.
export function notReady(node) {
  return node.not_ready.filter((one) => node.up_to_date || !one.startsWith(node.resync_in_words));
}

export function showMesh(node, peers) {
  last = [node, peers];
  from.set(
    ["Peers, their states, lessons and counters:", curl("v1/peers")],
    ["This node:", curl("v1/node")],
  );
  const inStep = peers.filter((one) => standing(one)[0] === "ok").length;
  let summary = node.up_to_date
    ? "This node is up to date."
    : `This node is not up to date: ${visible(node.resync_in_words)} (${visible(node.reason)}).`;
  if (peers.length) summary = `${inStep} of ${count(peers.length, "peer")} in step. ${summary}`;
  const reasons = notReady(node).map(visible);
  if (reasons.length) summary += ` Not to be relied on: ${reasons.join("; ")}.`;
  say($("mesh-summary"), summary);
  draw(node, peers);
  list(node, peers);
}

function draw(node, peers) {
  const place = $("picture");
  const width = Math.min(560, place.clientWidth);
  if (!width) return;
  const own = node.up_to_date && !notReady(node).length ? "ok" : "busy";
  const stands = peers.map(standing);
  const key = JSON.stringify([width, node.localpeer, own, peers.map((one) => one.name), stands]);
  if (key === picture) return;
  picture = key;
  const many = peers.length;
  const height = many > 8 ? Math.max(240, width * 0.72) : 240;
  const cx = width / 2;
  const cy = height / 2;
  const narrow = width < 420;
  const longest = Math.max(0, ...peers.map((one) => visible(one.name).length));
  const room = Math.min(longest, many > 8 ? (narrow ? 7 : 14) : narrow ? 9 : 16);
  const aside = 22 + 7 * room; // what a name takes beside its dot
  const rx = Math.max(40, cx - aside);
  const ry = cy - 34;
  const size = many > 12 ? 9 : 13;
  const lines = [];
  const dots = [];
  peers.forEach((peer, at) => {
    const angle = (2 * Math.PI * at) / many - Math.PI / 2;
    const x = cx + rx * Math.cos(angle) * (many === 1 ? 0 : 1);
    const y = cy + ry * Math.sin(angle);
    const [kind, word, why] = stands[at];
    const side = Math.abs(Math.cos(angle)) < 0.15 || many === 1 ? 0 : Math.sign(Math.cos(angle));
    lines.push(svg("line", { class: `way ${kind}`, x1: cx, y1: cy, x2: x, y2: y }));
    dots.push(dot(peer.name, kind, [x, y], [side, Math.sign(Math.sin(angle))], size, room, `${word}${why ? ": " + why : ""}`));
  });
  const middle = dot(node.localpeer, own, [cx, cy], [0, 1], 18, 20, "this node");
  middle.classList.add("own");
  const words = many ? `${stands.filter(([kind]) => kind === "ok").length} of ${many} peers in step` : "no peer yet";
  const made = svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `The mesh: ${words}` },
    ...lines,
    middle,
    ...dots,
  );
  place.replaceChildren(made);
}

// A dot with its name: at its side, or above or below it.
function dot(name, kind, [x, y], [side, below], size, room, words) {
  const shown = visible(name);
  const title = svg("title", {});
  title.textContent = `${shown}: ${words}`;
  const glyph = svg("text", { class: "glyph", x, y: y + size / 3, "font-size": size * 1.1 });
  glyph.textContent = GLYPHS[kind];
  const label = side
    ? svg("text", { class: side > 0 ? "label right" : "label left", x: x + side * (size + 5), y: y + 4 })
    : svg("text", { class: "label", x, y: below < 0 ? y - size - 6 : y + size + 14 });
  // Names differ in their end more often than in how they begin.
  label.textContent = shown.length > room ? "…" + shown.slice(1 - room) : shown;
  return svg("g", { class: `dot ${kind}` }, title, svg("circle", { cx: x, cy: y, r: size }), glyph, label);
}

function list(node, peers) {
  const place = $("peers");
  if (!peers.length) {
    rows.clear();
    if (!place.querySelector(".empty")) place.replaceChildren(noPeer(node));
    return;
  }
  if (place.querySelector(".empty") || !place.firstChild) place.replaceChildren(element("ul", { class: "peers" }));
  const all = place.firstChild;
  const now = performance.now();
  for (const peer of peers) {
    let row = rows.get(peer.name);
    if (!row) {
      row = new Row(peer.name);
      rows.set(peer.name, row);
    }
    row.show(peer, now);
  }
  const order = { bad: 0, busy: 1, ok: 2 };
  peers = peers.map((peer, at) => [order[standing(peer)[0]], at, peer]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, , peer]) => peer);
  const names = new Set(peers.map((one) => one.name));
  for (const name of rows.keys()) {
    if (!names.has(name)) {
      rows.delete(name);
      before.delete(name);
    }
  }
  const wanted = peers.map((one) => rows.get(one.name).node);
  if (wanted.length !== all.children.length || wanted.some((one, at) => all.children[at] !== one)) {
    all.replaceChildren(...wanted);
  }
}

class Row {
  constructor(name) {
    this.state = element("span", { class: "badge" });
    this.why = element("p", { class: "why" });
    this.facts = element("p", { class: "facts" });
    this.lesson = element("div", { class: "lesson" });
    this.node = element(
      "li",
      {},
      element("p", { class: "who" }, element("strong", {}, visible(name)), " ", this.state),
      this.why,
      this.lesson,
      this.facts,
    );
  }

  show(peer, now) {
    const [kind, word, why] = standing(peer);
    this.state.className = `badge ${kind}`;
    say(this.state, `${GLYPHS[kind]} ${word}`);
    const notes = peer.notes.map(visible).join("; ");
    say(this.why, [why, notes].filter(Boolean).join(". "));
    const facts = [];
    if (peer.connected) {
      const rates = this.rates(peer, now);
      if (rates) facts.push(`${rate(rates.rx_updates)} updates in, ${rate(rates.tx_updates)} out`);
      facts.push(`session for ${time(peer.handshake_ago)}`);
    } else if (peer.handshake_ago !== null) facts.push(`last session began ${time(peer.handshake_ago)} ago`);
    if (peer.lag.changes) facts.push(`${count(peer.lag.changes, "change")} on the way, for ${time(peer.lag.ms)}`);
    facts.push(peer.address === "-" ? "it calls" : visible(peer.address).replace(/^tcp:/, ""));
    say(this.facts, facts.join(" · "));
    this.showLesson(peer);
  }

  rates(peer, now) {
    const old = before.get(peer.name);
    before.set(peer.name, { now, ...peer.counters });
    if (!old) return null;
    const s = (now - old.now) / 1000;
    const of = (name) => Math.max(0, peer.counters[name] - old[name]) / s;
    return { rx_updates: of("rx_updates"), tx_updates: of("tx_updates") };
  }

  showLesson(peer) {
    if (peer.lesson_given !== null) {
      const all = peer.lesson_given + peer.lesson_left;
      const words = peer.lesson_left
        ? `is being taught: ${number(peer.lesson_given)} entries given, about ${number(peer.lesson_left)} left`
        : `was given ${count(peer.lesson_given, "entry", "entries")}, and has yet to confirm it`;
      this.progress(words, peer.lesson_given, all);
    } else if (peer.lesson_learnt !== null) {
      const known = peer.lesson_learnt === 1 ? "1 update" : `${brief(peer.lesson_learnt)} updates`;
      this.progress(`teaches this node: ${known} so far; a peer does not tell how many are left`, null, 1);
    } else if (this.bar) {
      this.bar = null;
      this.lesson.replaceChildren();
    }
  }

  progress(words, value, most) {
    if (!this.bar) {
      this.bar = element("progress", { "aria-label": "Lesson" });
      this.words = element("span", {});
      this.lesson.replaceChildren(this.bar, " ", this.words);
    }
    if (value === null || !most) this.bar.removeAttribute("value");
    else {
      this.bar.max = most;
      this.bar.value = value;
    }
    say(this.words, words);
  }
}

// Where this node is called: an address that leads here from elsewhere, as far as that is known.
function place(node) {
  const found = /^(.*):(\d+)$/.exec(node.listens || "");
  if (!found) return node.listens || "its-address:10000";
  const any = found[1] === "0.0.0.0" || found[1] === "[::]";
  return `${any ? location.hostname : found[1]}:${found[2]}`;
}

function noPeer(node) {
  const name = visible(node.localpeer);
  return element(
    "div",
    { class: "empty" },
    element("h3", {}, "No peer yet"),
    element("p", {}, "Add these two lines to the ", element("code", {}, "peers"), " section of ", element("code", {}, "haproxy.cfg"), ", with the name and address of that HAProxy in the first:"),
    element("pre", { tabindex: "0" }, `    peer haproxy1 192.0.2.11:10000\n    peer ${name} ${place(node)}`),
    element("p", {}, "and the HAProxy to ", element("code", {}, "peers.ini"), " of this node, then reload both:"),
    element("pre", { tabindex: "0" }, "[peers]\nhaproxy1 = 192.0.2.11:10000"),
    element("p", {}, "HAProxy's own name is its ", element("code", {}, "localpeer"), ", or else the name of its host; tables that it is to share have ", element("code", {}, "peers <section>"), " on their ", element("code", {}, "stick-table"), " line."),
  );
}
