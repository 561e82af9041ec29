// Corrects one image: strokes on a large view, answered by a mask that snaps to the image's edges.

import { photoOf } from "./api.js";
import { el, icon, note, percent, segments } from "./dom.js";
import { classToggles, swatch } from "./images.js";
import { look, maskOf, OPEN, paint } from "./paint.js";
import { pending, Session } from "./session.js";
import { Stage } from "./stage.js";
import { kinds, store } from "./store.js";

/**
 * @typedef {import("./api.js").Stroke} Stroke
 * @typedef {import("./stage.js").Point} Point
 * @typedef {"brush" | "polygon" | "fill" | "erase"} Tool
 * @typedef {"mask" | "none" | import("./api.js").Kind} Shown
 */

const PHOTO = 1600; // longest side of the photo, in pixels
const MASK = 1024; // longest side of the masks to compare with
const DIGITS = 700; // ms in which two digits are one number
const MANY = 9; // classes from which a list can be searched
/** @type {{tool: Tool, name: string, key: string}[]} */
const TOOLS = [
  { tool: "brush", name: "Brush", key: "B" },
  { tool: "polygon", name: "Polygon", key: "P" },
  { tool: "fill", name: "Fill", key: "F" },
  { tool: "erase", name: "Erase", key: "E" },
];

/** @param {number} value */
const rounded = (value) => Math.round(value * 10) / 10;

