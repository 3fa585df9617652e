// The entries of one table: those at the top by one column, or those that a search finds.

import { curl, get, path } from "./api.js";
import { History, Sparkline } from "./sparkline.js";
import { $, count, element, number, say, source, time, visible } from "./text.js";

export const ROWS = 25;
const SOON = 1000; // ms from one look to the next
const EASE = 50; // a sort is waited out so many times as long as it took
const SORTING = 120000; // ms for an answer: a million entries take seconds
const FOLLOWED = 2000; // entries of a table all of whose changes are followed
const SEEN = 200; // entries whose history is kept
const WORDS = { ">": "gt", ">=": "ge", "<": "lt", "<=": "le", "=": "eq", "==": "eq", "!=": "ne" };

export const view = {
  table: null, // as /v1/tables has it
  column: null, // the name of the value that entries are sorted by; null if there is none
  down: true, // the highest first
  search: "",
};

const from = source();
const seen = new Map(); // by id, entries with their history; those seen last at the end
const rows = new Map(); // by id, those that are shown
let marks = { open: null, block: null, follow: null };
let body = null;
let sorting = null; // the AbortController of a sort that is under way
let refreshing = null; // the same, of a look at the rows that are shown
let due = 0; // when (ms) the next sort may begin
let took = 0; // ms that the last one took
let sortedAt = 0;
let trouble = "";
let drawing = false;
let threshold = null;
let isMore = false; // whether there is more than is shown

export function idOf(entry) {
  return JSON.stringify([entry.key, entry.peer ?? null]);
}

// What is known of an entry, with what it was since the page was opened.
export function note(table, entry) {
  const id = table.name + "\n" + idOf(entry);
  const known = seen.get(id) ?? { recent: new Map(), whole: new Map(), since: Date.now() };
  seen.delete(id);
  seen.set(id, known);
  if (seen.size > SEEN) seen.delete(seen.keys().next().value);
  known.entry = entry;
  known.at = Date.now();
  for (const [name, value] of Object.entries(entry.values)) {
    if (typeof value !== "number") continue;
    for (const [histories, length, all] of [[known.recent, 60, false], [known.whole, 120, true]]) {
      if (!histories.has(name)) histories.set(name, new History(length, all));
      histories.get(name).add(value);
    }
  }
  return known;
}

export function setUpEntries(open, block, follow) {
  marks = { open, block, follow };
  $("entries").append(from);
  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    look($("query").value);
  });
  $("query").addEventListener("search", () => look($("query").value));
  $("by").addEventListener("change", () => sortBy($("by").value, true));
  for (const name of ["pointerleave", "focusout"]) $("entries-list").addEventListener(name, drawSoon);
}

function look(text) {
  if (view.search === text.trim()) return;
  view.search = text.trim();
  begin();
}

export function sortBy(column, down) {
  view.column = column;
  view.down = down;
  begin();
}

// Show another table, or the same one as it is declared now; null shows none.
export function showTable(table) {
  const old = view.table;
  view.table = table;
  if (!table) {
    stopAsking();
    rows.clear();
    body = null;
    $("search").hidden = true;
    say($("entries-title"), "Entries");
    say($("entries-note"), "");
    $("entries-list").replaceChildren(element("p", { class: "empty" }, "Entries are shown here as soon as there is a table."));
    marks.follow();
    return;
  }
  const same = old && old.name === table.name && JSON.stringify(shape(old)) === JSON.stringify(shape(table));
  if (same) return;
  const numbers = columns().map((one) => one.name);
  if (!numbers.includes(view.column)) {
    const rates = table.columns.filter((one) => one.kind === "rate").map((one) => one.name);
    view.column = rates.find((one) => one.startsWith("http_req")) ?? rates[0] ?? numbers[0] ?? null;
    view.down = true;
  }
  if (!old || old.name !== table.name) {
    view.search = "";
    $("query").value = "";
  }
  $("search").hidden = false;
  $("query").placeholder = hint(table.type);
  say($("entries-title"), `Entries of ${visible(table.name)}`);
  $("by").replaceChildren(...numbers.map((one) => element("option", { value: one }, one)));
  $("by").disabled = !numbers.length;
  begin();
}

function shape(table) {
  return [table.type, table.columns, Boolean(table.shares), table.written_by];
}

function hint(type) {
  if (type === "ip") return "192.0.2.7, 192.0.2. or 192.0.2.0/24";
  if (type === "ipv6") return "2001:db8::7 or 2001:db8::/32";
  if (type === "string") return "what keys begin with";
  return type === "integer" ? "a number" : "hexadecimal digits";
}

