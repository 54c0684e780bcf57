// What a head's margin makes of the circle and the sphere, as the run measured it.
// Margin cones: the places around a class's center that satisfy the margin, on the circle an arc with its wedge, on the
// sphere a cap with its ring. Forbidden arcs: the places of the circle that satisfy it for no class. Arrows: the
// centers themselves. All reach out to `rim`, the radius of the circle or sphere.

const ROUND = 64, BANDS = 6; // parts of an arc or a ring, bands of a cap
const NARROW = 0.005; // radians; an arc no wider than that is a boundary without a margin
export const TIP = 0.94; // where the arrows of the circle end, short of the points on its rim

// [{ label, angle, outline: x, y, z of a polygon, fill: x, y, z of triangles }] of the classes that `wanted` has.
export function conesOf({ block, centerLabels, spec, rim = 1 }, centers, wanted) {
  if (!spec.raw || !block?.cones) return [];
  const found = [];
  centerLabels.forEach((label, at) => {
    const angle = block.cones[at], center = centers.subarray(3 * at, 3 * at + 3);
    if (!wanted.has(label) || !(angle > 0)) return;
    const { outline, fill } = block.axes === 2 ? wedge(center, angle) : cap(center, angle);
    found.push({ label, angle, outline: outline.map((part) => part * rim), fill: fill.map((part) => part * rim) });
  });
  return found;
}

// The forbidden arcs of a panel: { fill: x, y, z of triangles, edges: [x, y, z of lines along the rim and of boundaries] }.
export function arcsOf({ block, spec, basis, rim = 1 }) {
  if (!spec.raw || block?.axes !== 2 || !block.arcs.length) return null;
  const fill = [], rims = [], boundaries = [], [a, b, , c, d] = basis ?? [1, 0, 0, 0, 1];
  const place = (angle, far) => {
    const [x, y] = [Math.cos(angle) * far * rim, Math.sin(angle) * far * rim];
    return [a * x + b * y, c * x + d * y, 0];
  };
  for (let at = 0; at < block.arcs.length; at += 2) {
    const [start, end] = block.arcs.slice(at, at + 2), parts = Math.max(1, Math.ceil((end - start) * 16));
    if (end - start <= NARROW) {
      boundaries.push(new Float32Array([0, 0, 0, ...place((start + end) / 2, 1)]));
      continue;
    }
    const turns = Array.from({ length: parts + 1 }, (_, part) => start + ((end - start) * part) / parts);
    for (let part = 0; part < parts; part++) fill.push(0, 0, 0, ...place(turns[part], 1), ...place(turns[part + 1], 1));
    rims.push(new Float32Array(turns.flatMap((turn) => place(turn, 1.055))));
  }
  return { fill: new Float32Array(fill), rims, boundaries };
}

// The same in words: how much of the circle is forbidden, or what the rings on the sphere are.
export function arcsSaid({ block, spec }) {
  if (spec.raw && block?.axes === 3 && block.cones) return "Inside its ring a class meets the margin";
  if (!spec.raw || block?.axes !== 2 || !block.arcs.length) return "";
  const wide = block.arcs.map((edge, at) => (at % 2 ? edge - block.arcs[at - 1] : 0)).filter((one) => one > NARROW);
  const share = wide.reduce((sum, one) => sum + one, 0) / (2 * Math.PI);
  if (share > 0.999) return "The margin forbids the whole circle: no place is left";
  return wide.length ? `Shaded, ${Math.round(share * 100)}%: no class meets the margin here` : "";
}

// The centers as arrows: [{ label, shaft: x, y, z of its two ends, head: x, y, z of a triangle, on the circle only }].
export function arrowsOf({ block, centerLabels, spec }, centers, zoom) {
  if (!spec.raw || spec.centers === false || !block) return [];
  return Array.from(centerLabels, (label, at) => {
    const [x, y, z] = centers.subarray(3 * at, 3 * at + 3), long = Math.hypot(x, y, z) || 1;
    if (block.axes === 3) return { label, shaft: new Float32Array([0, 0, 0, x, y, z]), head: new Float32Array(0) };
    const big = (long * 0.13) / Math.max(zoom, 0.5), [u, v] = [(x / long) * big, (y / long) * big], [bx, by] = [x - u, y - v];
    return {
      label, shaft: new Float32Array([0, 0, 0, bx + u / 2, by + v / 2, 0]),
      head: new Float32Array([x, y, 0, bx - v * 0.42, by + u * 0.42, 0, bx + v * 0.42, by - u * 0.42, 0]),
    };
  });
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