/** @param {HTMLElement} root @returns {import("./store.js").View} */
export function correctView(root) {
  /** @type {Session | null} */
  let session = null;
  /** @type {Tool} */
  let tool = "brush";
  let classId = store.objects[0]?.id ?? 0;
  let size = 30; // of the brush, in thousandths of the image's longest side
  /** @type {Shown} */
  let shown = "mask";
  let peek = false; // the photo alone
  /** @type {number[][]} of the stroke that is being drawn, or the corners of the polygon */
  let points = [];
  let drawing = false;
  /** @type {Point | null} */
  let cursor = null;
  /** @type {ImageBitmap | HTMLImageElement | null} */
  let photo = null;
  const overlay = document.createElement("canvas");
  /** @type {import("./png.js").Mask | null} */
  let other = null; // the mask of another kind that is shown
  let digits = "";
  let digitsAt = 0;

  const stage = new Stage({ draw, down, move, up, cancel: cancelStroke, hover });
  stage.canvas.setAttribute("aria-label", "Image to correct");
  stage.canvas.setAttribute("role", "img");

  // --- the parts of the view ---
  const place = el("span", { class: "place" });
  const name = el("h1", { class: "name" });
  const facts = el("span", { class: "facts" });
  const saved = el("span", { class: "saving", role: "status" });
  const toolButtons = TOOLS.map(({ tool: each, name: title, key }) =>
    el("button", { type: "button", title: `${title} (${key})`, "aria-label": title, "data-tool": each, onclick: () => useTool(each) }, icon(each)),
  );
  const fit = el("button", { type: "button", title: "Whole image (W)", "aria-label": "Whole image", onclick: () => stage.fit() }, icon("fit"));
  const undo = action("undo", "Undo", "Z", () => session?.undo());
  const redo = action("redo", "Redo", "Y", () => session?.redo());
  const clear = el("button", { type: "button", onclick: () => session?.clear() }, "Clear");
  const accept = el("button", { type: "button", class: "main accept", title: "Approve this mask and go to the next image (Enter)", onclick: approve });
  const brushSize = el("input", {
    type: "range", min: 0, max: 100, "aria-label": "Size of the brush",
    oninput: () => useSize(2 * 150 ** (Number(brushSize.value) / 100)),
  });
  const opacity = el("input", {
    type: "range", min: 0, max: 1, step: 0.05, value: look.opacity, "aria-label": "Opacity of the mask",
    oninput: () => ((look.opacity = Number(opacity.value)), look.changed()),
  });
  const search = el("input", { type: "search", placeholder: "Class", "aria-label": "Part of a class's name", oninput: listClasses });
  const classList = el("div", { class: "class-list", role: "radiogroup", "aria-label": "Class of the brush" });
  const showing = segments(
    "Shown",
    [["mask", "Mask"], ...kinds().filter(({ kind }) => kind !== "label").map(({ kind, name: title }) => /** @type {[Shown, string]} */ ([kind, title])), ["none", "None"]],
    shown,
    (value) => show(value),
  );
  const empty = el("p", { class: "empty over" }, "Loading …");
  root.append(
    el("div", { class: "head" },
      step("previous", "Previous image", -1), place, step("next", "Next image", 1),
      name, facts, saved,
    ),
    el("div", { class: "toolbox", role: "toolbar", "aria-label": "Tools" }, ...toolButtons, fit),
    el("div", { class: "canvas" }, stage.canvas, empty),
    el("div", { class: "panel" },
      el("div", { class: "block class-block" }, el("h2", {}, "Draw"), store.objects.length > MANY && search, classList),
      el("div", { class: "block" }, el("label", { class: "slider" }, el("span", {}, "Brush"), brushSize)),
      el("div", { class: "block wide-only" },
        el("h2", {}, "Show"), showing.group,
        el("label", { class: "slider" }, el("span", {}, "Opacity"), opacity),
        classToggles(),
      ),
      el("div", { class: "block actions" }, undo, redo, clear, accept),
    ),
  );
  listClasses();
  useTool(tool);
  useSize(size);

  /** @param {import("./dom.js").Icon} name @param {string} text @param {string} key @param {() => void} act */
  function action(name, text, key, act) {
    return el("button", { type: "button", title: `${text} (${key})`, "aria-label": text, onclick: act }, icon(name));
  }

  /** @param {"previous" | "next"} name @param {string} text @param {number} by */
  function step(name, text, by) {
    const key = by < 0 ? "←" : "→";
    return el("button", { type: "button", class: "quiet icon", title: `${text} (${key})`, "aria-label": text, onclick: () => go(by) }, icon(name));
  }

  // --- which image ---
  /** @param {number} by */
  function go(by) {
    if (!session) return;
    const { order } = store;
    const at = order.indexOf(session.i);
    const next = order[at < 0 ? 0 : at + by];
    if (next === undefined) {
      if (order.length) note(by > 0 ? "This was the last image of the list." : "This is the first image of the list.");
      return;
    }
    location.hash = `#/correct/${next}`;
  }

  function approve() {
    if (!session?.loaded) return;
    if (session.state === "approved") {
      session.approve(false);
      return;
    }
    session.approve(true); // goes on while the next image loads
    go(1);
  }

  /** @param {number} i */
  async function open(i) {
    const unsaved = [...pending].find((each) => each.i === i);
    const mine = unsaved ?? new Session(i);
    session = mine;
    const { tags } = store.rows[i];
    const object = classId !== 0 && classId !== OPEN; // background and "not sure" stay chosen
    if (object && tags.length && !tags.includes(classId)) useClass(tags[0]);
    points = [];
    drawing = false;
    photo = other = null;
    overlay.width = overlay.height = 1;
    empty.hidden = false;
    empty.textContent = "Loading …";
    if (!unsaved) mine.addEventListener("change", () => session === mine && update());
    update();
    const image = new Image();
    image.src = photoOf(i, PHOTO);
    try {
      await Promise.all([
        Promise.all([image.decode(), store.sizeOf(i)]).then(([, { width, height }]) => {
          if (session !== mine) return;
          stage.use(width, height);
          photo = image;
          empty.hidden = true;
          stage.redraw();
        }),
        unsaved ? null : mine.load(),
      ]);
    } catch (error) {
      if (session !== mine) return;
      empty.hidden = false;
      empty.textContent = error instanceof Error ? error.message : String(error);
    }
    if (session !== mine) return;
    show(shown);
    const next = store.order[store.order.indexOf(i) + 1];
    if (next !== undefined) new Image().src = photoOf(next, PHOTO); // into the browser's cache
  }

  /** @param {Shown} value */
  async function show(value) {
    shown = value;
    showing.set(value);
    const mine = session;
    other = null;
    if (mine && value !== "mask" && value !== "none") {
      const mask = await maskOf(mine.i, value, MASK, store.version(mine.i, value));
      if (session !== mine || shown !== value) return;
      other = mask;
      if (!mask) note(`This image has no ${value}.`);
    }
    repaint();
  }

  function repaint() {
    if (!session) return;
    paint(overlay, peek || shown === "none" ? null : shown === "mask" ? session.mask : other);
    stage.redraw();
  }

  function update() {
    if (!session) return;
    const row = store.rows[session.i];
    const at = store.order.indexOf(session.i);
    place.textContent = at < 0 ? "" : `${at + 1} / ${store.order.length}`;
    name.textContent = row.id;
    facts.replaceChildren(
      ...row.tags.map((id) => el("span", { class: "tag" }, swatch(id), store.className(id))),
      row.score === null ? "" : el("span", { class: "score" }, percent(row.score)),
    );
    const texts = { saved: session.version ? "Saved" : "", saving: "Saving …", failed: "Not saved" };
    saved.textContent = session.snapping ? "Snapping …" : texts[session.saving];
    saved.dataset.saving = session.saving;
    const approved = session.state === "approved";
    accept.replaceChildren(icon("check"), approved ? "Approved" : "Approve");
    accept.setAttribute("aria-pressed", String(approved));
    /** @type {HTMLButtonElement} */ (undo).disabled = clear.disabled = !session.strokes.length;
    /** @type {HTMLButtonElement} */ (redo).disabled = !session.undone.length;
    repaint();
  }

  // --- tools ---
  /** @param {Tool} value */
  function useTool(value) {
    tool = value;
    points = [];
    for (const button of toolButtons) button.setAttribute("aria-pressed", String(button.dataset.tool === value));
    stage.redraw();
  }

  /** @param {number} value */
  function useSize(value) {
    size = Math.min(300, Math.max(2, value));
    brushSize.value = String((Math.log(size / 2) / Math.log(150)) * 100);
    stage.redraw();
  }

  /** @param {number} value */
  function useClass(value) {
    classId = value;
    if (tool === "erase") useTool("brush");
    for (const button of classList.children) {
      const chosen = Number(/** @type {HTMLElement} */ (button).dataset.class) === value;
      button.setAttribute("aria-checked", String(chosen));
      if (chosen) button.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    stage.redraw();
  }

  function listClasses() {
    const part = search.value.trim().toLowerCase();
    const named = store.objects.filter((each) => each.name.toLowerCase().includes(part));
    const entries = [...named.map(({ id, name: title }) => ({ id, title, key: String(id) })),
      { id: 0, title: "background", key: "0" }, { id: OPEN, title: "not sure", key: "U" }];
    classList.replaceChildren(
      ...entries.map(({ id, title, key }) =>
        el("button", { type: "button", role: "radio", "aria-checked": String(id === classId), "data-class": id, onclick: () => useClass(id) },
          swatch(id), el("span", { class: "name" }, title), el("kbd", {}, key)),
      ),
    );
  }

  /** Size of the brush in pixels of the image. */
  function brush() {
    return (size / 1000) * Math.max(stage.width, stage.height);
  }

  /** @param {Point} point */
  function down(point) {
    if (!session?.loaded || !photo) return;
    if (tool === "polygon") {
      const [first] = points;
      const near = first && Math.hypot(point[0] - first[0], point[1] - first[1]) * stage.scale < 12;
      if (near && points.length > 2) closePolygon();
      else points.push(point.map(rounded));
    } else {
      drawing = true;
      points = [point.map(rounded)];
    }
    cursor = point;
    stage.redraw();
  }

  /** @param {Point[]} more */
  function move(more) {
    if (!drawing || tool === "fill") return;
    const least = Math.max(0.7 / stage.scale, brush() / 10);
    for (const point of more) {
      const last = points[points.length - 1];
      if (Math.hypot(point[0] - last[0], point[1] - last[1]) >= least) points.push(point.map(rounded));
    }
    stage.redraw();
  }

  function up() {
    if (!drawing || !session) return;
    drawing = false;
    const filled = tool === "fill";
    const kind = tool;
    finish({ class: classId, kind, size: filled ? 0 : rounded(brush()), points: filled ? points.slice(0, 1) : points });
  }

  function cancelStroke() {
    if (tool === "polygon") points.pop();
    else points = [];
    drawing = false;
    stage.redraw();
  }

  function closePolygon() {
    if (points.length > 2) finish({ class: classId, kind: "polygon", size: 0, points });
    points = [];
  }

  /** @param {Stroke} stroke */
  function finish(stroke) {
    points = [];
    const inside = stroke.points.some(([x, y]) => x >= 0 && y >= 0 && x < stage.width && y < stage.height);
    if (inside || stroke.kind === "polygon") session?.add(stroke);
    if (shown !== "mask") show("mask");
    stage.redraw();
  }

  /** @param {Point | null} point */
  function hover(point) {
    cursor = point;
    stage.redraw();
  }

  // --- drawing ---
  /** @param {CanvasRenderingContext2D} context @param {number} scale */
  function draw(context, scale) {
    if (!session) return;
    const { width, height } = stage;
    context.imageSmoothingQuality = "high";
    if (photo) context.drawImage(photo, 0, 0, width, height);
    if (photo && overlay.width > 1) {
      context.imageSmoothingEnabled = scale * (width / overlay.width) < 6;
      context.drawImage(overlay, 0, 0, width, height);
      context.imageSmoothingEnabled = true;
    }
    if (peek) return;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of session.strokes) trace(context, stroke, scale);
    const colour = tool === "erase" ? "rgb(255 255 255 / 75%)" : look.css(classId);
    if (drawing && tool !== "fill") {
      path(context, points);
      context.globalAlpha = 0.75;
      context.strokeStyle = colour;
      context.lineWidth = brush();
      context.stroke();
      context.globalAlpha = 1;
    }
    if (tool === "polygon" && points.length) {
      path(context, cursor ? [...points, cursor] : points);
      twoLines(context, colour, 2 / scale);
      for (const [x, y] of points) dot(context, x, y, 4 / scale, colour);
    }
    if (cursor && (tool === "brush" || tool === "erase")) {
      context.beginPath();
      context.arc(cursor[0], cursor[1], brush() / 2, 0, 2 * Math.PI);
      twoLines(context, colour, 1.5 / scale);
    } else if (cursor && tool === "fill") {
      dot(context, cursor[0], cursor[1], 5 / scale, colour);
    }
  }

  /** A stroke that has been answered: a thin line along it. @param {CanvasRenderingContext2D} context @param {Stroke} stroke @param {number} scale */
  function trace(context, stroke, scale) {
    if (stroke.kind === "erase" || look.opacity === 0) return;
    const colour = look.css(stroke.class);
    if (stroke.kind === "fill" || stroke.points.length === 1) {
      dot(context, stroke.points[0][0], stroke.points[0][1], 4 / scale, colour);
      return;
    }
    path(context, stroke.points);
    if (stroke.kind === "polygon") context.closePath();
    twoLines(context, colour, 1.5 / scale);
  }

  /** @param {Event} event */
  function lookChanged(event) {
    void event;
    opacity.value = String(look.opacity);
    repaint();
  }
  look.addEventListener("change", lookChanged);

  /** @param {number} digit */
  function typed(digit) {
    const now = performance.now();
    digits = now - digitsAt < DIGITS ? digits + digit : String(digit);
    digitsAt = now;
    let id = Number(digits);
    if (!store.run.classes.some((each) => each.id === id)) id = Number((digits = String(digit)));
    if (id === 0 || store.objects.some((each) => each.id === id)) useClass(id);
  }

  return {
    show(argument) {
      const i = argument === "" ? (session?.i ?? store.order[0]) : Number(argument);
      if (!store.rows[i]) {
        session = null;
        empty.hidden = false;
        empty.textContent = "There is no such image. Choose one in Images.";
        return;
      }
      if (argument === "") history.replaceState(null, "", `#/correct/${i}`);
      open(i); // again, as another window may have changed it
    },
    hide() {
      points = [];
      drawing = false;
    },
    key(event) {
      if (!session) return false;
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const range = /** @type {HTMLElement} */ (event.target).matches("input");
      if (event.ctrlKey && key !== "z" && key !== "y") return false;
      if (event.altKey) return false;
      const entry = TOOLS.find((each) => each.key.toLowerCase() === key);
      if (/^\d$/.test(key)) typed(Number(key));
      else if (key === "z" && event.shiftKey) session.redo();
      else if (key === "z") points.length && tool === "polygon" ? cancelStroke() : session.undo();
      else if (key === "y") session.redo();
      else if (entry) useTool(entry.tool);
      else if (key === "u" || key === ".") useClass(OPEN);
      else if (key === "[") useSize(size / 1.25);
      else if (key === "]") useSize(size * 1.25);
      else if (key === "Enter" && tool === "polygon" && points.length) closePolygon();
      else if (key === "Enter" && !/** @type {HTMLElement} */ (event.target).matches("button, a")) approve();
      else if (key === "Escape" && points.length) useTool(tool);
      else if (key === "ArrowLeft" && !range) go(-1);
      else if (key === "ArrowRight" && !range) go(1);
      else if (key === "w") stage.fit();
      else if (key === "+" || key === "=") stage.zoom(true);
      else if (key === "-") stage.zoom(false);
      else if (key === "v") {
        if (!event.repeat) (peek = true), repaint();
      } else if (key === " ") stage.panning = true;
      else return false;
      return true;
    },
    keyUp(event) {
      if (event.key.toLowerCase() === "v") (peek = false), repaint();
      if (event.key === " ") stage.panning = false;
    },
    keys: [
      ["1 … 9", "class; two digits in a row for more"],
      ["0", "background"],
      ["U", "not sure"],
      ["[  ]", "smaller or larger brush"],
      ["B P F E", "brush, polygon, fill, erase"],
      ["Enter", "approve and go to the next image; closes a polygon"],
      ["← →", "previous or next image"],
      ["Z", "undo"],
      ["Y, Shift Z", "redo"],
      ["V", "hold: the photo alone"],
      ["W", "the whole image"],
      ["+ −", "zoom; also the wheel, or two fingers"],
      ["Space", "hold and drag: move the image"],
      ["Esc", "drop the polygon"],
    ],
  };
}

/** @param {CanvasRenderingContext2D} context @param {number[][]} points */
function path(context, points) {
  context.beginPath();
  points.forEach(([x, y], at) => (at ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (points.length === 1) context.lineTo(points[0][0] + 0.01, points[0][1]);
}

/** A line with a light border, to be seen on anything. @param {CanvasRenderingContext2D} context @param {string} colour @param {number} wide */
function twoLines(context, colour, wide) {
  context.strokeStyle = "rgb(255 255 255 / 90%)";
  context.lineWidth = wide * 2;
  context.stroke();
  context.strokeStyle = colour;
  context.lineWidth = wide;
  context.stroke();
}

/** @param {CanvasRenderingContext2D} context @param {number} x @param {number} y @param {number} radius @param {string} colour */
function dot(context, x, y, radius, colour) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.fill();
  context.strokeStyle = "white";
  context.lineWidth = radius / 3;
  context.stroke();
}
