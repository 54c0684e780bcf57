// Under the panels: one image as every head sees it, with its nearest neighbours in the original space, and the list
// of the images that are selected. It follows the clock; what it says of an image comes from one small answer per head.

import { choice, degrees, element, swatch, thumbnail } from "./page.js";
import { load, where } from "./points.js";

const MOST = 240; // images drawn of a selection
const ORDERS = {
  far: "Farthest from own center first", near: "Nearest to own center first", loss: "Largest loss first", class: "By class",
};

export class Inspector {
  constructor(parent, picture) {
    this.picture = picture;
    this.root = element("section", "inspector", parent);
    this.root.setAttribute("aria-label", "Inspector");
    this.said = element("p", "unseen", this.root);
    this.said.setAttribute("role", "status");
    this.list = element("div", "list", this.root);
    this.one = element("div", "one", this.root);
    Object.assign(this, { order: "far", judge: null });
    this.listen();
    this.clear();
  }

  // Selection, moment or colours may have changed.
  show() {
    this.due ??= requestAnimationFrame(() => {
      this.due = null;
      if (this.picture.closed) return;
      this.keep(() => this.showList());
      this.ask();
    });
  }

  // Takes the keyboard over from the picture.
  enter() {
    this.entering = true;
    this.show();
  }

  clear() {
    const counted = [...this.list.querySelectorAll("h3, header p")].map(({ textContent }) => textContent);
    clearTimeout(this.telling);
    this.said.textContent = counted.join(", ");
    this.one.replaceChildren();
    this.one.hidden = true;
    this.answers = null;
    this.picture.hover(null);
    if (this.list.hidden) this.entering = false;
    for (const panel of this.picture.panels.values()) this.near(panel, null);
    this.root.hidden = this.list.hidden;
  }

  // ------------------------------------------------------------------------------------------------- one image

  // One answer per head, of the moment that its panel shows; while answers are on their way, nothing more is asked.
  ask() {
    const { picture } = this, key = picture.inspected;
    const panels = [...picture.panels.values()].filter(({ spec, rows }) => spec.inspected && rows);
    if (key === null || !panels.some(({ places }) => places.has(key))) return this.clear();
    const heads = panels.map((panel) => {
      const { spec, step, n } = panel, shown = step !== null && panel.find(key) >= 0;
      const missing = step === null ? "No picture of this moment yet." : `Not among the ${n} images shown at step ${step}.`;
      return { panel, step, ...(shown ? { url: spec.inspected.replace("*", step).replace("*", key) } : { missing }) };
    });
    if (this.busy) return (this.late = true);
    this.busy = true;
    Promise.all(heads.map(({ url }) => url && load(url).catch(({ message }) => ({ missing: message })))).then((answers) => {
      this.busy = false;
      if (picture.closed) return;
      if (key === picture.inspected) this.keep(() => this.showOne(key, heads.map((head, at) => ({ ...head, ...answers[at] }))));
      if (!this.late) return;
      this.late = false;
      this.show();
    });
  }

  showOne(key, heads) {
    const { picture } = this, known = heads.filter(({ rows }) => rows), opened = this.one.hidden;
    const held = JSON.stringify([key, picture.dark, heads.map(({ panel, ...head }) => [panel.spec.title, panel.spec.images, head])]);
    if (held === this.answers) return;
    this.answers = held;
    for (const { panel, rows } of heads) this.near(panel, rows ?? null);
    const { panel } = heads.find((head) => head.panel.places.has(key)), place = panel.places.get(key), label = known[0]?.label ?? panel.labels[place];
    const common = known.length > 1 ? known[0].rows.filter((row) => known.every(({ rows }) => rows.includes(row))) : [];
    const seen = { key, label, known, common: new Set(common) };

    this.one.hidden = this.root.hidden = false;
    this.one.replaceChildren();
    const title = element("header", "", this.one), named = element("h3", "", title);
    this.ink(label, named);
    element("span", "", named, this.name(label));
    element("span", "quiet", named, `#${key}`);
    if (known.length > 1) {
      const words = element("p", "quiet", title);
      element("b", "", words, `${common.length} of ${known[0].rows.length}`);
      words.append(known.length > 2 ? ` neighbours found by all ${known.length} heads` : " neighbours in common");
    }
    const close = element("button", "tool close", title, "✕");
    Object.assign(close, { type: "button", title: "Close (Esc)", onclick: () => this.close() });
    close.setAttribute("aria-label", "Close (Esc)");

    this.portrait(panel, place, label);
    const table = element("div", "heads", this.one);
    this.one.classList.toggle("single", heads.length === 1);
    table.style.setProperty("--many", known.length > 2 ? heads.length : 0);
    if (known.length > 2) this.heading(table, heads);
    for (const [at, head] of heads.entries()) this.row(table, head, at, heads, seen);
    if (known.length) {
      const note = element("p", "quiet note", this.one), count = known[0].rows.length, among = new Set(known.map((head) => head.among));
      note.append(`The ${count} nearest by the angle between embeddings, all dimensions, among the ${[...among].join(" or ")} images shown. `);
      note.append("✓ its class, ✗ another class");
      if (common.length) note.append(", ▬ found by every head");
      note.append(".");
    }
    clearTimeout(this.telling);
    this.telling = setTimeout(() => (this.said.textContent = this.words(heads, seen)), 500);
    if (opened && this.bidden) title.scrollIntoView({ block: "nearest", behavior: picture.still() ? "auto" : "smooth" });
    this.bidden = false;
  }

