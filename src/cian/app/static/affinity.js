// Where a pixel looks: in its own image, and in others that share a tag. What it looks at is lit.

import { getAffinity, photoOf, thumbOf } from "./api.js";
import { el, icon, note, segments } from "./dom.js";
import { swatch } from "./images.js";
import { look, maskOf } from "./paint.js";
import { bytesOf } from "./png.js";
import { store } from "./store.js";

/**
 * @typedef {import("./api.js").AffinityMap} AffinityMap
 * @typedef {"after" | "before" | "both"} When
 */

const PHOTO = 800; // longest side of the photos, in pixels
const CLASSES = 256; // longest side of the masks that tell which classes a pixel looks at
const STEP = 0.03; // of one arrow key, as a part of the image
const CHOICES = 60; // images that are offered at a time
const MOST = 8; // other images

/** @param {HTMLElement} root @returns {import("./store.js").View} */
export function affinityView(root) {
  root.classList.add("wide");
  if (!store.run.has_affinity) {
    root.append(el("p", { class: "empty" }, "This run has no network with affinity. Train one with affinity.mode other than none, then look here."));
    return { show() {} };
  }
  let i = -1;
  /** @type {number[]} the other images; empty: the server chooses */
  let others = [];
  let [x, y] = [0.5, 0.5];
  let pinned = false;
  /** @type {When} */
  let when = "after";
  let wanted = 0;
  let busy = false;
  /** @type {Map<string, Lit>} */
  let lit = new Map();

  const name = el("h1", {});
  const pin = el("span", { class: "quiet-text hint" });
  const times = segments("Training", [["before", "Before"], ["after", "After"], ["both", "Both"]], when, (value) => {
    when = value;
    lit = new Map();
    ask();
  });
  const own = el("div", { class: "own" });
  const rest = el("div", { class: "rest" });
  const chooser = el("dialog", { class: "chooser", "aria-label": "Choose an image" });
  root.append(
    el("div", { class: "page affinity-page" },
      el("div", { class: "between" },
        el("div", { class: "title" }, name, pin),
        el("div", { class: "controls" },
          times.group,
          el("button", { type: "button", onclick: () => choose(false) }, "Choose image"),
          el("button", { type: "button", onclick: () => choose(true) }, icon("plus"), "Compare with"),
        ),
      ),
      el("div", { class: "looks" }, own, rest),
    ),
    chooser,
  );

  /** Asks for the newest point, one question at a time. */
  async function ask() {
    wanted++;
    if (busy) return;
    busy = true;
    try {
      for (let done = -1; done !== wanted; ) {
        done = wanted;
        const asked = { i, others, when, x, y };
        const befores = when === "both" ? [true, false] : [when === "before"];
        const answers = await Promise.all(befores.map((before) => getAffinity(asked.i, asked.x, asked.y, asked.others, before)));
        if (asked.i !== i || asked.when !== when || asked.others !== others) continue;
        answers.forEach((maps, at) => show(maps, befores[at]));
      }
    } catch (error) {
      note(error instanceof Error ? error.message : String(error), { kind: "error" });
    } finally {
      busy = false;
    }
  }

  /** @param {AffinityMap[]} maps @param {boolean} before */
  function show(maps, before) {
    if (!lit.size) {
      own.replaceChildren();
      rest.replaceChildren();
    }
    for (const map of maps) {
      const key = `${map.i} ${before}`;
      let view = lit.get(key);
      if (!view) {
        view = new Lit(map.i, before && when === "both" ? "before training" : when === "both" ? "after training" : "");
        lit.set(key, view);
        if (map.i === i) {
          own.append(view.root);
          touchable(view);
        } else {
          if (others.includes(map.i)) view.removable(() => compare(others.filter((each) => each !== map.i)));
          rest.append(view.root);
        }
      }
      view.show(map);
      if (map.i === i) view.mark(x, y, pinned);
    }
  }

  /** @param {Lit} view */
  function touchable(view) {
    const { photo } = view;
    photo.tabIndex = 0;
    photo.setAttribute("role", "application");
    photo.setAttribute("aria-label", "Touch a pixel, or move with the arrow keys");
    /** @param {PointerEvent} event */
    const to = (event) => {
      const box = photo.getBoundingClientRect();
      point((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    };
    photo.addEventListener("pointerdown", (event) => {
      photo.setPointerCapture(event.pointerId);
      if (event.pointerType === "mouse") pinned = !pinned;
      to(event);
    });
    photo.addEventListener("pointermove", (event) => {
      if (event.buttons || (event.pointerType === "mouse" && !pinned)) to(event);
    });
    photo.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      point(x + step[0], y + step[1]);
    });
  }

  /** @param {number} newX @param {number} newY parts of the image */
  function point(newX, newY) {
    x = Math.min(0.9999, Math.max(0, newX));
    y = Math.min(0.9999, Math.max(0, newY));
    for (const view of lit.values()) if (view.i === i) view.mark(x, y, pinned);
    ask();
  }

  /** @param {number[]} list */
  function compare(list) {
    others = list;
    lit = new Map();
    ask();
  }

  /** @param {boolean} another another image to compare with, or the image itself */
  function choose(another) {
    if (another && others.length >= MOST) {
      note(`At most ${MOST} images can be compared. Remove one first.`);
      return;
    }
    const search = el("input", { type: "search", placeholder: "Name", "aria-label": "Part of the name", oninput: list });
    const grid = el("div", { class: "choices" });
    function list() {
      const part = search.value.trim().toLowerCase();
      const tags = new Set(store.rows[i].tags);
      const shares = (/** @type {import("./api.js").Row} */ row) => row.tags.some((id) => tags.has(id));
      const fits = store.order.map((each) => store.rows[each]).filter((row) => row.id.toLowerCase().includes(part) && row.i !== i);
      const rows = another ? [...fits.filter(shares), ...fits.filter((row) => !shares(row))] : fits;
      grid.replaceChildren(
        ...rows.slice(0, CHOICES).map((row) =>
          el("button", { type: "button", "aria-label": row.id, title: row.id, onclick: () => {
            chooser.close();
            if (!another) location.hash = `#/affinity/${row.i}`;
            else if (!others.includes(row.i)) compare([...others, row.i]);
          } }, el("img", { src: thumbOf(row.i, 160), alt: "", loading: "lazy" })),
        ),
      );
    }
    list();
    chooser.replaceChildren(
      el("div", { class: "between" },
        el("h2", {}, another ? "Compare with; images that share a tag come first" : "Choose an image"),
        el("button", { type: "button", class: "quiet icon", "aria-label": "Close", onclick: () => chooser.close() }, icon("close")),
      ),
      search, grid,
    );
    chooser.showModal();
  }

  return {
    show(argument) {
      const chosen = argument === "" ? (i >= 0 ? i : first()) : Number(argument);
      if (!store.rows[chosen]) return;
      if (argument === "") history.replaceState(null, "", `#/affinity/${chosen}`);
      if (chosen === i) return;
      i = chosen;
      others = [];
      lit = new Map();
      pinned = false;
      name.textContent = store.rows[i].id;
      pin.textContent = matchMedia("(hover: hover)").matches
        ? "Move over the image. A click holds the point."
        : "Touch the image and move your finger.";
      middle(i).then(() => ask());
    },
    key(event) {
      const at = store.order.indexOf(i) + ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0);
      if (event.altKey || event.ctrlKey || !event.key.startsWith("Arrow") || store.order[at] === undefined) return false;
      if (/** @type {HTMLElement} */ (event.target).matches("input, dialog *")) return false;
      if (event.key === "ArrowLeft" || event.key === "ArrowRight") location.hash = `#/affinity/${store.order[at]}`;
      return true;
    },
    keys: [
      ["← →", "previous or next image"],
      ["← → ↑ ↓", "on the image: move the point"],
    ],
  };

  /** The first image of the list that shares a tag with another one. */
  function first() {
    const seen = new Map();
    for (const row of store.rows) for (const id of row.tags) seen.set(id, (seen.get(id) ?? 0) + 1);
    return store.order.find((each) => store.rows[each].tags.some((id) => seen.get(id) > 1)) ?? store.order[0] ?? 0;
  }

  /** Starts on an object: on the pixel of a class that is nearest to the middle of all pixels of a class. @param {number} of */
  async function middle(of) {
    [x, y] = [0.5, 0.5];
    const mask = await maskOf(of, "prediction", CLASSES, store.version(of, "prediction")).catch(() => null);
    if (!mask || of !== i) return;
    const { width, height, ids } = mask;
    let [sum, sumX, sumY] = [0, 0, 0];
    ids.forEach((id, at) => {
      if (id === 0 || id === 255) return;
      sum++;
      sumX += at % width;
      sumY += Math.floor(at / width);
    });
    let least = Infinity;
    ids.forEach((id, at) => {
      if (id === 0 || id === 255) return;
      const far = Math.hypot((at % width) - sumX / sum, Math.floor(at / width) - sumY / sum);
      if (far >= least) return;
      least = far;
      [x, y] = [((at % width) + 0.5) / width, (Math.floor(at / width) + 0.5) / height];
    });
  }
}

