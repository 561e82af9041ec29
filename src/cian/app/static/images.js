// All images under their masks. Only the rows of the grid that are seen are in the page.

import { thumbOf } from "./api.js";
import { el, icon, onceAFrame, percent } from "./dom.js";
import { look, maskOf, paint } from "./paint.js";
import { kinds, store } from "./store.js";

/**
 * @typedef {import("./api.js").Row} Row
 * @typedef {import("./api.js").Kind} Kind
 * @typedef {{top: number, height: number, items: {i: number, left: number, width: number}[]}} Line
 */

const GAP = 10;
const CAPTION = 26; // height of the line under an image
const MASK = 320; // longest side of the masks that are asked for, in pixels
const AHEAD = 400; // pixels above and below that are made in advance
const STILL = 70; // ms without scrolling until images are loaded

/** @param {Row} a @param {Row} b */
const byName = (a, b) => a.id.localeCompare(b.id, undefined, { numeric: true });

/** @type {{value: string, text: string, compare: (a: Row, b: Row) => number}[]} */
const SORTS = [
  {
    value: "worth",
    text: "Most worth a look",
    compare: (a, b) => (a.rank ?? 1e9) - (b.rank ?? 1e9) || byName(a, b),
  },
  { value: "low", text: "Lowest score", compare: (a, b) => (a.score ?? 101) - (b.score ?? 101) },
  { value: "high", text: "Highest score", compare: (a, b) => (b.score ?? -1) - (a.score ?? -1) },
  { value: "name", text: "Name", compare: byName },
];