  // The image itself; without images the swatch and the row over it say which one it is.
  portrait({ spec }, place, label) {
    const src = spec.images && where(spec.images.replace("*", `at/${place}`));
    if (!src) return;
    if (this.image?.dataset.src !== src) { // else it would flicker when the clock moves
      const image = (this.image = element("img", "portrait"));
      Object.assign(image, { src, alt: this.name(label), onerror: () => image.remove(), onload: () => (image.there = true) });
      image.dataset.src = src;
    }
    if (this.image.there || !this.image.complete) this.one.append(this.image);
  }

  // The numbers of the heads over the table of what each two have in common.
  heading(table, heads) {
    const row = element("div", "head heading quiet", table), marks = element("span", "marks", row);
    element("span", "whose", marks, "in common with");
    heads.forEach(({ panel }, at) => (element("span", "", marks, String(at + 1)).title = this.title(panel, at)));
  }

  // What one head makes of the image.
  row(table, head, at, heads, seen) {
    const { panel, missing, rows, labels, places, angles } = head, { key, label, known, common } = seen, many = known.length > 2;
    const row = element("div", "head", table), words = element("div", "words", row), first = element("div", "", words);
    if (many) element("span", "number", first, String(at + 1));
    if (heads.length > 1 || panel.spec.title) element("b", "", first, this.title(panel, at));
    if (missing) return element("p", "quiet", row, missing);
    if (head.prediction !== null) {
      const right = head.prediction === label;
      element("span", right ? "right" : "wrong", first, right ? "✓ named right" : `✗ taken for ${this.name(head.prediction)}`);
    }
    const quiet = element("div", "quiet", words), fact = (text) => element("span", "", quiet, text);
    if (head.own !== null) fact(`${degrees(head.own)} to its center`);
    if (head.other !== null) {
      const next = fact(`${degrees(head.other)} to`);
      next.title = "The nearest center of another class";
      this.ink(head.other_label, next);
      next.append(this.name(head.other_label));
    }
    if (head.own === null && head.other === null) fact("no class centers");
    if (head.loss !== null) fact(`loss ${head.loss.toFixed(2)}`);
    fact(`${labels.filter((one) => one === label).length} of ${rows.length} neighbours of its class`);

    const near = element("div", "near", row);
    near.setAttribute("role", "group");
    near.setAttribute("aria-label", `Nearest neighbours by ${this.title(panel, at)}`);
    rows.forEach((other, rank) => {
      const mine = labels[rank] === label, word = `${mine ? "✓" : "✗"} ${degrees(angles[rank])}`;
      const tile = this.tile(near, panel, places[rank], other, labels[rank], word, !mine);
      tile.classList.toggle("shared", common.has(other));
      const how = [degrees(angles[rank]) + " away", mine ? "of its class" : "of another class", common.has(other) && "found by every head"];
      tile.setAttribute("aria-label", `${this.name(labels[rank])}, image ${other}, ${how.filter(Boolean).join(", ")}`);
      tile.title = `${this.name(labels[rank])} #${other}`;
    });

    if (!many) return;
    const marks = element("div", "marks", row);
    heads.forEach((other, to) => {
      const shared = other.rows?.filter((one) => rows.includes(one)).length ?? 0;
      const cell = element("span", "both", marks, other === head ? "" : other.rows ? String(shared) : "–");
      cell.dataset.head = to + 1;
      if (other === head || !other.rows) return cell.classList.add("self");
      cell.style.setProperty("--share", `${Math.round((shared / rows.length) * 55)}%`);
      cell.title = `${shared} of ${rows.length} in common with ${this.title(other.panel, to)}`;
    });
  }

