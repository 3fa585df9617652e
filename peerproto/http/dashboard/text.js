// Text and numbers for people. What goes into the page goes there as text, never as markup.

const ODD = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;

// A text as one line: control characters, and those that turn or hide others, are written as
// escapes, as a search takes them. Bytes that are no UTF-8 come from the API as \xHH already.
export function visible(text) {
  return String(text).replace(ODD, (one) => {
    const code = one.charCodeAt(0);
    return code < 128
      ? "\\x" + code.toString(16).toUpperCase().padStart(2, "0")
      : "\\u{" + code.toString(16).toUpperCase() + "}";
  });
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1, notation: "compact" });

export function number(value) {
  return value === null || value === undefined ? "–" : whole.format(value);
}

export function brief(value) {
  return Math.abs(value) < 10000 ? whole.format(value) : short.format(value);
}

// A number of things: "1 peer", "2 peers".
export function count(value, one, many = one + "s") {
  return `${number(value)} ${value === 1 ? one : many}`;
}

// A rate per second, as short as it can be.
export function rate(value) {
  const size = Math.abs(value);
  if (size < 0.05) return "0/s";
  return (size < 10 ? value.toFixed(1) : brief(value)) + "/s";
}

// A time in ms: "3 s", "4 min", "2 h 5 min".
export function time(ms) {
  if (ms === null || ms === undefined) return "never";
  const s = Math.round(ms / 1000);
  if (s < 100) return `${s} s`;
  const min = Math.round(s / 60);
  if (min < 100 && min !== 60) return `${min} min`;
  const h = Math.floor(min / 60);
  if (!(min % 60) && h < 48) return `${h} h`;
  if (h < 48) return `${h} h ${min % 60} min`;
  return `${Math.round(h / 24)} d`;
}

// An element with properties and children; children that are no elements become text.
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((one) => one !== null && one !== undefined));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(name, properties = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(properties)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Set a text only where it is another one, so that nothing is drawn or read out in vain.
export function say(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

// Make a part of the page like another one, and leave as it is what is the same: so the keyboard and
// a screen reader stay where they are.
export function patch(old, made) {
  if (old.nodeName !== made.nodeName) return old.replaceWith(made);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== made.data) old.data = made.data;
    return;
  }
  for (const { name, value } of made.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!made.hasAttribute(name)) old.removeAttribute(name);
  const wanted = [...made.childNodes];
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
  wanted.forEach((one, at) => (at < old.childNodes.length ? patch(old.childNodes[at], one) : old.append(one)));
}

export const $ = (id) => document.getElementById(id);

// Tell those who do not see the page; seldom, and never numbers that go on changing.
export function announce(text) {
  say($("said"), "");
  say($("said"), text);
}

// "Where from?": the calls behind what is shown, as they can be typed.
export function source(...calls) {
  const list = element("ul");
  const box = element("details", { class: "source" }, element("summary", {}, "Where from?"), list);
  box.set = (...some) => {
    const key = JSON.stringify(some);
    if (box.key === key) return;
    box.key = key;
    list.replaceChildren(
      ...some.map(([what, line]) => element("li", {}, what, element("code", {}, line))),
    );
  };
  box.set(...calls);
  return box;
}