// The columns by which entries can be sorted.
function columns() {
  return view.table.columns.filter((one) => one.kind !== "text");
}

// What a search asks for, as parameters of the listing.
function searched() {
  const text = view.search;
  if (!text) return {};
  const compared = /^(?:data\.)?(\S+?)\s*(>=|<=|==|!=|>|<|=)\s*(-?\d+)$/.exec(text);
  if (compared && view.table.columns.some((one) => one.name === compared[1])) {
    return { filter: `data.${compared[1]} ${WORDS[compared[2]]} ${compared[3]}` };
  }
  const type = view.table.type;
  if (type === "string") return { prefix: text };
  if (type === "ip" || type === "ipv6") {
    if (text.includes("/")) return { cidr: text };
    const part = /^(\d{1,3}\.){1,3}$/.test(text) ? text.split(".").filter(Boolean) : null;
    if (part) return { cidr: [...part, 0, 0, 0].slice(0, 4).join(".") + "/" + 8 * part.length };
  }
  return { key: text };
}

function listing() {
  const search = searched();
  const parameters = new URLSearchParams(search);
  if (!search.key) {
    if (view.column) parameters.set("sort", (view.down ? "-" : "") + view.column);
    parameters.set("limit", ROWS);
  }
  return `${path("tables", view.table.name, "entries")}?${parameters}`;
}

// Begin anew: with another table, column or search.
function begin() {
  stopAsking();
  rows.clear();
  body = null;
  threshold = null;
  due = took = 0;
  trouble = "";
  say($("entries-note"), "");
  $("by").value = view.column ?? "";
  $("entries-list").replaceChildren(element("p", { class: "waiting" }, `Asking for ${count(view.table.used, "entry", "entries")}…`));
  marks.follow();
  look_again();
}

function look_again() {
  due = 0;
  tick();
}

// The node is another one, or something was changed here: look at once, or as soon as a large table
// may be sorted again.
export function entriesBeginAnew() {
  if (view.table) due = Math.min(due, sortedAt + (took > SOON / 2 ? (EASE / 5) * took : 0));
}

function stopAsking() {
  if (sorting) sorting.abort();
  refreshing?.abort();
  sorting = refreshing = null;
}

// Do what is due: a sort, and a look at the rows that are shown while that takes long or is not
// due. Called about each second.
export async function tick() {
  const table = view.table;
  if (!table) return;
  if (Date.now() >= due && !sorting) sort();
  else if (rows.size) await refresh(table);
  drawSoon();
}

async function sort() {
  const mine = (sorting = new AbortController());
  const began = Date.now();
  try {
    const page = await get(listing(), { patience: SORTING, signal: mine.signal });
    if (sorting !== mine) return;
    took = Date.now() - began;
    sortedAt = Date.now();
    trouble = "";
    isMore = page.next !== null;
    take(page.entries);
  } catch (problem) {
    if (sorting !== mine) return;
    took = Date.now() - began;
    lost(problem);
  } finally {
    if (sorting === mine) {
      sorting = null;
      due = Date.now() + Math.max(SOON, EASE * took);
    }
  }
  marks.follow();
  drawSoon();
}

// Ask for the rows that are shown: rates fall though nothing happens. The answer says nothing of
// rows that came after the question.
async function refresh(table) {
  const mine = (refreshing = new AbortController());
  const asked = new Map(rows);
  const keys = [...new Set([...asked.values()].map((one) => one.known.entry.key))];
  try {
    const parameters = new URLSearchParams(keys.map((key) => ["key", key]));
    const page = await get(`${path("tables", table.name, "entries")}?${parameters}`, { signal: mine.signal });
    if (refreshing !== mine) return;
    const there = new Map(page.entries.map((entry) => [idOf(entry), entry]));
    for (const [id, row] of asked) {
      if (rows.get(id) !== row) continue;
      const entry = there.get(id);
      if (entry) row.known = note(table, entry);
      else remove(id);
    }
  } catch (problem) {
    if (refreshing === mine) lost(problem);
  }
}

function lost(problem) {
  if (problem.status === -1) return;
  trouble = problem.status === 404 ? "" : problem.message;
  if (problem.status === 422 || problem.status === 400 || problem.status === 404) {
    for (const id of [...rows.keys()]) remove(id);
    if (problem.status === 404) trouble = "There is no such table any more.";
  }
}