/** An image that is dark except where a pixel looks, with the classes that it looks at. */
class Lit {
  /** @param {number} i @param {string} time */
  constructor(i, time) {
    this.i = i;
    /** @type {Promise<import("./png.js").Mask | null> | null} */
    this.mask = null;
    const { width, height, id } = store.rows[i];
    this.dark = el("canvas", { class: "dark" });
    this.glow = el("canvas", { class: "glow" });
    this.ring = el("span", { class: "ring", hidden: true });
    this.photo = el("div", { class: "lit" }, el("img", { src: photoOf(i, PHOTO), alt: id, draggable: "false" }), this.dark, this.glow, this.ring);
    this.photo.style.aspectRatio = `${width / height || 4 / 3}`;
    this.bar = el("span", { class: "stack", "aria-hidden": "true" });
    this.text = el("span", { class: "shares" });
    this.close = el("span", {});
    this.root = el("figure", { class: "look" }, this.photo, this.bar,
      el("figcaption", {}, el("span", { class: "name" }, id, time ? ` · ${time}` : ""), this.text, this.close));
    this.root.style.setProperty("--ratio", String(width / height || 4 / 3));
  }

  /** @param {() => void} remove */
  removable(remove) {
    this.close.replaceWith(el("button", { type: "button", class: "quiet icon small", "aria-label": "Remove", onclick: remove }, icon("close")));
  }

