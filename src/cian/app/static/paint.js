// Label maps in the colours of the classes, and what is shown of them, which all views share.

import { getMask } from "./api.js";
import { decode } from "./png.js";

/**
 * @typedef {import("./png.js").Mask} Mask
 * @typedef {import("./api.js").Kind} Kind
 */

export const OPEN = 255; // unlabelled, "not sure"

/** What is shown of all masks. "change" says that it is another. */
class Look extends EventTarget {
  opacity = 0.55;
  /** @type {Set<number>} classes that are not shown */
  hidden = new Set();
  /** @type {Map<number, number[]>} red, green, blue of each class */
  colours = new Map();

  /** @param {import("./api.js").Class[]} classes */
  use(classes) {
    for (const { id, color } of classes) {
      const code = Number.parseInt(color.slice(1), 16);
      this.colours.set(id, [code >> 16, (code >> 8) & 255, code & 255]);
    }
    this.colours.set(OPEN, [160, 160, 160]);
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }

  /** @param {number} id */
  css(id) {
    const [red, green, blue] = this.colours.get(id) ?? [160, 160, 160];
    return `rgb(${red} ${green} ${blue})`;
  }

  /**
   * The colour of each class id as it lies in the memory of an ImageData; 0 = transparent.
   * @param {number} opacity
   */
  table(opacity) {
    const table = new Uint32Array(256);
    for (const [id, [red, green, blue]] of this.colours) {
      if (id === 0 || this.hidden.has(id)) continue;
      table[id] = ((Math.round(opacity * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    }
    return table;
  }
}

export const look = new Look();

/**
 * Paints a mask: classes in their colours, borders of them darker, unlabelled pixels as stripes.
 * @param {HTMLCanvasElement | OffscreenCanvas} canvas
 * @param {Mask | null} mask
 * @param {number} [opacity]
 */
export function paint(canvas, mask, opacity = look.opacity) {
  if (!mask) {
    canvas.width = canvas.height = 1;
    return;
  }
  const { width, height, ids } = mask;
  canvas.width = width;
  canvas.height = height;
  const pixels = new ImageData(width, height);
  const out = new Uint32Array(pixels.data.buffer);
  const inside = look.table(opacity);
  const border = look.table(opacity && Math.min(1, opacity + 0.35));
  const stripe = Math.max(3, Math.round(Math.max(width, height) / 80));
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const id = ids[at];
      if (id === 0) continue;
      if (id === OPEN) {
        if ((x + y) % (2 * stripe) < stripe) out[at] = inside[OPEN];
        continue;
      }
      const edge =
        (x > 0 && ids[at - 1] !== id) ||
        (x + 1 < width && ids[at + 1] !== id) ||
        (y > 0 && ids[at - width] !== id) ||
        (y + 1 < height && ids[at + width] !== id);
      out[at] = edge ? border[id] : inside[id];
    }
  }
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.putImageData(pixels, 0, 0);
}

const MOST = 600; // masks that are kept
const AT_ONCE = 3; // patient requests at a time: a mask may have to be computed, and photos go first
/** @type {Map<string, {mask: Promise<Mask | null>, patient?: AbortSignal}>} */
const kept = new Map();
/** @type {(() => void)[]} */
const queue = [];
let running = 0;

function turn() {
  return new Promise((resolve) => {
    queue.push(() => resolve(undefined));
    nextTurn();
  });
}

function nextTurn() {
  while (running < AT_ONCE && queue.length) {
    running++;
    /** @type {() => void} */ (queue.shift())();
  }
}

/** @param {number} i @param {Kind} kind @param {number} side @param {number} version @param {AbortSignal} [patient] */
async function fetched(i, kind, side, version, patient) {
  if (patient) await turn();
  try {
    patient?.throwIfAborted();
    const file = await getMask(i, kind, side, version, patient);
    return file ? await decode(file) : null;
  } finally {
    if (patient) {
      running--;
      nextTurn();
    }
  }
}

/**
 * @param {number} i
 * @param {Kind} kind
 * @param {number} side longest side in pixels
 * @param {number} version another number after the mask has changed
 * @param {AbortSignal} [patient] the mask is one of many: it may wait for others, and until this says to stop
 * @returns {Promise<Mask | null>} null where there is no such mask
 */
export function maskOf(i, kind, side, version, patient) {
  const key = `${i} ${kind} ${side} ${version}`;
  let entry = kept.get(key);
  kept.delete(key); // the one that was asked for last is the last to go
  if (!entry || entry.patient?.aborted) {
    const made = { mask: fetched(i, kind, side, version, patient), patient };
    entry = made;
    made.mask.then(
      () => (made.patient = undefined),
      () => kept.get(key) === made && kept.delete(key),
    );
  }
  kept.set(key, entry);
  if (kept.size > MOST) kept.delete(/** @type {string} */ (kept.keys().next().value));
  return entry.mask;
}
