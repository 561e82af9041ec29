"use strict";
for (const element of document.querySelectorAll(".js, .zoom, #opacity")) element.hidden = false;
const slider = document.querySelector("#opacity input");
slider.addEventListener("input", () => document.documentElement.style.setProperty("--layer", slider.value / 100));
for (const button of document.querySelectorAll(".zoom"))
  button.addEventListener("click", () => {
    const large = button.closest(".row").classList.toggle("large");
    button.setAttribute("aria-pressed", large);
    button.textContent = large ? "smaller" : "larger";
  });
// Affinity: each atlas holds the heat maps of all query cells, one beside the other.
for (const look of document.querySelectorAll(".look")) {
  const numbers = name => look.dataset[name].split(" ").map(Number);
  const [columns, rows] = numbers("queries"), first = numbers("first"), step = numbers("step"), at = numbers("at");
  const query = look.querySelector(".query"), mark = look.querySelector(".mark");
  const views = [...look.querySelectorAll(".heat")].map(image => {
    const atlas = new Image();
    atlas.src = image.dataset.atlas;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = image.dataset.cells.split(" ").map(Number);
    canvas.className = image.className;
    canvas.style.cssText = image.style.cssText;
    const shares = image.dataset.shares && Uint8Array.from(atob(image.dataset.shares), c => c.charCodeAt(0));
    return { image, atlas, canvas, shares, number: image.closest("figure").querySelector("figcaption span b") };
  });
  function show(x, y) {
    at[0] = Math.min(columns - 1, Math.max(0, x));
    at[1] = Math.min(rows - 1, Math.max(0, y));
    mark.style.left = first[0] + at[0] * step[0] + "%";
    mark.style.top = first[1] + at[1] * step[1] + "%";
    for (const view of views) {
      const { canvas, atlas } = view, w = canvas.width, h = canvas.height, context = canvas.getContext("2d");
      if (!atlas.complete) continue;
      context.clearRect(0, 0, w, h);
      context.drawImage(atlas, at[0] * w, at[1] * h, w, h, 0, 0, w, h);
      if (view.image.isConnected) view.image.replaceWith(canvas);
      if (view.shares && view.number) view.number.textContent = view.shares[at[1] * columns + at[0]] + "\u202f%";
    }
  }
  query.tabIndex = 0;
  query.addEventListener("pointerdown", event => {
    const box = query.getBoundingClientRect();
    show(Math.round((100 * (event.clientX - box.left) / box.width - first[0]) / step[0]),
         Math.round((100 * (event.clientY - box.top) / box.height - first[1]) / step[1]));
  });
  query.addEventListener("keydown", event => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    show(at[0] + move[0], at[1] + move[1]);
  });
}
