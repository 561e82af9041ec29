// A mask of any image: dropped, pasted, chosen, or taken with the camera. The image goes to this computer's server only.

import { Refused, tryImage } from "./api.js";
import { el, icon, note } from "./dom.js";
import { swatch } from "./images.js";
import { look, paint } from "./paint.js";
import { bytesOf, decode } from "./png.js";
import { store } from "./store.js";

const MOST = 32 * 2 ** 20; // bytes

/** @param {HTMLElement} root @returns {import("./store.js").View} */
export function tryView(root) {
  root.classList.add("wide");
  if (!store.run.has_model) {
    root.append(el("p", { class: "empty" }, "This run has no model yet. Train it first, in Learn or with `cian run`."));
    return { show() {} };
  }
  /** @type {import("./png.js").Mask | null} */
  let mask = null;
  let file = new Blob();
  let name = "image";
  let asked = 0;

  const picker = el("input", { type: "file", accept: "image/*", class: "hidden-input", tabindex: -1, "aria-hidden": "true", onchange: picked });
  const camera = el("input", { type: "file", accept: "image/*", capture: "environment", class: "hidden-input", tabindex: -1, "aria-hidden": "true", onchange: picked });
  const state = el("p", { class: "quiet-text", role: "status" }, "Or drop an image here, or paste one.");
  const drop = el("div", { class: "drop" },
    el("div", { class: "controls" },
      el("button", { type: "button", class: "main", onclick: () => picker.click() }, icon("try"), "Choose an image"),
      el("button", { type: "button", class: "camera", onclick: () => camera.click() }, icon("camera"), "Take a photo"),
    ),
    state, picker, camera,
  );
  const photo = el("img", { alt: "The image" });
  const canvas = el("canvas", { role: "img", "aria-label": "Its mask" });
  const found = el("ul", { class: "found" });
  const opacity = el("input", {
    type: "range", min: 0, max: 1, step: 0.05, value: look.opacity, "aria-label": "Opacity of the mask",
    oninput: () => ((look.opacity = Number(opacity.value)), look.changed()),
  });
  const result = el("div", { class: "result", hidden: true },
    el("div", { class: "tried" }, photo, canvas),
    el("div", { class: "card" },
      el("h2", {}, "Found"), found,
      el("label", { class: "slider" }, el("span", {}, "Opacity"), opacity),
      el("button", { type: "button", onclick: () => save(file, `${name}-mask.png`) }, icon("download"), "Mask as label map"),
      el("button", { type: "button", onclick: saveOverlay }, icon("download"), "Image with mask"),
    ),
  );
  root.append(el("div", { class: "page" }, el("h1", {}, "Try an image"), drop, result));

  look.addEventListener("change", () => {
    opacity.value = String(look.opacity);
    if (mask) paint(canvas, mask);
  });
  for (const type of ["dragenter", "dragover"]) {
    root.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  root.addEventListener("dragleave", (event) => {
    if (!root.contains(/** @type {Node | null} */ (event.relatedTarget))) drop.classList.remove("over");
  });
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer?.files[0]);
  });
  addEventListener("paste", (event) => {
    if (!root.hidden) take(event.clipboardData?.files[0]);
  });

  /** @param {Event} event */
  function picked(event) {
    const input = /** @type {HTMLInputElement} */ (event.currentTarget);
    take(input.files?.[0]);
    input.value = ""; // the same file can be chosen again
  }

  /** @param {File | undefined} image */
  async function take(image) {
    if (!image) return;
    if (image.size > MOST) {
      note("The image has more than 32 MB. Make it smaller.", { kind: "error" });
      return;
    }
    const mine = ++asked;
    state.textContent = "Looking at it …";
    drop.classList.add("busy");
    try {
      const answer = await tryImage(image);
      const bytes = bytesOf(answer.mask);
      const decoded = await decode(bytes);
      if (mine !== asked) return;
      [mask, file, name] = [decoded, new Blob([bytes], { type: "image/png" }), image.name.replace(/\.[^.]*$/, "") || "image"];
      photo.src = `data:image/jpeg;base64,${answer.photo}`;
      /** @type {HTMLElement} */ (photo.parentElement).style.aspectRatio = `${answer.width / answer.height}`;
      paint(canvas, mask);
      found.replaceChildren(
        ...answer.found.map(({ id, name: title, share }) =>
          el("li", {}, swatch(id), el("span", {}, title), el("span", { class: "quiet-text" }, `${(100 * share).toFixed(1)} %`))),
        answer.found.length ? "" : el("li", { class: "quiet-text" }, "No class was found."),
      );
      result.hidden = false;
      state.textContent = image.name;
    } catch (error) {
      if (mine !== asked) return;
      state.textContent = "Or drop an image here, or paste one.";
      note(error instanceof Refused ? error.message : `The image cannot be shown: ${error}`, { kind: "error" });
    } finally {
      if (mine === asked) drop.classList.remove("busy");
    }
  }

  /** @param {Blob} blob @param {string} as */
  function save(blob, as) {
    const link = el("a", { href: URL.createObjectURL(blob), download: as });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  function saveOverlay() {
    const both = el("canvas", { width: photo.naturalWidth, height: photo.naturalHeight });
    const context = /** @type {CanvasRenderingContext2D} */ (both.getContext("2d"));
    context.drawImage(photo, 0, 0);
    context.drawImage(canvas, 0, 0, both.width, both.height);
    both.toBlob((blob) => blob && save(blob, `${name}-overlay.png`));
  }

  return { show() {} };
}
