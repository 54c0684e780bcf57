// Small things that the picture puts on the page.

import { OUTLINES } from "./painters.js";
import { where } from "./points.js";

export const element = (tag, name, parent, text = "") => {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  parent?.append(made);
  return made;
};

export const degrees = (angle) => `${Math.round((angle * 180) / Math.PI)}°`;

export function swatch(shape, color, parent) {
  const made = element("span", "swatch", parent);
  made.innerHTML = `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${OUTLINES[shape] ?? OUTLINES.circle}"/></svg>`;
  made.style.color = color;
  return made;
}

// A button with an icon (the path of a 16 x 16 box) or a word, which says in full what it does.
export function button(face, title, parent, act) {
  const made = element("button", "tool", parent), icon = /^M[\d.]/.test(face);
  if (icon) made.innerHTML = `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${face}"/></svg>`;
  else made.textContent = face;
  Object.assign(made, { type: "button", title, onclick: act });
  if (icon) made.setAttribute("aria-label", title);
  return made;
}

export const press = (made, pressed) => made.setAttribute("aria-pressed", String(pressed));

export function choice(label, options, parent, act) {
  const made = element("select", "tool", parent);
  made.setAttribute("aria-label", label);
  made.title = label;
  for (const [value, text] of Object.entries(options)) made.append(new Option(text, value));
  made.onchange = () => act(made.value);
  return made;
}

// The image of a point, from a sheet of `across` x `across` images.
export function thumbnail({ images, sheet: { across, side } }, index, parent) {
  const made = element("span", "thumb", parent), at = index % across ** 2;
  made.style.backgroundImage = `url("${where(images.replace("*", Math.floor(index / across ** 2)))}")`;
  made.style.backgroundSize = `${across * 100}% auto`;
  // The last sheet may have fewer rows, so the place is given in widths of the image, not in shares of the sheet.
  made.style.backgroundPosition = `calc(var(--thumb) * ${-(at % across)}) calc(var(--thumb) * ${-Math.floor(at / across)})`;
  made.classList.toggle("coarse", side < 33);
  return made;
}

// The picture's state in the address of the page, so that a copied link shows the same.
export const told = (name) => new URLSearchParams(location.search).get(name);

export function tell(values) {
  const url = new URL(location.href);
  for (const [name, value] of Object.entries(values)) {
    if (value) url.searchParams.set(name, value);
    else url.searchParams.delete(name);
  }
  if (url.href !== location.href && location.protocol !== "file:") history.replaceState(history.state, "", url);
}
