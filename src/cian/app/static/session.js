// What a person draws on one image: strokes, undo and redo, the mask that they lead to, and saving it all.
//
// Each change is written at once. The server answers after it is on disk. Another window may change the same image;
// the version tells, and then the newer state is shown.

import { deleteLabel, getLabel, putLabel, Refused, snap } from "./api.js";
import { note } from "./dom.js";
import { maskOf } from "./paint.js";
import { base64, decode, encode } from "./png.js";
import { store } from "./store.js";

/**
 * @typedef {import("./api.js").Stroke} Stroke
 * @typedef {import("./png.js").Mask} Mask
 */

const WORKING = 512; // longest side of the masks that are worked on, in pixels
const AGAIN = 2000; // ms until a write that the server did not answer is tried again
const MOST_STROKES = 2000;
const MOST_POINTS = 100_000;

/** Sessions with work that is not on disk yet. @type {Set<Session>} */
export const pending = new Set();

/** @param {number} ms */
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Events: "change" after anything has changed. */
export class Session extends EventTarget {
  /** @type {Stroke[]} */
  strokes = [];
  /** @type {Stroke[]} the one to redo next is the last */
  undone = [];
  /** @type {import("./api.js").State} */
  state = "none";
  /** @type {"saved" | "saving" | "failed"} */
  saving = "saved";
  version = 0;
  loaded = false; // whether the strokes on disk are known
  /** @type {(Mask | undefined)[]} the mask after so many strokes */
  #masks = [];
  /** With so many strokes or more, the approved mask is what strokes are snapped on. */
  #approvedAt = Infinity;
  #wanted = 0;
  #written = 0;
  /** @type {Promise<void> | null} */
  #writing = null;
  /** @type {Promise<void> | null} */
  #snapping = null;

  /** @param {number} i index of the image */
  constructor(i) {
    super();
    this.i = i;
  }

  /** The newest mask that is known. @returns {Mask | null} */
  get mask() {
    for (let n = this.strokes.length; n >= 0; n--) {
      const mask = this.#masks[n];
      if (mask) return mask;
    }
    return null;
  }

  get snapping() {
    return this.#snapping !== null;
  }

  async load() {
    const label = await getLabel(this.i);
    const { length } = label.strokes;
    this.strokes = label.strokes;
    this.state = label.state;
    this.version = label.version;
    this.#masks = [];
    this.#approvedAt = label.state === "approved" ? length : Infinity;
    this.loaded = true; // from here on, strokes may come
    const first = this.#masks;
    first[0] = (await maskOf(this.i, "prediction", WORKING, store.version(this.i, "prediction"))) ?? undefined;
    if (label.state === "approved") {
      const mask = await maskOf(this.i, "label", WORKING, store.version(this.i, "label") + 0.5 + label.version / 1e6);
      if (this.#approvedAt === length) first[length] ??= mask ?? undefined;
      if (length === 0) first[0] = mask ?? first[0];
    }
    this.#changed();
    await this.settle();
    if (!this.strokes.length) snap(this.i, [], this.#base).catch(() => {}); // so that the first stroke is answered fast
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  /** @param {Stroke} stroke */
  add(stroke) {
    const points = this.strokes.reduce((sum, each) => sum + each.points.length, stroke.points.length);
    if (this.strokes.length >= MOST_STROKES || points > MOST_POINTS) {
      note("This image has as many strokes as it can hold. Approve it, or clear strokes.", { kind: "error" });
      return;
    }
    if (this.strokes.length < this.#approvedAt) this.#approvedAt = Infinity;
    this.#masks.length = Math.min(this.#masks.length, this.strokes.length + 1);
    this.strokes = [...this.strokes, stroke];
    this.undone = [];
    this.#after();
  }

  undo() {
    const stroke = this.strokes.at(-1);
    if (!stroke) return;
    this.strokes = this.strokes.slice(0, -1);
    this.undone = [...this.undone, stroke];
    this.#after();
  }

  redo() {
    const stroke = this.undone.at(-1);
    if (!stroke) return;
    this.undone = this.undone.slice(0, -1);
    this.strokes = [...this.strokes, stroke];
    this.#after();
  }

  clear() {
    this.undone = [...this.undone, ...[...this.strokes].reverse()];
    this.strokes = [];
    this.#after();
  }

  /** @param {boolean} approved */
  approve(approved) {
    this.state = approved ? "approved" : this.strokes.length ? "strokes" : "none";
    this.#changed();
    return this.#save();
  }

  #after() {
    if (this.state !== "approved") this.state = this.strokes.length ? "strokes" : "none";
    this.settle();
    this.#changed();
    this.#save();
  }

  /** Until the mask belongs to the strokes. */
  settle() {
    this.#snapping ??= this.#snapAll().finally(() => {
      this.#snapping = null;
      this.#changed();
    });
    return this.#snapping;
  }

  /** What strokes are snapped on. @returns {"prediction" | "label"} */
  get #base() {
    return this.strokes.length >= this.#approvedAt ? "label" : "prediction";
  }

