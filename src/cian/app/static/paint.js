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
/** @type {Map<string, Promise<Mask | null>>} */
const kept = new Map();

/**
 * @param {number} i
 * @param {Kind} kind
 * @param {number} side longest side in pixels
 * @param {number} version another number after the mask has changed
 * @returns {Promise<Mask | null>} null where there is no such mask
 */
export function maskOf(i, kind, side, version) {
  const key = `${i} ${kind} ${side} ${version}`;
  let mask = kept.get(key);
  if (mask) {
    kept.delete(key); // the one that was asked for last is the last to go
  } else {
    mask = getMask(i, kind, side, version).then((file) => (file ? decode(file) : null));
    mask.catch(() => kept.delete(key));
  }
  kept.set(key, mask);
  if (kept.size > MOST) kept.delete(/** @type {string} */ (kept.keys().next().value));
  return mask;
}
