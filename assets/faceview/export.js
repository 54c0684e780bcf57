// The picture as a file: PNG from the canvas, sharper than the screen, or SVG as vectors. Both show what the screen
// does: titles, panels, words at the axes, legend and what colours mean, without the tools.

import { element } from "./page.js";
import { flatPainter, OUTLINES } from "./painters.js";
import { table } from "./tones.js";

const EDGE = 18, SHARP = 3, MOST = 3e7; // px around everything, pixels of a PNG per px, and at most altogether

// Saves the picture under a name that says what it shows.
export async function save(picture, kind) {
  const made = kind === "svg" ? new Blob([svg(picture)], { type: "image/svg+xml" }) : await png(picture);
  const link = element("a", ""), { total, share, moments, index } = picture.clock;
  const step = total ? `-step${Math.round((moments[Math.max(index, 0)] ?? share) * total)}` : "";
  Object.assign(link, { href: URL.createObjectURL(made), download: `${picture.data.file || "faces"}${step}.${kind}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export function svg(picture) {
  const { wide, tall } = sizeOf(picture), pen = new Vectors();
  const painter = flatPainter({ getContext: () => pen, width: wide, height: tall }, (outline) => ({ outline }));
  painter.colours(picture.classes, picture.scale.length ? table(picture.scale, picture.judged) : []);
  compose(picture, pen, 1, () => pen.group(EDGE, EDGE, () => painter.paint(picture.painted, { dpr: 1, ...picture.theme })));
  return pen.drawing(wide, tall, picture.canvas.getAttribute("aria-label") ?? picture.data.label ?? "");
}

export function png(picture) {
  const { wide, tall } = sizeOf(picture), { canvas, painter } = picture, { width, height } = canvas;
  const sharp = Math.min(SHARP, Math.sqrt(MOST / (wide * tall)), 8192 / wide), sheet = element("canvas", "");
  Object.assign(sheet, { width: Math.round(wide * sharp), height: Math.round(tall * sharp) });
  compose(picture, sheet.getContext("2d"), sharp, (pen) => {
    Object.assign(canvas, { width: Math.round(canvas.clientWidth * sharp), height: Math.round(canvas.clientHeight * sharp) });
    painter.paint(picture.painted, { dpr: sharp, ...picture.theme });
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.drawImage(canvas, EDGE * sharp, EDGE * sharp);
    Object.assign(canvas, { width, height });
    picture.draw(performance.now());
  });
  return new Promise((done) => sheet.toBlob(done, "image/png"));
}

// How large the file is, px: the panels with their legend, and lines for what colours mean and for what it shows.
function sizeOf({ stage, legend, mode }) {
  const cards = [...stage.querySelectorAll(".panel:not([hidden])"), legend], { top } = stage.getBoundingClientRect();
  const bottom = Math.max(...cards.map((card) => card.getBoundingClientRect().bottom - top));
  return { wide: stage.clientWidth + 2 * EDGE, tall: Math.ceil(bottom) + 2 * EDGE + 24 + (mode === "class" ? 0 : 26), bottom };
}

// Everything, by a pen that knows what a canvas knows. `points` draws the panels' own.
function compose(picture, pen, sharp, points) {
  const { stage, root, theme, mode, clock } = picture, { wide, tall, bottom } = sizeOf(picture), origin = stage.getBoundingClientRect();
  const ink = getComputedStyle(root), line = `rgb(${theme.line.join(" ")})`, font = ink.fontFamily;
  const place = () => pen.setTransform(sharp, 0, 0, sharp, EDGE * sharp, EDGE * sharp);
  const at = (node) => {
    const { left, top, width, height } = node.getBoundingClientRect();
    return { x: left - origin.left, y: top - origin.top, w: width, h: height };
  };
  const write = (text, x, y, { size = 12, weight = 400, align = "left", alpha = 0.66, most = Infinity } = {}) => {
    if (!text) return;
    Object.assign(pen, { font: `${weight} ${size}px ${font}`, textAlign: align, textBaseline: "middle", fillStyle: line, globalAlpha: alpha });
    let said = text;
    while (said.length > 2 && pen.measureText(said).width > most) said = `${said.slice(0, -2)}…`;
    pen.fillText(said, x, y);
  };
  const stamp = (shape, color, x, y, alpha = 1) => {
    Object.assign(pen, { fillStyle: color, globalAlpha: alpha });
    pen.outline(shape, 0.82, x, y, sharp);
  };
  pen.outline ??= (shape, zoom, x, y, by) => {
    pen.setTransform(by * zoom, 0, 0, by * zoom, (x + EDGE - 8 * zoom) * by, (y + EDGE - 8 * zoom) * by);
    pen.fill(new Path2D(OUTLINES[shape] ?? OUTLINES.circle));
    place();
  };
  pen.setTransform(1, 0, 0, 1, 0, 0);
  Object.assign(pen, { fillStyle: `rgb(${theme.paper.join(" ")})`, globalAlpha: 1 });
  pen.fillRect(0, 0, wide * sharp, tall * sharp);
  points(pen);
  place();
  for (const { card, title, subtitle, view, note, axes } of picture.seen()) {
    const box = at(view), head = at(title), sub = at(subtitle), { w } = at(card);
    write(title.textContent, head.x, head.y + head.h / 2, { size: 14, weight: 600, alpha: 1, most: w - 4 });
    const left = title.textContent ? Math.min(pen.measureText(title.textContent).width, w - 4) + 12 : 0;
    if (left < w - 40) write(shownText(subtitle), sub.x + sub.w, sub.y + sub.h / 2, { align: "right", most: w - left - 4 });
    Object.assign(pen, { strokeStyle: line, globalAlpha: 0.16, lineWidth: 1 });
    pen.strokeRect(box.x + 0.5, box.y + 0.5, box.w - 1, box.h - 1);
    for (const word of axes.words.filter(({ hidden, textContent }) => !hidden && textContent)) {
      const { x, y, h } = at(word);
      write(shownText(word), x, y + h / 2, { size: 11.5, alpha: 0.66 * Number(getComputedStyle(word).opacity) });
    }
    const said = at(note);
    write(note.textContent, said.x + said.w / 2, said.y + said.h / 2, { size: 11.5, align: "center" });
  }
  for (const [index, chip] of [...picture.legend.children].entries()) {
    const { x, y, w, h } = at(chip), { shape, color, name, shown } = picture.classes[index], alpha = shown ? 1 : 0.38;
    if (y + h > bottom + 1) continue; // scrolled out of sight
    stamp(shape, color, x + 13.5, y + h / 2, alpha);
    write(name, x + 25, y + h / 2, { size: 13, alpha, most: w - 25 });
  }
  let x = 2;
  if (mode !== "class") {
    const y = bottom + 14;
    const words = (text) => {
      write(text, x, y, { size: 12.5 });
      x += pen.measureText(text).width + 8;
    };
    words(`${picture.colourChoice.selectedOptions[0]?.textContent ?? ""}:`);
    for (const child of picture.key.children) {
      if (child.tagName === "I") {
        const ramp = pen.createLinearGradient(x, 0, x + 110, 0);
        picture.scale.forEach(({ color }, step) => ramp.addColorStop(step / (picture.scale.length - 1), color));
        Object.assign(pen, { fillStyle: ramp, globalAlpha: 1 });
        pen.fillRect(x, y - 4.5, 110, 9);
        x += 118;
      } else if (child.classList.contains("swatch")) {
        const judged = picture.judged.find(({ word }) => word === child.nextElementSibling?.textContent);
        stamp(judged?.shape, child.style.color, x + 6, y);
        x += 17;
      } else words(child.textContent);
    }
  }
  const time = clock.bar.hidden ? "" : ` · ${clock.word.textContent}`;
  write(`${picture.data.label ?? ""}${time}`, 2, tall - 2 * EDGE - 4, { size: 11.5, most: wide - 2 * EDGE - 4 });
}

// What can be read of a node: words that a narrow panel leaves out are left out here, too.
function shownText(node) {
  return [...node.childNodes].filter((one) => one.nodeType === 3 || one.getClientRects().length).map((one) => one.textContent).join("");
}

const number = (value) => String(+value.toFixed(2));
const hex = (color) => {
  const parts = /^rgb\((\d+)[ ,]+(\d+)[ ,]+(\d+)\)$/.exec(color)?.slice(1); // older programs know no other notation
  return parts ? `#${parts.map((part) => Number(part).toString(16).padStart(2, "0")).join("")}` : color;
};
const safe = (text) => String(text).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`).replace(/[\u0000-\u0008\u000b-\u001f]/g, " ");

// A pen that writes down as SVG what a canvas would draw; it knows what the flat painter and `compose` ask of one.
class Vectors {
  constructor() {
    Object.assign(this, { parts: [], opened: [0], clips: 0, ramps: [], used: new Set(), matrix: [1, 0, 0, 1, 0, 0], d: "", moved: [0, 0] });
    Object.assign(this, { fillStyle: "#000", strokeStyle: "#000", globalAlpha: 1, lineWidth: 1, font: "", textAlign: "left" });
    this.ruler = element("canvas", "").getContext("2d");
  }

  // Draws with everything moved, as the panels are in the file.
  group(x, y, draw) {
    this.parts.push(`<g transform="translate(${x} ${y})">`);
    draw();
    this.parts.push("</g>");
  }

  setTransform(...matrix) {
    this.matrix = matrix;
  }

  spot(x, y) {
    const [a, b, c, d, e, f] = this.matrix;
    return [a * x + c * y + e, b * x + d * y + f];
  }

  paint(kind) {
    const { globalAlpha: alpha, matrix } = this, color = kind === "fill" ? this.fillStyle : this.strokeStyle;
    const paint = color.url ?? hex(color), width = kind === "stroke" ? ` stroke-width="${number(this.lineWidth * Math.hypot(matrix[0], matrix[1]))}" fill="none"` : "";
    return `${kind}="${paint}"${width}${alpha < 1 ? ` ${kind}-opacity="${number(alpha)}"` : ""}`;
  }

  put(kind, path) {
    if (!path) return this.parts.push(`<path d="${this.d}" ${this.paint(kind)}/>`);
    const { outline } = path, name = Object.keys(OUTLINES).find((shape) => OUTLINES[shape] === outline), [zoom, , , , x, y] = this.matrix;
    this.used.add(name);
    const drawn = kind === "stroke" ? this.paint(kind).replace(/stroke-width="[^"]*"/, `stroke-width="${number(this.lineWidth)}"`) : this.paint(kind);
    this.parts.push(`<use href="#${name}" transform="matrix(${zoom.toFixed(4)} 0 0 ${zoom.toFixed(4)} ${number(x)} ${number(y)})" ${drawn}/>`);
  }

  fill(path) {
    this.put("fill", path);
  }

  stroke(path) {
    this.put("stroke", path);
  }

  outline(shape, zoom, x, y) {
    this.setTransform(zoom, 0, 0, zoom, x + EDGE - 8 * zoom, y + EDGE - 8 * zoom);
    this.fill({ outline: OUTLINES[shape] ?? OUTLINES.circle });
    this.setTransform(1, 0, 0, 1, EDGE, EDGE);
  }

  clearRect() {}

  beginPath() {
    this.d = "";
  }

  lineTo(x, y) {
    this.d += `${this.d ? "L" : "M"}${this.spot(x, y).map(number).join(" ")}`;
  }

  closePath() {
    this.d += "z";
  }

  rect(x, y, w, h) {
    const corners = [[x, y], [x + w, y], [x + w, y + h], [x, y + h]].map(([a, b]) => this.spot(a, b).map(number).join(" "));
    this.d += `M${corners.join("L")}z`;
  }

  arc(x, y, r) {
    const [left, top] = this.spot(x - r, y), by = number(r * Math.hypot(this.matrix[0], this.matrix[1]));
    this.d += `M${number(left)} ${number(top)}a${by} ${by} 0 1 0 ${2 * by} 0a${by} ${by} 0 1 0 ${-2 * by} 0z`;
  }

  clip() {
    this.parts.push(`<clipPath id="clip${++this.clips}"><path d="${this.d}"/></clipPath><g clip-path="url(#clip${this.clips})">`);
    this.opened[this.opened.length - 1]++;
  }

  save() {
    this.opened.push(0);
  }

  restore() {
    this.parts.push("</g>".repeat(this.opened.pop()));
  }

  fillRect(x, y, w, h) {
    this.d = "";
    this.rect(x, y, w, h);
    this.fill();
  }

  strokeRect(x, y, w, h) {
    this.d = "";
    this.rect(x, y, w, h);
    this.stroke();
  }

  measureText(text) {
    this.ruler.font = this.font;
    return this.ruler.measureText(text);
  }

  fillText(text, x, y) {
    const [, weight, size, family] = /^(\S+) (\S+)px (.*)$/.exec(this.font), [left, top] = this.spot(x, y);
    const anchor = { left: "", right: ' text-anchor="end"', center: ' text-anchor="middle"' }[this.textAlign];
    const letters = `font-family="${safe(family)}" font-size="${size}"${weight === "400" ? "" : ` font-weight="${weight}"`}${anchor}`;
    this.parts.push(`<text x="${number(left)}" y="${number(top + size * 0.35)}" ${letters} ${this.paint("fill")}>${safe(text)}</text>`);
  }

  createLinearGradient(from, _, to) {
    const ramp = { url: `url(#ramp${this.ramps.length})`, stops: [], ends: [this.spot(from, 0)[0], this.spot(to, 0)[0]] };
    ramp.addColorStop = (place, color) => ramp.stops.push(`<stop offset="${number(place)}" stop-color="${color}"/>`);
    this.ramps.push(ramp);
    return ramp;
  }

  drawing(wide, tall, label) {
    const shapes = [...this.used].map((name) => `<path id="${name}" d="${OUTLINES[name]}"/>`);
    const ramps = this.ramps.map(({ stops, ends: [from, to] }, at) =>
      `<linearGradient id="ramp${at}" gradientUnits="userSpaceOnUse" x1="${number(from)}" x2="${number(to)}">${stops.join("")}</linearGradient>`);
    return [
      `<svg xmlns="http://www.w3.org/2000/svg" width="${wide}" height="${tall}" viewBox="0 0 ${wide} ${tall}" role="img">`,
      `<title>${safe(label)}</title><defs>${[...shapes, ...ramps].join("")}</defs>`, ...this.parts, "</svg>", "",
    ].join("\n");
  }
}