function remove(id) {
  rows.get(id)?.node.remove();
  rows.delete(id);
}

function take(entries) {
  const kept = new Set(entries.map(idOf));
  for (const id of [...rows.keys()]) if (!kept.has(id)) remove(id);
  for (const entry of entries) put(entry);
}

function put(entry) {
  const id = idOf(entry);
  const known = note(view.table, entry);
  const row = rows.get(id);
  if (row) row.known = known;
  else rows.set(id, new Row(id, known));
}

// An event of the stream.
export function entryChanged(told) {
  const table = view.table;
  if (!table || told.table !== table.name) return;
  const id = idOf(told);
  if (!told.entry) {
    remove(id);
  } else if (rows.has(id)) {
    rows.get(id).known = note(table, told.entry);
  } else if (told.matches !== false && (rows.size < ROWS || isAhead(told.entry))) {
    put(told.entry);
  } else return;
  drawSoon();
}

function valueOf(entry) {
  return view.column ? (entry.values[view.column] ?? 0) : 0;
}

function isAhead(entry) {
  const values = [...rows.values()].map((row) => valueOf(row.known.entry));
  return view.down ? valueOf(entry) > Math.min(...values) : valueOf(entry) < Math.max(...values);
}

// What the stream is asked for, beside how the node stands: null for no entries.
export function followed() {
  const table = view.table;
  if (!table) return null;
  const search = searched();
  if (search.key) return null; // the look each second is enough
  const query = new URLSearchParams({ ...search, table: table.name, interval: 500 });
  if (view.column && table.used > FOLLOWED && rows.size) {
    // Of a large table, only entries that may get among those that are shown.
    const values = [...rows.values()].map((row) => valueOf(row.known.entry));
    const last = rows.size < ROWS ? (view.down ? 1 : 0) : view.down ? Math.max(1, Math.min(...values)) : Math.max(...values);
    const near = threshold !== null && (view.down ? last >= threshold && last <= 2 * threshold : last <= threshold && 2 * last >= threshold);
    if (!near) threshold = last;
    query.append("filter", `data.${view.column} ${view.down ? "ge" : "le"} ${threshold}`);
  } else if (view.column && table.used > FOLLOWED) return null; // until it was sorted
  return query;
}

function drawSoon() {
  if (drawing) return;
  drawing = true;
  setTimeout(() => {
    drawing = false;
    if (view.table) draw();
  }, 100);
}

// Rows stay where they are while somebody points at them or is among them with the keyboard.
function isHeld() {
  return Boolean(body && (body.matches(":hover") || body.contains(document.activeElement)));
}

function draw() {
  if (drawn() && rows.size) {
    const sign = view.down ? -1 : 1;
    const inOrder = [...rows.entries()].sort(
      ([, a], [, b]) => sign * (valueOf(a.known.entry) - valueOf(b.known.entry)),
    );
    for (const [id] of inOrder.slice(ROWS)) if (!isHeld()) remove(id);
    const wanted = inOrder.slice(0, ROWS).map(([, row]) => row);
    for (const row of wanted) row.show();
    if (!isHeld()) {
      wanted.forEach(({ node }, at) => {
        if (body.children[at] !== node) body.insertBefore(node, body.children[at] ?? null);
      });
    } else for (const { node } of wanted) if (!node.parentNode) body.append(node);
  }
  told();
}

// Have the table in the page, or what stands there instead.
function drawn() {
  const place = $("entries-list");
  if (!rows.size) {
    body = null;
    if (!sortedAt && !trouble) return false;
    if (sorting || (due === 0 && !trouble)) return false;
    const words = trouble || nothing();
    if (place.textContent !== words) place.replaceChildren(element("p", { class: "empty" }, words));
    return false;
  }
  if (body) return true;
  body = element("tbody");
  const shared = Boolean(view.table.shares);
  const head = [
    element("th", { scope: "col" }, "Key"),
    ...(shared ? [element("th", { scope: "col" }, "Share of")] : []),
    ...inOrder().map(head_of),
    element("th", { scope: "col", class: "wide number" }, "Expires in"),
    element("th", { scope: "col", class: "wide" }, element("span", { class: "hidden-text" }, "Change")),
  ];
  place.replaceChildren(
    element(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Entries, one a row" },
      element("table", { class: "entries" }, element("thead", {}, element("tr", {}, ...head)), body),
    ),
  );
  return true;
}

