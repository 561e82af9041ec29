// Curves, drawn as SVG.

import { el, svg } from "./dom.js";

/** @typedef {{name: string, colour: number, points: number[][]}} Series colour: a number from 0 to 7 */

const HEIGHT = 220;
const LEFT = 46;
const BOTTOM = 24;
const TOP = 10;
const RIGHT = 10;
const MOST = 500; // points of a line
const SMOOTH = 80; // more points are also drawn as a running mean

/** Round numbers, about four. @param {number} low @param {number} high */
function ticks(low, high) {
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 2.5, 5, 10].find((each) => each * power >= rough) ?? 10) * power;
  const list = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) list.push(at);
  return list;
}

/** @param {number} value */
function short(value) {
  const size = Math.abs(value);
  if (size >= 10_000) return `${+(value / 1000).toPrecision(3)} k`;
  return size !== 0 && size < 0.001 ? value.toExponential(0) : String(+value.toPrecision(3));
}

/** @param {number[][]} points */
function thinned(points) {
  const every = Math.ceil(points.length / MOST);
  return every < 2 ? points : points.filter((_, at) => at % every === 0 || at === points.length - 1);
}

/** @param {number[][]} points */
function smoothed(points) {
  const span = Math.max(2, Math.round(points.length / 40));
  let sum = 0;
  return points.map(([step, value], at) => {
    sum += value - (at >= span ? points[at - span][1] : 0);
    return [step, sum / Math.min(at + 1, span)];
  });
}

/**
 * A chart that follows its own width.
 * @param {string} title
 */
export function chart(title) {
  /** @type {Series[]} */
  let series = [];
  const plot = svg("svg", { class: "plot", role: "img", "aria-label": title, height: HEIGHT });
  const read = el("span", { class: "quiet-text" });
  const root = el("figure", { class: "chart" }, el("figcaption", { class: "between" }, el("b", {}, title), read), plot);
  const cross = svg("line", { class: "cross", y1: TOP, y2: HEIGHT - BOTTOM });
  let toStep = (/** @type {number} */ x) => x;

  function draw() {
    const wide = plot.clientWidth || 400;
    const all = series.flatMap(({ points }) => points).filter(([, value]) => Number.isFinite(value));
    plot.replaceChildren();
    if (!all.length) return;
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const [step, value] of all) {
      left = Math.min(left, step);
      right = Math.max(right, step);
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    if (low > 0 && low < high / 3) low = 0;
    if (high === low) high = low + 1;
    if (right === left) right = left + 1;
    const x = (/** @type {number} */ step) => LEFT + ((step - left) / (right - left)) * (wide - LEFT - RIGHT);
    const y = (/** @type {number} */ value) => HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - BOTTOM - TOP);
    toStep = (at) => left + ((at - LEFT) / (wide - LEFT - RIGHT)) * (right - left);
    plot.setAttribute("viewBox", `0 0 ${wide} ${HEIGHT}`);
    for (const value of ticks(low, high)) {
      plot.append(
        svg("line", { class: "grid", x1: LEFT, x2: wide - RIGHT, y1: y(value), y2: y(value) }),
        svg("text", { x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, short(value)),
      );
    }
    for (const step of ticks(left, right)) {
      plot.append(svg("text", { x: x(step), y: HEIGHT - 6, "text-anchor": "middle" }, short(step)));
    }
    const line = (/** @type {number[][]} */ points) => points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    for (const { colour, points } of series) {
      const many = points.length > SMOOTH;
      if (many) plot.append(svg("polyline", { class: `line raw run${colour}`, points: line(thinned(points)) }));
      plot.append(svg("polyline", { class: `line run${colour}`, points: line(thinned(many ? smoothed(points) : points)) }));
      if (points.length === 1) plot.append(svg("circle", { class: `dot run${colour}`, cx: x(points[0][0]), cy: y(points[0][1]), r: 3.5 }));
    }
    plot.append(cross);
    cross.setAttribute("x1", "-9");
    cross.setAttribute("x2", "-9");
  }

  plot.addEventListener("pointermove", (event) => {
    const at = event.clientX - plot.getBoundingClientRect().left;
    const step = toStep(at);
    cross.setAttribute("x1", String(at));
    cross.setAttribute("x2", String(at));
    const values = series.map(({ name, points }) => {
      const near = points.reduce((best, each) => (Math.abs(each[0] - step) < Math.abs(best[0] - step) ? each : best), points[0]);
      return near ? `${series.length > 1 ? `${name} ` : ""}${short(near[1])}` : "";
    });
    read.textContent = `${short(Math.round(step))}: ${values.filter(Boolean).join(" · ")}`;
  });
  plot.addEventListener("pointerleave", () => {
    read.textContent = "";
    cross.setAttribute("x1", "-9");
    cross.setAttribute("x2", "-9");
  });
  new ResizeObserver(draw).observe(plot);
  return {
    root,
    /** @param {Series[]} now */
    show(now) {
      series = now;
      draw();
    },
  };
}
