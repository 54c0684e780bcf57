// The picture of the embeddings: one canvas, one WebGL2 context, one to seven panels under one camera.
//
// Streamlit (components v2) calls the default export again at every change of data or theme; what must
// outlive that (camera, isolated classes, points on screen) is kept per element in `pictures`.
//
//   data = { panels: [{ id, title, subtitle, url, rotate: 9 numbers (rows of a 3x3) | null, centers: bool }],
//            classes: [{ name, color_light, color_dark, shape }], axes: 2 | 3, height, label, picks: bool }
//
// A panel's `url` names an immutable block of points (points.js says how it is laid out). While a new block
// loads, the old one stays. Emits `picked` {panel, index} when a point is clicked and `picks` is set.

import { clamp, ease, glide, HOME, lensOf, project, turned } from "./faceview/lens.js";
import { flatPainter, glPainter, OUTLINES } from "./faceview/painters.js";
import { between, load, place, reachOf } from "./faceview/points.js";

const MORPH = 300; // ms from the old places to the new
const GAP = 14, NARROWEST = 216; // px between panels; px below which a panel gives up its column
const REACH = 14; // px from the pointer within which a point answers

const pictures = new WeakMap(); // parentElement -> Picture

export default function faceview({ parentElement, data, setTriggerValue }) {
  let picture = pictures.get(parentElement);
  if (!picture) pictures.set(parentElement, (picture = new Picture(parentElement)));
  picture.update(data, setTriggerValue);
  // Streamlit also calls the clean-up of a run that a newer run overtook: end only what has left the page.
  return () => setTimeout(() => {
    if (parentElement.isConnected || !pictures.delete(parentElement)) return;
    picture.close();
  });
}

const element = (tag, name, parent, text = "") => {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  parent?.append(made);
  return made;
};

function swatch(shape, color, parent) {
  const made = element("span", "swatch", parent);
  made.innerHTML = `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${OUTLINES[shape] ?? OUTLINES.circle}"/></svg>`;
  made.style.color = color;
  return made;
}

// One panel: its words in the page, and the points on their way from the old places to the new.
class Panel {
  constructor(stage) {
    this.card = element("section", "panel", stage);
    const head = element("header", "", this.card);
    this.title = element("h4", "", head);
    this.subtitle = element("p", "", head);
    this.view = element("div", "view", this.card);
    this.note = element("p", "note", this.view);
    this.box = { x: 0, y: 0, w: 1, h: 1 };
    Object.assign(this, { n: 0, m: 0, t: 1, asked: 0, got: 0, key: null, reach: 1, oldReach: 1 });
  }

  describe(spec) {
    this.spec = spec;
    this.card.dataset.panel = spec.id;
    this.title.textContent = this.title.title = spec.title ?? "";
    this.subtitle.textContent = this.subtitle.title = spec.subtitle ?? "";
  }

  // Takes a block in. The points that were there before travel, new ones are simply there.
  take(block, rotate, animated) {
    const { points, centers } = this.now(), { n, m, axes, unit } = block;
    this.to = place(block.points, axes, unit, rotate);
    this.centers = place(block.centers, axes, unit, rotate);
    this.from = this.to;
    if (this.n) {
      this.from = this.to.slice();
      this.from.set(points.subarray(0, 3 * Math.min(n, this.n)));
    }
    this.oldCenters = n === this.n && m === this.m ? centers : this.centers;
    const known = this.n > 0, near = reachOf(this.to);
    const far = m && this.spec.centers !== false ? reachOf(this.centers) * 1.05 : 0, reach = clamp(far, near, near * 1.6);
    this.oldReach = this.oldReach + (this.reach - this.oldReach) * this.t;
    if (!known || Math.abs(reach / this.reach - 1) > 0.12) this.reach = reach; // else: do not breathe
    if (!known) this.oldReach = this.reach;
    Object.assign(this, { n, m, labels: block.labels, centerLabels: block.centerLabels });
    this.t = animated && known && this.from !== this.to ? 0 : 1;
    this.since = performance.now();
    this.card.dataset.points = n;
  }

