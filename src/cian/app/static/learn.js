// Starts a run with all labels, watches it, and shows what has changed.

import { getChanges, Refused, startLearning, stopLearning } from "./api.js";
import { duration, el, note, percent } from "./dom.js";
import { Tile } from "./images.js";
import { look } from "./paint.js";
import { store } from "./store.js";

const AGAIN = 3000; // ms
const PAGE = 48; // changed images that are shown at a time

/** @param {HTMLElement} root @returns {import("./store.js").View} */
export function learnView(root) {
  root.classList.add("wide");
  /** @type {import("./api.js").Change[]} */
  let changes = [];
  let timer = 0;
  /** @type {Tile[]} */
  let tiles = [];

  const labels = el("p", { class: "quiet-text" });
  const learn = el("button", { type: "button", class: "main", onclick: () => start(false) }, "Learn from all labels");
  const preview = el("button", { type: "button", onclick: () => start(true) }, "Preview the seeds");
  const choices = el("div", { class: "cards" },
    el("div", { class: "card" },
      el("h2", {}, "Learn"),
      el("p", { class: "quiet-text" }, "Starts the run again with your labels. What exists now is kept, so that before and after can be compared."),
      learn,
    ),
    el("div", { class: "card" },
      el("h2", {}, "Seeds first"),
      el("p", { class: "quiet-text" }, "Makes the seeds again with your labels, and trains nothing. See them in Images."),
      preview,
    ),
  );
  const stage = el("h2", {});
  const left = el("span", { class: "quiet-text" });
  const bar = el("progress", { max: 1, "aria-label": "Progress" });
  const line = el("p", { class: "line quiet-text" });
  const stop = el("button", { type: "button", onclick: () => stopLearning().then(() => store.watch()) }, "Stop");
  const progress = el("div", { class: "card progress", hidden: true, role: "status" },
    el("div", { class: "between" }, stage, left), bar, line, el("div", {}, stop),
  );
  const failed = el("p", { class: "failed", hidden: true });
  const scores = el("p", { class: "figures" });
  const grid = el("div", { class: "changes", role: "list" });
  const more = el("button", { type: "button", onclick: addTiles }, "Show more");
  const changed = el("section", { class: "page-part", hidden: true },
    el("h2", {}, "What has changed"), scores,
    el("p", { class: "quiet-text" }, "Before on the left, after on the right. Images that changed most come first."),
    grid, more,
  );
  root.append(el("div", { class: "page" }, el("h1", {}, "Learn from your labels"), labels, choices, progress, failed, changed));

  store.addEventListener("learning", update);
  store.addEventListener("learned", showChanges);
  store.addEventListener("row", update);
  look.addEventListener("change", () => tiles.forEach((tile) => tile.paint()));

  /** @param {boolean} onlySeeds */
  async function start(onlySeeds) {
    learn.disabled = preview.disabled = true;
    failed.hidden = true;
    try {
      await startLearning(onlySeeds);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      note(error.message, { kind: "error" });
    }
    await store.watch();
    update();
  }

  function update() {
    const { approved, strokes } = store.run.saved;
    const state = store.learning;
    const running = Boolean(state?.running);
    labels.textContent = approved + strokes
      ? `${approved} ${approved === 1 ? "image is" : "images are"} approved, ${strokes} ${strokes === 1 ? "has" : "have"} strokes. All of them are learned from.`
      : "No image has a label yet. Draw on some in Correct, then come back.";
    learn.disabled = preview.disabled = running || approved + strokes === 0;
    choices.hidden = running;
    progress.hidden = !running;
    failed.hidden = running || !state?.error;
    failed.textContent = state?.error ?? "";
    if (!state || !running) return;
    stage.textContent = state.stage ?? "Starting";
    left.textContent = state.seconds_left === null ? "" : `about ${duration(state.seconds_left)} left`;
    if (state.fraction === null) bar.removeAttribute("value");
    else bar.value = state.fraction;
    line.textContent = state.line ?? "";
  }

  async function showChanges() {
    update();
    if (!store.run.rounds) return;
    const answer = await getChanges();
    changes = answer.images;
    changed.hidden = !changes.length;
    const { before, after } = { before: main(answer.scores?.before), after: main(answer.scores?.after) };
    scores.replaceChildren();
    if (before !== null && after !== null) {
      scores.append(
        el("span", {}, "mIoU"), el("b", {}, percent(before)), el("span", {}, "→"), el("b", {}, percent(after)),
        el("span", { class: after >= before ? "better" : "worse" }, `${after >= before ? "+" : "−"}${Math.abs(after - before).toFixed(1)}`),
      );
    }
    for (const tile of tiles) tile.remove();
    tiles = [];
    grid.replaceChildren();
    addTiles();
    clearTimeout(timer);
    if (answer.pending) timer = setTimeout(showChanges, AGAIN); // the server still compares masks
  }

  function addTiles() {
    for (const { i, changed: share, before, after } of changes.slice(tiles.length, tiles.length + PAGE)) {
      const score = before === null || after === null ? "" : ` · ${before.toFixed(1)} → ${percent(after)}`;
      const tile = new Tile(i, ["before", "prediction"], `${(100 * share).toFixed(1)} % changed${score}`);
      tile.shape(2);
      tiles.push(tile);
      grid.append(tile.root);
      tile.load();
    }
    more.hidden = tiles.length >= changes.length;
  }

  return {
    show() {
      update();
      store.watch();
      showChanges();
    },
  };
}

/** The score that counts. @param {Record<string, number> | number | null | undefined} scores */
function main(scores) {
  if (scores === null || scores === undefined) return null;
  return typeof scores === "number" ? scores : (scores.miou ?? null);
}
