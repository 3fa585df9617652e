// One entry: its values with their history, each peer's share, and what can be done with it.

import { curl, get, path } from "./api.js";
import { idOf, note } from "./entries.js";
import { Sparkline } from "./sparkline.js";
import { $, element, number, say, source, time, visible } from "./text.js";
import { blockColumn, blockWord, changes, doBlock, mayWrite, whyNot, write } from "./writes.js";

let shown = null; // { table, entry, known }
let parts = () => [];
let tables = () => [];
let lines = new Map();
let live = null;

// details: gives what parts do, aggregates among them; all: gives the tables.
export function setUpEntry(details, all) {
  parts = details;
  tables = all;
  $("entry-close").addEventListener("click", () => $("entry").close());
  $("entry").addEventListener("close", () => {
    shown = null;
  });
  changes.push(() => shown && look());
}

export function openEntry(table, entry) {
  shown = { table, entry, known: note(table, entry) };
  lines = new Map();
  const name = entry.peer === undefined ? "" : `, share of ${visible(entry.peer)}`;
  say($("entry-title"), `${visible(entry.key)} in ${visible(table.name)}${name}`);
  live = {
    state: element("p", { class: "summary" }),
    values: element("tbody"),
    shares: element("div"),
    from: source(),
  };
  const head = [["Value"], ["Now", "number"], ["Since then", "trend"]].map(([one, kind]) => element("th", { scope: "col", class: kind }, one));
  $("entry-body").replaceChildren(
    live.state,
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Values" },
      element("table", {}, element("thead", {}, element("tr", {}, ...head)), live.values)),
    live.shares,
    forms(table, entry),
    live.from,
  );
  show();
  if (!$("entry").open) $("entry").showModal();
  look();
}

export function isOpen() {
  return shown !== null;
}

// The aggregate that an entry is part of: made of this table, or written to it.
function aggregate(name) {
  return parts().find((one) => one.writes === name || one.reads === name) ?? null;
}

function at(table, key) {
  return `${path("tables", table, "entries")}?${new URLSearchParams({ key })}`;
}

// Ask for it again: each second while it is open.
export async function look() {
  const mine = shown;
  if (!mine) return;
  const { table, entry } = mine;
  const sum = aggregate(table.name);
  const other = sum ? (sum.writes === table.name ? sum.reads : sum.writes) : null;
  const calls = [["This entry:", curl(at(table.name, entry.key))]];
  if (other) calls.push([other === sum.reads ? "The shares:" : "The sum:", curl(at(other, entry.key))]);
  live.from.set(...calls);
  try {
    const page = await get(at(table.name, entry.key));
    const more = other ? await get(at(other, entry.key)).catch(() => ({ entries: [] })) : { entries: [] };
    if (shown !== mine) return;
    const found = page.entries.find((one) => idOf(one) === idOf(entry));
    mine.gone = !found;
    mine.trouble = "";
    if (found) {
      mine.known = note(table, found);
      mine.entry = found;
    }
    if (sum) shares(sum, sum.reads === table.name ? page.entries : more.entries, sum.reads === table.name ? more.entries[0] : page.entries[0]);
  } catch (problem) {
    if (shown !== mine) return;
    mine.trouble = problem.message;
  }
  show();
}

// An event of the stream.
export function openEntryChanged(told) {
  if (!shown || told.table !== shown.table.name || idOf(told) !== idOf(shown.entry)) return;
  shown.gone = !told.entry;
  if (told.entry) {
    shown.known = note(shown.table, told.entry);
    shown.entry = told.entry;
  }
  show();
}

function show() {
  const { table, known, gone, trouble } = shown;
  const { values, expires_in } = known.entry;
  const since = new Date(known.since).toLocaleTimeString();
  const life = expires_in === null ? "It never expires" : `It expires in ${time(Math.max(0, expires_in - (Date.now() - known.at)))}`;
  const state = trouble ? `Not up to date: ${trouble}` : gone ? "There is no such entry now; what was known last:" : `${life}. First seen here at ${since}.`;
  say(live.state, state);
  for (const column of table.columns) {
    if (!lines.has(column.name)) {
      const line = { now: element("td", { class: "number" }), range: element("span", { class: "note" }), spark: new Sparkline(180, 34) };
      const name = column.period ? `${column.name} (${time(column.period)})` : column.name;
      line.spark.node.classList.add("long");
      live.values.append(element("tr", {}, element("th", { scope: "row" }, name), line.now, element("td", { class: "trend since" }, ...(column.kind === "text" ? [] : [line.spark.node, line.range]))));
      lines.set(column.name, line);
    }
    const line = lines.get(column.name);
    const value = values[column.name];
    say(line.now, typeof value === "number" ? number(value) : value === null || value === undefined ? "–" : visible(value));
    const history = known.whole.get(column.name);
    if (!history) continue;
    line.spark.draw(history);
    say(line.range, `${number(Math.min(...history.values))} to ${number(Math.max(...history.values))}`);
  }
}