  now() {
    if (!this.n) return { points: this.to, centers: this.centers };
    return { points: between(this.from, this.to, this.t), centers: between(this.oldCenters, this.centers, this.t) };
  }
}

class Picture {
  constructor(parent) {
    this.root = element("div", "faceview", parent);
    element("style", "", this.root, STYLE);
    this.stage = element("div", "stage", this.root);
    this.stage.tabIndex = 0;
    this.stage.setAttribute("role", "group");
    this.canvas = element("canvas", "", this.stage);
    this.canvas.setAttribute("role", "img");
    this.legend = element("div", "legend", this.stage);
    this.legend.setAttribute("role", "group");
    this.legend.setAttribute("aria-label", "Classes: choose one to see it alone");
    this.hint = element("p", "hint", this.stage);
    this.tip = element("div", "tip", this.stage);
    this.tip.hidden = true;
    Object.assign(this, { panels: new Map(), camera: structuredClone(HOME), isolated: new Set(), fingers: new Map() });
    Object.assign(this, { axes: 2, frames: 0, asleep: false, hot: null, glide: null });
    this.painter = glPainter(this.canvas) ?? flatPainter(this.canvas);
    this.root.dataset.painter = this.painter.name;
    this.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.painter = null;
    });
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.painter = glPainter(this.canvas);
      this.dress();
      for (const panel of this.panels.values()) if (panel.n) this.painter.hold(panel);
      this.invalidate();
    });
    this.size = new ResizeObserver(() => this.layout());
    this.size.observe(this.stage);
    this.sight = new IntersectionObserver(([seen]) => {
      this.asleep = !seen.isIntersecting;
      if (this.overdue) this.invalidate();
    });
    this.sight.observe(this.stage);
    this.listen();
  }

  close() {
    this.size.disconnect();
    this.sight.disconnect();
    cancelAnimationFrame(this.due);
    this.canvas.getContext("webgl2")?.getExtension("WEBGL_lose_context")?.loseContext();
    this.closed = true;
    this.root.remove();
  }

  update(data, emit) {
    Object.assign(this, { data, emit, axes: data.axes });
    this.stage.setAttribute("aria-label", data.label ?? "");
    this.canvas.setAttribute("aria-label", data.label ?? "");
    const drag = `drag to ${data.axes === 3 ? "turn" : "move"}`;
    this.hint.textContent = `${drag} · click, then scroll to zoom · double-click to reset`;
    this.dress();
    const ids = new Set(data.panels.map((spec) => spec.id));
    for (const [id, panel] of this.panels) if (!ids.has(id)) this.drop(id, panel);
    let before = this.legend;
    for (const spec of data.panels) {
      if (!this.panels.has(spec.id)) this.panels.set(spec.id, new Panel(this.stage));
      const panel = this.panels.get(spec.id);
      panel.describe(spec);
      if (panel.card.previousElementSibling !== before) before.after(panel.card);
      before = panel.card;
      this.fetch(panel, spec);
    }
    this.layout();
    this.invalidate();
  }

  drop(id, panel) {
    this.painter?.forget(panel);
    panel.card.remove();
    this.panels.delete(id);
    if (this.hot?.panel === panel) this.point(null);
  }

  // The newest block that has arrived is shown; an answer that a newer one overtook is not.
  fetch(panel, { url, rotate }) {
    const key = url + (rotate ?? "");
    if (!url && !panel.n) panel.note.textContent = "No points yet";
    if (!url || key === panel.key) return;
    const turn = ++panel.asked;
    panel.key = key;
    if (!panel.n) panel.note.textContent = "Loading points …";
    load(url).then((block) => {
      if (turn < panel.got || this.panels.get(panel.spec.id) !== panel) return;
      panel.got = turn;
      if (panel === this.hot?.panel && panel.n !== block.n) this.point(null);
      panel.take(block, rotate, !this.still());
      panel.note.textContent = "";
      panel.card.dataset.url = url;
      this.painter?.hold(panel);
      this.invalidate();
    }).catch((error) => {
      if (turn !== panel.asked) return;
      panel.key = null; // the next update asks again
      panel.note.textContent = panel.n ? `Older points: ${error.message}` : error.message;
    });
  }

  still() {
    return this.asleep || matchMedia("(prefers-reduced-motion: reduce)").matches;
  }

  // Colours from the theme, and the legend in them.
  dress() {
    const parts = (color) => (color.match(/[\d.]+/g) ?? [0, 0, 0]).slice(0, 3).map(Number);
    const style = getComputedStyle(this.root), dark = (color) => color[0] * 0.3 + color[1] * 0.59 + color[2] * 0.11 < 110;
    this.theme = { line: parts(style.color), paper: parts(getComputedStyle(this.tip).backgroundColor) };
    this.dark = dark(this.theme.paper);
    this.root.dataset.theme = this.dark ? "dark" : "light";
    this.classes = this.data.classes.map((known, at) => {
      const color = this.dark ? known.color_dark : known.color_light;
      const rgb = [1, 3, 5].map((from) => parseInt(color.slice(from, from + 2), 16));
      return { ...known, color, rgb, shown: !this.isolated.size || this.isolated.has(at) };
    });
    this.painter?.colours(this.classes);
    const key = JSON.stringify(this.classes);
    if (key === this.legendKey) return;
    this.legendKey = key;
    const focused = [...this.legend.children].indexOf(this.root.getRootNode().activeElement);
    this.legend.replaceChildren(...this.classes.map(({ name, shape, color, shown }, at) => {
      const chip = element("button", shown ? "chip" : "chip off");
      swatch(shape, color, chip);
      element("span", "", chip, name);
      chip.type = "button";
      chip.setAttribute("aria-pressed", String(this.isolated.has(at)));
      chip.onclick = (event) => this.isolate(at, event.shiftKey || event.ctrlKey || event.metaKey);
      return chip;
    }));
    this.legend.children[focused]?.focus();
  }

  // One class alone, or one more with a held key; the same again shows all.
  isolate(at, more) {
    const only = this.isolated.size === 1 && this.isolated.has(at), kept = more ? this.isolated : new Set();
    if (kept.has(at)) kept.delete(at);
    else if (!only) kept.add(at);
    this.isolated = kept;
    this.point(null);
    this.dress();
    this.invalidate();
  }

  layout() {
    if (this.closed || !this.data) return;
    const width = this.stage.clientWidth, count = Math.max(1, this.panels.size);
    const fit = Math.min(count, width < 460 ? 1 : 4, Math.max(1, Math.floor((width + GAP) / (NARROWEST + GAP))));
    const lines = Math.ceil(count / fit), columns = Math.ceil(count / lines);
    const share = (this.data.height - GAP * (lines - 1)) / lines;
    const height = columns > 1 ? Math.max(share, 190) : Math.min(this.data.height, Math.max(width * 0.92, 200));
    this.stage.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    this.stage.style.setProperty("--tall", `${Math.round(height)}px`);
    this.legend.classList.toggle("cell", lines * columns > count && this.classes.length <= 14);
    const origin = this.stage.getBoundingClientRect(), tall = this.stage.clientHeight;
    for (const panel of this.panels.values()) {
      const { left, top, width: w, height: h } = panel.view.getBoundingClientRect();
      panel.box = { x: left - origin.left, y: top - origin.top, w: Math.max(w, 1), h: Math.max(h, 1) };
    }
    this.dpr = Math.min(devicePixelRatio || 1, 2, Math.sqrt(2e7 / Math.max(1, width * tall)));
    const [w, h] = [Math.max(1, Math.round(width * this.dpr)), Math.max(1, Math.round(tall * this.dpr))];
    if (this.canvas.width === w && this.canvas.height === h) return this.invalidate();
    Object.assign(this.canvas, { width: w, height: h }); // this clears the canvas: draw before the page is shown
    Object.assign(this.canvas.style, { width: `${width}px`, height: `${tall}px` });
    this.draw(performance.now());
  }

  invalidate() {
    this.due ??= requestAnimationFrame((now) => {
      this.due = null;
      this.draw(now);
    });
  }

  draw(now) {
    if (this.closed || !this.painter) return;
    this.overdue = this.asleep;
    if (this.asleep) return;
    if (this.glide) {
      const t = this.still() ? 1 : clamp((now - this.glide.since) / MORPH, 0, 1);
      this.camera = glide(this.glide.from, HOME, ease(t));
      if (t === 1) this.glide = null;
    }
    const deep = this.axes === 3, moving = [];
    const seen = [...this.panels.values()].map((panel) => {
      if (panel.t < 1) panel.t = ease(clamp((now - panel.since) / MORPH, 0, 1));
      if (panel.t < 1) moving.push(panel);
      const hot = this.hot && this.hot.index >= 0 && panel.n === this.hot.panel.n ? this.hot.index : -1;
      return { panel, deep, hot, lens: lensOf(this, panel) };
    });
    this.painter.paint(seen, { dpr: this.dpr, ...this.theme });
    if (this.hot) this.placeTip();
    this.root.dataset.frames = ++this.frames;
    this.root.dataset.camera = JSON.stringify(this.camera, (_, value) => (value.toFixed ? +value.toFixed(4) : value));
    if (moving.length || this.glide) this.invalidate();
  }

  // ------------------------------------------------------------------------------ pointer, wheel, keyboard

  listen() {
    const { stage, fingers } = this, on = (name, act, options) => stage.addEventListener(name, act, options);
    const panelAt = (event) => {
      const card = event.composedPath().find((node) => node.classList?.contains("view"))?.parentElement;
      return card && this.panels.get(card.dataset.panel);
    };
    const spread = () => {
      const [a, b] = [...fingers.values()];
      return b && { gap: Math.hypot(a.x - b.x, a.y - b.y) || 1, x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
    };
    on("pointerdown", (event) => {
      const panel = panelAt(event);
      if (!panel || event.button) return;
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY, panel, moved: 0 });
      panel.view.setPointerCapture(event.pointerId);
      this.glide = null;
    });
    on("pointermove", (event) => {
      const finger = fingers.get(event.pointerId);
      if (!finger) return this.point(panelAt(event), event);
      const { box } = finger.panel, half = Math.min(box.w, box.h) / 2, before = spread();
      const dx = event.clientX - finger.x, dy = event.clientY - finger.y;
      Object.assign(finger, { x: event.clientX, y: event.clientY, moved: finger.moved + Math.hypot(dx, dy) });
      if (finger.moved < 4) return;
      this.point(null);
      const after = spread();
      if (after) {
        this.zoom(after.gap / before.gap, finger.panel, after.x, after.y);
        this.pan((after.x - before.x) / half, (before.y - after.y) / half);
      } else if (this.axes === 2 || event.shiftKey) this.pan(dx / half, -dy / half);
      else this.turn(dy / half, dx / half);
    });
    const release = (event) => {
      const finger = fingers.get(event.pointerId);
      fingers.delete(event.pointerId);
      if (event.type !== "pointerup" || !finger || finger.moved >= 4) return;
      this.point(finger.panel, event);
      if (this.hot && this.hot.index >= 0 && this.data.picks) {
        this.emit?.("picked", { panel: finger.panel.spec.id, index: this.hot.index });
      }
    };
    on("pointerup", release);
    on("pointercancel", release);
    on("pointerleave", () => this.point(null));
    on("dblclick", (event) => panelAt(event) && this.home());
    on("wheel", (event) => {
      const panel = panelAt(event); // only a picture in use takes the wheel from the page
      if (!panel || !(event.ctrlKey || stage.matches(":focus-within"))) return;
      event.preventDefault();
      const step = clamp(-event.deltaY * (event.deltaMode ? 30 : 1), -120, 120) * (event.ctrlKey ? 0.01 : 0.002);
      this.zoom(Math.exp(step), panel, event.clientX, event.clientY);
    }, { passive: false });
    on("keydown", (event) => {
      if (event.target !== stage) return;
      const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
      const zoom = { "+": 1.2, "=": 1.2, "-": 1 / 1.2 }[event.key];
      if (event.key === "Escape") {
        this.isolated.clear();
        this.dress();
      } else if (event.key === "0") this.home();
      else if (zoom) this.zoom(zoom);
      else if ((x || y) && this.axes === 3) this.turn(y * 0.12, x * 0.12);
      else if (x || y) this.pan(-x * 0.08, y * 0.08);
      else return;
      event.preventDefault();
      this.invalidate();
    });
  }

  turn(rx, ry) {
    this.camera.q = turned(this.camera.q, rx, ry);
    this.invalidate();
  }

  pan(dx, dy) {
    const [x, y] = this.camera.pan, far = this.camera.zoom * 1.5;
    this.camera.pan = [clamp(x + dx, -far, far), clamp(y + dy, -far, far)];
    this.invalidate();
  }

  // By a factor, around a point of the screen if one is given.
  zoom(by, panel, clientX, clientY) {
    const old = this.camera.zoom, zoom = clamp(old * by, 0.4, 40), k = zoom / old;
    this.camera.zoom = zoom;
    if (panel) {
      const { left, top, width, height } = panel.view.getBoundingClientRect(), half = Math.min(width, height) / 2;
      const [u, v] = [(clientX - left - width / 2) / half, (top + height / 2 - clientY) / half], [x, y] = this.camera.pan;
      this.camera.pan = [u - (u - x) * k, v - (v - y) * k];
    }
    this.pan(0, 0);
  }

  home() {
    this.glide = { from: this.camera, since: performance.now() };
    this.invalidate();
  }

  // What lies under the pointer: a center before a point; its ring shows in every panel with the same points.
  point(panel, event) {
    const hot = panel?.n ? this.nearest(panel, event) : null, was = this.hot;
    this.hot = hot;
    this.stage.classList.toggle("over", Boolean(hot));
    if (hot?.panel !== was?.panel || hot?.index !== was?.index) this.invalidate();
    this.tip.hidden = !hot;
    if (!hot) return;
    const known = this.classes[hot.label] ?? { name: `class ${hot.label}`, color: "currentColor" };
    this.tip.replaceChildren();
    swatch(hot.index < 0 ? "diamond" : known.shape, known.color, this.tip);
    element("b", "", this.tip, known.name);
    element("span", "", this.tip, hot.index < 0 ? "class center" : `#${hot.index}`);
    this.placeTip();
  }

  // Beside its point, wherever that has moved.
  placeTip() {
    const { panel, index } = this.hot, { points, centers } = panel.now(), at = 3 * (index < 0 ? -index - 1 : index);
    const [x, y] = project(lensOf(this, panel), ...(index < 0 ? centers : points).subarray(at, at + 3));
    const { offsetWidth: wide, offsetHeight: tall } = this.tip, left = panel.box.x + x, top = panel.box.y + y;
    this.tip.style.left = `${clamp(left - wide / 2, 0, this.stage.clientWidth - wide)}px`;
    this.tip.style.top = `${top > tall + 14 ? top - tall - 12 : top + 14}px`;
  }

  nearest(panel, event) {
    const { left, top } = panel.view.getBoundingClientRect(), [mx, my] = [event.clientX - left, event.clientY - top];
    const lens = lensOf(this, panel), now = panel.now();
    const search = (places, labels, sign) => {
      let best = null, least = REACH ** 2;
      for (let at = 0; at < labels.length; at++) {
        if (this.classes[labels[at]]?.shown === false) continue;
        const [x, y, depth] = project(lens, places[3 * at], places[3 * at + 1], places[3 * at + 2]);
        const far = (x - mx) ** 2 + (y - my) ** 2 - depth; // of two equally near, the one in front
        if (far < least) [best, least] = [{ panel, index: sign < 0 ? -1 - at : at, label: labels[at] }, far];
      }
      return least < 36 || sign > 0 ? best : null;
    };
    const center = panel.spec.centers === false ? null : search(now.centers, panel.centerLabels, -1);
    return center ?? search(now.points, panel.labels, 1);
  }
}

