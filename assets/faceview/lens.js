// The camera that all panels share, and how it projects a place into a panel. A camera is
// { q: a turn as a quaternion, used in 3-D only, zoom, pan: [x, y] in halves of a panel }.

const EYE = 3.4, FILL = 0.9; // distance of the eye in 3-D, share of the panel that the points fill

export const HOME = { q: [-0.14, 0.2, 0.03, 0.9693], zoom: 1, pan: [0, 0] };

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
export const ease = (t) => (t < 0.5 ? 4 * t ** 3 : 1 - (2 - 2 * t) ** 3 / 2);

// A camera on its way from one to another, k in 0..1.
export function glide(from, to, k) {
  const q = from.q.map((part, at) => part + (to.q[at] - part) * k), length = Math.hypot(...q) || 1;
  return {
    q: q.map((part) => part / length), zoom: from.zoom * (to.zoom / from.zoom) ** k,
    pan: from.pan.map((part, at) => part + (to.pan[at] - part) * k),
  };
}

// The turn q, then rx about the screen's x axis and ry about its y axis (radians).
export function turned([x, y, z, w], rx, ry) {
  const angle = Math.hypot(rx, ry) || 1e-9, s = Math.sin(angle / 2) / angle, c = Math.cos(angle / 2);
  const [a, b] = [rx * s, ry * s]; // (a, b, 0, c) * (x, y, z, w)
  const q = [c * x + a * w + b * z, c * y + b * w - a * z, c * z + a * y - b * x, c * w - a * x - b * y];
  const length = Math.hypot(...q);
  return q.map((part) => part / length);
}

// Whether a place of the screen lies inside a polygon: [[x, y], ...].
export function inside(polygon, x, y) {
  let within = false;
  for (let at = 0, before = polygon.length - 1; at < polygon.length; before = at++) {
    const [ax, ay] = polygon[at], [bx, by] = polygon[before];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
  }
  return within;
}

// The nearest shown point to a place of the panel, among those less than `reach` px away: its index and how far, in
// px^2, of two equally near the one in front; -1 for none. Points are on their way from `from` to `to`.
export function nearest({ turn, zoom, pan, eye, half, box }, { from, to, t, labels }, hidden, mx, my, reach) {
  const [a, b, c, d, e, f, g, h, i] = turn, flat = eye === 0, moving = t < 1 && from !== to;
  const wide = box.w / 2, tall = box.h / 2, sx = half[0] * wide, sy = half[1] * tall;
  let best = -1, least = reach * reach;
  for (let at = 0, place = 0; at < labels.length; at++, place += 3) {
    let x = to[place], y = to[place + 1], z = to[place + 2], near = 1, depth = 0;
    if (moving) {
      x = from[place] + (x - from[place]) * t;
      y = from[place + 1] + (y - from[place + 1]) * t;
      z = from[place + 2] + (z - from[place + 2]) * t;
    }
    if (!flat) {
      depth = g * x + h * y + i * z;
      near = 1 / Math.max(1 - depth * eye, 0.1);
    }
    const dx = wide + ((a * x + b * y + c * z) * zoom * near + pan[0]) * sx - mx;
    if (dx > reach || dx < -reach) continue;
    const dy = tall - ((d * x + e * y + f * z) * zoom * near + pan[1]) * sy - my, far = dx * dx + dy * dy - depth;
    if (far < least && !hidden[labels[at]]) [best, least] = [at, far];
  }
  return [best, least];
}

// The same turn as the rows of a 3x3.
function rows([x, y, z, w]) {
  return [
    1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w), 2 * (x * y + z * w), 1 - 2 * (x * x + z * z),
    2 * (y * z - x * w), 2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
  ];
}

// How a panel is seen: the same few numbers for the shader, the flat painter and the pointer.
export function lensOf(picture, panel) {
  const { camera, axes } = picture, { w, h } = panel.box, half = Math.min(w, h) / 2;
  const reach = panel.oldReach + (panel.reach - panel.oldReach) * panel.t;
  const turn = axes === 3 ? rows(camera.q) : [1, 0, 0, 0, 1, 0, 0, 0, 1];
  const crowd = Math.sqrt((w * h) / Math.max(panel.n, 1)) * 0.46;
  return {
    turn: turn.map((part) => part / reach), zoom: camera.zoom * FILL, pan: camera.pan, eye: axes === 3 ? 1 / EYE : 0,
    half: [half / (w / 2), half / (h / 2)], box: panel.box, fog: axes === 3 ? 0.6 : 0,
    size: clamp(crowd, 3.4, 8.5) * clamp(camera.zoom, 0.5, 12) ** 0.4, centers: clamp(half / 8, 17, 24),
    alpha: axes === 3 ? 0.96 : clamp(1.42 - 0.18 * Math.log10(panel.n + 1), 0.65, 0.92),
  };
}

// Where a place lies in the panel: [x px, y px, depth (towards the eye is positive), size factor].
export function project({ turn, zoom, pan, eye, half, box }, x, y, z) {
  const depth = turn[6] * x + turn[7] * y + turn[8] * z, near = 1 / Math.max(1 - depth * eye, 0.1);
  const u = (turn[0] * x + turn[1] * y + turn[2] * z) * zoom * near + pan[0];
  const v = (turn[3] * x + turn[4] * y + turn[5] * z) * zoom * near + pan[1];
  return [(1 + u * half[0]) * box.w / 2, (1 - v * half[1]) * box.h / 2, depth, near];
}