  // The same in words.
  words(heads, { key, label, known, common }) {
    const told = heads.map((head, at) => {
      const { panel, missing, prediction, own, other, other_label, loss, rows, labels } = head;
      if (missing) return `${this.title(panel, at)}: ${missing}`;
      const name = prediction === null ? "" : prediction === label ? "named right" : `taken for ${this.name(prediction)}`;
      const parts = [
        name, own !== null && `${degrees(own)} to its own center`,
        other !== null && `${degrees(other)} to that of ${this.name(other_label)}`, loss !== null && `loss ${loss.toFixed(2)}`,
        `${labels.filter((one) => one === label).length} of ${rows.length} nearest neighbours of its class`,
      ];
      return `${this.title(panel, at)}: ${parts.filter(Boolean).join(", ")}.`;
    });
    const shared = known.length > 1 ? `${common.size} neighbours in common to every head.` : "";
    return [`Image ${key}, ${this.name(label)}.`, ...told, shared].join(" ");
  }

  // The neighbours of the image stay bright in a panel in which it is inspected.
  near(panel, rows) {
    if ((panel.near?.join() ?? "") === (rows?.join() ?? "")) return;
    panel.near = rows;
    this.picture.mark(panel);
  }

  close() {
    const { picture } = this, inside = this.root.contains(this.root.getRootNode().activeElement);
    picture.hover(null);
    if (picture.picked.size > 1 && picture.inspected !== null) picture.inspect(null);
    else picture.select([]);
    if (inside) picture.stage.focus({ preventScroll: true });
  }

  // ------------------------------------------------------------------------------------- the images of a selection

  showList() {
    const { picture } = this, { picked } = picture, panels = [...picture.panels.values()];
    const judges = panels.filter(({ rows, labels }) => rows && labels);
    const judge = judges.find(({ spec }) => spec.id === this.judge) ?? judges[0];
    this.list.hidden = picked.size < 2 || !judge;
    if (this.list.hidden) {
      this.list.replaceChildren();
      this.listed = null;
      this.root.hidden = this.one.hidden;
      return;
    }
    this.root.hidden = false;
    const { facts } = judge;
    if (!facts && this.listed && picture.clock.playing) return; // no facts come while it plays: the list waits
    const seen = [judge.spec.id, judge.step, Boolean(facts), judges.length, picture.inspected, picture.dark];
    const held = [...seen, this.order, ...picked].join();
    if (held === this.listed) return;
    this.listed = held;
    const found = [...picked].map((key) => ({ key, at: judge.find(key) })).filter(({ at }) => at >= 0);
    const wrong = ({ at }) => facts && facts.predictions[at] >= 0 && facts.predictions[at] !== judge.labels[at];
    const possible = facts ? { far: facts.angles, near: facts.angles, loss: facts.losses } : {};
    const offered = Object.keys(ORDERS).filter((order) => order === "class" || possible[order]?.some((value) => value >= 0));
    const order = offered.includes(this.order) ? this.order : offered[0];
    const rank = {
      far: ({ at }) => -facts.angles[at], near: ({ at }) => facts.angles[at], loss: ({ at }) => -facts.losses[at],
      class: ({ at }) => judge.labels[at],
    }[order];
    found.sort((a, b) => rank(a) - rank(b) || a.key - b.key);

    this.list.replaceChildren();
    const title = element("header", "", this.list);
    element("h3", "", title, `${picked.size} images`);
    const counted = facts ? `${found.filter(wrong).length} named wrong by ${judge.spec.title || "this head"}` : "";
    const hidden = found.length > MOST ? `the first ${MOST} are drawn` : "";
    const absent = found.length < picked.size ? `${picked.size - found.length} are not shown at this moment` : "";
    element("p", "quiet", title, [counted, hidden, absent].filter(Boolean).join(" · "));
    const tools = element("span", "choices", title);
    if (judges.length > 1) {
      const names = Object.fromEntries(judges.map(({ spec }) => [spec.id, `As seen by ${spec.title}`]));
      choice("Head that judges", names, tools, (id) => { this.judge = id; this.show(); }).value = judge.spec.id;
    }
    const orders = Object.fromEntries(offered.map((one) => [one, ORDERS[one]]));
    if (offered.length > 1) choice("Order of the images", orders, tools, (one) => { this.order = one; this.show(); }).value = order;
    const grid = element("div", "grid", this.list);
    grid.setAttribute("role", "group");
    grid.setAttribute("aria-label", "Selected images");
    for (const one of found.slice(0, MOST)) {
      const { key, at } = one, label = judge.labels[at], bad = wrong(one);
      const value = order === "loss" ? facts.losses[at].toFixed(2) : facts?.angles[at] >= 0 ? degrees(facts.angles[at]) : "";
      const verdict = facts && facts.predictions[at] >= 0 ? (bad ? "✗ " : "✓ ") : "";
      const tile = this.tile(grid, judge, at, key, label, verdict + value, bad);
      tile.setAttribute("aria-pressed", String(key === picture.inspected));
      const judged = bad ? `taken for ${this.name(facts.predictions[at])}` : verdict && "named right";
      const how = [judged, value && (order === "loss" ? `loss ${value}` : `${value} to its center`)];
      tile.setAttribute("aria-label", [this.name(label), `image ${key}`, ...how].filter(Boolean).join(", "));
      tile.title = [`${this.name(label)} #${key}`, judged].filter(Boolean).join(", ");
    }
  }

