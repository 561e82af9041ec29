// Label maps as PNG: 8 bits, one channel, and the byte is the class id. A canvas would do it too, but browsers that
// guard against fingerprinting add noise to what a canvas gives back, which changes class ids.

/** @typedef {{width: number, height: number, ids: Uint8Array}} Mask */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

/**
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {CompressionStream | DecompressionStream} stream
 */
async function through(bytes, stream) {
  const out = new Blob([bytes]).stream().pipeThrough(/** @type {any} */ (stream));
  return new Uint8Array(await new Response(out).arrayBuffer());
}

/**
 * @param {Uint8Array<ArrayBuffer>} file grey or indexed PNG, 8 bits, not interlaced
 * @returns {Promise<Mask>}
 */
export async function decode(file) {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (SIGNATURE.some((byte, at) => file[at] !== byte)) throw new Error("This is not a PNG.");
  const width = view.getUint32(16);
  const height = view.getUint32(20);
  const [depth, colour, , , interlaced] = file.subarray(24, 29);
  if (depth !== 8 || (colour !== 0 && colour !== 3) || interlaced) throw new Error("This is not an 8-bit label map.");
  const parts = [];
  for (let at = 8; at + 12 <= file.length; ) {
    const length = view.getUint32(at);
    if (view.getUint32(at + 4) === 0x49444154) parts.push(file.subarray(at + 8, at + 8 + length)); // IDAT
    at += 12 + length;
  }
  const rows = await through(new Uint8Array(await new Blob(parts).arrayBuffer()), new DecompressionStream("deflate"));
  return { width, height, ids: unfilter(rows, width, height) };
}

/**
 * Takes back the filter of each row (PNG specification, section 9).
 * @param {Uint8Array} rows each row after one byte that names its filter
 * @param {number} width
 * @param {number} height
 */
function unfilter(rows, width, height) {
  const ids = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const from = y * (width + 1);
    const to = y * width;
    const filter = rows[from];
    if (filter === 0) {
      ids.set(rows.subarray(from + 1, from + 1 + width), to);
      continue;
    }
    for (let x = 0; x < width; x++) {
      const left = x ? ids[to + x - 1] : 0;
      const up = y ? ids[to + x - width] : 0;
      let guess = 0;
      if (filter === 1) guess = left;
      else if (filter === 2) guess = up;
      else if (filter === 3) guess = (left + up) >> 1;
      else guess = paeth(left, up, x && y ? ids[to + x - width - 1] : 0);
      ids[to + x] = rows[from + 1 + x] + guess;
    }
  }
  return ids;
}

/** @param {number} left @param {number} up @param {number} corner */
function paeth(left, up, corner) {
  const toLeft = Math.abs(up - corner);
  const toUp = Math.abs(left - corner);
  const toCorner = Math.abs(left + up - 2 * corner);
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? 0xedb88320 ^ (byte >>> 1) : byte >>> 1;
  return byte;
});

/**
 * @param {string} name
 * @param {Uint8Array} body
 */
function chunk(name, body) {
  const bytes = new Uint8Array(body.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, body.length);
  bytes.set([...name].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(body, 8);
  let crc = 0xffffffff;
  for (const byte of bytes.subarray(4, body.length + 8)) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  view.setUint32(body.length + 8, ~crc >>> 0);
  return bytes;
}

/**
 * @param {Mask} mask
 * @returns {Promise<Blob>} grey PNG, 8 bits
 */
export async function encode({ width, height, ids }) {
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head[8] = 8;
  const rows = new Uint8Array((width + 1) * height);
  for (let y = 0; y < height; y++) rows.set(ids.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const packed = await through(rows, new CompressionStream("deflate"));
  const parts = [chunk("IHDR", head), chunk("IDAT", packed), chunk("IEND", new Uint8Array(0))];
  return new Blob([new Uint8Array(SIGNATURE), ...parts], { type: "image/png" });
}

/** @param {Blob} blob @returns {Promise<string>} */
export function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).split(",", 2)[1]);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** @param {string} text base64 */
export const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
