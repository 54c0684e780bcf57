// Two ways to paint the panels: WebGL2, and a flat canvas where that is missing. Both offer
//   hold(panel), forget(panel)   the panel's points changed, are no longer needed
//   move(panel)                  the same points have other places
//   mark(panel)                  the panel's marks changed: per point a tone (tones.js), and PICKED or FADED
//   trail(panel)                 the panel's trails changed: [{ rgb, places: x, y, z of one point at several moments }]
//   colours(classes, tones)      rgb, shape and whether shown, per class; rgb and shape, if it has one, per tone
//   paint(panels, { dpr, paper, line })    panels: [{ panel, lens, rings: indices with a ring, cones, arcs, arrows (all
//                                          three from cones.js, with rgb, arrows with alpha too), deep: 3-D }]

import { project } from "./lens.js";
import { TRAINED } from "./tones.js";

export const PICKED = 1 << 14, FADED = 1 << 15; // beside the tone in a mark
const TONE = 1023;
const SHADE = 0.09, BAND = 0.42; // of a forbidden arc: its wedge, and the band along the rim
const MOST = 2048; // classes, the narrowest texture that every WebGL2 offers
const SHAPES = ["circle", "square", "triangle", "plus", "diamond", "ring"]; // as numbered in the shader
export const OUTLINES = { // the same in a box of 16 x 16
  circle: "M8 3a5 5 0 1 0 0 10a5 5 0 1 0 0-10z", square: "M3.5 3.5h9v9h-9z", triangle: "M8 2.5l6 10.5h-12z",
  plus: "M6 2.5h4v3.5h3.5v4h-3.5v3.5h-4v-3.5h-3.5v-4h3.5z", diamond: "M8 1.5l6.5 6.5l-6.5 6.5l-6.5-6.5z",
};

const VERTEX = `#version 300 es
layout(location=0) in vec3 from; layout(location=1) in vec3 to; layout(location=2) in uint label;
layout(location=3) in uint mark;
uniform mat3 turn; uniform vec2 pan, half_; uniform float zoom, eye, t, size, fog; uniform int shape;
uniform sampler2D inks; uniform vec3 paper;
flat out vec4 ink; flat out int form; flat out float px;
void main() {
  vec3 p = turn * mix(from, to, t);
  float near = 1.0 / max(1.0 - p.z * eye, 0.1);
  vec4 color = texelFetch(inks, ivec2(int(label), 0), 0), more = texelFetch(inks, ivec2(int(label), 1), 0);
  float big = (mark & 16384u) > 0u ? 1.45 : 1.0;
  bool shown = color.a > 0.5, faded = (mark & 32768u) > 0u;     // else: another class is isolated
  if ((mark & 1023u) > 0u) {
    color = texelFetch(inks, ivec2(int(mark & 1023u), 2), 0);
    if (color.a < 0.9) more.r = color.a;                        // a tone with a shape of its own
    if (color.a < 0.9 && color.a > 0.0) big = 1.35;             // the few that a colour is about
  }
  float depth = clamp(-p.z * 0.5, -0.98, 0.98);
  gl_Position = vec4((p.xy * zoom * near + pan) * half_, shown ? depth : 0.99, 1.0);
  px = size * near * (shown ? big : 0.8);
  gl_PointSize = px + 2.0;
  float haze = fog * smoothstep(-1.1, 1.2, -p.z);
  ink = vec4(mix(color.rgb, paper, haze), shown ? (faded ? 0.28 : 1.0) : 0.2);
  form = shape < 0 ? int(more.r * 255.0 + 0.5) : shape;
}`;