  // ---------------------------------------------------------------------------------------------------- small parts

  // A small image that can be inspected, in a ring of its class's colour, with a word under it.
  tile(parent, panel, at, key, label, word, odd) {
    const made = element("button", odd ? "tile odd" : "tile", parent), { spec } = panel;
    Object.assign(made, { type: "button", tabIndex: -1, onclick: () => this.picture.inspect(key) });
    made.dataset.key = key;
    made.style.setProperty("--ink", this.picture.classes[label]?.color ?? "currentColor");
    if (spec.images) thumbnail({ images: spec.images, sheet: this.picture.data.sheet }, at, made);
    else {
      const bare = element("span", "thumb bare", made);
      this.ink(label, bare);
      element("span", "", bare, `#${key}`);
    }
    element("span", "word", made, word);
    return made;
  }

  ink(label, parent) {
    const known = this.picture.classes[label] ?? { shape: "circle", color: "currentColor" };
    swatch(known.shape, known.color, parent);
  }

  name(label) {
    return this.picture.classes[label]?.name ?? `class ${label}`;
  }

  title({ spec }, at) {
    return spec.title || (this.picture.panels.size > 1 ? `Head ${at + 1}` : "This head");
  }

  // ------------------------------------------------------------------------------------------------------- keyboard

  lines() {
    return [...this.root.querySelectorAll(".grid, .near")].map((line) => [...line.children]);
  }

  // Draws again; the keyboard stays where it was, in the same line of images.
  keep(draw) {
    const active = this.root.getRootNode().activeElement, before = this.lines();
    const line = before.findIndex((tiles) => tiles.includes(active)), place = before[line]?.indexOf(active);
    const inside = this.root.contains(active), { key } = active?.dataset ?? {};
    draw();
    const now = this.lines();
    for (const tiles of now) if (tiles.length && tiles.every(({ tabIndex }) => tabIndex < 0)) tiles[0].tabIndex = 0;
    if (this.entering && now.some((tiles) => tiles.length)) {
      this.entering = false;
      (this.one.querySelector(".tile") ?? now.flat()[0]).focus();
    } else if (inside && !this.root.contains(this.root.getRootNode().activeElement)) {
      const tiles = now[Math.min(Math.max(line, 0), now.length - 1)] ?? [];
      const same = tiles.find((tile) => tile.dataset.key === key) ?? tiles[Math.min(place, tiles.length - 1)] ?? tiles[0];
      (same ?? this.picture.stage).focus({ preventScroll: true });
    }
  }

  listen() {
    const tileOf = (event) => event.target.closest?.(".tile"), { root, picture } = this;
    const over = (event) => {
      const key = tileOf(event)?.dataset.key;
      picture.hover(key === undefined ? null : Number(key));
      for (const tile of root.querySelectorAll(".tile")) tile.classList.toggle("same", tile.dataset.key === key);
    };
    root.addEventListener("pointerover", over);
    root.addEventListener("pointerleave", over);
    root.addEventListener("focusout", () => picture.hover(null));
    root.addEventListener("focusin", (event) => {
      const tile = tileOf(event);
      if (tile) for (const other of tile.parentElement.children) other.tabIndex = other === tile ? 0 : -1;
      over(event);
    });
    root.addEventListener("keydown", (event) => {
      const tile = tileOf(event), lines = this.lines(), line = lines.findIndex((tiles) => tiles.includes(tile));
      const place = lines[line]?.indexOf(tile);
      if (event.key === "Escape") this.close();
      else if (!tile || event.ctrlKey || event.metaKey || event.altKey) return;
      else {
        const row = lines[line], across = row.filter(({ offsetTop }) => offsetTop === row[0].offsetTop).length; // in a row
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], turn = { ArrowUp: -1, ArrowDown: 1 }[event.key];
        const ends = { Home: row[0], End: row.at(-1) }[event.key], below = turn && row[place + turn * across];
        const next = step ? row[place + step] : turn ? below ?? lines[line + turn]?.[Math.min(place, lines[line + turn].length - 1)] : ends;
        if (!step && !turn && !ends) return;
        next?.focus();
      }
      event.preventDefault();
      event.stopPropagation();
    });
  }
}
