// Changes of entries, and taking back the last one.

import { ask, askForToken, get, path, token } from "./api.js";
import { $, announce, say, visible } from "./text.js";

let node = null; // as /v1/node has it
let last = null; // what can be taken back
export const changes = []; // called after each change

export function nodeIs(told) {
  node = told;
}

export function mayWrite() {
  return Boolean(node && node.may_write);
}

// Why nothing can be written to a table, in words; null if it can.
export function whyNot(table) {
  if (!node || !node.allow_writes) return "Nothing can be changed here: that takes allow-writes = yes in [http] of peers.ini.";
  if (table.written_by) return `Nothing can be changed here: ${visible(table.written_by)} alone writes this table.`;
  return null;
}

// The value by which rules block, most likely: a tag or a counter that is there for anything.
export function blockColumn(table) {
  const names = table.columns.filter((one) => one.kind === "number").map((one) => one.name);
  return names.find((one) => /^gpc0?(\W|$)/.test(one)) ?? names.find((one) => /^gp[ct]/.test(one)) ?? null;
}

export function blockWord(table) {
  return `Block (${blockColumn(table)} = 1)`;
}

// What a row has a button for; null if there is none.
export function blocking(table) {
  if (whyNot(table) || !blockColumn(table)) return null;
  return {
    word: "Block",
    do: async (entry) => {
      const wrong = await doBlock(table, entry);
      if (wrong) failed(wrong);
    },
  };
}

export function doBlock(table, entry) {
  const column = blockColumn(table);
  return write(table, entry, { do: "set", values: { [column]: 1 } }, `${visible(entry.key)} blocked (${column} = 1)`);
}

function at(table) {
  return path("tables", table.name, "entries");
}

async function now(table, entry) {
  const page = await get(`${at(table)}?${new URLSearchParams({ key: entry.key })}`);
  return page.entries.find((one) => (one.peer ?? null) === (entry.peer ?? null)) ?? null;
}

async function send(table, change) {
  const answer = await ask("POST", at(table), { changes: [change] });
  const [result] = answer.results;
  if (result.problem) throw new Error(result.problem.detail);
}

// Make a change: "" if it went well, or why not, in words.
export async function write(table, entry, change, words) {
  try {
    if (!mayWrite()) {
      if (!(await askForToken("Changing something takes the token of writers."))) return "Nothing was changed: there is no token.";
      nodeIs(await get("v1/node"));
      if (!token()) return "Nothing was changed: the node does not accept that token.";
      if (!mayWrite()) return "Nothing was changed: this token is good for reading only.";
    }
    const before = await now(table, entry);
    const whole = { ...change, key: entry.key };
    if (entry.peer !== undefined) whole.peer = entry.peer;
    await send(table, whole);
    last = { table, entry, change, before, words };
    say($("undo-text"), `${words}.`);
    $("undo-do").hidden = false;
    $("undo").hidden = false;
    announce(`${words}. It can be undone.`);
    for (const tell of changes) tell();
    return "";
  } catch (problem) {
    return `Nothing was changed: ${problem.message}`;
  }
}

export async function undo() {
  if (!last) return;
  const { table, entry, change, before, words } = last;
  last = null;
  try {
    const found = await now(table, entry);
    const back = { key: entry.key, ...undone(change, before, found) };
    if (entry.peer !== undefined) back.peer = entry.peer;
    await send(table, back);
    say($("undo-text"), `Undone: ${words}.`);
    announce(`Undone: ${words}.`);
  } catch (problem) {
    failed(`It could not be undone: ${problem.message}`);
  }
  $("undo-do").hidden = true;
  for (const tell of changes) tell();
}

// The change that takes another one back, and nothing that happened since.
function undone(change, before, found) {
  if (change.do === "forget") {
    if (!before) return { do: "forget" };
    // Values that are counted again since it was forgotten are added to.
    const more = { do: found ? "set" : "replace", values: before.values };
    if (before.expires_in) more.expires_in = before.expires_in;
    return more;
  }
  const names = Object.keys(change.values);
  if (before) {
    const more = { do: "set", values: Object.fromEntries(names.map((name) => [name, before.values[name]])) };
    if (change.expires_in && before.expires_in) more.expires_in = before.expires_in;
    return more;
  }
  const counted = found && Object.entries(found.values).some(([name, value]) => value && !names.includes(name));
  if (!counted) return { do: "forget" };
  const blank = (name) => [name, typeof found.values[name] === "number" ? 0 : null];
  return { do: "set", values: Object.fromEntries(names.map(blank)) };
}

function failed(words) {
  say($("undo-text"), words);
  $("undo-do").hidden = true;
  $("undo").hidden = false;
  announce(words);
}

export function setUpWrites() {
  $("undo-do").addEventListener("click", undo);
  $("undo-close").addEventListener("click", () => {
    $("undo").hidden = true;
  });
}
