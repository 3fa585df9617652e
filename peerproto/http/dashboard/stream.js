// The stream of events, read with fetch, since an EventSource sends no token.

import { base, headers, problemOf, refused, token } from "./api.js";

const LEAST = 500; // ms until the first try after a break
const MOST = 8000;
const SILENCE = 40000; // ms: the node says something every 15 s

export class Stream {
  // take: called with the name and the data of each event; moved: with the state and words.
  constructor(take, moved) {
    this.take = take;
    this.moved = moved;
    this.place = null;
    this.query = null;
    this.running = null;
  }

  // Follow what a query says from now on. The last place is kept: what was missed comes first.
  open(query) {
    if (query === this.query && this.running) return;
    if (query !== this.query) this.place = null;
    this.query = query;
    this.close();
    const mine = (this.running = new AbortController());
    this.follow(mine);
  }

  close() {
    if (this.running) this.running.abort();
    this.running = null;
  }

  async follow(mine) {
    let wait = LEAST;
    while (!mine.signal.aborted) {
      let why = "the connection has ended";
      let least = 0;
      try {
        this.moved("connecting", "");
        if (await this.read(mine)) wait = LEAST;
      } catch (problem) {
        if (mine.signal.aborted) return;
        if (problem.status === 401 && (await refused(problem.token))) continue;
        why = problem.status ? problem.message : "the node cannot be reached";
        if (problem.status === 404 || problem.status === 422) {
          if (this.running === mine) this.running = null;
          this.moved("refused", why);
          return;
        }
        least = (problem.retry || 0) * 1000;
        this.moved(problem.status === 503 ? "full" : "broken", why);
      }
      if (mine.signal.aborted) return;
      if (why === "the connection has ended") this.moved("broken", why);
      await pause(Math.max(least, wait * (0.75 + Math.random() / 2)), mine.signal);
      wait = Math.min(MOST, wait * 2);
    }
  }

  // Read one connection to its end: whether anything came.
  async read(mine) {
    const one = new AbortController();
    const stop = () => one.abort();
    mine.signal.addEventListener("abort", stop);
    let silent = setTimeout(stop, SILENCE);
    const given = token();
    try {
      const more = this.place ? { "Last-Event-ID": this.place } : {};
      const answer = await fetch(new URL("v1/events?" + this.query, base), {
        headers: headers({ Accept: "text/event-stream", ...more }),
        cache: "no-store",
        credentials: "omit",
        signal: one.signal,
      });
      if (!answer.ok) {
        const problem = await problemOf(answer);
        problem.token = given;
        throw problem;
      }
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      let some = false;
      for (;;) {
        const { value, done } = await reader.read();
        if (done || mine.signal.aborted) return some;
        clearTimeout(silent);
        silent = setTimeout(stop, SILENCE);
        text += value;
        const end = text.lastIndexOf("\n\n");
        if (end < 0) continue;
        const blocks = text.slice(0, end).split("\n\n");
        text = text.slice(end + 2);
        for (const block of blocks) some = this.event(block) || some;
      }
    } finally {
      clearTimeout(silent);
      mine.signal.removeEventListener("abort", stop);
    }
  }

  event(block) {
    let name = "";
    let data = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("id: ")) this.place = line.slice(4);
      else if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data = line.slice(6);
    }
    if (!name) return false;
    if (name === "hello") this.moved("live", "");
    this.take(name, JSON.parse(data));
    return true;
  }
}

export function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal && signal.aborted) return resolve();
    const over = () => {
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(() => {
      if (signal) signal.removeEventListener("abort", over);
      resolve();
    }, ms);
    if (signal) signal.addEventListener("abort", over, { once: true });
  });
}