  /** @param {number} x @param {number} y @param {boolean} pinned */
  mark(x, y, pinned) {
    this.ring.hidden = false;
    this.ring.classList.toggle("pinned", pinned);
    Object.assign(this.ring.style, { left: `${100 * x}%`, top: `${100 * y}%` });
  }

  /** @param {AffinityMap} map */
  show(map) {
    const heat = bytesOf(map.shares);
    const { width, height, origin, size } = map;
    // One more cell on each side, so that light reaches the image's border.
    const [wide, high] = [width + 2, height + 2];
    const dark = new ImageData(wide, high);
    const glow = new ImageData(wide, high);
    const most = heat.reduce((a, b) => Math.max(a, b), 1);
    for (let row = 0, at = 0; row < high; row++) {
      const from = Math.min(height - 1, Math.max(0, row - 1)) * width;
      for (let column = 0; column < wide; column++, at += 4) {
        const value = (heat[from + Math.min(width - 1, Math.max(0, column - 1))] / most) ** 0.7;
        dark.data.set([9, 10, 20, 200 * (1 - value)], at);
        glow.data.set([255, 120 + 110 * value, 40 + 120 * value * value, 150 * value ** 1.6], at);
      }
    }
    const place = {
      left: `${100 * (origin[0] - size[0] / width)}%`, top: `${100 * (origin[1] - size[1] / height)}%`,
      width: `${(100 * size[0] * wide) / width}%`, height: `${(100 * size[1] * high) / height}%`,
      filter: `blur(${(0.35 * size[0] * this.photo.clientWidth) / width}px)`,
    };
    for (const [canvas, pixels] of /** @type {[HTMLCanvasElement, ImageData][]} */ ([[this.dark, dark], [this.glow, glow]])) {
      canvas.width = wide;
      canvas.height = high;
      canvas.getContext("2d")?.putImageData(pixels, 0, 0);
      Object.assign(canvas.style, place);
    }
    this.#classes(map, heat);
  }

  /** Which classes it looks at, by the mask. @param {AffinityMap} map @param {Uint8Array} heat */
  async #classes(map, heat) {
    this.mask ??= ["truth", "prediction"].filter((kind) => kind !== "truth" || store.run.has_truth).reduce(
      async (found, kind) =>
        (await found) ?? maskOf(this.i, /** @type {"truth"} */ (kind), CLASSES, store.version(this.i, /** @type {"truth"} */ (kind))),
      /** @type {Promise<import("./png.js").Mask | null>} */ (Promise.resolve(null)),
    ).catch(() => null);
    const mask = await this.mask;
    if (!mask) return;
    const { width, height, origin, size } = map;
    // A cell's heat is spread over the pixels of the mask that it covers.
    const covered = new Float64Array(heat.length);
    const cells = new Int32Array(mask.ids.length);
    for (let y = 0, at = 0; y < mask.height; y++) {
      const row = Math.floor((((y + 0.5) / mask.height - origin[1]) / size[1]) * height);
      for (let x = 0; x < mask.width; x++, at++) {
        const column = Math.floor((((x + 0.5) / mask.width - origin[0]) / size[0]) * width);
        const inside = row >= 0 && row < height && column >= 0 && column < width && mask.ids[at] !== 255;
        cells[at] = inside ? row * width + column : -1;
        if (inside) covered[cells[at]]++;
      }
    }
    const sums = new Map();
    let all = 0;
    cells.forEach((cell, at) => {
      if (cell < 0 || !heat[cell]) return;
      const value = heat[cell] / covered[cell];
      sums.set(mask.ids[at], (sums.get(mask.ids[at]) ?? 0) + value);
      all += value;
    });
    if (!all) return;
    const shares = [...sums].filter(([, sum]) => sum / all >= 0.005)
      .sort(([a, one], [b, two]) => Number(a === 0) - Number(b === 0) || two - one);
    this.bar.replaceChildren(...shares.map(([id, sum]) => {
      const part = el("i", {});
      Object.assign(part.style, { flexGrow: String(sum / all), backgroundColor: id ? look.css(id) : "transparent" });
      return part;
    }));
    this.text.replaceChildren(...shares.slice(0, 3).map(([id, sum]) =>
      el("span", { class: "tag" }, swatch(id), `${store.className(id)} ${Math.round((100 * sum) / all)} %`)));
  }
}