const FRAGMENT = `#version 300 es
precision highp float;
flat in vec4 ink; flat in int form; flat in float px;
uniform float alpha, rim; uniform vec3 paper, line;
out vec4 color;
float edge(vec2 p) {                                            // below 0 inside the shape
  vec2 a = abs(p);
  if (form == 1) return max(a.x, a.y) - 0.8;
  if (form == 2) return max(a.x * 0.87 - p.y * 0.5 - 0.45, p.y - 0.65);
  if (form == 3) return max(min(a.x, a.y) - 0.34, max(a.x, a.y) - 0.95);
  if (form == 4) return (a.x + a.y - 0.98) * 0.7071;
  if (form == 5) return abs(length(p) - 0.8) - 0.14;
  return length(p) - 0.9;
}
void main() {
  vec2 p = (gl_PointCoord - 0.5) * 2.0 * (px + 2.0) / px;
  float d = edge(p) * px * 0.5, cover = clamp(0.5 - d, 0.0, 1.0);
  if (cover < 0.02) discard;
  vec3 shade = mix(ink.rgb, paper, min(rim, 1.0) * clamp(d + max(rim, 1.0), 0.0, 1.0));
  if (form == 5) shade = line;
  color = vec4(shade, 1.0) * cover * alpha * ink.a;
}`;

// One part of a line, drawn as a strip of two triangles with soft edges; with wide = 0 a corner of a surface.
// The context needs no multisampling then.
const LINES = `#version 300 es
layout(location=0) in vec3 from; layout(location=1) in vec3 to;
uniform mat3 turn; uniform vec2 pan, half_, px; uniform float zoom, eye, reach, wide;
out float far;
vec2 place(vec3 q) {
  vec3 p = turn * (q * reach);
  return (p.xy * zoom / max(1.0 - p.z * eye, 0.1) + pan) * half_ * px;
}
void main() {
  vec2 a = place(from), b = place(to), along = b - a;
  along = length(along) > 1e-4 ? normalize(along) : vec2(1.0, 0.0);
  far = wide > 0.0 ? (float(gl_VertexID & 1) * 2.0 - 1.0) * (wide * 0.5 + 1.0) : 0.0;
  vec2 p = wide > 0.0 && gl_VertexID > 1 ? b : a;
  gl_Position = vec4((p + vec2(-along.y, along.x) * far) / px, 0.985, 1.0);
}`;
const LINE = `#version 300 es
precision highp float; in float far; uniform vec4 line; uniform float wide; out vec4 color;
void main() {
  color = vec4(line.rgb, 1.0) * line.a * (wide > 0.0 ? clamp(wide * 0.5 + 0.5 - abs(far), 0.0, 1.0) : 1.0);
}`;

