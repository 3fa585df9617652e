// Keys: what each does, and a switch for people to whom single keys happen by chance.

import { $, element } from "./text.js";

const PLACE = "peerproto-keys";
const KEYS = [
  ["/", "find an entry"],
  ["j, k", "to the next entry, to the one before"],
  ["Enter", "open an entry"],
  ["b", "block the entry that you are at"],
  ["u", "undo the last change"],
  ["p", "pause, and go on"],
  ["t", "to the tables"],
  ["?", "this help"],
  ["Esc", "close what is open"],
];

function isOn() {
  return localStorage.getItem(PLACE) !== "off";
}

function rows() {
  return [...document.querySelectorAll("table.entries tbody tr")];
}

function step(by) {
  const all = rows();
  const here = all.findIndex((row) => row.contains(document.activeElement));
  const next = here < 0 ? 0 : Math.min(all.length - 1, Math.max(0, here + by));
  all[next]?.querySelector("button")?.focus();
}

export function setUpKeyboard(actions) {
  $("keys").replaceChildren(
    ...KEYS.flatMap(([key, what]) => [element("dt", {}, element("kbd", {}, key)), element("dd", {}, what)]),
  );
  const box = $("keys-on");
  box.checked = isOn();
  box.addEventListener("change", () => localStorage.setItem(PLACE, box.checked ? "on" : "off"));
  $("help").addEventListener("click", () => $("help-text").showModal());
  $("help-close").addEventListener("click", () => $("help-text").close());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !isOn()) return;
    if (event.target.closest("input, select, textarea, dialog")) return;
    const does = {
      "/": () => $("query").focus(),
      j: () => step(1),
      k: () => step(-1),
      b: () => rows().find((row) => row.contains(document.activeElement))?.blockEntry?.(),
      u: actions.undo,
      p: actions.pause,
      t: () => document.querySelector("#tables tbody button")?.focus(),
      "?": () => $("help-text").showModal(),
    }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  });
}
