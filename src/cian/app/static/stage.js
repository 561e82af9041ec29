// A canvas with an image that can be moved and zoomed, by wheel, keys and fingers, and drawn on.

import { onceAFrame } from "./dom.js";

/**
 * @typedef {[number, number]} Point
 * @typedef {{
 *   draw: (context: CanvasRenderingContext2D, scale: number) => void,
 *   down: (point: Point) => void,
 *   move: (points: Point[]) => void,
 *   up: () => void,
 *   cancel: () => void,
 *   hover: (point: Point | null) => void,
 * }} Handlers points in pixels of the image; `draw` draws in them
 */

const MOST = 40; // screen pixels per image pixel
const ZOOM = 1.25; // of one key

export class Stage {
  canvas = document.createElement("canvas");
  width = 1;
  height = 1;
  scale = 1;
  x = 0; // the image's corner on the canvas
  y = 0;
  panning = false; // the next drag moves the image
  #fitted = true;
  #penSeen = false; // then fingers move the image
  /** @type {Map<number, Point>} on the canvas */
  #pointers = new Map();
  /** @type {"draw" | "pan" | null} */
  #mode = null;

  /** @param {Handlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    this.redraw = onceAFrame(() => this.#draw());
    const { canvas } = this;
    canvas.className = "stage";
    canvas.tabIndex = 0;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event, false));
    canvas.addEventListener("pointercancel", (event) => this.#up(event, true));
    canvas.addEventListener("pointerleave", () => handlers.hover(null));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  /** @param {number} width @param {number} height */
  use(width, height) {
    this.width = width;
    this.height = height;
    this.fit();
  }

  fit() {
    const { clientWidth: wide, clientHeight: high } = this.canvas;
    if (!wide || !high) return;
    this.scale = Math.min(wide / this.width, high / this.height);
    this.x = (wide - this.width * this.scale) / 2;
    this.y = (high - this.height * this.scale) / 2;
    this.#fitted = true;
    this.redraw();
  }

  /** @param {boolean} closer */
  zoom(closer) {
    this.#zoomAt([this.canvas.clientWidth / 2, this.canvas.clientHeight / 2], closer ? ZOOM : 1 / ZOOM);
  }

  /** @param {Point} at on the canvas @param {number} factor */
  #zoomAt([x, y], factor) {
    const { clientWidth: wide, clientHeight: high } = this.canvas;
    const whole = Math.min(wide / this.width, high / this.height);
    const scale = Math.min(Math.max(MOST, whole), Math.max(whole / 2, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.#keepInView();
  }

  #keepInView() {
    const { clientWidth: wide, clientHeight: high } = this.canvas;
    const some = 60; // pixels of the image that stay in view
    this.x = Math.min(wide - some, Math.max(some - this.width * this.scale, this.x));
    this.y = Math.min(high - some, Math.max(some - this.height * this.scale, this.y));
    this.#fitted = false;
    this.redraw();
  }

  #resize() {
    const { canvas } = this;
    canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
    canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
    if (this.#fitted) this.fit();
    this.#draw(); // at once: a canvas is empty after its size has changed
  }

  #draw() {
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    const ratio = devicePixelRatio;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(this.scale * ratio, 0, 0, this.scale * ratio, this.x * ratio, this.y * ratio);
    this.handlers.draw(context, this.scale);
  }

  /** @param {MouseEvent} event @returns {Point} */
  #onCanvas(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /** @param {Point} at on the canvas @returns {Point} */
  #onImage([x, y]) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  /** @param {PointerEvent} event */
  #down(event) {
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const at = this.#onCanvas(event);
    this.#pointers.set(event.pointerId, at);
    if (event.pointerType === "pen") this.#penSeen = true;
    if (this.#pointers.size > 1) {
      if (this.#mode === "draw") this.handlers.cancel(); // a second finger: the first did not mean to draw
      this.#mode = "pan";
      return;
    }
    const pans = this.panning || event.button === 1 || event.button === 2;
    this.#mode = pans || (this.#penSeen && event.pointerType === "touch") ? "pan" : "draw";
    if (this.#mode === "draw") this.handlers.down(this.#onImage(at));
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const at = this.#onCanvas(event);
    const before = this.#pointers.get(event.pointerId);
    if (event.pointerType !== "touch") this.handlers.hover(this.#onImage(at));
    if (!before) return;
    if (this.#mode === "draw") {
      const all = event.getCoalescedEvents?.() ?? [];
      this.handlers.move((all.length ? all : [event]).map((each) => this.#onImage(this.#onCanvas(each))));
    } else if (this.#mode === "pan") {
      const share = 1 / this.#pointers.size;
      const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
      this.x += (at[0] - before[0]) * share;
      this.y += (at[1] - before[1]) * share;
      this.#keepInView();
      if (other) {
        const far = Math.hypot(at[0] - other[0], at[1] - other[1]);
        const was = Math.hypot(before[0] - other[0], before[1] - other[1]);
        if (was > 1) this.#zoomAt([(at[0] + other[0]) / 2, (at[1] + other[1]) / 2], far / was);
      }
    }
    this.#pointers.set(event.pointerId, at);
  }

  /** @param {PointerEvent} event @param {boolean} cancelled */
  #up(event, cancelled) {
    if (!this.#pointers.delete(event.pointerId) || this.#pointers.size) return;
    if (this.#mode === "draw") cancelled ? this.handlers.cancel() : this.handlers.up();
    this.#mode = null;
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    event.preventDefault();
    if (event.shiftKey) {
      this.x -= event.deltaX || event.deltaY;
      this.#keepInView();
    } else {
      const lines = event.deltaMode === 1 ? 20 : 1;
      this.#zoomAt(this.#onCanvas(event), Math.exp((-event.deltaY * lines * (event.ctrlKey ? 5 : 1)) / 500));
    }
  }
}
