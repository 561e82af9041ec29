// Curves and scores of several runs side by side, live while one of them trains.

import { getRuns } from "./api.js";
import { chart } from "./chart.js";
import { el } from "./dom.js";
import { store } from "./store.js";

const AGAIN = 3000; // ms until the curves of a run that trains are read again
const COLOURS = 8;

/** @param {HTMLElement} root @returns {import("./store.js").View} */
export function runsView(root) {
  root.classList.add("wide");
  /** @type {import("./api.js").RunCurves[]} */
  let runs = [];
  /** @type {Set<string>} */
  const off = new Set();
  /** @type {Map<string, ReturnType<typeof chart>>} */
  const charts = new Map();
  let timer = 0;
  let visible = false;

  const table = el("table", { class: "scores" });
  const grid = el("div", { class: "charts" });
  const nothing = el("p", { class: "quiet-text", hidden: true }, "No curve yet. They come with the first steps of a training.");
  root.append(el("div", { class: "page" }, el("h1", {}, "Runs"), el("div", { class: "scroll-x" }, table), nothing, grid));
  store.addEventListener("learning", () => {
    if (visible && !timer) load();
  });

  async function load() {
    clearTimeout(timer);
    timer = 0;
    runs = await getRuns();
    draw();
    if (visible && runs.some((run) => run.training)) timer = setTimeout(load, AGAIN);
  }

  function draw() {
    const names = [...new Set(runs.flatMap((run) => Object.keys(run.scores)))];
    table.replaceChildren(
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Run"), ...names.map((name) => el("th", { scope: "col", class: "number" }, name === "miou" ? "mIoU" : name)))),
      el("tbody", {}, ...runs.map((run, at) =>
        el("tr", {},
          el("th", { scope: "row" }, el("label", { class: "run" },
            el("input", { type: "checkbox", checked: !off.has(run.name), onchange: () => {
              if (!off.delete(run.name)) off.add(run.name);
              drawCurves();
            } }),
            el("i", { class: `key run${at % COLOURS}` }), run.name, run.training && el("span", { class: "live" }, "trains"),
          )),
          ...names.map((name) => {
            const values = runs.map((each) => each.scores[name]).filter((value) => value !== undefined && value !== null);
            const value = run.scores[name];
            const best = values.length > 1 && value === Math.max(...values);
            return el("td", { class: best ? "number best" : "number" }, value === undefined || value === null ? "–" : value.toFixed(1));
          }),
        ),
      )),
    );
    drawCurves();
  }

  function drawCurves() {
    const names = [...new Set(runs.flatMap((run) => Object.keys(run.curves)))];
    nothing.hidden = names.length > 0;
    for (const name of names) {
      let one = charts.get(name);
      if (!one) {
        one = chart(name);
        charts.set(name, one);
        grid.append(one.root);
      }
      one.show(runs.flatMap((run, at) =>
        run.curves[name]?.length && !off.has(run.name) ? [{ name: run.name, colour: at % COLOURS, points: run.curves[name] }] : []));
    }
  }

  return {
    show() {
      visible = true;
      load();
    },
    hide() {
      visible = false;
      clearTimeout(timer);
      timer = 0;
    },
  };
}
