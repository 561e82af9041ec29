// All requests to the server that runs on this computer, and what they answer.

/**
 * @typedef {{id: number, name: string, color: string}} Class
 * @typedef {{name: string, done: boolean, seconds: number | null}} Stage
 * @typedef {{running: boolean, kind: string, stage: string | null, fraction: number | null,
 *   seconds_left: number | null, line: string | null, error: string | null, round: number}} Learning
 * @typedef {{name: string, classes: Class[], images: number, stages: Stage[], learning: Learning | null,
 *   rounds: number, has_truth: boolean, has_affinity: boolean, has_model: boolean,
 *   saved: {approved: number, strokes: number}}} Run
 * @typedef {"none" | "strokes" | "approved"} State
 * @typedef {{i: number, id: string, width: number, height: number, tags: number[], found: number[],
 *   score: number | null, state: State, rank: number | null, split: string}} Row
 * @typedef {"prediction" | "seed" | "truth" | "label" | "before"} Kind
 * @typedef {{class: number, size: number, points: number[][], kind: "brush" | "polygon" | "fill" | "erase"}} Stroke
 * @typedef {{strokes: Stroke[], state: State, version: number}} Label
 * @typedef {{i: number, changed: number, before: number | null, after: number | null}} Change
 * @typedef {{scores: {before: Record<string, number> | number | null, after: Record<string, number> | number | null}
 *   | null, images: Change[], pending?: number}} Changes
 * @typedef {{i: number, width: number, height: number, origin: number[], size: number[], shares: string,
 *   scale: number}} AffinityMap
 * @typedef {{width: number, height: number, found: {id: number, name: string, share: number}[], mask: string,
 *   photo: string}} Tried
 * @typedef {{name: string, curves: Record<string, number[][]>, scores: Record<string, number>,
 *   training: boolean}} RunCurves
 */

/** An answer that says what is wrong, and what to do. */
export class Refused extends Error {
  /**
   * @param {number} status 0: no answer at all
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 */
async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (options?.signal?.aborted) throw error;
    throw new Refused(0, "The server does not answer. Check that `cian app` still runs.");
  }
  if (response.ok) return response;
  let message = `The server answered ${response.status}. Load the page again.`;
  try {
    message = (await response.json()).error || message;
  } catch {
    // not JSON: the sentence above
  }
  if (response.status === 403) message = "This address has no valid token. Open the address that `cian app` printed.";
  throw new Refused(response.status, message);
}

/** @param {string} path @param {AbortSignal} [signal] */
const get = async (path, signal) => (await ask(path, { signal })).json();

/** @param {string} method @param {string} path @param {unknown} body */
const send = (method, path, body) =>
  ask(path, { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });

/** @returns {Promise<Run>} */
export const getRun = () => get("/api/run");

/** The table of images; `pending` of them are not looked at yet. @returns {Promise<{images: Row[], pending: number}>} */
export const getImages = () => get("/api/images");

/** @param {number} i @param {number} wide */
export const thumbOf = (i, wide) => `/api/image/${i}/thumb?w=${wide > 160 ? 320 : 160}`;

/** @param {number} i @param {number} side */
export const photoOf = (i, side) => `/api/image/${i}/photo?side=${side}`;

/**
 * The bytes of a PNG; null where there is no such mask.
 * @param {number} i @param {Kind} kind @param {number} side the longest, in pixels @param {number} version @param {AbortSignal} [signal]
 */
export async function getMask(i, kind, side, version, signal) {
  const response = await ask(`/api/image/${i}/mask/${kind}?w=${side}&r=${version}`, { signal });
  return response.status === 204 ? null : new Uint8Array(await response.arrayBuffer());
}

/** @param {number} i @param {Stroke[]} strokes @param {"prediction" | "label"} base */
export async function snap(i, strokes, base) {
  const response = await send("POST", `/api/image/${i}/snap`, { strokes, base });
  return new Uint8Array(await response.arrayBuffer());
}

/** @param {number} i @returns {Promise<Label>} */
export const getLabel = (i) => get(`/api/image/${i}/label`);

/** @param {number} i @param {{strokes: Stroke[], state: State, version: number,
 *  base: "prediction" | "label", mask?: string}} label
 *  @returns {Promise<{version: number}>} */
export const putLabel = async (i, label) => (await send("PUT", `/api/image/${i}/label`, label)).json();

/** @param {number} i @param {number} version */
export const deleteLabel = async (i, version) =>
  (await ask(`/api/image/${i}/label?version=${version}`, { method: "DELETE" })).json();

/** @returns {Promise<Learning>} */
export const getLearning = () => get("/api/learn");

/** @param {boolean} preview */
export const startLearning = (preview) => send("POST", "/api/learn", { preview });

export const stopLearning = () => ask("/api/learn", { method: "DELETE" });

/** @returns {Promise<Changes>} */
export const getChanges = () => get("/api/changes");

/** @param {number} i @param {number} x @param {number} y @param {number[]} others @param {boolean} before
 *  @param {AbortSignal} [signal] @returns {Promise<AffinityMap[]>} */
export async function getAffinity(i, x, y, others, before, signal) {
  const more = others.length ? `&others=${others.join(",")}` : "";
  const path = `/api/affinity/${i}?x=${x.toFixed(4)}&y=${y.toFixed(4)}&before=${before ? 1 : 0}${more}`;
  return (await get(path, signal)).maps;
}

/** @param {Blob} image @returns {Promise<Tried>} */
export const tryImage = async (image) => (await ask("/api/try", { method: "POST", body: image })).json();

/** @returns {Promise<RunCurves[]>} */
export const getRuns = () => get("/api/runs");
