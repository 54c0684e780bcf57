// The picture of the embeddings: one canvas, one WebGL2 context, one to seven panels under one camera.
//
// Streamlit (components v2) calls the default export again at every change of data or theme; what must
// outlive that (camera, clock, selection, points on screen) is kept per element in `pictures`, and in the URL.
//
//   data = { panels: [{ id, title, subtitle, url, rotate: 9 numbers (rows of a 3x3) | null, centers: bool,
//                       steps: [moments of the panel], total: steps in all, facts: url, images: url, inspected: url,
//                       told: words about its last moment, raw: bool, linear: bool, tour: url, known: url,
//                       known_steps: [moments of it] }],
//            classes: [{ name, color_light, color_dark, shape }], axes: 2 | 3, height, label, live: bool,
//            scale: [ink from little to much], judged: { word: ink }, sheet: { across, side }, picks, wishes: bool,
//            file: how the names of saved pictures begin }
//
// Addresses name immutable blocks (points.js says how they are laid out); "*" in one stands for a step or the number
// of a sheet. While a new block loads, the old one stays. Emits `picked` {panel, index} when a point is clicked and
// `picks` is set, and `wished` {projection} or {axes} for keys that only the page can follow, where `wishes` is set.

import { Axes } from "./faceview/axes.js";
import { Clock } from "./faceview/clock.js";
import { arcsOf, arcsSaid, arrowsOf, coneSaid, conesOf, TIP } from "./faceview/cones.js";
import { save } from "./faceview/export.js";
import { Inspector } from "./faceview/inspector.js";
import { clamp, ease, glide, HOME, inside, lensOf, nearest, project, turned } from "./faceview/lens.js";
import { button, choice, degrees, element, press, swatch, tell, thumbnail, told } from "./faceview/page.js";
import { FADED, flatPainter, glPainter, PICKED } from "./faceview/painters.js";
import { between, load, place, reachOf, stretch } from "./faceview/points.js";
import { COLOURS, ENDS, table, tonesOf } from "./faceview/tones.js";
import { after, alike, frame, named, STRIDE } from "./faceview/tour.js";

const STYLE = await (await fetch(new URL("./faceview/style.css", import.meta.url))).text();
const MORPH = 300, SCRUB = 90; // ms from the old places to the new, and while somebody moves the clock
const RINGS = 24, WAY = 32; // selected points with a ring and a trail, moments of a trail
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

// One panel: its words in the page, and the points on their way from the old places to the new.
class Panel {
  constructor(stage) {
    this.card = element("section", "panel", stage);
    const head = element("header", "", this.card);
    this.title = element("h2", "", head);
    this.subtitle = element("p", "", head);
    this.view = element("div", "view", this.card);
    this.note = element("p", "note", this.view);
    this.axes = new Axes(this.view);
    this.box = { x: 0, y: 0, w: 1, h: 1 };
    Object.assign(this, { n: 0, m: 0, t: 1, asked: 0, got: 0, held: null, reach: 1, oldReach: 1, rim: 1, trails: [], step: null });
  }

  describe(spec) {
    this.spec = spec;
    this.card.dataset.panel = spec.id;
    this.title.textContent = this.title.title = spec.title ?? "";
    this.title.hidden = !spec.title;
    this.caption();
  }

  caption() {
    const { step, quality, spec } = this;
    this.subtitle.textContent = step === null ? spec.subtitle ?? "" : `step ${step}`;
    if (this.block?.axes > 3) return; // the numbers below are about another view
    if (step !== null && quality && spec.raw) this.subtitle.append(` · KNN ${percent(quality[1])}`); // nothing is lost here
    else if (step !== null && quality) {
      element("span", "", this.subtitle, ` · trust ${quality[0].toFixed(2)}`); // left out where it is narrow
      this.subtitle.append(` · KNN ${percent(quality[1])}`);
      if (quality[2] >= 0) element("span", "", this.subtitle, ` of ${percent(quality[2])}`);
      if (quality[3] >= 0) element("span", "", this.subtitle, ` · ${percent(quality[3])} of variance`);
    }
    if (step !== null && step === spec.steps?.at(-1) && spec.told) element("span", "", this.subtitle, ` · ${spec.told}`);
    this.subtitle.title = this.subtitle.textContent;
  }

  // The newest step at or before a place in training; null before the first, undefined without a track.
  stepAt(share) {
    const { steps, total } = this.spec;
    return steps?.length ? steps.findLast((step) => step / total <= share + 1e-9) ?? null : undefined;
  }

  // The image that a point stands for, which is the same in every panel, and back.
  key(at) {
    return this.rows?.[at] ?? at;
  }

  find(key) {
    const at = this.rows ? this.places.get(key) ?? -1 : key;
    return at < this.n ? at : -1;
  }

  learn(facts) {
    this.facts = facts?.n === this.n ? facts : null;
    if (!facts || facts.n <= (this.rows?.length ?? 0)) return;
    this.rows = facts.rows; // their order is the same at every step
    this.places = new Map(Array.from(facts.rows, (row, at) => [row, at]));
  }