const STYLE = `
.faceview { font-family: var(--st-font, sans-serif); color: var(--st-text-color, #31333f); line-height: 1.3;
  --quiet: color-mix(in srgb, currentColor 62%, transparent); --hair: color-mix(in srgb, currentColor 13%, transparent); }
.stage { position: relative; display: grid; gap: ${GAP}px; outline: none; border-radius: var(--st-base-radius, .5rem); }
.stage:focus-visible { outline: 2px solid var(--st-primary-color, #3f90da); outline-offset: 4px; }
canvas { position: absolute; inset: 0 auto auto 0; pointer-events: none; }
.panel { position: relative; min-width: 0; }
header { display: flex; align-items: baseline; gap: .5em; padding: 0 2px 6px; min-width: 0; }
h4 { margin: 0; font: 600 14px/1.3 var(--st-heading-font, var(--st-font, sans-serif)); letter-spacing: -.005em;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; flex: 0 1 auto; }
header p { margin: 0 0 0 auto; font-size: 12px; color: var(--quiet); font-variant-numeric: tabular-nums;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; flex: 0 1 auto; }
.view { position: relative; height: calc(var(--tall, 240px) - 25px); box-sizing: border-box; border: 1px solid var(--hair);
  border-radius: var(--st-base-radius, .5rem); cursor: grab; touch-action: pan-y; user-select: none; }
.view:active { cursor: grabbing; }
.over .view:not(:active) { cursor: pointer; }
.note { position: absolute; inset: auto 8px 6px; margin: 0; font-size: 11.5px; color: var(--quiet); text-align: center; }
.legend { grid-column: 1 / -1; display: flex; flex-wrap: wrap; align-items: center; gap: 2px 4px; margin: 0 0 0 -7px; }
.legend:not(.cell) { max-height: 8.5em; overflow-y: auto; }
.legend.cell { grid-column: auto; order: 1; flex-direction: column; flex-wrap: nowrap; align-items: flex-start;
  align-self: center; justify-content: center; padding-left: 12px; }
.chip { display: inline-flex; align-items: center; gap: 5px; max-width: 100%; padding: 2px 7px; border: 0;
  border-radius: 99px; background: none; font: 13px/1.5 var(--st-font, sans-serif); color: inherit; cursor: pointer;
  transition: opacity .15s, background .15s; }
.chip:hover { background: var(--hair); }
.chip:focus-visible { outline: 2px solid var(--st-primary-color, #3f90da); }
.chip.off { opacity: .38; }
.chip span:last-child { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.swatch { flex: none; display: inline-flex; }
.swatch svg { width: 13px; height: 13px; fill: currentColor; }
.hint { grid-column: 1 / -1; order: 2; margin: -8px 2px 0; font-size: 11.5px; text-align: right; color: var(--quiet);
  opacity: 0; transition: opacity .25s; }
.stage:hover .hint, .stage:focus-within .hint { opacity: 1; }
@media (hover: none) { .hint { display: none; } }
.tip { position: absolute; z-index: 2; display: flex; align-items: center; gap: 6px; padding: 4px 9px; pointer-events: none;
  font-size: 12.5px; white-space: nowrap; background: var(--st-background-color, #fff); border: 1px solid var(--hair);
  border-radius: var(--st-base-radius, .5rem); box-shadow: 0 3px 12px rgb(0 0 0 / .1); }
.tip[hidden] { display: none; }
.tip b { font-weight: 600; }
.tip > span:last-child { color: var(--quiet); font-variant-numeric: tabular-nums; }
`;