  async #snapAll() {
    while (!this.#masks[this.strokes.length]) {
      const strokes = this.strokes;
      let mask;
      try {
        mask = await decode(await snap(this.i, strokes, this.#base));
      } catch (error) {
        if (strokes.length) note(error instanceof Error ? error.message : String(error), { kind: "error" });
        return;
      }
      const all = [...this.strokes, ...[...this.undone].reverse()];
      if (all[strokes.length - 1] === strokes.at(-1)) this.#masks[strokes.length] = mask; // not replaced meanwhile
      this.#changed();
    }
  }

  #save() {
    this.#wanted++;
    this.#writing ??= this.#writeAll().finally(() => (this.#writing = null));
    return this.#writing;
  }

  async #writeAll() {
    pending.add(this);
    this.saving = "saving";
    this.#changed();
    while (this.#written < this.#wanted) {
      const wanted = this.#wanted;
      try {
        await this.#write();
        this.#written = wanted;
      } catch (error) {
        if (error instanceof Refused && error.status === 412) {
          await this.#showNewer();
          this.#written = this.#wanted;
        } else if (error instanceof Refused && error.status === 0) {
          this.saving = "failed";
          this.#changed();
          note(`Not saved yet. ${error.message}`, { kind: "error" });
          await wait(AGAIN);
        } else {
          this.saving = "failed";
          this.#changed();
          note(error instanceof Error ? error.message : String(error), { kind: "error" });
          return; // stays in `pending`: closing the page asks first
        }
      }
    }
    pending.delete(this);
    this.saving = "saved";
    store.changeRow(this.i, { state: this.state });
    this.#changed();
  }

  async #write() {
    if (this.state === "none") {
      if (this.version) this.version = (await deleteLabel(this.i, this.version)).version ?? 0;
      return;
    }
    const label = { strokes: this.strokes, state: this.state, version: this.version, base: this.#base };
    if (this.state === "strokes") {
      this.version = (await putLabel(this.i, label)).version;
      return;
    }
    await this.settle();
    if (!this.mask) throw new Refused(400, "This image has no mask yet. Draw on it first.");
    const { strokes } = this;
    const mask = await base64(await encode(this.mask));
    this.version = (await putLabel(this.i, { ...label, strokes, mask })).version;
  }

  /** Another window was first: its strokes are shown, and those drawn here alone wait for "redo". */
  async #showNewer() {
    const mine = this.strokes;
    await this.load();
    const theirs = new Set(this.strokes.map((stroke) => JSON.stringify(stroke)));
    this.undone = mine.filter((stroke) => !theirs.has(JSON.stringify(stroke))).reverse();
    const rest = this.undone.length ? " Redo puts back what you drew here." : "";
    note(`Another window has changed this image. Its newer state is shown.${rest}`);
    this.#changed();
  }
}