  // What the picture says, in words.
  summary() {
    const { facts, labels, n, spec, extra } = this, head = spec.title ? `${spec.title}: ` : "";
    if (!facts) return `${head}${n} images.`;
    const wrong = labels.reduce((sum, label, at) => sum + (facts.predictions[at] !== label), 0);
    const angles = facts.angles.filter((angle) => angle >= 0).sort();
    const apart = angles.length ? `, half of them within ${degrees(angles[angles.length >> 1])} of their own center` : "";
    const many = facts.predictions.some((guess) => guess >= 0) ? `${wrong} of ${n} images wrong` : `${n} images`;
    return `${head}${many}${apart}${extra ? `, beside ${extra.n} training images` : ""}.`;
  }

  // What the axes are called; nothing where they mean nothing, as when panels were turned to look alike.
  names(shown) {
    const { block, spec } = this;
    if (spec.raw && (spec.title || this.note.textContent)) return [];
    return block && (spec.raw || spec.linear || block.axes > 3) ? named(this, shown) : [];
  }

  // Training images on the same axes, under the others; null for none.
  beside(block, rotate) {
    const was = this.extra, to = block && place(block.points, block.axes, block.unit, rotate);
    this.extra = block && { n: block.n, labels: block.labels, from: was?.n === block.n ? was.to : to, to };
  }

  // Takes a block in. The points that were there before travel for some ms, new ones are simply there. With `lengths`
  // they are drawn that far from the origin instead of on the circle or sphere.
  take(block, rotate, ms, steady, lengths) {
    const { points, centers } = this.now(), { n, m, axes, unit } = block;
    Object.assign(this, { block, basis: rotate });
    this.to = place(block.points, axes, unit, rotate);
    if (lengths) stretch(this.to, lengths);
    this.rim = lengths ? reachOf(this.to) : 1;
    const tip = this.spec.raw && axes === 2 ? this.rim * TIP : this.rim;
    this.centers = place(block.centers, axes, unit * tip, rotate);
    this.from = this.to;
    if (this.n) {
      this.from = this.to.slice();
      this.from.set(points.subarray(0, 3 * Math.min(n, this.n)));
    }
    this.oldCenters = n === this.n && m === this.m ? centers : this.centers;
    const known = this.n > 0, near = reachOf(this.to);
    const far = this.spec.raw ? this.rim * 1.08 : m && this.spec.centers !== false ? reachOf(this.centers) * 1.05 : 0, reach = clamp(far, near, near * 1.6);
    this.oldReach = this.oldReach + (this.reach - this.oldReach) * this.t;
    if (!known || Math.abs(reach / this.reach - 1) > 0.12) this.reach = reach; // else: do not breathe
    if (!known) this.oldReach = this.reach;
    Object.assign(this, { n, m, labels: block.labels, centerLabels: block.centerLabels, quality: block.quality });
    Object.assign(this, { ms, steady, t: ms && known && this.from !== this.to ? 0 : 1 });
    this.since = performance.now();
    this.card.dataset.points = n;
  }

  // The same block on another basis, as a tour goes on.
  see(basis) {
    const { points, centers, axes, unit } = this.block;
    this.basis = basis;
    place(points, axes, unit, basis, this.to);
    place(centers, axes, unit, basis, this.centers);
  }

  // Where one point, or center (-1 is the first), is now.
  spot(index) {
    const at = 3 * (index < 0 ? -index - 1 : index), to = index < 0 ? this.centers : this.to, from = index < 0 ? this.oldCenters : this.from;
    return between(from.subarray(at, at + 3), to.subarray(at, at + 3), this.t);
  }

  now() {
    if (!this.n) return { points: this.to, centers: this.centers };
    return { points: between(this.from, this.to, this.t), centers: between(this.oldCenters, this.centers, this.t) };
  }
}

// Whether a button can be used: a key does no more than it.
const free = (one) => one.checkVisibility() && getComputedStyle(one).pointerEvents !== "none";
const percent = (share) => `${Math.round(share * 100)}%`;

