// Numbers as they went, and small pictures of them.

import { svg } from "./text.js";

export const LENGTH = 60; // samples that are kept

// Samples of one number: the latest, or (whole) all the time with fewer of each stretch.
export class History {
  constructor(length = LENGTH, whole = false) {
    this.length = length;
    this.whole = whole;
    this.least = 500; // ms from one sample to the next
    this.values = [];
    this.times = [];
  }

  // Note a sample; the last one gives way if it is not old enough to be one of its own.
  add(value, now = Date.now()) {
    const last = this.times.length - 1;
    if (last > 0 && this.times[last] - this.times[last - 1] < this.least) {
      this.values[last] = value;
      this.times[last] = now;
      return;
    }
    this.values.push(value);
    this.times.push(now);
    if (this.values.length <= this.length) return;
    if (this.whole) {
      const every = (_, at) => at % 2 === 0;
      this.values = this.values.filter(every);
      this.times = this.times.filter(every);
      this.least *= 2;
    } else {
      this.values.shift();
      this.times.shift();
    }
  }
}

// A line of samples: all the time from left to right, or the latest up to the right.
export class Sparkline {
  constructor(width = 96, height = 22) {
    this.width = width;
    this.height = height;
    this.line = svg("polyline", { class: "line" });
    this.dot = svg("circle", { class: "dot", r: 1.8 });
    this.node = svg(
      "svg",
      { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" },
      this.line,
      this.dot,
    );
  }

  draw(history) {
    const values = history.values;
    let low = Math.min(0, ...values);
    let high = Math.max(0, ...values);
    if (high === low) high = low + 1;
    const { length, times, whole } = history;
    const room = this.width - 6;
    const span = times[times.length - 1] - times[0] || 1;
    const x = whole
      ? (at) => 3 + (room * (times[at] - times[0])) / span
      : (at) => 3 + room - (room / (length - 1)) * (values.length - 1 - at);
    const y = (value) => this.height - 3 - ((this.height - 6) * (value - low)) / (high - low);
    const points = values.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
    const text = points.length === 1 ? `${points[0]} ${points[0]}` : points.join(" ");
    if (text === this.text) return;
    this.text = text;
    this.line.setAttribute("points", text);
    if (values.length) {
      this.dot.setAttribute("cx", (this.width - 3).toFixed(1));
      this.dot.setAttribute("cy", y(values[values.length - 1]).toFixed(1));
    }
  }
}