function shares(sum, entries, total) {
  const names = shown.table.columns.filter((one) => one.kind !== "text").map((one) => one.name);
  const cells = (entry) => names.map((name) => element("td", { class: "number" }, number(entry.values[name])));
  const members = new Map(sum.members.map((one) => [one.name, one]));
  const rows = entries.map((one) => {
    const member = members.get(one.peer);
    const out = member && member.is_in ? "" : visible(member ? member.state : "no source of the sum");
    return element("tr", {}, element("th", { scope: "row" }, visible(one.peer), element("span", { class: "note" }, out)), ...cells(one));
  });
  if (total) rows.push(element("tr", { class: "total" }, element("th", { scope: "row" }, `Sum, in ${visible(sum.writes)}`), ...cells(total)));
  const key = rows.map((row) => row.textContent).join("\n");
  if (live.shares.key === key) return;
  live.shares.key = key;
  const head = ["Share of", ...names].map((one, at) => element("th", { scope: "col", class: at ? "number" : null }, one));
  live.shares.replaceChildren(
    element("h3", {}, "Shares"),
    rows.length
      ? element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Shares" },
          element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)))
      : element("p", {}, `No peer has counted this in ${visible(sum.reads)}.`),
  );
}

function forms(table, entry) {
  const why = whyNot(table);
  if (why) return element("p", { class: "note" }, why);
  const choice = element("select", { id: "set-column" }, ...table.columns.map((one) => element("option", { value: one.name }, one.name)));
  const column = blockColumn(table);
  if (column) choice.value = column;
  const value = element("input", { id: "set-value", value: "1", size: "12", autocomplete: "off", spellcheck: "false" });
  const life = element("input", { id: "set-life", inputmode: "numeric", size: "6", autocomplete: "off" });
  const wrong = element("p", { class: "wrong", role: "alert" });
  const set = element("form", { class: "row" },
    element("label", { for: "set-column" }, "Set"), choice,
    element("label", { for: "set-value" }, "to"), value,
    table.expire === null ? null : element("label", { for: "set-life" }, "for (s)"), table.expire === null ? null : life,
    element("button", { type: "submit" }, "Set"));
  set.addEventListener("submit", async (event) => {
    event.preventDefault();
    const kind = table.columns.find((one) => one.name === choice.value).kind;
    const given = kind === "text" ? value.value : Number(value.value);
    if (kind !== "text" && (!/^-?\d+$/.test(value.value.trim()) || !Number.isSafeInteger(given))) {
      return say(wrong, `“${visible(value.value)}” is no whole number.`);
    }
    const change = { do: "set", values: { [choice.value]: given } };
    if (life.value.trim()) change.expires_in = Math.round(Number(life.value) * 1000);
    if (Number.isNaN(change.expires_in)) return say(wrong, "How long it lives is a number of seconds.");
    say(wrong, await write(table, entry, change, `${choice.value} of ${visible(entry.key)} set to ${visible(given)}`));
  });
  const forget = element("button", { type: "button", class: "danger", onclick: async () => say(wrong, await write(table, entry, { do: "forget" }, `${visible(entry.key)} forgotten`)) }, "Forget");
  const block = column && element("button", { type: "button", onclick: async () => say(wrong, await doBlock(table, entry)) }, blockWord(table));
  return element("div", { class: "writes" },
    element("h3", {}, "Change it, on all HAProxies"),
    set,
    element("p", { class: "buttons" }, block || "", forget),
    element("p", { class: "note" }, column
      ? `${blockWord(table)} is what your rules make of it: as with “http-request deny if { sc_get_${column.replace(/\W.*/, "")}(0) gt 0 }”.`
      : "", " Forget removes it here, and makes its values zero on all HAProxies."),
    mayWrite() ? null : element("p", { class: "note" }, "A token will be asked for."),
    wrong);
}