export function glPainter(canvas) {
  const gl = canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: true });
  if (!gl) return null;
  const compile = (kind, text) => {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    return shader;
  };
  const program = (vertex, fragment) => {
    const made = gl.createProgram();
    gl.attachShader(made, compile(gl.VERTEX_SHADER, vertex));
    gl.attachShader(made, compile(gl.FRAGMENT_SHADER, fragment));
    gl.linkProgram(made);
    if (!gl.getProgramParameter(made, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(gl.getProgramInfoLog(made));
    const used = { made };
    for (let at = 0; at < gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS); at++) {
      const { name } = gl.getActiveUniform(made, at);
      used[name] = gl.getUniformLocation(made, name);
    }
    return used;
  };
  const dots = program(VERTEX, FRAGMENT), guide = program(LINES, LINE), inks = gl.createTexture();
  const buffers = new Map(), trails = new Map(); // panel -> [points, centers, extra], panel -> trails: vertex arrays
  const globe = lines(circles(), 2), sketch = lines(new Float32Array(3), 1), surface = cloud([new Float32Array(3)]);
  gl.vertexAttribI4ui(3, 0, 0, 0, 0); // the mark of what has none
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  gl.depthFunc(gl.LEQUAL);

  function cloud(columns, labels, order) {
    const array = gl.createVertexArray(), held = [];
    const hold = (kind, values) => {
      held.push(gl.createBuffer());
      gl.bindBuffer(kind, held.at(-1));
      gl.bufferData(kind, values, gl.STATIC_DRAW);
    };
    gl.bindVertexArray(array);
    columns.forEach((column, at) => {
      hold(gl.ARRAY_BUFFER, column);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, 3, gl.FLOAT, false, 0, 0);
    });
    if (labels) {
      hold(gl.ARRAY_BUFFER, labels);
      gl.enableVertexAttribArray(2);
      gl.vertexAttribIPointer(2, 1, gl.UNSIGNED_SHORT, 0, 0);
      hold(gl.ELEMENT_ARRAY_BUFFER, order);
    }
    gl.bindVertexArray(null);
    return { array, held };
  }

  // Parts of lines: `stride` 1 when each begins where the one before ended, 2 when each has both of its ends.
  function lines(places, stride) {
    const array = gl.createVertexArray(), held = [gl.createBuffer()];
    gl.bindVertexArray(array);
    gl.bindBuffer(gl.ARRAY_BUFFER, held[0]);
    gl.bufferData(gl.ARRAY_BUFFER, places, gl.STATIC_DRAW);
    for (const at of [0, 1]) {
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, 3, gl.FLOAT, false, 12 * stride, 12 * at);
      gl.vertexAttribDivisor(at, 1);
    }
    gl.bindVertexArray(null);
    return { array, held };
  }

  // The same number of points in other places: into the buffers that are there.
  function refill({ held }, columns, labels) {
    [...columns, ...(labels ? [labels] : [])].forEach((values, at) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, held[at]);
      gl.bufferSubData(gl.ARRAY_BUFFER, 0, values);
    });
  }

  function drop(kept, panel) {
    for (const { array, held } of kept.get(panel) ?? []) {
      gl.deleteVertexArray(array);
      held.forEach((buffer) => gl.deleteBuffer(buffer));
    }
    kept.delete(panel);
  }

  return {
    name: "webgl2",
    forget(panel) {
      drop(buffers, panel);
      drop(trails, panel);
    },
    trail(panel) {
      drop(trails, panel);
      trails.set(panel, panel.trails.map(({ places }) => lines(places, 1)));
    },
    mark(panel) {
      const [{ array, held }] = buffers.get(panel) ?? [{}];
      if (!array) return;
      gl.bindVertexArray(array);
      if (!held[4]) held[4] = gl.createBuffer();
      gl.bindBuffer(gl.ARRAY_BUFFER, held[4]);
      gl.bufferData(gl.ARRAY_BUFFER, panel.marks, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(3);
      gl.vertexAttribIPointer(3, 1, gl.UNSIGNED_SHORT, 0, 0);
      gl.bindVertexArray(null);
    },
    hold(panel) {
      const { n, m, extra, from, to, oldCenters, centers } = panel, held = buffers.get(panel);
      const clouds = [[from, to, panel.labels], [oldCenters, centers, panel.centerLabels]];
      if (extra) clouds.push([extra.from, extra.to, extra.labels]);
      const counts = [n, m, extra?.n].join();
      if (held?.counts === counts) return clouds.forEach(([a, b, labels], at) => refill(held[at], [a, b], labels));
      drop(buffers, panel);
      buffers.set(panel, Object.assign(clouds.map(([a, b, labels]) => cloud([a, b], labels, mixedOrder(labels.length))), { counts }));
    },
    move(panel) {
      const [points, centers] = buffers.get(panel) ?? [];
      if (!points) return;
      refill(points, [panel.from, panel.to]);
      refill(centers, [panel.oldCenters, panel.centers]);
    },
    colours(classes, tones) {
      const texels = new Uint8Array(3 * MOST * 4);
      tones.forEach(({ rgb, shape }, at) => {
        texels.set([...rgb, shape ? SHAPES.indexOf(shape) : 255], (2 * MOST + at) * 4);
      });
      classes.forEach(({ rgb, shape, shown }, at) => {
        texels.set([...rgb, shown ? 255 : 0], at * 4);
        texels[(MOST + at) * 4] = Math.max(SHAPES.indexOf(shape), 0);
      });
      gl.bindTexture(gl.TEXTURE_2D, inks);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, MOST, 3, 0, gl.RGBA, gl.UNSIGNED_BYTE, texels);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    },
    paint(panels, { dpr, paper, line }) {
      const rgb = (color) => color.map((part) => part / 255);
      gl.disable(gl.SCISSOR_TEST);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      gl.enable(gl.SCISSOR_TEST);
      for (const { panel, lens, rings, cones, arcs, arrows, deep } of panels) {
        const { x, y, w, h } = lens.box, corner = [Math.round(x * dpr), canvas.height - Math.round((y + h) * dpr)];
        gl.viewport(...corner, Math.round(w * dpr), Math.round(h * dpr));
        gl.scissor(...corner, Math.round(w * dpr), Math.round(h * dpr));
        for (const used of [guide, dots]) {
          gl.useProgram(used.made);
          gl.uniformMatrix3fv(used.turn, true, lens.turn);
          gl.uniform2fv(used.pan, lens.pan);
          gl.uniform2fv(used.half_, lens.half);
          gl.uniform1f(used.zoom, lens.zoom);
          gl.uniform1f(used.eye, lens.eye);
        }
        gl.useProgram(guide.made);
        gl.uniform2f(guide.px, (w * dpr) / 2, (h * dpr) / 2);
        const trace = ({ array }, parts, ink, alpha, wide, reach = 1) => {
          gl.bindVertexArray(array);
          gl.uniform1f(guide.reach, reach);
          gl.uniform1f(guide.wide, wide * dpr);
          gl.uniform4f(guide.line, ...rgb(ink), alpha);
          if (wide) gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, parts);
          else gl.drawArrays(gl.TRIANGLES, 0, parts);
        };
        const fresh = ({ held }, places) => {
          gl.bindBuffer(gl.ARRAY_BUFFER, held[0]);
          gl.bufferData(gl.ARRAY_BUFFER, places, gl.STREAM_DRAW);
        };
        gl.disable(gl.DEPTH_TEST);
        const { raw } = panel.spec, round = deep ? 3 * 64 + 3 : 64; // the first circle lies in the plane of 2-D
        if (deep || raw) trace(globe, round, line, raw ? 0.3 : 0.15, 1, raw ? 1 : panel.reach);
        if (!buffers.has(panel)) continue;
        const shade = (fill, ink, alpha) => {
          fresh(surface, fill);
          trace(surface, fill.length / 3, ink, alpha, 0);
        };
        const sweep = (outline, ink, alpha, wide) => {
          fresh(sketch, outline);
          trace(sketch, outline.length / 3 - 1, ink, alpha, wide);
        };
        if (arcs) {
          shade(arcs.fill, line, SHADE);
          for (const outline of arcs.rims) sweep(outline, line, BAND, 5);
          for (const outline of arcs.boundaries) sweep(outline, line, 0.22, 1);
        }
        for (const { rgb: ink, faint, outline, fill } of cones) {
          if (!faint) shade(fill, ink, 0.13);
          sweep(outline, ink, faint ? 0.45 : 0.8, 1.25);
        }
        for (const { rgb: ink, alpha, shaft } of arrows) sweep(shaft, ink, alpha, deep ? 1.75 : 2.25);
        for (const [at, held] of (trails.get(panel) ?? []).entries()) {
          const { rgb: ink, places } = panel.trails[at];
          trace(held, places.length / 3 - 1, ink, 0.75, 1.25);
        }
        const [points, centers, extra] = buffers.get(panel);
        const draw = ({ array }, count, shape, size, alpha, rim, first = 0) => {
          gl.bindVertexArray(array);
          gl.uniform1i(dots.shape, shape);
          gl.uniform1f(dots.size, size * dpr);
          gl.uniform1f(dots.alpha, alpha);
          gl.uniform1f(dots.rim, rim);
          if (shape === 5) gl.drawArrays(gl.POINTS, first, count);
          else gl.drawElements(gl.POINTS, count, gl.UNSIGNED_INT, 0);
        };
        gl.useProgram(dots.made);
        gl.uniform1f(dots.t, panel.t);
        gl.uniform1f(dots.fog, lens.fog);
        gl.uniform3f(dots.paper, ...rgb(paper));
        gl.uniform3f(dots.line, ...rgb(line));
        if (deep) gl.enable(gl.DEPTH_TEST);
        if (extra) {
          gl.vertexAttribI4ui(3, TRAINED, 0, 0, 0);
          draw(extra, panel.extra.n, -1, lens.size * 0.8, lens.alpha * 0.7, 0);
          gl.vertexAttribI4ui(3, 0, 0, 0, 0);
        }
        draw(points, panel.n, -1, lens.size, lens.alpha, lens.size > 5 ? 0.6 : 0);
        gl.disable(gl.DEPTH_TEST);
        if (arrows.some(({ head }) => head.length)) {
          gl.useProgram(guide.made);
          for (const { rgb: ink, alpha, head } of arrows) shade(head, ink, alpha);
          gl.useProgram(dots.made);
        } else if (panel.spec.centers !== false) draw(centers, panel.m, 4, lens.centers, 1, 2 * dpr);
        for (const at of rings) draw(points, 1, 5, lens.size + 9, 1, 0, at);
      }
      gl.bindVertexArray(null);
    },
  };
}

