// The page: asks the node how it stands, follows its events, and hands both on.

import { get, isDeclined, onToken, setUpToken, token } from "./api.js";
import { detailsOf, setUpAggregates, showAggregates } from "./aggregates.js";
import { entriesBeginAnew, entryChanged, followed, setUpEntries, showTable, tick, view } from "./entries.js";
import { isOpen, look, openEntry, openEntryChanged, setUpEntry } from "./entry.js";
import { setUpKeyboard } from "./keyboard.js";
import { notReady, setUpMesh, showMesh } from "./mesh.js";
import { pause as wait, Stream } from "./stream.js";
import { setUpTables, showTables, tablesBeginAnew } from "./tables.js";
import { $, announce, element, say, time, visible } from "./text.js";
import { blocking, changes, nodeIs, setUpWrites, undo } from "./writes.js";

const EVERY = 2000; // ms from one look at the node to the next
const ROWS_EVERY = 1000; // the same for entries

let node = null;
let parts = { parts: {}, details: {} };
let tables = [];
let paused = false;
let stream = null;
let link = ["connecting", ""];
let trouble = "";
let asleep = null; // wakes the loop that looks at the node
let fails = 0;

function resting() {
  return paused || document.hidden;
}

// -- how the node stands

async function lookAtNode() {
  lookedAt = Date.now();
  try {
    const [now, peers, all, some] = await Promise.all([get("v1/node"), get("v1/peers"), get("v1/tables"), get("v1/parts")]);
    if (node && now.uptime < node.uptime) {
      tablesBeginAnew();
      entriesBeginAnew();
    }
    const changed = !node || node.may_write !== now.may_write || node.allow_writes !== now.allow_writes;
    node = now;
    parts = some;
    tables = all.tables;
    nodeIs(node);
    trouble = "";
    fails = 0;
    show(peers.peers);
    if (changed && view.table) chooseTable(view.table.name, true);
  } catch (problem) {
    fails += 1;
    trouble = problem.status === 401 ? "a token is needed to read" : problem.message;
  }
  showLink();
}

function show(peers) {
  say($("node-name"), visible(node.localpeer));
  document.title = `${visible(node.localpeer)} · peerproto`;
  showMesh(node, peers);
  showTables(tables, view.table?.name);
  showAggregates(parts);
  const writes = !node.allow_writes ? "read only" : node.may_write ? "may change entries" : "to change entries, give a token";
  say($("about"), `peerproto ${visible(node.version)}, up for ${time(node.uptime)}; ${visible(node.speed)}; ${writes}.`);
  const ready = node.up_to_date && !notReady(node).length;
  $("node-state").className = `state ${ready ? "ok" : "busy"}`;
  say($("node-state"), ready ? "✓ Ready" : node.up_to_date ? "… Not ready" : `… ${visible(node.resync_in_words)}`);
  const current = tables.find((one) => one.name === view.table?.name);
  if (view.table && current) showTable(merge(current));
  else if (view.table) gone();
  else if (tables.length) chooseTable(first().name);
  else showTable(null);
}

// The same object as long as it is the same table, with what it has now.
function merge(table) {
  const old = view.table;
  const same = JSON.stringify([old.type, old.columns, old.written_by]) === JSON.stringify([table.type, table.columns, table.written_by]);
  return same ? Object.assign(old, table) : table;
}

function first() {
  const wanted = new URLSearchParams(location.hash.slice(1)).get("table");
  return tables.find((one) => one.name === wanted) ?? tables.find((one) => one.used) ?? tables[0];
}

function gone() {
  announce(`Table ${visible(view.table.name)} is no longer there.`);
  showTable(null);
  if (tables.length) chooseTable(first().name);
  else $("entries-list").replaceChildren(element("p", { class: "empty" }, "The table that was shown here is no longer there."));
}

function chooseTable(name, anew = false) {
  const table = tables.find((one) => one.name === name);
  if (!table || (view.table?.name === name && !anew)) return;
  if (anew) view.table = null;
  history.replaceState(null, "", "#" + new URLSearchParams({ table: name }));
  showTable({ ...table });
  showTables(tables, name);
}

async function nodeLoop() {
  for (;;) {
    if (!resting()) await lookAtNode();
    asleep = new AbortController();
    await wait(resting() ? 3600000 : Math.min(8000, EVERY / (fails ? 2 : 1) * 2 ** Math.min(fails, 3) / (fails ? 2 : 1)), asleep.signal);
  }
}

let soon = null;
let lookedAt = 0; // ms

// Look at the node before long: something has happened.
function lookSoon() {
  if (soon || resting()) return;
  soon = setTimeout(() => {
    soon = null;
    asleep?.abort();
  }, Math.max(150, lookedAt + 1000 - Date.now()));
}

async function rowLoop() {
  for (;;) {
    if (!resting() && !trouble) {
      await tick();
      if (isOpen()) await look();
    }
    await wait(ROWS_EVERY);
  }
}

// -- events

function follow() {
  if (resting() || isDeclined() && trouble) return stream.close();
  const query = followed() ?? new URLSearchParams();
  for (const kind of ["table", "peer", "resync", "part"]) query.append("kind", kind);
  if (query.has("table")) query.append("kind", "entry");
  stream.open(query.toString());
}

function take(name, data) {
  if (name === "entry") {
    entryChanged(data);
    openEntryChanged(data);
  } else if (name === "hello") {
    if (hadBreak && !data.resumed) entriesBeginAnew();
    hadBreak = false;
  } else if (name !== "merged" && name !== "reset") {
    lookSoon(); // after a reset, the next sort finds what was lost: many changes are no reason for more work
  }
}

let hadBreak = false;

function moved(state, why) {
  if (state === "broken") hadBreak = true;
  const before = link[0];
  link = [state, why];
  if (state === "live" && before !== "live") lookSoon();
  showLink();
  if (state === "refused") setTimeout(() => entriesBeginAnew() || follow(), 2000);
}

function showLink() {
  const place = $("link-state");
  let kind = "ok";
  let words = "✓ Live";
  if (resting()) [kind, words] = ["busy", "‖ Paused"];
  else if (trouble) [kind, words] = ["bad", `✕ No answer: ${trouble}. Trying again`];
  else if (link[0] === "full") [kind, words] = ["busy", "… Asking each second: too many follow the events"];
  else if (link[0] !== "live") [kind, words] = ["busy", "… Connecting"];
  if (place.textContent === words) return;
  const before = place.dataset.kind;
  place.className = `state ${kind}`;
  place.dataset.kind = kind;
  say(place, words);
  document.body.classList.toggle("stale", Boolean(trouble));
  if (before && before !== kind && kind !== "busy") announce(words.slice(2));
}

// -- the page

function pause() {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  rest();
}

function rest() {
  if (!resting()) asleep?.abort();
  follow();
  showLink();
}

stream = new Stream(take, moved);
setUpToken();
setUpMesh();
setUpTables(chooseTable);
setUpEntries(openEntry, blocking, follow);
setUpEntry(() => detailsOf(parts), () => tables);
setUpAggregates(chooseTable);
setUpWrites();
setUpKeyboard({ undo, pause });
$("pause").addEventListener("click", pause);
document.addEventListener("visibilitychange", rest);
onToken(() => {
  say($("token"), token() ? "Token: given" : "Token");
  stream.close();
  follow();
  lookSoon();
});
changes.push(() => {
  entriesBeginAnew();
  lookSoon();
});
say($("token"), token() ? "Token: given" : "Token");
showLink();
follow();
nodeLoop();
rowLoop();
