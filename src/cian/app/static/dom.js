// Makes elements. All text goes through textContent, so a class called <script> is only a text.

/** @typedef {string | number | Node | null | undefined | false} Child */

/**
 * @param {Element} element
 * @param {Record<string, any>} attributes "on…" adds a listener; false and null leave an attribute out
 * @param {Child[]} children
 */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") /** @type {HTMLInputElement} */ (element).value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  fill(element, attributes, children);
  return element;
}

/**
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...Child} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(element, attributes, children);
  return element;
}

const ICONS = {
  images: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  correct: "M4 20l1-5L16 4l4 4L9 19zM13 7l4 4",
  learn: "M4 19h16M6 15l4-5 4 3 5-8M15 5h4v4",
  affinity: "M6 6h.01M18 9h.01M8 18h.01M6 6l12 3L8 18z",
  try: "M12 15V4M8 8l4-4 4 4M4 15v5h16v-5",
  runs: "M5 20V11M12 20V4M19 20v-6",
  brush: "M14 4l6 6-8 8c-2 2-6 2-8 2 0-2 0-6 2-8zM11 7l6 6",
  polygon: "M12 3l8 6-3 11H7L4 9z",
  fill: "M5 11l7-7 7 7-7 8zM5 11h14M20 16c1 1.5 1.5 2.500 1.5 3a1.5 1.5 0 1 1-3 0c0-.5.5-1.5 1.5-3z",
  erase: "M4 15l9-10 7 6-8 9H8zM9 10l7 6M12 20h8",
  undo: "M9 6L4 11l5 5M4 11h10a6 6 0 0 1 0 9h-2",
  redo: "M15 6l5 5-5 5M20 11H10a6 6 0 0 0 0 9h2",
  previous: "M15 5l-7 7 7 7",
  next: "M9 5l7 7-7 7",
  check: "M5 13l5 5L19 6",
  filter: "M4 6h16M7 12h10M10 18h4",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  camera: "M4 8h4l2-3h4l2 3h4v11H4zM12 17a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z",
  download: "M12 4v11M8 11l4 4 4-4M4 20h16",
};

/** @typedef {keyof typeof ICONS} Icon */

/** @param {Icon} name */
export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/**
 * A row of buttons of which one is pressed.
 * @template {string} T
 * @param {string} label what they choose, for screen readers
 * @param {[T, string][]} choices value and text
 * @param {T} value
 * @param {(value: T) => void} chosen
 */
export function segments(label, choices, value, chosen) {
  const group = el("div", { class: "segments", role: "group", "aria-label": label });
  /** @param {T} now */
  const set = (now) => {
    for (const button of group.children) button.setAttribute("aria-pressed", String(button.id.endsWith(`-${now}`)));
  };
  const prefix = label.toLowerCase().replace(/\W+/g, "-");
  for (const [each, text] of choices) {
    group.append(
      el("button", { type: "button", id: `${prefix}-${each}`, onclick: () => (set(each), chosen(each)) }, text),
    );
  }
  set(value);
  return { group, set };
}

/**
 * @param {string} text
 * @param {{kind?: "error" | "note", action?: [string, () => void]}} [options]
 */
export function note(text, { kind = "note", action } = {}) {
  const notes = /** @type {HTMLElement} */ (document.getElementById("notes"));
  for (const old of notes.children) if (old.getAttribute("data-text") === text) old.remove();
  const box = el("div", { class: `note ${kind}`, "data-text": text }, el("p", {}, text));
  if (action) {
    const [name, act] = action;
    box.append(el("button", { type: "button", onclick: () => (box.remove(), act()) }, name));
  }
  box.append(
    el("button", { type: "button", class: "quiet icon", "aria-label": "Close", onclick: () => box.remove() }, icon("close")),
  );
  notes.append(box);
  setTimeout(() => box.remove(), kind === "error" ? 20_000 : 7_000);
}

/** @param {number | null | undefined} value in percent */
export const percent = (value) => (value === null || value === undefined ? "" : `${value.toFixed(1)} %`);

/** @param {number} seconds */
export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}


/**
 * Calls `act` at most once a frame.
 * @param {() => void} act
 */
export function onceAFrame(act) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      act();
    });
  };
}