// Three great circles as line segments, 3 x 64 of them, and the three axes: the globe that turns with the points.
function circles() {
  const ends = [];
  for (let axis = 0; axis < 3; axis++) {
    for (let part = 0; part < 128; part++) {
      const angle = (Math.ceil(part / 2) / 64) * 2 * Math.PI, end = [0, 0, 0];
      [end[axis], end[(axis + 1) % 3]] = [Math.cos(angle), Math.sin(angle)];
      ends.push(...end);
    }
  }
  for (let axis = 0; axis < 3; axis++) ends.push(0, 0, 0, ...[0, 1, 2].map((other) => Number(other === axis)));
  return new Float32Array(ends);
}

// An order that mixes a dataset sorted by class, the same each time: no class lies on top of all others.
const orders = new Map();
function mixedOrder(count) {
  if (!orders.has(count)) orders.set(count, mixed(count));
  if (orders.size > 40) orders.delete(orders.keys().next().value);
  return orders.get(count);
}

function mixed(count) {
  const divides = (a, b) => (b ? divides(b, a % b) : a);
  let stride = Math.max(1, Math.round(count * 0.618));
  while (divides(stride, count) > 1) stride++;
  return Uint32Array.from({ length: count }, (_, at) => (at * stride) % Math.max(count, 1));
}

