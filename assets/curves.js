// Pictures over angles whose axes stay where they are while a slider moves their lines. faces/figures.py describes one:
// a question, tables of angles, lines and areas over them, dots, marks across the picture, and words.

const SVG = "http://www.w3.org/2000/svg";
const QUIET = { fill: "currentColor", "fill-opacity": 0.68, "font-size": ".72rem" };
const DASHES = { dash: "7 5", dot: "2 4", dashdot: "7 4 2 4" };
const SAVE = "M8 2v8m0 0 3-3m-3 3-3-3M3 13h10";
const STYLE = `
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(290px, 100%), 1fr)); gap: 1.4rem 1.5rem;
  font: .875rem/1.5 var(--st-font, sans-serif); color: var(--st-text-color); }
figure { margin: 0; min-width: 0; position: relative; }
figure.wide { grid-column: 1 / -1; }
h2 { font: 600 1rem/1.5 var(--st-font, sans-serif); margin: 0; }
.plot { position: relative; touch-action: pan-y; }
svg { display: block; width: 100%; overflow: visible; }
h2[hidden] { display: none; }
.legend:empty { display: none; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; min-height: 1.3rem; font-size: .8125rem; line-height: 1.3rem; }
.legend span, .tip span { display: inline-flex; align-items: center; gap: .4rem; }
.legend svg, .tip svg { width: 22px; height: 8px; flex: none; }
figcaption { margin-top: .35rem; color: color-mix(in srgb, currentColor 68%, transparent); }
.tip { position: absolute; z-index: 2; top: 14px; padding: .3rem .6rem; pointer-events: none; font-size: .75rem; line-height: 1.45;
  display: grid; grid-template-columns: auto auto; gap: 0 .8rem; background: var(--st-background-color, #fff);
  border: 1px solid color-mix(in srgb, currentColor 15%, transparent); border-radius: var(--st-base-radius, .5rem);
  box-shadow: 0 3px 12px rgb(0 0 0 / .1); font-variant-numeric: tabular-nums; white-space: nowrap; }
.tip[hidden] { display: none; }
.tip b { grid-column: 1 / -1; }
.tip i { font-style: normal; text-align: right; }
.tip .faint { opacity: .75; }
button { position: absolute; top: 0; right: 0; padding: 2px 5px; border: 0; border-radius: .3rem; background: none; color: inherit;
  cursor: pointer; opacity: 0; }
button svg { width: 16px; height: 16px; fill: none; stroke: currentColor; stroke-width: 1.5; }
figure:hover button, button:focus-visible { opacity: .75; }
button:focus-visible { outline: 2px solid var(--st-primary-color); }
`;

const mounted = new WeakMap(); // what is in an element

export default function curves({ parentElement, data }) {
  if (!mounted.has(parentElement)) mounted.set(parentElement, new Curves(parentElement, data.pictures.length));
  const these = mounted.get(parentElement);
  const update = these.update(data);
  return () => these.leave(update); // which Streamlit may call when the next update is there already
}

const REST = 150; // milliseconds without a change until the next steps are asked for
const KEPT = 40; // answers

// Some pictures. Those of a page whose sliders they follow do not wait for it: Streamlit runs the page when a slider has
// come to rest, and sends the same pictures then. They are asked for while it moves, and those of the next step to
// either side before it is made: then that step is drawn at once.
class Curves {
  constructor(parent, count) {
    const root = html("div", "curves", parent);
    html("style", "", root, STYLE);
    this.charts = Array.from({ length: count }, () => new Chart(root));
    this.watch = new MutationObserver(() => this.follow());
    this.focused = () => this.ahead(); // whatever it is: a slider, perhaps
    this.known = new Map(); // pictures by what was wished for, those drawn last at the end
    this.failed = new Set(); // what was wished for in vain since the page has last sent pictures
    this.updates = 0;
  }

  update(data) {
    this.leave(this.updates);
    this.data = data;
    if (data.followed) this.sent(JSON.stringify(data.followed.asked), data.pictures);
    else this.draw(data.pictures);
    return ++this.updates;
  }

  sent(wish, pictures) {
    if (this.known.has(wish) && JSON.stringify(this.known.get(wish)) !== JSON.stringify(pictures)) {
      this.known.clear(); // the server has another formula than before
      this.shown = null;
    }
    this.failed.clear();
    this.keep(wish, pictures);
    this.here = true;
    this.watch.observe(document.body, { subtree: true, attributes: true, attributeFilter: ["value"] });
    document.addEventListener("focusin", this.focused);
    this.follow();
  }

  leave(update) {
    if (update !== this.updates) return;
    this.here = false;
    this.watch.disconnect();
    document.removeEventListener("focusin", this.focused);
    clearTimeout(this.resting);
  }

