// Starts the page: the bar on top, one view at a time (named by the address after #), and keys.

import { affinityView } from "./affinity.js";
import { Refused } from "./api.js";
import { correctView } from "./correct.js";
import { el, icon, note } from "./dom.js";
import { imagesView } from "./images.js";
import { learnView } from "./learn.js";
import { runsView } from "./runs.js";
import { pending } from "./session.js";
import { store } from "./store.js";
import { tryView } from "./try.js";

/** @typedef {import("./store.js").View} View */

/** @type {{name: string, title: string, make: (root: HTMLElement) => View}[]} */
const VIEWS = [
  { name: "images", title: "Images", make: imagesView },
  { name: "correct", title: "Correct", make: correctView },
  { name: "learn", title: "Learn", make: learnView },
  { name: "affinity", title: "Affinity", make: affinityView },
  { name: "try", title: "Try", make: tryView },
  { name: "runs", title: "Runs", make: runsView },
];
/** @type {[string, string][]} */
const KEYS = [
  ["Alt 1 … 6", "the views, in their order"],
  ["?", "this list"],
];

const views = /** @type {HTMLElement} */ (document.getElementById("views"));
const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("keys"));
/** @type {Map<string, {root: HTMLElement, view: View}>} */
const made = new Map();
let current = "";

function route() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const entry = VIEWS.find((each) => each.name === name) ?? VIEWS[0];
  if (current && current !== entry.name) {
    const old = /** @type {{root: HTMLElement, view: View}} */ (made.get(current));
    old.view.hide?.();
    old.root.hidden = true;
  }
  if (!made.has(entry.name)) {
    const root = el("section", { class: `view ${entry.name}`, "aria-label": entry.title });
    views.append(root);
    made.set(entry.name, { root, view: entry.make(root) });
  }
  const { root, view } = /** @type {{root: HTMLElement, view: View}} */ (made.get(entry.name));
  root.hidden = false;
  current = entry.name;
  document.title = `${entry.title} · ${store.run.name}`;
  for (const tab of document.querySelectorAll("#tabs a")) {
    if (tab.getAttribute("href") === `#/${entry.name}`) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  view.show(rest.map(decodeURIComponent).join("/"));
}

function showKeys() {
  const keys = [...(made.get(current)?.view.keys ?? []), ...KEYS];
  dialog.replaceChildren(
    el("h2", { id: "keys-title" }, "Keys"),
    el("dl", {}, ...keys.flatMap(([key, what]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, what)])),
    el("form", { method: "dialog" }, el("button", { class: "main", autofocus: true }, "Close")),
  );
  dialog.showModal();
}

/** @param {KeyboardEvent} event */
function keyed(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  const typing = target.matches("select, textarea, input:not([type=range]):not([type=checkbox])");
  if (dialog.open || typing || event.metaKey) return;
  const place = event.altKey && !event.ctrlKey ? Number(event.code.replace("Digit", "")) : 0;
  if (VIEWS[place - 1]) location.hash = `#/${VIEWS[place - 1].name}`;
  else if (event.key === "?") showKeys();
  else if (!made.get(current)?.view.key?.(event)) return;
  event.preventDefault();
}

function showSaved() {
  const { approved, strokes } = store.run.saved;
  const text = [approved && `${approved} approved`, strokes && `${strokes} with strokes`].filter(Boolean).join(" · ");
  /** @type {HTMLElement} */ (document.getElementById("saved")).textContent = text;
}

function showLearning() {
  const { running, fraction } = /** @type {import("./api.js").Learning} */ (store.learning);
  const tab = /** @type {HTMLElement} */ (document.querySelector('#tabs a[href="#/learn"]'));
  tab.classList.toggle("busy", running);
  tab.title = running ? `Learning: ${Math.round(100 * (fraction ?? 0))} %` : "";
}

async function start() {
  history.replaceState(null, "", location.pathname + location.hash); // the token is in a cookie now
  await store.load();
  /** @type {HTMLElement} */ (document.getElementById("run-name")).textContent = store.run.name;
  /** @type {HTMLElement} */ (document.getElementById("tabs")).append(
    ...VIEWS.map(({ name, title }) =>
      el("a", { href: `#/${name}` }, icon(/** @type {import("./dom.js").Icon} */ (name)), el("span", {}, title)),
    ),
  );
  /** @type {HTMLElement} */ (document.getElementById("keys-button")).addEventListener("click", showKeys);
  store.addEventListener("row", showSaved);
  store.addEventListener("rows", showSaved);
  showSaved();
  addEventListener("hashchange", route);
  addEventListener("keydown", keyed);
  addEventListener("keyup", (event) => made.get(current)?.view.keyUp?.(event));
  addEventListener("beforeunload", (event) => {
    if (pending.size) event.preventDefault();
  });
  store.addEventListener("learning", showLearning);
  store.addEventListener("learned", () => {
    if (store.learning?.error) note(store.learning.error, { kind: "error" });
    else if (store.learning?.kind === "seed") note("The seeds are ready.", { action: ["Show images", () => (location.hash = "#/images")] });
    else if (current !== "learn") note("Learning has finished.", { action: ["See what changed", () => (location.hash = "#/learn")] });
  });
  if (store.run.learning?.running) store.watch();
  route();
}

addEventListener("unhandledrejection", (event) => {
  if (!(event.reason instanceof Refused)) return;
  event.preventDefault();
  note(event.reason.message, { kind: "error" });
});

start().catch((error) => {
  views.replaceChildren(el("p", { class: "empty" }, error instanceof Refused ? error.message : String(error)));
});
