// What all views know of the run.

import { getImages, getLearning, getRun, Refused } from "./api.js";
import { look } from "./paint.js";

/**
 * @typedef {import("./api.js").Run} Run
 * @typedef {import("./api.js").Row} Row
 * @typedef {import("./api.js").Kind} Kind
 * @typedef {{show: (argument: string) => void, hide?: () => void, key?: (event: KeyboardEvent) => boolean,
 *   keyUp?: (event: KeyboardEvent) => void, keys?: [string, string][]}} View
 */

const AGAIN = 3000; // ms until the table is read again while the server still looks at images

const WATCH = 1000; // ms between questions about the learning

/** @param {number} ms */
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Events: "rows" after the table of images was read, "row" (detail: its index) after one of them changed, "learning"
 * while a run learns, "learned" after it has ended.
 */
class Store extends EventTarget {
  /** @type {Run} */
  run = /** @type {any} */ (null);
  /** @type {Row[]} */
  rows = [];
  pending = 0; // images that the server has not looked at yet, and 1 while it finds their ranks
  /** @type {number[]} images as the view of images lists them: previous and next follow it */
  order = [];
  /** @type {Map<number, number>} how often each image's label has changed since this page was opened */
  touched = new Map();
  /** @type {import("./api.js").Learning | null} */
  learning = null;
  learned = 0; // how often learning has ended since this page was opened
  #timer = 0;
  #watching = false;

  async load() {
    const [run, { images, pending }] = await Promise.all([getRun(), getImages()]);
    const first = !this.rows.length;
    this.run = run;
    this.pending = pending;
    this.rows = [];
    for (const row of images) this.rows[row.i] = row;
    if (first) this.order = images.map((row) => row.i);
    look.use(run.classes);
    this.dispatchEvent(new Event("rows"));
    if (pending) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.load(), AGAIN);
    }
  }

  /**
   * The size of an image, which the server may not know yet.
   * @param {number} i
   */
  async sizeOf(i) {
    while (!this.rows[i].width) {
      await wait(AGAIN / 5);
      await this.load();
    }
    return this.rows[i];
  }

  /** Follows the learning until it ends. */
  async watch() {
    if (this.#watching) return;
    this.#watching = true;
    let was = false;
    try {
      for (;;) {
        try {
          this.learning = await getLearning();
        } catch (error) {
          if (!(error instanceof Refused) || error.status !== 0) throw error;
          await wait(AGAIN); // the server may be back soon
          continue;
        }
        this.dispatchEvent(new Event("learning"));
        if (!this.learning.running) break;
        was = true;
        await wait(WATCH);
      }
    } finally {
      this.#watching = false;
    }
    if (!was) return;
    this.learned++;
    await this.load();
    this.dispatchEvent(new Event("learned"));
  }

  /** @param {number} i @param {Partial<Row>} changes */
  changeRow(i, changes) {
    const row = this.rows[i];
    const before = row.state;
    Object.assign(row, changes);
    this.touched.set(i, (this.touched.get(i) ?? 0) + 1);
    if (before !== row.state) {
      if (before !== "none") this.run.saved[before]--;
      if (row.state !== "none") this.run.saved[row.state]++;
    }
    this.dispatchEvent(new CustomEvent("row", { detail: i }));
  }

  /**
   * A number that differs once a mask may have changed.
   * @param {number} i @param {Kind} kind
   */
  version(i, kind) {
    return (1000 * this.run.rounds + this.learned) * 100_000 + (kind === "label" ? (this.touched.get(i) ?? 0) : 0);
  }

  /** @param {number} id */
  className(id) {
    return this.run.classes.find((each) => each.id === id)?.name ?? (id === 255 ? "not sure" : `class ${id}`);
  }

  /** The classes without background. */
  get objects() {
    return this.run.classes.filter((each) => each.id !== 0 && each.id !== 255);
  }
}

export const store = new Store();

/** @type {{kind: Kind, name: string}[]} */
const KINDS = [
  { kind: "prediction", name: "Prediction" },
  { kind: "seed", name: "Seed" },
  { kind: "truth", name: "Truth" },
  { kind: "label", name: "Label" },
];

/** The kinds of masks that this run can have. */
export const kinds = () => KINDS.filter(({ kind }) => kind !== "truth" || store.run.has_truth);
