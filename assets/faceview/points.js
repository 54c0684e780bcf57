// Blocks of points and of facts, and answers in JSON: fetched once per address, decoded, laid out in a panel's own units.

const PATIENCE = 200; // times that a picture on its way is asked for, a minute
const KEPT = 1200; // blocks kept for panels that come back to them, as travels through time do

const blocks = new Map(); // url -> promise of a block, least recently used first

export function load(url) {
  const block = blocks.get(url) ?? ask(url);
  blocks.delete(url);
  blocks.set(url, block);
  block.catch(() => blocks.get(url) === block && blocks.delete(url));
  if (blocks.size > KEPT) blocks.delete(blocks.keys().next().value);
  return block;
}

// A picture that a projector is still working on answers 202; it is asked for again until it is there.
async function ask(url) {
  for (let tries = 0; ; tries++) {
    const answer = await fetch(url).catch(() => {
      throw new Error("The server does not answer.");
    });
    if (answer.status === 202 && tries < PATIENCE) await new Promise((go) => setTimeout(go, 300));
    else if (answer.status === 202) throw new Error("This picture takes too long; is the trainer running?");
    else if (!answer.ok) throw new Error((await answer.text()).slice(0, 160) || `No points: status ${answer.status}.`);
    else return url.endsWith(".json") ? answer.json() : decode(await answer.arrayBuffer());
  }
}

// Little-endian: "FV04", uint32 N, M, axes, A, float32 scale; int16 points (N, axes), int16 centers (M, axes),
// uint16 labels (N), uint16 center labels (M); float32 trustworthiness, KNN accuracy, KNN accuracy of the embeddings,
// share of variance, variance of the embeddings, and margin cones (M), nan where not measured; forbidden arcs (A, 2).
// A coordinate is int16 / 32767 * scale. The origin is the middle.
// "FV03" has no A, nor has "FV02", which ends with the first two of these numbers, or with none.
export function decode(bytes) {
  const head = new DataView(bytes);
  const magic = bytes.byteLength >= 12 ? String.fromCharCode(...new Uint8Array(bytes, 0, 4)) : "";
  if (magic === "FF02" || magic === "FF01") return facts(bytes, head, magic === "FF01");
  const first = magic === "FV04" ? 24 : 20;
  if (!["FV02", "FV03", "FV04"].includes(magic) || bytes.byteLength < first) throw new Error("This is no block of points.");
  const [n, m, axes, arcs] = [4, 8, 12, 16].map((at) => head.getUint32(at, true));
  const places = first + 2 * axes * (n + m), end = places + 2 * (n + m), many = 2 * (magic === "FV04" ? arcs : 0);
  const more = (bytes.byteLength - end) / 4 - many;
  if (magic === "FV02" ? more !== 0 && more !== 2 : more !== 5 + m) throw new Error("This block of points is incomplete.");
  const told = Array.from({ length: more }, (_, at) => head.getFloat32(end + 4 * at, true)), known = (value) => !Number.isNaN(value);
  return {
    n, m, axes, unit: head.getFloat32(first - 4, true) / 32767,
    points: new Int16Array(bytes, first, n * axes), centers: new Int16Array(bytes, first + 2 * n * axes, m * axes),
    labels: new Uint16Array(bytes, places, n), centerLabels: new Uint16Array(bytes, places + 2 * n, m),
    quality: told.length && told.slice(0, 2).every(known) ? told.slice(0, 4) : null, spread: told[4],
    cones: m && told.length > 5 && told.slice(5).every(known) ? told.slice(5) : null,
    arcs: Array.from({ length: many }, (_, at) => head.getFloat32(end + 4 * (more + at), true)),
  };
}

// "FF02", uint32 N, float32 worst loss and longest feature; uint32 rows of the dataset (N), int16 predicted classes (N),
// uint16 angles (N, / 65534 * pi), losses (N, / 65534 * worst) and lengths (N, / 65534 * longest). What is not known is
// -1. "FF01" has neither lengths nor the longest.
function facts(bytes, head, older) {
  const n = head.getUint32(4, true), worst = head.getFloat32(8, true), first = older ? 12 : 16;
  const longest = older ? 0 : head.getFloat32(12, true);
  if (bytes.byteLength !== first + (older ? 10 : 12) * n) throw new Error("This block of facts is incomplete.");
  const shares = (from, most) =>
    Float32Array.from(new Uint16Array(bytes, from, n), (share) => (share === 65535 ? -1 : (share / 65534) * most));
  return {
    n, rows: new Uint32Array(bytes, first, n), predictions: new Int16Array(bytes, first + 4 * n, n),
    angles: shares(first + 6 * n, Math.PI), losses: shares(first + 8 * n, worst), longest,
    lengths: older ? new Float32Array(n).fill(-1) : shares(first + 10 * n, longest),
  };
}

// Quantised places (count, axes) -> x, y, z in the panel's own units, turned by the panel's 3x3 or, from more than
// three axes, seen under three rows of as many numbers. `placed` is written over if given.
export function place(quantised, axes, unit, turn, placed = new Float32Array((quantised.length / axes) * 3)) {
  if (axes > 3) {
    const rows = turn.map((part) => part * unit);
    for (let from = 0, to = 0; from < quantised.length; from += axes, to += 3) {
      let x = 0, y = 0, z = 0;
      for (let axis = 0; axis < axes; axis++) {
        const value = quantised[from + axis];
        x += rows[axis] * value;
        y += rows[axes + axis] * value;
        z += rows[2 * axes + axis] * value;
      }
      placed[to] = x;
      placed[to + 1] = y;
      placed[to + 2] = z;
    }
    return placed;
  }
  const [a, b, c, d, e, f, g, h, i] = turn ?? [1, 0, 0, 0, 1, 0, 0, 0, 1];
  for (let from = 0, to = 0; from < quantised.length; from += axes, to += 3) {
    const x = quantised[from] * unit, y = quantised[from + 1] * unit, z = axes > 2 ? quantised[from + 2] * unit : 0;
    placed[to] = a * x + b * y + c * z;
    placed[to + 1] = d * x + e * y + f * z;
    placed[to + 2] = g * x + h * y + i * z;
  }
  return placed;
}

// Places (N, 3) at these distances from the origin instead of at 1.
export function stretch(placed, lengths) {
  for (let at = 0; at < placed.length; at++) placed[at] *= Math.max(lengths[Math.floor(at / 3)], 0);
}

// The radius a panel shows at zoom 1: that of all points, but no more than 1.25 times that of 99 in 100.
export function reachOf(placed) {
  const step = 3 * Math.ceil(placed.length / 12000), far = [];
  for (let at = 0; at < placed.length; at += step) far.push(Math.hypot(placed[at], placed[at + 1], placed[at + 2]));
  far.sort((a, b) => a - b);
  return Math.min(far.at(-1), 1.25 * far[Math.floor(far.length * 0.99)]) || 1;
}

export function between(from, to, t) {
  if (t >= 1 || from === to) return to;
  const now = new Float32Array(to.length);
  for (let at = 0; at < to.length; at++) now[at] = from[at] + (to[at] - from[at]) * t;
  return now;
}