/** @param {HTMLElement} root @returns {import("./store.js").View} */
export function imagesView(root) {
  let panes = new Set(/** @type {Kind[]} */ (["prediction"]));
  let tall = matchMedia("(max-width: 600px)").matches ? 120 : 170;
  /** @type {Line[]} */
  let lines = [];
  let placed = 0; // width that the lines were made for
  let laidOut = "";
  /** @type {Map<number, Tile>} */
  const tiles = new Map();
  let timer = 0;

  const classes = store.objects.map((each) => /** @type {[string, string]} */ ([String(each.id), each.name]));
  const splits = [...new Set(store.rows.map((row) => row.split))].filter(Boolean);
  const search = el("input", { type: "search", placeholder: "Name", "aria-label": "Part of the name", oninput: list });
  const tag = choice("Tag", [["", "Any tag"], ...classes], list);
  const found = choice("Class found", [["", "Any class found"], ...classes], list);
  const score = choice("Score", [["", "Any score"], ["0", "Below 50 %"], ["50", "50 to 75 %"], ["75", "Above 75 %"]], list);
  const state = choice(
    "State",
    [["", "Any state"], ["none", "Untouched"], ["strokes", "With strokes"], ["approved", "Approved"]],
    list,
  );
  const split = choice("Split", [["", "All splits"], ...splits.map((each) => /** @type {[string, string]} */ ([each, each]))], list);
  const sort = choice("Sort", SORTS.map(({ value, text }) => [value, text]), list);
  const scored = store.rows.some((row) => row.score !== null);
  const count = el("output", { class: "count" });
  const opacity = el("input", {
    type: "range", min: 0, max: 1, step: 0.05, value: look.opacity, "aria-label": "Opacity of the masks",
    oninput: () => ((look.opacity = Number(opacity.value)), look.changed()),
  });
  const size = el("input", {
    type: "range", min: 80, max: 360, step: 10, value: tall, "aria-label": "Size of the images",
    oninput: () => ((tall = Number(size.value)), layOut()),
  });
  const filters = el(
    "div", { class: "filters", id: "filters" },
    search, tag, found, scored && score, state, splits.length > 1 && split, sort,
  );
  const paneButtons = kinds().map(({ kind, name }) =>
    el("button", {
      type: "button", "aria-pressed": String(panes.has(kind)), title: `Show the ${name.toLowerCase()}`,
      onclick: (/** @type {Event} */ event) => {
        panes = new Set(panes);
        if (!panes.delete(kind)) panes.add(kind);
        /** @type {Element} */ (event.currentTarget).setAttribute("aria-pressed", String(panes.has(kind)));
        layOut();
      },
    }, name),
  );
  const opener = el("button", {
    type: "button", class: "opener", "aria-expanded": "false", "aria-controls": "filters",
    onclick: () => opener.setAttribute("aria-expanded", String(filters.classList.toggle("open"))),
  }, icon("filter"), "Filter");
  const sheet = el("div", { class: "sheet", role: "list", "aria-label": "Images" });
  const nothing = el("p", { class: "empty", hidden: true }, "No image fits these filters.");
  const scroller = el("div", { class: "scroller", tabindex: -1, onscroll: scrolled }, sheet, nothing);
  root.append(
    el("div", { class: "tools" },
      el("div", { class: "row" }, opener, filters, count),
      el("div", { class: "row" },
        el("div", { class: "segments many", role: "group", "aria-label": "Masks" }, ...paneButtons),
        el("label", { class: "slider" }, el("span", {}, "Opacity"), opacity),
        el("label", { class: "slider" }, el("span", {}, "Size"), size),
        classToggles(),
      ),
    ),
    scroller,
  );

  const drawSoon = onceAFrame(draw);
  look.addEventListener("change", () => tiles.forEach((tile) => tile.paint()));
  store.addEventListener("row", (event) => tiles.get(/** @type {CustomEvent} */ (event).detail)?.update());
  store.addEventListener("rows", () => list(true));
  new ResizeObserver(() => {
    if (scroller.clientWidth !== placed) layOut();
    drawSoon();
  }).observe(scroller);

  /** Filters and sorts. @param {unknown} again true: the table has been read again, and the view stays where it is */
  function list(again = false) {
    const part = search.value.trim().toLowerCase();
    const low = Number(score.value);
    const high = { 0: 50, 50: 75, 75: 101 }[low] ?? 0;
    if (!store.pending && sort.value === "worth" && !store.rows.some((row) => row.rank !== null)) sort.value = "name";
    const compare = (SORTS.find(({ value }) => value === sort.value) ?? SORTS[0]).compare;
    store.order = store.rows
      .filter((row) => (
        (!part || row.id.toLowerCase().includes(part)) &&
        (!tag.value || row.tags.includes(Number(tag.value))) &&
        (!found.value || row.found.includes(Number(found.value))) &&
        (!score.value || (row.score !== null && row.score >= low && row.score < high)) &&
        (!state.value || row.state === state.value) &&
        (!split.value || row.split === split.value)
      ))
      .sort(compare)
      .map((row) => row.i);
    count.textContent = `${store.order.length} of ${store.run.images}`;
    nothing.hidden = store.order.length > 0;
    if (again !== true) scroller.scrollTop = 0;
    if (again !== true || listed() !== laidOut) layOut();
    else tiles.forEach((tile) => tile.describe());
  }

  /** What the layout depends on: the order, and how many sizes are known. */
  function listed() {
    return `${store.order} ${store.rows.reduce((sum, row) => sum + (row.width ? 1 : 0), 0)}`;
  }

  /** Rows of about the same height that fill the width, as lines of a text. */
  function layOut() {
    const wide = scroller.clientWidth - 2 * GAP;
    if (wide <= 0) return;
    placed = scroller.clientWidth;
    laidOut = listed();
    const shown = Math.max(1, panes.size);
    lines = [];
    let top = GAP;
    /** @type {{i: number, ratio: number}[]} */
    let line = [];
    let sum = 0;
    const close = (/** @type {boolean} */ full) => {
      const gaps = GAP * (line.length - 1) + 2 * line.length * (shown - 1);
      const height = Math.min(Math.floor((wide - gaps) / sum), full ? Infinity : tall, tall * 1.6);
      let left = GAP;
      const items = line.map(({ i, ratio }) => {
        const width = Math.floor(ratio * height) + 2 * (shown - 1);
        left += width + GAP;
        return { i, left: left - width - GAP, width };
      });
      lines.push({ top, height, items });
      top += height + CAPTION + GAP;
      line = [];
      sum = 0;
    };
    for (const i of store.order) {
      const { width, height } = store.rows[i];
      const ratio = Math.min(3, Math.max(0.4, width / height || 4 / 3)) * shown;
      line.push({ i, ratio });
      sum += ratio;
      if (sum * tall + GAP * (line.length - 1) >= wide) close(true);
    }
    if (line.length) close(false);
    sheet.style.height = `${top}px`;
    for (const tile of tiles.values()) tile.remove();
    tiles.clear();
    draw();
    load();
  }

  function draw() {
    const from = scroller.scrollTop - AHEAD;
    const to = scroller.scrollTop + scroller.clientHeight + AHEAD;
    let low = 0;
    for (let high = lines.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (lines[middle].top + lines[middle].height + CAPTION < from) low = middle + 1;
      else high = middle;
    }
    const seen = new Set();
    for (; low < lines.length && lines[low].top < to; low++) {
      const { top, height, items } = lines[low];
      for (const { i, left, width } of items) {
        seen.add(i);
        if (tiles.has(i)) continue;
        const tile = new Tile(i, [...panes]);
        tile.place(left, top, width, height);
        tiles.set(i, tile);
        sheet.append(tile.root);
      }
    }
    for (const [i, tile] of tiles) {
      if (seen.has(i) || tile.root === document.activeElement) continue;
      tile.remove();
      tiles.delete(i);
    }
  }

  function load() {
    timer = 0;
    for (const tile of tiles.values()) tile.load();
  }

  function scrolled() {
    drawSoon();
    clearTimeout(timer);
    timer = setTimeout(load, STILL);
  }

  /** @param {number} step @param {boolean} line */
  function move(step, line) {
    const active = Number(/** @type {HTMLElement} */ (document.activeElement)?.dataset?.i ?? -1);
    let at = store.order.indexOf(active);
    if (at < 0) at = 0;
    else if (!line) at += step;
    else {
      const now = lines.findIndex(({ items }) => items.some(({ i }) => i === active));
      const item = lines[now].items.find(({ i }) => i === active);
      const other = lines[now + step];
      if (!other || !item) return;
      const middle = item.left + item.width / 2;
      const near = [...other.items].sort(
        (a, b) => Math.abs(a.left + a.width / 2 - middle) - Math.abs(b.left + b.width / 2 - middle),
      )[0];
      at = store.order.indexOf(near.i);
    }
    const i = store.order[Math.min(store.order.length - 1, Math.max(0, at))];
    const target = lines.find(({ items }) => items.some((item) => item.i === i));
    if (!target) return;
    const under = target.top + target.height + CAPTION;
    if (target.top < scroller.scrollTop) scroller.scrollTop = target.top - GAP;
    else if (under > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = under - scroller.clientHeight + GAP;
    draw();
    tiles.get(i)?.root.focus({ preventScroll: true });
  }

  list();
  return {
    show() {
      draw();
      load();
    },
    key(event) {
      if (event.ctrlKey || event.altKey) return false;
      if (/** @type {HTMLElement} */ (event.target).matches("input")) return false;
      if (event.key === "ArrowLeft") move(-1, false);
      else if (event.key === "ArrowRight") move(1, false);
      else if (event.key === "ArrowUp") move(-1, true);
      else if (event.key === "ArrowDown") move(1, true);
      else if (event.key === "/") search.focus();
      else return false;
      return true;
    },
    keys: [
      ["← → ↑ ↓", "from image to image"],
      ["Enter", "correct the image"],
      ["/", "search by name"],
    ],
  };
}

/** A small view of an image, with a pane for each kind of mask. */
export class Tile {
  /** @param {number} i @param {Kind[]} panes @param {string} [value] instead of the score */
  constructor(i, panes, value) {
    this.i = i;
    this.value = value;
    this.loaded = false;
    this.gone = new AbortController();
    this.panes = (panes.length ? panes : [null]).map((kind) => ({
      kind,
      photo: el("img", { alt: "", decoding: "async", draggable: "false" }),
      canvas: el("canvas", { width: 1, height: 1 }),
      mask: /** @type {import("./png.js").Mask | null} */ (null),
    }));
    for (const { photo, canvas } of this.panes) {
      canvas.hidden = true; // no mask without its photo
      photo.addEventListener("load", () => (canvas.hidden = false));
    }
    this.caption = el("span", { class: "caption" });
    this.root = el("a", { class: "tile", role: "listitem", href: `#/correct/${i}`, "data-i": i },
      el("span", { class: "panes" }, ...this.panes.map(({ photo, canvas }) => el("span", { class: "pane" }, photo, canvas))),
      this.caption,
    );
    this.describe();
  }

  /** @param {number} left @param {number} top @param {number} width @param {number} height */
  place(left, top, width, height) {
    Object.assign(this.root.style, { left: `${left}px`, top: `${top}px`, width: `${width}px` });
    /** @type {HTMLElement} */ (this.root.firstChild).style.height = `${height}px`;
    this.root.classList.toggle("narrow", width < 110);
    this.wide = (width / this.panes.length) * Math.min(2, devicePixelRatio);
  }

  /** As a part of a page, not of the grid. @param {number} panes */
  shape(panes) {
    const { width, height } = store.rows[this.i];
    /** @type {HTMLElement} */ (this.root.firstChild).style.aspectRatio = `${(width / height || 4 / 3) * panes}`;
  }

  describe() {
    const row = store.rows[this.i];
    const value = this.value ?? percent(row.score);
    const states = { none: null, strokes: "correct", approved: "check" };
    const mark = /** @type {import("./dom.js").Icon | null} */ (states[row.state]);
    this.root.setAttribute("data-state", row.state);
    this.root.setAttribute("aria-label", [row.id, value, row.state === "none" ? "" : row.state].filter(Boolean).join(", "));
    this.root.title = [row.id, `tags: ${row.tags.map((id) => store.className(id)).join(", ") || "none"}`].join("\n");
    this.caption.replaceChildren(
      el("span", { class: "name" }, row.id),
      el("span", { class: "dots" }, ...row.found.slice(0, 6).map((id) => swatch(id))),
      el("span", { class: "value" }, value),
      mark ? icon(mark) : "",
    );
  }

  update() {
    this.describe();
    if (this.loaded) {
      this.loaded = false;
      this.load();
    }
  }

  load() {
    if (this.loaded) return;
    this.loaded = true;
    for (const pane of this.panes) {
      if (!pane.photo.src) pane.photo.src = thumbOf(this.i, this.wide ?? 320);
      if (!pane.kind) continue;
      maskOf(this.i, pane.kind, MASK, store.version(this.i, pane.kind), this.gone.signal).then(
        (mask) => {
          pane.mask = mask;
          if (this.root.isConnected) paint(pane.canvas, mask);
        },
        () => {}, // the thumbnail alone; the next request says what is wrong
      );
    }
  }

  remove() {
    this.gone.abort();
    this.root.remove();
  }

  paint() {
    for (const { canvas, mask } of this.panes) if (mask) paint(canvas, mask);
  }
}

/** @param {number} id */
export function swatch(id) {
  const mark = el("i", { class: "swatch" });
  mark.style.backgroundColor = look.css(id);
  return mark;
}

/** Classes on and off, in all views. */
export function classToggles() {
  const group = el("div", { class: "classes", role: "group", "aria-label": "Classes that are shown" });
  for (const { id, name } of store.objects) {
    const button = el("button", {
      type: "button", class: "chip", "aria-pressed": "true",
      onclick: () => {
        if (!look.hidden.delete(id)) look.hidden.add(id);
        look.changed();
      },
      ondblclick: () => { // this one alone; again: all
        const others = store.objects.map((each) => each.id).filter((each) => each !== id);
        const alone = others.every((each) => look.hidden.has(each));
        look.hidden = new Set(alone ? [] : others);
        look.changed();
      },
    }, swatch(id), name);
    look.addEventListener("change", () => button.setAttribute("aria-pressed", String(!look.hidden.has(id))));
    group.append(button);
  }
  return group;
}

/**
 * @param {string} label
 * @param {[string, string][]} options value and text
 * @param {() => void} changed
 */
export function choice(label, options, changed) {
  return el("select", { "aria-label": label, onchange: changed },
    ...options.map(([value, text]) => el("option", { value }, text)),
  );
}