// The column by which entries are sorted comes first.
function inOrder() {
  const all = view.table.columns;
  const first = all.filter((one) => one.name === view.column);
  return [...first, ...all.filter((one) => one.name !== view.column)];
}

function head_of(column) {
  const isFirst = column.name === view.column;
  if (column.kind === "text") return element("th", { scope: "col", class: "wide" }, column.name);
  const words = column.period ? `${column.name} (${time(column.period)})` : column.name;
  const press = () => {
    const down = isFirst ? !view.down : true;
    sortBy(column.name, down);
    $("by").focus();
  };
  const sign = isFirst ? (view.down ? " ▼" : " ▲") : "";
  return element(
    "th",
    { scope: "col", class: isFirst ? "sorted" : "wide number", "aria-sort": isFirst ? (view.down ? "descending" : "ascending") : null, colspan: isFirst ? 2 : null },
    element("button", { type: "button", class: "head", onclick: press, "data-column": column.name }, words, element("span", { "aria-hidden": "true" }, sign)),
  );
}

function nothing() {
  if (view.search) return `Nothing is found for “${visible(view.search)}”. A search is for ${hint(view.table.type)}, or a value such as “gpc0 > 5”.`;
  return `Table ${visible(view.table.name)} has no entries. They come when a rule of a HAProxy tracks something in it, as with: http-request track-sc0 src table ${visible(view.table.name)}`;
}

function told() {
  const used = view.table.used;
  from.set(
    ["These rows:", curl(listing())],
    ["The same, one by one, each second:", curl(path("tables", view.table.name, "entries") + "?key=…")],
    ["What changes in between:", curl("v1/events?" + (followed() ?? "kind=table"), " -N")],
  );
  if (trouble && rows.size) return say($("entries-note"), `Not up to date: ${trouble}`);
  if (!rows.size) return say($("entries-note"), "");
  const order = view.column ? ` by ${view.column}, ${view.down ? "highest" : "lowest"} first` : "";
  let words = view.search
    ? `${isMore ? `The first ${rows.size}` : count(rows.size, "entry", "entries")} found for “${visible(view.search)}”${order}`
    : rows.size < used ? `${rows.size} of ${number(used)} entries${order}` : `${count(rows.size, "entry", "entries")}${order}`;
  if (took > SOON) {
    words += `. Sorting all takes ${time(took)}, so that is done each ${time(EASE * took)}; what passes these in between is seen at once`;
  }
  if (isHeld()) words += ". The order is kept while you are in it";
  say($("entries-note"), words + ".");
}

class Row {
  constructor(id, known) {
    this.known = known;
    const { key, peer } = known.entry;
    const open = () => marks.open(view.table, this.known.entry);
    this.button = element("button", { type: "button", class: "link key", onclick: open }, visible(key));
    this.cells = inOrder().map((column) => {
      const first = column.name === view.column;
      const cell = element("td", { class: column.kind === "text" ? "wide" : first ? "number sorted" : "wide number" });
      return [column.name, cell];
    });
    const cells = this.cells.map(([, cell]) => cell);
    if (view.column) {
      this.spark = new Sparkline();
      cells.splice(1, 0, element("td", { class: "trend" }, this.spark.node));
    }
    this.lives = element("td", { class: "wide number" });
    const names = `${visible(key)}${peer === undefined ? "" : ` of ${visible(peer)}`}`;
    const may = marks.block(view.table);
    const block = may && element("button", { type: "button", class: "small", "aria-label": `${may.word} ${names}`, onclick: () => may.do(this.known.entry) }, may.word);
    this.node = element(
      "tr",
      { "data-id": id },
      element("th", { scope: "row" }, this.button),
      peer === undefined ? null : element("td", {}, visible(peer)),
      ...cells,
      this.lives,
      element("td", { class: "wide" }, block || ""),
    );
    this.node.openEntry = open;
    this.node.blockEntry = may ? () => may.do(this.known.entry) : null;
  }

  show() {
    const { values, expires_in } = this.known.entry;
    for (const [name, cell] of this.cells) {
      const value = values[name];
      say(cell, typeof value === "number" ? number(value) : value === null || value === undefined ? "–" : visible(value));
    }
    const left = expires_in === null ? null : Math.max(0, expires_in - (Date.now() - this.known.at));
    say(this.lives, left === null ? "never" : time(left));
    const history = this.known.recent.get(view.column);
    if (this.spark && history) this.spark.draw(history);
  }
}
