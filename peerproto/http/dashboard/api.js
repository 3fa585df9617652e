// Calls of the API. The token is asked for once, and stays in sessionStorage of this tab.

import { $, announce } from "./text.js";

const PLACE = "peerproto-token";
const PATIENCE = 20000; // ms for an answer

export const base = new URL(".", document.baseURI);

export class Problem extends Error {
  constructor(status, detail, retry) {
    super(detail);
    this.status = status; // 0: the node cannot be reached; -1: given up here
    this.retry = retry; // seconds
  }
}

export function token() {
  return sessionStorage.getItem(PLACE);
}

function keep(text) {
  if (text) sessionStorage.setItem(PLACE, text);
  else sessionStorage.removeItem(PLACE);
  for (const tell of listeners) tell();
}

const listeners = [];

// Have a function called whenever the token is another one.
export function onToken(tell) {
  listeners.push(tell);
}

export function path(...segments) {
  return "v1/" + segments.map(encodeURIComponent).join("/");
}

export function curl(where, more = "") {
  const auth = token() ? ' -H "Authorization: Bearer $token"' : "";
  const quoted = new URL(where, base).href.replaceAll("'", "%27");
  return `curl${auth}${more} '${quoted}'`;
}

export function headers(more = {}) {
  const given = token();
  return given ? { ...more, Authorization: `Bearer ${given}` } : more;
}

// Turn an answer that is none into a Problem.
export async function problemOf(answer) {
  let detail = `${answer.status} ${answer.statusText}`;
  try {
    const told = await answer.json();
    if (told.detail) detail = told.detail;
  } catch {
    // No problem document: a proxy may have answered.
  }
  return new Problem(answer.status, detail, Number(answer.headers.get("Retry-After")) || 0);
}

async function once(method, where, content, { patience = PATIENCE, signal } = {}) {
  const more = content === undefined ? {} : { "Content-Type": "application/json" };
  const given = token();
  let answer;
  try {
    answer = await fetch(new URL(where, base), {
      method,
      headers: headers(more),
      body: content === undefined ? undefined : JSON.stringify(content),
      cache: "no-store",
      credentials: "omit",
      signal: ended(patience, signal),
    });
    if (answer.ok) return await answer.json();
  } catch (error) {
    if (signal && signal.aborted) throw new Problem(-1, "it was given up", 0);
    const why = error.name === "TimeoutError" ? "it does not answer" : "it cannot be reached";
    throw new Problem(0, why, 0);
  }
  const problem = await problemOf(answer);
  problem.token = given;
  throw problem;
}

function ended(patience, signal) {
  const timeout = AbortSignal.timeout(patience);
  return signal ? AbortSignal.any([timeout, signal]) : timeout;
}

// The answer to a request; asks for a token where one is needed.
export async function ask(method, where, content, more) {
  for (;;) {
    try {
      return await once(method, where, content, more);
    } catch (problem) {
      if (problem.status !== 401) throw problem;
      if (!(await refused(problem.token))) throw problem;
    }
  }
}

export function get(where, more) {
  return ask("GET", where, undefined, more);
}

// A token was refused, or is missing: whether there is another one to try.
export async function refused(given) {
  if (token() !== given) return true; // somebody has given another one meanwhile
  if (given) {
    wasRefused = true;
    keep(null);
    try {
      await once("GET", "v1/node");
      announce("The token is not accepted any more. Reading goes on without one.");
      return true; // reading needs none
    } catch (problem) {
      if (problem.status !== 401) return false;
    }
  }
  if (declined) return false;
  return askForToken(wasRefused ? "The node does not accept that token, or not any more." : "This node asks for a token.");
}

let declined = false;
let wasRefused = false;
let asking = null;

// Ask a person for a token: whether one was given.
export function askForToken(why) {
  if (asking) return asking;
  const box = $("token-ask");
  const field = $("token-text");
  $("token-why").textContent = why;
  field.value = "";
  asking = new Promise((resolve) => {
    const done = (given) => {
      asking = null;
      declined = !given;
      keep(given);
      resolve(Boolean(given));
    };
    box.addEventListener("close", () => done(box.returnValue === "use" ? field.value.trim() : null), {
      once: true,
    });
  });
  box.returnValue = "";
  box.showModal();
  field.focus();
  return asking;
}

export function setUpToken() {
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    $("token-ask").close("use");
  });
  $("token-drop").addEventListener("click", () => $("token-ask").close(""));
  $("token").addEventListener("click", () => {
    declined = false;
    askForToken(token() ? "There is a token; another one takes its place." : "Some nodes take a token to read, all to write.");
  });
}

// Whether somebody has chosen to go on without a token.
export function isDeclined() {
  return declined;
}