  // Draw what the sliders say: what is known, or else what the server answers, one question at a time.
  async follow() {
    if (!this.here) return;
    const { followed } = this.data, wish = wished(followed, numbers(followed)), before = this.shown;
    this.ahead();
    if (this.known.has(wish)) this.show(wish);
    else if (!this.asking && !this.failed.has(wish)) {
      this.asking = true;
      await this.ask(wish);
      this.asking = false;
      if (this.shown === before && this.known.has(wish)) this.show(wish); // else the page was faster
      this.follow();
    }
  }

  // Ask for the steps beside where the slider in use is, once it rests; one that is made meanwhile does not wait for it.
  ahead() {
    clearTimeout(this.resting);
    this.resting = setTimeout(async () => {
      const wish = beside(this.data.followed).find((one) => !this.known.has(one) && !this.failed.has(one));
      if (!wish || this.foreseeing) return;
      this.foreseeing = true;
      await this.ask(wish);
      this.foreseeing = false;
      this.follow();
    }, REST);
  }

  async ask(wish) {
    const found = await fetch(`${this.data.followed.address}?asked=${encodeURIComponent(wish)}`)
      .then((told) => (told.ok ? told.json() : null)).catch(() => null);
    if (found) this.keep(wish, found.pictures);
    else this.failed.add(wish);
  }

  keep(wish, pictures) {
    this.known.delete(wish);
    this.known.set(wish, pictures);
    if (this.known.size > KEPT) this.known.delete(this.known.keys().next().value);
  }

  show(wish) {
    if (wish === this.shown) return;
    const pictures = this.known.get(wish);
    this.keep(wish, pictures);
    this.shown = wish;
    this.draw(pictures);
  }

  draw(pictures) {
    const rem = wordSize(); // asked once, before anything is touched
    pictures.forEach((spec, at) => this.charts[at].update(spec, rem));
  }
}

const sliderOf = (name) => document.querySelector(`.${name} input[type=range]`);

// What the sliders say, by their names: what was asked, where a slider only rounds that.
function numbers({ asked, sliders }) {
  const now = {};
  for (const [name, way] of Object.entries(sliders)) {
    const slider = sliderOf(name), was = way.reduce((part, key) => part[key], asked);
    now[name] = slider && Math.abs(slider.value - was) > slider.step / 2 + 1e-9 ? Number(slider.value) : was;
  }
  return now;
}

// What was asked, with other numbers.
function wished({ asked, sliders }, now) {
  const wish = structuredClone(asked);
  for (const [name, way] of Object.entries(sliders)) {
    way.slice(0, -1).reduce((part, key) => part[key], wish)[way.at(-1)] = now[name];
  }
  return JSON.stringify(wish);
}

// The wishes one step up and one down from here, of the slider in use.
function beside(followed) {
  const now = numbers(followed), name = Object.keys(now).find((one) => sliderOf(one) === document.activeElement);
  if (!name) return [];
  const { value, step, min, max } = sliderOf(name);
  return [1, -1].map((way) => Number((Number(value) + way * step).toFixed(9)))
    .filter((number) => number >= min && number <= max)
    .map((number) => wished(followed, { ...now, [name]: number }));
}

// How large words are, larger on a projector: what 16 pixels are elsewhere is 1.
const wordSize = () => parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;

function html(tag, name, parent, text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = text;
  parent.append(made);
  return made;
}

// The next element within its parent: the one that was there when all was drawn last, told only what has changed.
function svg(tag, attributes, parent, text = "") {
  const place = (parent.drawn ??= 0);
  let made = parent.children[place];
  if (made?.tagName !== tag) {
    const other = made;
    made = document.createElementNS(SVG, tag);
    made.told = {};
    if (other) other.replaceWith(made);
    else parent.append(made);
  }
  parent.drawn += 1;
  for (const name in made.told) if (!(name in attributes)) made.removeAttribute(name);
  for (const name in attributes) if (made.told[name] !== attributes[name]) made.setAttribute(name, attributes[name]);
  made.told = attributes;
  if (tag === "text" && made.textContent !== text) made.textContent = text;
  return made;
}

// Begin to draw a parent again; `finish` takes away what was not drawn this time.
const begin = (parent) => { parent.drawn = 0; };
const finish = (parent) => { while (parent.children.length > parent.drawn) parent.lastChild.remove(); };

const said = (number, digits = 2) => String(+number.toFixed(digits)).replace("-", "−");
const look = (line) => ({
  fill: "none", stroke: line.color, "stroke-width": line.width, "stroke-dasharray": DASHES[line.dash] ?? "none",
  "stroke-opacity": line.faint ? 0.5 : 1, "stroke-linejoin": "round",
});

