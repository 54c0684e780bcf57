// Margin cones: the places around a class's center that satisfy the head's margin, as the run measured them.
// On the circle an arc with its wedge, on the sphere a cap with its ring.

const ROUND = 64, BANDS = 6; // parts of an arc or a ring, bands of a cap

// [{ label, angle, outline: x, y, z of a polygon, fill: x, y, z of triangles }] of the classes that `wanted` has.
export function conesOf({ block, centerLabels, spec }, centers, wanted) {
  if (!spec.raw || !block?.cones) return [];
  const found = [];
  centerLabels.forEach((label, at) => {
    const angle = block.cones[at], center = centers.subarray(3 * at, 3 * at + 3);
    if (wanted.has(label) && angle > 0) found.push({ label, angle, ...(block.axes === 2 ? wedge(center, angle) : cap(center, angle)) });
  });
  return found;
}

// The same in words, for one class.
export function coneSaid({ block, centerLabels, spec }, label) {
  if (!spec.raw || !block?.cones) return "";
  const [least, most] = [Math.min, Math.max].map((of) => of(...block.cones.filter((_, at) => centerLabels[at] === label)));
  if (!(most > 0)) return most === 0 ? "The margin cannot be met: another center is too near" : "";
  const [low, high] = [least, most].map((angle) => Math.round((angle * 180) / Math.PI));
  return `Margin met within ${low === high ? high : `${low}° to ${high}`}° of ${low === high ? "the center" : "its centers"}`;
}

function wedge([x, y], angle) {
  const middle = Math.atan2(y, x), outline = [0, 0, 0], fill = [];
  for (let part = 0; part <= ROUND; part++) {
    const here = middle + angle * ((2 * part) / ROUND - 1);
    if (part) fill.push(0, 0, 0, ...outline.slice(-3), Math.cos(here), Math.sin(here), 0);
    outline.push(Math.cos(here), Math.sin(here), 0);
  }
  return { outline: new Float32Array([...outline, 0, 0, 0]), fill: new Float32Array(fill) };
}

function cap(center, angle) {
  const length = Math.hypot(...center) || 1, [x, y, z] = center.map((part) => part / length);
  const side = Math.abs(x) < 0.7 ? [0, -z, y] : [z, 0, -x], wide = Math.hypot(...side), u = side.map((part) => part / wide);
  const v = [y * u[2] - z * u[1], z * u[0] - x * u[2], x * u[1] - y * u[0]];
  const place = (theta, turn) => [x, y, z].map((part, axis) =>
    part * Math.cos(theta) + (u[axis] * Math.cos(turn) + v[axis] * Math.sin(turn)) * Math.sin(theta));
  const turns = Array.from({ length: ROUND + 1 }, (_, part) => (part / ROUND) * 2 * Math.PI), fill = [];
  for (let band = 0; band < BANDS; band++) {
    const rings = [band, band + 1].map((edge) => turns.map((turn) => place((angle * edge) / BANDS, turn)));
    for (let part = 0; part < ROUND; part++) {
      const [a, b, c, d] = [rings[0][part], rings[0][part + 1], rings[1][part], rings[1][part + 1]];
      fill.push(...a, ...c, ...b, ...b, ...c, ...d);
    }
  }
  return { outline: new Float32Array(turns.flatMap((turn) => place(angle, turn))), fill: new Float32Array(fill) };
}
