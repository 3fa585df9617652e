// Aggregates, and whatever else parts of the node do: who is in, and why not.

import { curl } from "./api.js";
import { $, element, number, patch, source, time, visible } from "./text.js";

const from = source();
let drawn = "";

export function setUpAggregates(choose) {
  $("aggregates-list").addEventListener("click", (event) => {
    const { table } = event.target.dataset;
    if (table !== undefined) choose(table);
  });
  $("aggregates").append(from);
}

// All that parts do.
export function detailsOf(parts) {
  return Object.values(parts.details).flat();
}

export function showAggregates(parts) {
  from.set(["Parts, what they do, and who is in:", curl("v1/parts")]);
  const key = JSON.stringify(parts.details);
  if (key === drawn) return;
  drawn = key;
  const all = detailsOf(parts);
  const made = element("div", { id: "aggregates-list" }, ...(all.length ? all.map(card) : [none()]));
  patch($("aggregates-list"), made);
}

function value(name, given) {
  if (given === null) return "none";
  if (name.endsWith("_ms")) return `${number(given)} ms`;
  return typeof given === "number" ? number(given) : visible(given);
}

function card(one) {
  const link = (name) => element("button", { type: "button", class: "link", "data-table": name }, visible(name));
  const title = element("h3", {});
  if (one.reads !== null) title.append(link(one.reads));
  else title.append(visible(one.name));
  if (one.writes !== null) title.append(" → ", link(one.writes));
  const state = one.not_ready === null
    ? element("p", {}, element("span", { class: "badge ok" }, "✓ has authority"), " Rules may rely on it.")
    : element("p", {}, element("span", { class: "badge busy" }, "… no authority"), ` ${visible(one.not_ready)}.`);
  const facts = Object.entries(one.values).map(([name, given]) => `${name.replaceAll("_", " ").replace(/ ms$/, "").replace(/ per s$/, " per second")}: ${value(name, given)}`);
  const rows = one.members.map((member) => {
    const kind = member.is_in ? "ok" : "bad";
    const expected = member.values.expected && !member.is_in ? ["it is expected"] : [];
    const notes = [visible(member.state), ...expected, ...member.notes.map(visible)].join("; ");
    return element("tr", {},
      element("th", { scope: "row" }, visible(member.name)),
      element("td", {}, element("span", { class: `badge ${kind}` }, member.is_in ? "✓ in" : "✕ not in")),
      element("td", {}, notes.replace(/^in for (\d+) s/, (_, s) => `for ${time(1000 * s)}`)),
      element("td", { class: "number" }, number(member.values.entries)));
  });
  const head = [["Peer"], ["In"], ["Why"], ["Entries", "number"]].map(([text, kind]) => element("th", { scope: "col", class: kind }, text));
  return element("article", { class: "card" }, title, state,
    element("p", { class: "facts" }, facts.join(" · ")),
    rows.length
      ? element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Who is in ${visible(one.name)}` },
          element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)))
      : "");
}

function none() {
  return element("div", { class: "empty" },
    element("h3", {}, "No aggregate"),
    element("p", {}, "An aggregate adds up what each HAProxy has counted, so that a limit holds for all of them together. In ", element("code", {}, "peers.ini"), ":"),
    element("pre", { tabindex: "0" }, "[aggregate rates]\nto = rates.agg"));
}