function swatch(line, parent) {
  const box = svg("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, parent);
  svg("path", { ...look(line), d: "M0 4H22" }, box);
}

// The value of a line at an angle, between the angles it has; undefined where it does not go.
export function valueAt(xs, ys, angle) {
  const next = xs.findIndex((x) => x >= angle);
  if (next < 0 || (next === 0 && xs[0] > angle)) return undefined;
  if (next === 0 || ys[next - 1] === null || ys[next] === null) return ys[next] ?? undefined;
  const share = (angle - xs[next - 1]) / (xs[next] - xs[next - 1] || 1);
  return ys[next - 1] + share * (ys[next] - ys[next - 1]);
}

// A path through points; null lifts the pen.
export function path(xs, ys, placeX, placeY) {
  let drawn = "", pen = "M";
  for (let at = 0; at < xs.length; at++) {
    if (ys[at] === null) { pen = "M"; continue; }
    drawn += `${pen}${placeX(xs[at]).toFixed(1)} ${placeY(ys[at]).toFixed(1)}`;
    pen = "L";
  }
  return drawn;
}

class Chart {
  constructor(parent) {
    const figure = (this.figure = html("figure", "", parent));
    this.question = html("h2", "", figure);
    this.plot = html("div", "plot", figure);
    this.page = svg("svg", { role: "img", "font-family": "inherit" }, this.plot);
    this.tip = html("div", "tip", this.plot);
    this.tip.hidden = true;
    this.at = null; // where the pointer is, in degrees
    this.legend = html("div", "legend", figure);
    this.words = html("figcaption", "", figure);
    this.saving = html("button", "", figure);
    Object.assign(this.saving, { type: "button", title: "Save this picture as SVG", onclick: () => this.save() });
    this.saving.setAttribute("aria-label", this.saving.title);
    svg("path", { d: SAVE }, svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, this.saving));
    this.plot.onpointermove = this.plot.onpointerdown = (event) => this.point(event);
    this.plot.onpointerleave = () => this.point(null);
    new ResizeObserver(([{ contentRect }]) => { this.width = contentRect.width; this.draw(wordSize()); }).observe(this.plot);
  }

  update(spec, rem) {
    this.spec = spec;
    this.figure.classList.toggle("wide", !spec.y.step);
    this.question.textContent = spec.question;
    this.question.hidden = !spec.question;
    if (this.words.textContent !== spec.words) this.words.textContent = spec.words;
    this.page.setAttribute("aria-label", spec.alt);
    this.name(spec.lines.filter((line) => line.name && !line.faint));
    this.draw(rem);
  }

  // The legend, if there is more than one line to tell apart.
  name(lines) {
    const looks = JSON.stringify(lines.map((line) => [line.name, look(line)]));
    if (looks === this.looks) return;
    this.looks = looks;
    this.legend.replaceChildren();
    for (const line of lines.length > 1 ? lines : []) {
      const entry = html("span", "", this.legend);
      swatch(line, entry);
      entry.append(line.name);
    }
  }

  draw(rem) {
    const { spec, width, page } = this;
    if (!spec) return;
    const { low, high, step, title, unit } = spec.y;
    const tall = rem * spec.tall;
    page.setAttribute("height", tall); // also before the width is known, or what is below would move then
    if (!width) return;
    const left = rem * (title ? 62 : step ? 40 : 12), right = rem * 12, top = rem * 20, bottom = rem * (spec.x ? 42 : 22);
    const x = (angle) => left + ((width - left - right) * angle) / 180;
    const y = (value) => top + ((tall - top - bottom) * (high - value)) / (high - low);
    this.angle = (at) => (180 * (at - left)) / (width - left - right);
    begin(page);
    page.setAttribute("viewBox", `0 0 ${width} ${tall}`);
    const hair = { stroke: "currentColor", "stroke-opacity": 0.13 };
    for (let value = low; step && value <= high + step / 1e6; value += step) {
      svg("path", { ...hair, d: `M${left} ${y(value)}H${width - right}` }, page);
      svg("text", { ...QUIET, x: left - 6, y: y(value) + 4 * rem, "text-anchor": "end" }, page, said(value) + (unit ?? ""));
    }
    const between = width < 330 * rem ? 60 : 30;
    for (let angle = 0; angle <= 180; angle += between) {
      svg("text", { ...QUIET, x: x(angle), y: tall - bottom + 17 * rem, "text-anchor": "middle" }, page, `${angle}°`);
    }
    if (spec.x) svg("text", { ...QUIET, x: (left + width - right) / 2, y: tall - 6 * rem, "text-anchor": "middle" }, page, spec.x);
    const middle = (top + tall - bottom) / 2;
    if (title) svg("text", { ...QUIET, "text-anchor": "middle", transform: `translate(${13 * rem} ${middle}) rotate(-90)` }, page, title);
    const inside = svg("svg", { x: left, y: top, width: width - left - right, height: tall - top - bottom,
      viewBox: `${left} ${top} ${width - left - right} ${tall - top - bottom}`, overflow: "hidden" }, page);
    begin(inside);
    for (const line of spec.lines) {
      const xs = spec.tables[line.table], drawn = path(xs, line.y, x, y);
      if (line.edge !== undefined) {
        const close = `L${x(xs.at(-1))} ${y(line.edge)}L${x(xs[0])} ${y(line.edge)}Z`;
        svg("path", { d: drawn + close, fill: line.color, "fill-opacity": 0.22 }, inside);
      }
      svg("path", { ...look(line), d: drawn }, inside);
    }
    finish(inside);
    const mark = { stroke: "currentColor", "stroke-opacity": 0.45, "stroke-dasharray": "4 4" };
    for (const [angle, words] of spec.upright) {
      svg("path", { ...mark, d: `M${x(angle)} ${top}V${tall - bottom}` }, page);
      svg("text", { ...QUIET, x: x(angle), y: top - 5, "text-anchor": angle > 150 ? "end" : "middle" }, page, words);
    }
    for (const [value, words] of spec.level) {
      svg("path", { ...mark, d: `M${left} ${y(value)}H${width - right}` }, page);
      svg("text", { ...QUIET, x: width - right - 4, y: y(value) - 5, "text-anchor": "end" }, page, words);
    }
    this.hair = svg("path", { ...hair, "stroke-opacity": 0.5, visibility: "hidden" }, page);
    for (const dot of spec.dots) {
      const at = { cx: x(dot.x), cy: y(dot.y), r: 6, stroke: dot.color, "stroke-width": 2 };
      if (!dot.sign) svg("circle", { ...at, fill: dot.filled ? dot.color : "none" }, page);
      const place = dot.sign ? { x: x(dot.x), "text-anchor": "middle" } : { x: x(dot.x) + 11 };
      if (dot.words) svg("text", { ...QUIET, ...place, y: y(dot.y) + 4 * rem }, page, dot.words);
    }
    finish(page);
    this.place = { x, top, bottom: tall - bottom };
    if (this.at !== null) this.tell();
  }

  // Where the pointer is, in whole degrees; null when it has left.
  point(event) {
    const at = event && this.angle?.(event.clientX - this.plot.getBoundingClientRect().left);
    this.at = at === null || !(at >= -2 && at <= 182) ? null : Math.min(180, Math.max(0, Math.round(at)));
    this.tip.hidden = this.at === null;
    if (this.at !== null) this.tell();
    else this.hair?.setAttribute("visibility", "hidden");
  }

  // What the lines are at the pointer's angle, the highest first.
  tell() {
    const { spec, at, tip, place } = this;
    const rows = spec.lines.filter((line) => line.name)
      .map((line) => ({ line, value: valueAt(spec.tables[line.table], line.y, at) }))
      .filter(({ value }) => value !== undefined)
      .sort((one, other) => other.value - one.value);
    this.hair.setAttribute("d", `M${place.x(at)} ${place.top}V${place.bottom}`);
    this.hair.setAttribute("visibility", rows.length ? "visible" : "hidden");
    tip.replaceChildren();
    tip.hidden = !rows.length;
    if (tip.hidden) return;
    html("b", "", tip, `${at}°`);
    for (const { line, value } of rows) {
      const name = html("span", line.faint ? "faint" : "", tip);
      swatch(line, name);
      name.append(line.name);
      html("i", line.faint ? "faint" : "", tip, said(value, 3) + (spec.y.unit ?? ""));
    }
    tip.style.left = at < 90 ? `${place.x(at) + 12}px` : "auto";
    tip.style.right = at < 90 ? "auto" : `${this.width - place.x(at) + 12}px`;
  }

  save() {
    const copy = this.page.cloneNode(true), style = getComputedStyle(this.page);
    copy.setAttribute("xmlns", SVG);
    copy.setAttribute("width", this.width);
    copy.setAttribute("style", `color:${style.color};background:${style.getPropertyValue("--st-background-color")}`);
    copy.setAttribute("font-family", style.fontFamily);
    const file = URL.createObjectURL(new Blob([copy.outerHTML], { type: "image/svg+xml" }));
    Object.assign(document.createElement("a"), { href: file, download: `${this.spec.file}.svg` }).click();
    setTimeout(() => URL.revokeObjectURL(file));
  }
}
