// The tables: how full they are, and what changes in them, as time goes by.

import { curl } from "./api.js";
import { History, Sparkline } from "./sparkline.js";
import { $, brief, element, number, rate, say, source, time, visible } from "./text.js";

const from = source();
const rows = new Map(); // by name
let body = null;
let choose = null;

export function setUpTables(chosen) {
  choose = chosen;
  $("tables").append(from);
}

export function showTables(tables, current) {
  from.set([
    "Type, size, used and expire. Growth and updates are the differences of used and of stored (how often entries were stored so far) from one answer to the next, by the time between:",
    curl("v1/tables"),
  ]);
  const place = $("tables-list");
  if (!tables.length) {
    body = null;
    rows.clear();
    if (!place.querySelector(".empty")) place.replaceChildren(noTable());
    return;
  }
  if (!body) {
    body = element("tbody");
    const heads = [["Table"], ["Type", "wide"], ["Entries"], ["Growth", "wide number"], ["Updates", "number"], ["Expire after", "wide number"]];
    const head = heads.map(([text, kind]) => element("th", { scope: "col", class: kind }, text));
    place.replaceChildren(
      element(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "Tables, one a row" },
        element("table", {}, element("thead", {}, element("tr", {}, ...head)), body),
      ),
    );
  }
  const now = Date.now();
  for (const table of tables) {
    if (!rows.has(table.name)) rows.set(table.name, new Row(table.name));
    rows.get(table.name).show(table, table.name === current, now);
  }
  const names = new Set(tables.map((one) => one.name));
  for (const name of rows.keys()) if (!names.has(name)) rows.delete(name);
  const wanted = tables.map((one) => rows.get(one.name).node);
  if (wanted.length !== body.children.length || wanted.some((one, at) => body.children[at] !== one)) {
    body.replaceChildren(...wanted);
  }
}

// The node is another process: what it has counted began anew.
export function tablesBeginAnew() {
  for (const row of rows.values()) row.before = null;
}

class Row {
  constructor(name) {
    this.used = new History();
    this.rates = new History();
    this.usedLine = new Sparkline();
    this.rateLine = new Sparkline();
    this.before = null;
    this.button = element("button", { type: "button", class: "link", onclick: () => choose(name) }, visible(name));
    this.note = element("span", { class: "note" });
    this.type = element("td", { class: "wide" });
    this.full = element("td", {});
    this.meter = element("progress", { class: "meter", "aria-label": `How full ${visible(name)} is` });
    this.fullText = element("span", {});
    this.full.append(this.fullText, this.meter);
    this.change = element("span");
    this.stored = element("span");
    this.lives = element("td", { class: "wide number" });
    this.node = element(
      "tr",
      {},
      element("th", { scope: "row" }, this.button, this.note),
      this.type,
      this.full,
      element("td", { class: "wide number" }, element("div", { class: "beside" }, this.change, this.usedLine.node)),
      element("td", { class: "number" }, element("div", { class: "beside" }, this.stored, this.rateLine.node)),
      this.lives,
    );
  }

  show(table, isCurrent, now) {
    if (isCurrent) this.button.setAttribute("aria-current", "true");
    else this.button.removeAttribute("aria-current");
    this.node.classList.toggle("current", isCurrent);
    say(this.type, table.type);
    say(this.lives, table.expire === null ? "never" : time(table.expire));
    say(this.fullText, table.size === null ? number(table.used) : `${number(table.used)} of ${brief(table.size)}`);
    this.meter.hidden = table.size === null;
    if (table.size !== null) {
      this.meter.max = Math.max(1, table.size);
      this.meter.value = Math.min(table.used, table.size);
    }
    const notes = [];
    if (table.written_by) notes.push(`written by ${visible(table.written_by)}`);
    if (table.shares) notes.push("a share of each peer");
    if (table.refused) notes.push(`${number(table.refused)} entries found no room`);
    say(this.note, notes.join("; "));
    this.used.add(table.used, now);
    this.usedLine.draw(this.used);
    const old = this.before;
    if (old && now - old.now < 900) return;
    this.before = { now, used: table.used, stored: table.stored };
    if (!old || table.stored < old.stored) return;
    const s = (now - old.now) / 1000;
    const change = (table.used - old.used) / s;
    say(this.change, (change > 0.05 ? "+" : "") + rate(change));
    this.rates.add((table.stored - old.stored) / s, now);
    say(this.stored, rate((table.stored - old.stored) / s));
    this.rateLine.draw(this.rates);
  }
}

function noTable() {
  return element(
    "div",
    { class: "empty" },
    element("h3", {}, "No table yet"),
    element("p", {}, "Tables come from HAProxies that are connected, and from ", element("code", {}, "[tables]"), " of ", element("code", {}, "peers.ini"), ". In ", element("code", {}, "haproxy.cfg"), " a table is shared if its line names the peers section:"),
    element("pre", { tabindex: "0" }, "backend rates\n    stick-table type ip size 1m expire 10m store gpc0,http_req_rate(10s) peers mesh"),
  );
}
