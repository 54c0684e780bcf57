// Linear views of more axes than a screen has: the grand tour, and how much of the variance a view shows.
//
// The tour is Asimov's torus (doi:10.1137/0906011): every plane of one shown and one hidden axis turns at a speed of
// its own, so the view is smooth, never repeats, and is the same at the same second for everybody.

const SPEED = [0.05, 0.11]; // radians a second of the slowest plane, and how much faster the fastest one is
const LEADING = 0.18; // share of a view's axis from which on a component is named

export const STRIDE = 2; // seconds that one click goes where nothing may move by itself

// The view at this second: three rows of `axes` numbers, which are orthonormal; the third is 0 in 2-D.
export function frame(seconds, shown, axes) {
  const rows = new Float64Array(3 * axes);
  for (let row = 0; row < shown; row++) rows[row * axes + row] = 1;
  for (let one = 0, plane = 1; one < shown; one++) {
    for (let other = shown; other < axes; other++, plane++) {
      const angle = seconds * (SPEED[0] + SPEED[1] * ((plane * 0.618034) % 1)), c = Math.cos(angle), s = Math.sin(angle);
      for (let row = 0; row < 3 * axes; row += axes) {
        const [a, b] = [rows[row + one], rows[row + other]];
        [rows[row + one], rows[row + other]] = [c * a - s * b, s * a + c * b];
      }
    }
  }
  return rows;
}

// The share of the embeddings' variance along each of the three axes of a view; nothing where it was not measured.
export function shares(block, rows) {
  if (!(block.spread > 0)) return [];
  const { axes } = block, cov = (block.covariance ??= covariance(block));
  return [0, 1, 2].map((row) => {
    let sum = 0;
    for (let a = 0; a < axes; a++) for (let b = 0; b < axes; b++) sum += at(rows, row, a, axes) * cov[a * axes + b] * at(rows, row, b, axes);
    return sum / block.spread;
  });
}

const at = (rows, row, axis, axes) => (rows ? rows[row * (axes > 3 ? axes : 3) + axis] : Number(row === axis));

function covariance({ points, n, axes, unit }) {
  const mean = new Float64Array(axes), found = new Float64Array(axes * axes);
  for (let from = 0; from < points.length; from += axes) for (let axis = 0; axis < axes; axis++) mean[axis] += points[from + axis] / n;
  for (let from = 0; from < points.length; from += axes) {
    for (let a = 0; a < axes; a++) {
      for (let b = 0; b < axes; b++) found[a * axes + b] += (points[from + a] - mean[a]) * (points[from + b] - mean[b]);
    }
  }
  return found.map((sum) => (sum * unit * unit) / n);
}

// The turn, as rows of axes x axes, that lays a block's class middles nearest to those of another block with as many
// axes (orthogonal Procrustes): two heads' tours then show the same classes in the same places, as far as they can.
export function alike(block, other) {
  const { axes } = block, ours = middles(block), theirs = middles(other), sum = new Float64Array(axes * axes);
  for (const [label, middle] of ours) {
    const met = theirs.get(label);
    if (met) for (let a = 0; a < axes; a++) for (let b = 0; b < axes; b++) sum[b * axes + a] += met[b] * middle[a];
  }
  const size = Math.hypot(...sum) || 1;
  for (let axis = 0; axis < axes; axis++) sum[axis * (axes + 1)] += size * 1e-3; // directions that no class decides stay
  let turn = sum;
  for (let round = 0; round < 24; round++) { // Newton's way to the nearest orthogonal matrix
    const back = inverse(turn, axes);
    turn = turn.map((part, at) => (part + back[(at % axes) * axes + Math.floor(at / axes)]) / 2);
  }
  return turn;
}

function middles({ points, labels, axes }) {
  const sums = new Map();
  labels.forEach((label, at) => {
    if (!sums.has(label)) sums.set(label, new Float64Array(axes + 1));
    const sum = sums.get(label);
    for (let axis = 0; axis < axes; axis++) sum[axis] += points[at * axes + axis];
    sum[axes]++;
  });
  return new Map([...sums].map(([label, sum]) => [label, sum.subarray(0, axes).map((part) => part / sum[axes])]));
}

function inverse(matrix, size) {
  const rows = Array.from({ length: size }, (_, row) =>
    [...matrix.subarray(row * size, (row + 1) * size), ...Array.from({ length: size }, (_, at) => Number(at === row))]);
  for (let at = 0; at < size; at++) {
    const best = rows.slice(at).reduce((most, row, place) => (Math.abs(row[at]) > Math.abs(rows[at + most][at]) ? place : most), 0);
    [rows[at], rows[at + best]] = [rows[at + best], rows[at]];
    const pivot = rows[at][at] || 1e-12;
    rows[at] = rows[at].map((part) => part / pivot);
    rows.forEach((row, other) => {
      if (other !== at && row[at]) rows[other] = row.map((part, place) => part - row[at] * rows[at][place]);
    });
  }
  return Float64Array.from(rows.flatMap((row) => row.slice(size)));
}

// A view of points that are turned first.
export function after(rows, turn, axes) {
  const found = new Float64Array(3 * axes);
  for (let row = 0; row < 3; row++) {
    for (let b = 0; b < axes; b++) for (let a = 0; a < axes; a++) found[row * axes + a] += rows[row * axes + b] * turn[b * axes + a];
  }
  return found;
}

// What each axis on the screen is called: [name, share in percent], the name being the components that it leans on.
export function named({ spec, block, basis }, shown) {
  const touring = block.axes > 3, share = shares(block, basis);
  return Array.from({ length: shown }, (_, row) => {
    const leading = [row + 1];
    if (touring) {
      const weights = Array.from(basis.subarray(row * block.axes, (row + 1) * block.axes), (weight, axis) => [weight ** 2, axis + 1]);
      leading.splice(0, 1, ...weights.filter(([weight]) => weight > LEADING).sort((a, b) => b[0] - a[0]).slice(0, 2).map(([, axis]) => axis));
    }
    const percent = share[row] * 100, told = share.length ? `${percent < 9.5 ? percent.toFixed(1) : percent.toFixed(0)} %` : "";
    return [`${spec.raw ? "number" : leading.length > 1 ? "axes" : "axis"} `, leading.join(" + "), told];
  });
}
