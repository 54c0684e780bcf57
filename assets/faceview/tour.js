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

// What each axis on the screen is called: [name, share in percent], the name being the components that it leans on.
export function named({ spec, block, basis }, shown) {
  const touring = block.axes > 3, share = shares(block, basis);
  return Array.from({ length: shown }, (_, row) => {
    const leading = [row + 1];
    if (touring) {
      const weights = Array.from(basis.subarray(row * block.axes, (row + 1) * block.axes), (weight, axis) => [weight ** 2, axis + 1]);
      leading.splice(0, 1, ...weights.filter(([weight]) => weight > LEADING).sort((a, b) => b[0] - a[0]).map(([, axis]) => axis));
    }
    const percent = share[row] * 100, told = share.length ? `${percent < 9.5 ? percent.toFixed(1) : percent.toFixed(0)} %` : "";
    return [`${spec.raw ? "number" : leading.length > 1 ? "axes" : "axis"} `, leading.join(" + "), told];
  });
}