class Picture {
  constructor(parent) {
    this.root = element("div", "faceview", parent);
    element("style", "", this.root, STYLE);
    this.stage = element("div", "stage", this.root);
    this.stage.tabIndex = 0;
    this.stage.setAttribute("role", "group");
    this.canvas = element("canvas", "", this.stage);
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", "A picture that is being drawn");
    this.legend = element("div", "legend", this.stage);
    this.legend.setAttribute("role", "group");
    this.legend.setAttribute("aria-label", "Classes: choose one to see it alone");
    this.hint = element("p", "hint", this.stage);
    this.tip = element("div", "tip", this.stage);
    this.tip.hidden = true;
    this.tip.setAttribute("role", "status");
    Object.assign(this, { panels: new Map(), camera: structuredClone(HOME), isolated: new Set(), fingers: new Map() });
    Object.assign(this, { axes: 2, frames: 0, asleep: false, hot: null, hovered: null, inspected: null, glide: null, path: location.pathname });
    this.clock = new Clock(this.stage, (ms) => this.travel(ms), () => [...this.panels.values()].every((panel) => panel.got === panel.asked));
    this.recall();
    this.equip();
    this.inspector = new Inspector(this.root, this);
    this.painter = glPainter(this.canvas) ?? flatPainter(this.canvas);
    this.root.dataset.painter = this.painter.name;
    this.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.painter = null;
    });
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.painter = glPainter(this.canvas);
      this.dress();
      for (const panel of this.panels.values()) if (panel.n) this.hold(panel);
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
    clearTimeout(this.noting);
    this.clock.playing = false;
    this.canvas.getContext("webgl2")?.getExtension("WEBGL_lose_context")?.loseContext();
    this.closed = true;
    this.root.remove();
  }

  update(data, emit) {
    Object.assign(this, { data, emit, axes: data.axes });
    this.stage.setAttribute("aria-label", data.label ?? "");
    const drag = `drag to ${data.axes === 3 ? "turn" : "move"}`, keys = data.wishes ? " · p t u, d: another picture" : "";
    const tour = data.panels.some((spec) => spec.tour) ? " · g: tour" : "";
    const alone = data.panels.length > 1 ? " · 1–7: one panel" : "";
    this.hint.textContent = `${drag} · click, then scroll to zoom · double-click to reset · space, ← →: time · n, Enter: images${alone}${tour}${keys}`;
    this.clock.update(data.panels, data.live);
    const ids = new Set(data.panels.map((spec) => spec.id));
    for (const [id, panel] of this.panels) if (!ids.has(id)) this.drop(id, panel);
    let before = this.legend;
    for (const spec of data.panels) {
      if (!this.panels.has(spec.id)) this.panels.set(spec.id, new Panel(this.stage));
      const panel = this.panels.get(spec.id);
      panel.describe(spec);
      if (panel.card.previousElementSibling !== before) before.after(panel.card);
      before = panel.card;
      this.fetch(panel, MORPH);
    }
    this.dress();
    this.offer();
    this.layout();
    this.inspector.show();
    this.invalidate();
  }

  drop(id, panel) {
    this.painter?.forget(panel);
    panel.card.remove();
    this.panels.delete(id);
    if (this.hot?.panel === panel) this.point(null);
  }

  // The clock was moved: each panel goes to its moment.
  travel(ms) {
    for (const panel of this.panels.values()) this.fetch(panel, ms || SCRUB);
    this.invalidate();
  }

  // The newest block that has arrived is shown; an answer that a newer one overtook is not.
  fetch(panel, ms) {
    const { spec } = panel, touring = this.tour && spec.tour, step = panel.stepAt(this.clock.share), { playing } = this.clock;
    const rotate = touring ? null : spec.rotate;
    const url = step === null ? null : step === undefined ? spec.url : (touring || spec.url)?.replace("*", step);
    const long = this.long && spec.raw;
    const plain = playing && this.mode === "class" && !long; // nobody can look at a single point then
    const factsUrl = plain || step === undefined ? null : spec.facts?.replace("*", step);
    const firstUrl = this.mode === "moved" && step !== undefined && !touring ? spec.url.replace("*", spec.steps[0]) : null;
    const split = this.mode === "split" && !touring, knownUrl = split && spec.known_steps?.includes(step) ? spec.known.replace("*", step) : null;
    panel.empty = step === null;
    if (panel.empty) panel.note.textContent = "No picture of this moment yet";
    else if (!url && !panel.n) panel.note.textContent = "No points yet";
    const held = [url, rotate, factsUrl, firstUrl, knownUrl, long].join(" ");
    if (!url || held === panel.held) return;
    const turn = ++panel.asked;
    panel.held = held;
    if (!panel.n) panel.note.textContent = "Loading points …";
    else if (touring && panel.block.axes <= 3) panel.note.textContent = "Computing the leading axes …";
    const more = (address) => address && load(address).catch(() => null);
    Promise.all([load(url), more(factsUrl), more(firstUrl), more(knownUrl)]).then(([block, facts, first, known]) => {
      if (turn < panel.got || this.panels.get(panel.spec.id) !== panel) return;
      panel.got = turn;
      if (panel === this.hot?.panel && panel.n !== block.n) this.point(null);
      const lengths = long && facts?.n === block.n && facts.lengths[0] >= 0 ? facts.lengths : null; // an older run has none
      panel.take(block, block.axes > 3 ? this.frame(panel, block) : rotate, this.still() ? 0 : ms, playing, lengths);
      panel.beside(known, rotate);
      panel.learn(facts);
      panel.origin = first && place(first.points, first.axes, first.unit, rotate);
      panel.step = step ?? null;
      panel.caption();
      this.comment(panel);
      panel.card.dataset.url = url;
      this.hold(panel);
      this.follow(panel);
      this.ahead(panel);
      this.inspector.show();
    }).catch((error) => {
      if (turn !== panel.asked) return;
      panel.got = turn;
      panel.held = null; // the next update asks again
      panel.note.textContent = panel.n ? `Older points: ${error.message}` : error.message;
    });
  }

  // The panel's next few moments, before somebody asks for them.
  ahead({ spec, step }) {
    const at = spec.steps?.indexOf(step) ?? -1;
    if (at >= 0 && !this.tour) for (const next of spec.steps.slice(at + 1, at + 4)) load(spec.url.replace("*", next)).catch(() => {});
  }

  // Hands points, marks and trails to the painter.
  hold(panel) {
    this.painter?.hold(panel);
    this.painter?.trail(panel);
    if (this.mode === "versus") this.remark();
    else this.mark(panel);
    clearTimeout(this.saying);
    this.saying = setTimeout(() => this.say(), 200);
  }

  // The way of the selected points to where they are now.
  follow(panel) {
    const { spec, step } = panel, keys = this.picked.size <= RINGS ? [...this.picked] : [], turn = (panel.way = {});
    const before = (spec.steps ?? []).filter((one) => one <= step), stride = Math.ceil(before.length / WAY);
    const found = keys.map((key) => panel.find(key)).filter((at) => at >= 0);
    const wanted = this.trailing && !this.tour && !this.long && found.length && before.length > 1;
    const moments = wanted ? before.filter((_, at) => (before.length - 1 - at) % stride === 0) : [];
    Promise.all(moments.map((one) => load(spec.url.replace("*", one)))).then((blocks) => {
      if (turn !== panel.way) return;
      panel.trails = found.filter(() => blocks.length).map((at) => ({
        rgb: this.classes[panel.labels[at]]?.rgb ?? this.theme.line,
        places: Float32Array.from(blocks.filter((block) => at < block.n).flatMap(({ points, axes, unit }) =>
          [...place(points.subarray(at * axes, (at + 1) * axes), axes, unit, spec.rotate)])),
      }));
      this.painter?.trail(panel);
      this.root.dataset.trails = panel.trails.length;
      this.invalidate();
    }).catch(() => {}); // a trail that cannot be had is not drawn
  }

  // The colours of a panel's points, and which of them are selected.
  mark(panel) {
    if (!panel.n) return;
    panel.marks = tonesOf(this.mode, panel, ...this.rivals());
    const { picked } = this;
    if (picked.size) for (let at = 0; at < panel.n; at++) panel.marks[at] |= picked.has(panel.key(at)) ? PICKED : FADED;
    for (const at of (panel.near ?? []).map((key) => panel.find(key))) panel.marks[at] &= ~FADED;
    this.painter?.mark(panel);
    this.invalidate();
  }

  remark() {
    for (const panel of this.panels.values()) this.mark(panel);
  }

  // The two panels that "right in A, wrong in B" compares.
  rivals() {
    const panels = [...this.panels.values()];
    return this.versus.map((at, place) => panels[at] ?? panels[place]);
  }

  // What the picture shows, for those who cannot see it.
  say() {
    const said = [...this.panels.values()].filter(({ n, empty }) => n && !empty).map((panel) => panel.summary());
    const time = this.clock.bar.hidden ? "" : `${this.clock.word.textContent}.`, touring = this.touring() && "A tour of the leading axes.";
    this.canvas.setAttribute("aria-label", [`${this.data.label ?? ""}.`, time, touring, ...said].filter(Boolean).join(" "));
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
    const ink = (one) => {
      const color = this.dark ? one.color_dark : one.color_light;
      return { ...one, color, rgb: [1, 3, 5].map((from) => parseInt(color.slice(from, from + 2), 16)) };
    };
    this.judged = Object.entries(this.data.judged ?? {}).map(([word, one]) => ({ word, ...ink(one) }));
    this.scale = (this.data.scale ?? []).map(ink);
    this.painter?.colours(this.classes, this.scale.length ? table(this.scale, this.judged) : []);
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
    for (const panel of this.panels.values()) this.comment(panel);
    this.point(null);
    this.dress();
    this.invalidate();
  }

  layout() {
    if (this.closed || !this.data) return;
    for (const [id, panel] of this.panels) panel.card.hidden = this.alone !== null && this.panels.has(this.alone) && id !== this.alone;
    const width = this.stage.clientWidth, count = Math.max(1, this.seen().length);
    const fit = Math.min(count, width < 460 ? 1 : 4, Math.max(1, Math.floor((width + GAP) / (NARROWEST + GAP))));
    const lines = Math.ceil(count / fit), columns = Math.ceil(count / lines);
    const share = (this.data.height - GAP * (lines - 1)) / lines;
    const square = (width - GAP * (columns - 1)) / columns + 40; // taller than this a panel is empty above and below
    const height = columns > 1 ? Math.max(Math.min(share, square), 190) : Math.min(this.data.height, Math.max(width * 0.92, 200));
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
    const ringed = new Set(this.picked.size <= RINGS ? this.picked : []), touring = this.touring() && this.walk(now);
    if (this.hot?.index >= 0) ringed.add(this.hot.panel.key(this.hot.index));
    for (const key of [this.inspected, this.hovered]) if (key !== null) ringed.add(key);
    const seen = this.seen().filter(({ empty }) => !empty).map((panel) => {
      if (panel.t < 1) {
        const t = clamp((now - panel.since) / panel.ms, 0, 1);
        panel.t = panel.steady ? t : ease(t);
      }
      if (panel.t < 1) moving.push(panel);
      if (touring && panel.block?.axes > 3) {
        panel.see(this.frame(panel, panel.block));
        this.painter.move(panel);
      }
      const rings = [...ringed].map((key) => panel.find(key)).filter((at) => at >= 0), lens = lensOf(this, panel);
      panel.axes.tell(panel.names(this.axes), deep);
      if (deep) panel.axes.place(lens, panel.spec.raw ? panel.rim : panel.reach);
      return { panel, deep, rings, lens, cones: this.cones(panel), arcs: panel.n ? arcsOf(panel) : null, arrows: this.arrows(panel) };
    });
    this.painter.paint((this.painted = seen), { dpr: this.dpr, ...this.theme });
    if (this.hot) this.placeTip();
    this.root.dataset.frames = ++this.frames;
    this.root.dataset.camera = JSON.stringify(this.camera, (_, value) => (value.toFixed ? +value.toFixed(4) : value));
    if (moving.length || this.glide || (this.tour?.playing && touring)) this.invalidate();
    else if (!this.clock.playing) this.remember();
  }

  // The panels on the page; another one may be shown alone.
  seen() {
    return [...this.panels.values()].filter(({ card }) => !card.hidden);
  }

  // ------------------------------------------------------------------- colour, selection, the address of the page

  // What the address says of the picture: where the clock is, what is selected, how it is seen.
  recall() {
    const camera = (told("camera") ?? "").split("_").map(Number), at = Number(told("at") ?? NaN);
    if (camera.length === 7 && camera.every(Number.isFinite)) {
      const length = Math.hypot(...camera.slice(0, 4)) || 1;
      this.camera = { q: camera.slice(0, 4).map((part) => part / length), zoom: clamp(camera[4], 0.4, 40), pan: camera.slice(5) };
    }
    this.clock.at = at >= 0 && at <= 1 ? at : null;
    this.mode = told("colour") in COLOURS ? told("colour") : "class";
    this.picked = new Set((told("picked") ?? "").split("_").filter(Boolean).map(Number).filter(Number.isInteger));
    this.inspected = this.picked.size === 1 ? [...this.picked][0] : /^\d+$/.test(told("image")) ? Number(told("image")) : null;
    this.versus = /^\d_\d$/.test(told("versus")) ? told("versus").split("_").map(Number) : [0, 1];
    this.alone = told("alone");
    this.long = told("lengths") === "1";
    this.trailing = true;
    const tour = Number(told("tour") ?? NaN);
    this.tour = tour >= 0 ? { at: tour, playing: false } : null;
  }

  remember() {
    clearTimeout(this.noting);
    this.noting = setTimeout(() => {
      if (this.closed || location.pathname !== this.path) return;
      const short = ({ q, zoom, pan }) => [...q, zoom, ...pan].map((part) => +part.toFixed(3)).join("_");
      tell({
        at: this.clock.at === null ? "" : String(+this.clock.share.toFixed(5)),
        colour: this.mode === "class" ? "" : this.mode,
        versus: this.mode === "versus" ? this.versus.join("_") : "",
        picked: this.picked.size <= 200 ? [...this.picked].join("_") : "",
        image: this.picked.size > 1 && this.inspected !== null ? String(this.inspected) : "",
        camera: short(this.camera) === short(HOME) ? "" : short(this.camera),
        alone: this.alone ?? "",
        lengths: this.long && this.data.panels.some((spec) => spec.raw) ? "1" : "",
        tour: this.tour && this.data.panels.some((spec) => spec.tour) ? this.tour.at.toFixed(2) : "",
      });
    }, 250);
  }

  // The tools under the panels: colour, lasso, trails, and what is selected.
  equip() {
    this.tools = element("div", "tools", this.stage);
    this.colourChoice = choice("Colour of the points (c)", COLOURS, this.tools, (mode) => this.colour(mode));
    this.rivalChoices = [0, 1].map((place) => choice("AB"[place], {}, this.tools, (at) => {
      this.versus[place] = Number(at);
      this.remark();
    }));
    this.key = element("span", "key", this.tools);
    this.longButton = button("Lengths", "Draw features as long as they are, not on the circle or sphere (f)", this.tools, () => this.stretch());
    this.lassoButton = button("Lasso", "Draw around points to select them (l)", this.tools, () => this.lasso(!this.lassoing));
    this.trailButton = button("Trails", "Show the way of the selected points", this.tools, () => {
      this.trailing = !this.trailing;
      this.select(this.picked);
    });
    this.tourButton = button("Tour", "Turn slowly through the leading axes (g)", this.tools, () => this.roam());
    this.tourEnd = button("✕", "End the tour (Esc)", this.tools, () => this.roam(null));
    this.clearButton = button("Clear", "Select nothing (Esc)", this.tools, () => this.select([]));
    const files = element("span", "files", this.tools);
    for (const [kind, what] of [["png", "an image"], ["svg", "a drawing that can be scaled and edited"]]) {
      button(kind.toUpperCase(), `Save this picture as ${what}`, files, () => save(this, kind));
    }
    this.clock.bar.part = "time"; // parts are what a style outside may hide or lock, by these names
    for (const one of [this.colourChoice, ...this.rivalChoices]) one.part = "colour";
    for (const one of [this.tourButton, this.tourEnd]) one.part = "tour";
    Object.entries({ lengths: this.longButton, lasso: this.lassoButton, trails: this.trailButton, save: files }).forEach(([part, one]) => (one.part = part));
    this.loop = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.loop.innerHTML = "<path/>";
    this.loop.setAttribute("class", "loop");
    this.stage.append(this.loop);
  }

  // Which of the tools make sense, and what the colours mean.
  offer() {
    const { data, mode } = this, facts = data.panels.some((spec) => spec.facts), moments = this.clock.moments.length > 1;
    const raw = facts && data.panels.some((spec) => spec.raw), flat = !(raw && this.long);
    const possible = { class: true, right: facts, angle: facts, loss: facts, length: facts, versus: facts && data.panels.length > 1 };
    Object.assign(possible, { moved: moments && flat, split: flat && data.panels.some((spec) => spec.known) });
    for (const option of this.colourChoice.options) option.hidden = option.disabled = !possible[option.value];
    if (!possible[mode] && this.panels.size) return this.colour("class");
    this.colourChoice.value = mode;
    this.rivalChoices.forEach((select, place) => {
      select.hidden = mode !== "versus";
      const names = data.panels.map((spec, at) => `${"AB"[place]}: ${spec.title || at + 1}`);
      if (names.join() !== select.dataset.names) select.replaceChildren(...names.map((name, at) => new Option(name, at)));
      select.dataset.names = names.join();
      select.value = this.versus[place];
    });
    this.key.replaceChildren();
    if (ENDS[mode]) {
      const words = ENDS[mode].map((word) => element("span", "", null, word)), bar = element("i", "");
      bar.style.background = `linear-gradient(90deg, ${this.scale.map(({ color }) => color).join()})`;
      this.key.append(words[0], bar, ...words.slice(1));
    }
    const named = { right: [1, 2], versus: [3, 4, 5, 6], split: [7, 8] }[mode] ?? [];
    for (const at of named) {
      swatch(this.judged[at].shape, this.judged[at].color, this.key);
      element("span", "", this.key, this.judged[at].word);
    }
    const { size } = this.picked;
    this.clearButton.hidden = !size;
    this.clearButton.textContent = `${size} selected ✕`;
    this.trailButton.hidden = !moments || !size || size > RINGS;
    press(this.trailButton, this.trailing);
    this.longButton.hidden = !raw;
    press(this.longButton, Boolean(this.long));
    press(this.lassoButton, Boolean(this.lassoing));
    this.tourButton.hidden = !data.panels.some((spec) => spec.tour);
    this.tourEnd.hidden = this.tourButton.hidden || !this.tour;
    press(this.tourButton, Boolean(this.tour?.playing));
  }

  // From directions to features as long as they are, and back.
  stretch() {
    this.long = !this.long;
    this.point(null);
    this.offer();
    this.travel(2 * MORPH);
  }

  colour(mode) {
    this.mode = mode;
    this.offer();
    this.travel(0);
    this.remark();
  }

  select(keys) {
    this.picked = new Set(keys);
    if (this.picked.size === 1) [this.inspected] = this.picked;
    else if (!this.picked.has(this.inspected)) this.inspected = null;
    for (const panel of this.panels.values()) {
      this.mark(panel);
      if (panel.n) this.follow(panel);
    }
    this.offer();
    this.inspector.show();
    this.invalidate();
    this.remember(); // drawing does, but not while the picture is out of sight
  }

  // Looks at one image: beside a list of several it changes which, else it is the one selected.
  inspect(key) {
    if (this.picked.size < 2) return this.select(key === null ? [] : [key]);
    this.inspected = key;
    this.inspector.bidden = true;
    this.inspector.show();
    this.invalidate();
    this.remember();
  }

  // Rings the point of an image that is under the pointer elsewhere.
  hover(key) {
    if (key === this.hovered) return;
    this.hovered = key;
    this.invalidate();
  }

  // Selects the point that is pointed at, alone or beside the others; the same again lets it go.
  pick(more) {
    const { panel, index } = this.hot, key = panel.key(index), was = this.picked.has(key) && (more || this.picked.size === 1);
    this.inspector.bidden = true;
    this.select([...(more ? this.picked : []), key].filter((one) => !was || one !== key));
    if (this.data.picks) this.emit?.("picked", { panel: panel.spec.id, index });
  }

  lasso(on) {
    this.lassoing = on;
    this.stage.classList.toggle("lassoing", on);
    this.offer();
  }

  // The points of a panel inside a drawn loop; with a held key, beside those selected before.
  catch(panel, loop, more) {
    const lens = lensOf(this, panel), { points } = panel.now(), found = new Set(more ? this.picked : []);
    for (let at = 0; at < panel.n; at++) {
      if (this.classes[panel.labels[at]]?.shown === false) continue;
      const [x, y] = project(lens, points[3 * at], points[3 * at + 1], points[3 * at + 2]);
      if (inside(loop, x, y)) found.add(panel.key(at));
    }
    this.inspector.judge = panel.spec.id;
    this.select(found);
  }

  // ------------------------------------------------------------------------------ the grand tour, margin cones

  // Starts the tour, halts it and goes on; null ends it. Where nothing may move by itself it goes on by a stride.
  roam(way) {
    if (way === null) this.tour = null;
    else if (this.tour && this.still()) this.tour.at += STRIDE;
    else this.tour = this.tour ? { ...this.tour, playing: !this.tour.playing } : { at: 0, playing: !this.still() };
    this.point(null);
    this.offer();
    this.travel(MORPH);
  }

  touring() {
    return this.tour && [...this.panels.values()].some(({ block }) => block?.axes > 3);
  }

  // The tour's view of a panel's block, turned so that its classes lie as those of the first panel do.
  frame(panel, block) {
    const rows = frame(this.tour?.at ?? 0, this.axes, block.axes), first = this.seen().find((other) => other.block?.axes === block.axes);
    if (!first || first === panel) return rows;
    if (block.likened !== first.block) Object.assign(block, { likened: first.block, turn: alike(block, first.block) });
    return after(rows, block.turn, block.axes);
  }

  // The tour goes on to this moment.
  walk(now) {
    if (this.tour.playing) this.tour.at += clamp(now - (this.tour.then ?? now), 0, 100) / 1000;
    this.tour.then = now;
    return true;
  }

  // The margin cones of the classes that the legend shows alone; on the sphere the rings of all, if it shows all.
  cones(panel) {
    const faint = !this.isolated.size;
    if ((faint && this.axes === 2) || !panel.n) return [];
    const wanted = faint ? new Set(panel.centerLabels) : this.isolated;
    return conesOf(panel, panel.now().centers, wanted).map((cone) => ({ ...cone, faint, rgb: this.classes[cone.label]?.rgb ?? this.theme.line }));
  }

  // The centers as arrows, where there is a circle or sphere that they reach to.
  arrows(panel) {
    if (!panel.n) return [];
    return arrowsOf(panel, panel.now().centers, this.camera.zoom).map((arrow) => {
      const { rgb = this.theme.line, shown = true } = this.classes[arrow.label] ?? {};
      return { ...arrow, rgb, alpha: shown ? 1 : 0.2 };
    });
  }

  // The line at the foot of a panel: what is missing in it, the cone of the class shown alone, or what is forbidden.
  comment(panel) {
    const split = this.mode === "split" && panel.n && !panel.extra && !this.tour, [alone] = this.isolated;
    if (panel.empty || !panel.n) return;
    const said = this.isolated.size === 1 ? coneSaid(panel, alone) : arcsSaid(panel);
    panel.note.textContent = split ? "Training images were not embedded at this moment" : said;
  }

  only(id) {
    this.alone = this.alone === id ? null : id;
    this.layout();
    this.invalidate();
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
      if (this.tour?.playing) this.roam();
    });
    on("pointermove", (event) => {
      const finger = fingers.get(event.pointerId);
      if (!finger) return this.point(panelAt(event), event);
      const { box } = finger.panel, half = Math.min(box.w, box.h) / 2, before = spread();
      const dx = event.clientX - finger.x, dy = event.clientY - finger.y;
      Object.assign(finger, { x: event.clientX, y: event.clientY, moved: finger.moved + Math.hypot(dx, dy) });
      if (finger.moved < 4) return;
      this.point(null);
      if (this.lassoing && fingers.size === 1) {
        const { left, top } = finger.panel.view.getBoundingClientRect();
        (finger.loop ??= []).push([event.clientX - left, event.clientY - top]);
        const drawn = finger.loop.map(([x, y]) => `${Math.round(x + box.x)} ${Math.round(y + box.y)}`).join("L");
        return this.loop.firstChild.setAttribute("d", `M${drawn}z`);
      }
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
      this.loop.firstChild.removeAttribute("d");
      if (event.type !== "pointerup" || !finger) return;
      const more = event.shiftKey || event.ctrlKey || event.metaKey;
      if (finger.loop) return this.catch(finger.panel, finger.loop, more);
      if (finger.moved >= 4) return;
      this.point(finger.panel, event);
      if (this.hot?.index >= 0) this.pick(more);
      else if (!more && this.picked.size) this.select([]);
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
      const { key, target } = event, pressed = target.tagName === "BUTTON" && ![" ", "Enter"].includes(key);
      if ((target !== stage && !pressed) || event.ctrlKey || event.metaKey || event.altKey) return;
      const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key] ?? [0, 0];
      const zoom = { "+": 1.2, "=": 1.2, "-": 1 / 1.2 }[key], ids = [...this.panels.keys()], many = ids.length > 1;
      const projection = { p: "pca", t: "tsne", u: "umap" }[key], axes = { d: 5 - this.axes, ...(many ? {} : { 2: 2, 3: 3 }) }[key];
      if (key === "Escape") {
        this.isolated.clear();
        this.lasso(false);
        this.select([]);
        if (this.alone !== null) this.only(this.alone);
        if (this.tour) this.roam(null);
        this.dress();
      } else if (key === "Enter" && target === stage) this.enter(event.shiftKey);
      else if (key === "0") this.home();
      else if (key === " " && free(this.clock.bar)) this.clock.play(!this.clock.playing);
      else if (x && !event.shiftKey && free(this.clock.bar)) this.clock.step(x);
      else if ((key === "Home" || key === "End") && free(this.clock.bar)) this.clock.go(key === "End" ? null : 0);
      else if (many && ids[Number(key) - 1]) this.only(ids[Number(key) - 1]);
      else if (key === "l" && free(this.lassoButton)) this.lasso(!this.lassoing);
      else if (key === "c" && free(this.colourChoice)) this.nextColour();
      else if (key === "f" && free(this.longButton)) this.stretch();
      else if (key === "g" && free(this.tourButton)) this.roam();
      else if (key === "n" || key === "N") this.next(event.shiftKey ? -1 : 1);
      else if (this.data.wishes && (projection || axes)) this.emit?.("wished", projection ? { projection } : { axes });
      else if (zoom) this.zoom(zoom);
      else if ((x || y) && this.axes === 3) this.turn(y * 0.12, x * 0.12);
      else if (x || y) this.pan(-x * 0.08, y * 0.08);
      else return;
      event.preventDefault();
      this.invalidate();
    });
  }

  // Inspects what is selected, or the image nearest to the middle of the first panel.
  enter(more) {
    const [panel] = this.seen().filter(({ n, empty }) => n && !empty), { hot } = this;
    if (hot?.index >= 0 && !this.picked.has(hot.panel.key(hot.index))) this.pick(more);
    else if (!this.picked.size && panel) {
      const { left, top, width, height } = panel.view.getBoundingClientRect();
      const found = this.nearest(panel, { clientX: left + width / 2, clientY: top + height / 2 }, Infinity);
      if (found) this.select([panel.key(found.index)]);
    }
    this.inspector.enter();
  }

  nextColour() {
    const modes = [...this.colourChoice.options].filter((option) => !option.disabled).map((option) => option.value);
    this.colour(modes[(modes.indexOf(this.mode) + 1) % modes.length]);
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
    this.aim(panel?.n ? this.nearest(panel, event) : null);
  }

  // The next image of the classes shown, or the one before, for those who point with keys.
  next(by) {
    const panel = this.hot?.panel ?? this.seen().find(({ n }) => n);
    if (!panel?.n) return;
    let at = this.hot?.index ?? (by > 0 ? -1 : 0);
    for (let tries = 0; tries < panel.n; tries++) {
      at = (Math.max(at, by > 0 ? -1 : 0) + by + panel.n) % panel.n;
      if (this.classes[panel.labels[at]]?.shown !== false) return this.aim({ panel, index: at, label: panel.labels[at] });
    }
  }

  aim(hot) {
    const was = this.hot, panel = hot?.panel;
    this.hot = hot;
    this.stage.classList.toggle("over", Boolean(hot));
    if (hot?.panel !== was?.panel || hot?.index !== was?.index) this.invalidate();
    this.tip.hidden = !hot;
    if (!hot) return;
    const known = this.classes[hot.label] ?? { name: `class ${hot.label}`, color: "currentColor" };
    this.tip.replaceChildren();
    const { facts, spec } = panel, { index } = hot;
    if (index >= 0 && spec.images) thumbnail({ images: spec.images, sheet: this.data.sheet }, index, this.tip);
    const words = element("div", "", this.tip), first = element("div", "", words);
    swatch(index < 0 ? "diamond" : known.shape, known.color, first);
    element("b", "", first, known.name);
    element("span", "", first, index < 0 ? "class center" : `#${panel.key(index)}`);
    if (index >= 0 && facts) {
      const guess = facts.predictions[index], angle = facts.angles[index], loss = facts.losses[index];
      if (guess >= 0) element("div", guess === hot.label ? "right" : "wrong", words, guess === hot.label ? "✓ named right" : `✗ taken for ${this.classes[guess]?.name}`);
      const long = facts.lengths[index];
      const told = [angle >= 0 && `${degrees(angle)} to its center`, loss >= 0 && `loss ${loss.toFixed(2)}`, long >= 0 && `length ${long.toFixed(1)}`].filter(Boolean);
      if (told.length) element("div", "quiet", words, told.join(" · "));
    }
    this.placeTip();
  }

  // Beside its point, wherever that has moved.
  placeTip() {
    const { panel, index } = this.hot, [x, y] = project(lensOf(this, panel), ...panel.spot(index));
    const { offsetWidth: wide, offsetHeight: tall } = this.tip, left = panel.box.x + x, top = panel.box.y + y;
    this.tip.style.left = `${clamp(left - wide / 2, 0, this.stage.clientWidth - wide)}px`;
    this.tip.style.top = `${top > tall + 14 ? top - tall - 12 : top + 14}px`;
  }

  nearest(panel, event, reach = REACH) {
    const { left, top } = panel.view.getBoundingClientRect(), [mx, my] = [event.clientX - left, event.clientY - top];
    const lens = lensOf(this, panel), { from, to, t, labels, oldCenters, centers, centerLabels } = panel;
    const hidden = this.classes.map(({ shown }) => !shown);
    if (panel.spec.centers !== false && reach <= REACH) {
      const [at] = nearest(lens, { from: oldCenters, to: centers, t, labels: centerLabels }, hidden, mx, my, 6);
      if (at >= 0) return { panel, index: -1 - at, label: centerLabels[at] };
    }
    const [at] = nearest(lens, { from, to, t, labels }, hidden, mx, my, reach);
    return at < 0 ? null : { panel, index: at, label: labels[at] };
  }
}