export function flatPainter(canvas) {
  const pen = canvas.getContext("2d"), outlines = Object.fromEntries(
    Object.entries(OUTLINES).map(([shape, outline]) => [shape, new Path2D(outline)]));
  const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
  const globe = circles();
  let inks = [], tones = [];
  return {
    name: "canvas2d",
    hold() {},
    forget() {},
    mark() {},
    move() {},
    trail() {},
    colours(classes, named) { [inks, tones] = [classes, named]; },
    paint(panels, { dpr, paper, line }) {
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.clearRect(0, 0, canvas.width, canvas.height);
      for (const { panel, lens, rings, cones, arcs, arrows, deep } of panels) {
        const { x, y, w, h } = lens.box, now = panel.now();
        const stamp = (places, at, label, shape, size, alpha, mark = 0) => {
          const [px, py, , near] = project(lens, places[3 * at], places[3 * at + 1], places[3 * at + 2]);
          const own = inks[label], ink = mark & TONE ? { ...own, ...tones[mark & TONE] } : own;
          const zoom = (size * near * (mark & PICKED ? 1.45 : 1)) / 11;
          pen.setTransform(dpr * zoom, 0, 0, dpr * zoom, (x + px - 8 * zoom) * dpr, (y + py - 8 * zoom) * dpr);
          pen.globalAlpha = !own?.shown ? 0.12 : mark & FADED ? 0.28 * alpha : alpha;
          pen.fillStyle = css(ink?.rgb ?? line);
          pen.fill(outlines[shape ?? ink?.shape] ?? outlines.circle);
        };
        pen.save();
        pen.setTransform(dpr, 0, 0, dpr, 0, 0);
        pen.beginPath();
        pen.rect(x, y, w, h);
        pen.clip();
        const path = (places, ink, alpha) => {
          pen.setTransform(dpr, 0, 0, dpr, x * dpr, y * dpr);
          pen.globalAlpha = alpha;
          pen.strokeStyle = pen.fillStyle = css(ink);
          pen.beginPath();
          for (let at = 0; at < places.length; at += 3) pen.lineTo(...project(lens, ...places.subarray(at, at + 3)).slice(0, 2));
        };
        if (panel.spec.raw) {
          for (let ring = 0; ring < (deep ? 3 : 1); ring++) {
            path(globe.subarray(ring * 3 * 128, (ring + 1) * 3 * 128), line, 0.28);
            pen.stroke();
          }
        }
        const sweep = (outline, ink, alpha, wide) => {
          path(outline, ink, alpha);
          pen.lineWidth = wide;
          pen.stroke();
          pen.lineWidth = 1;
        };
        for (let at = 0; arcs && at < arcs.fill.length; at += 9) {
          path(arcs.fill.subarray(at, at + 9), line, SHADE);
          pen.fill();
        }
        for (const outline of arcs?.rims ?? []) sweep(outline, line, BAND, 5);
        for (const outline of arcs?.boundaries ?? []) sweep(outline, line, 0.22, 1);
        for (const { rgb: ink, faint, outline } of cones) {
          path(outline, ink, 0.13);
          if (!faint) pen.fill();
          pen.globalAlpha = faint ? 0.45 : 0.8;
          pen.stroke();
        }
        for (const { rgb: ink, alpha, shaft } of arrows) sweep(shaft, ink, alpha, deep ? 1.75 : 2.25);
        const { extra } = panel;
        for (let at = 0; extra && at < extra.n; at++) stamp(extra.to, at, extra.labels[at], null, lens.size * 0.8, lens.alpha * 0.7, TRAINED);
        let order = mixedOrder(panel.n).slice();
        if (deep) {
          const depth = Float32Array.from(order, (_, at) => project(lens, ...now.points.subarray(3 * at, 3 * at + 3))[2]);
          order = order.sort((a, b) => depth[a] - depth[b]);
        }
        for (const at of order) stamp(now.points, at, panel.labels[at], null, lens.size, lens.alpha, panel.marks[at]);
        const heads = arrows.filter(({ head }) => head.length);
        for (const { rgb: ink, alpha, head } of heads) {
          path(head, ink, alpha);
          pen.fill();
        }
        for (let at = 0; panel.spec.centers !== false && !heads.length && at < panel.m; at++) {
          stamp(now.centers, at, panel.centerLabels[at], "diamond", lens.centers, 1);
          pen.lineWidth = 1.2;
          pen.strokeStyle = css(paper);
          pen.stroke(outlines.diamond);
        }
        for (const { rgb, places } of panel.trails) {
          path(places, rgb, 0.75);
          pen.stroke();
        }
        for (const ring of rings) {
          const [px, py] = project(lens, ...now.points.subarray(3 * ring, 3 * ring + 3));
          pen.setTransform(dpr, 0, 0, dpr, 0, 0);
          pen.globalAlpha = 1;
          pen.strokeStyle = css(line);
          pen.lineWidth = 1.6;
          pen.beginPath();
          pen.arc(x + px, y + py, lens.size / 2 + 3.5, 0, 7);
          pen.stroke();
        }
        pen.restore();
      }
    },
  };
}
