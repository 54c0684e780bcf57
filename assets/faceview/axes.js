// The words at the axes of a panel: at its edges in 2-D, at the ends of the axes in 3-D.

import { clamp, project } from "./lens.js";
import { element } from "./page.js";

const ARROWS = ["→", "↑"];

export class Axes {
  constructor(view) {
    this.words = [0, 1, 2].map((axis) => element("p", `axis axis-${axis}`, view));
  }

  // names: [kind, number, share] of each axis shown; none for a picture whose axes mean nothing.
  tell(names, deep) {
    const key = JSON.stringify([names, deep]);
    if (key === this.key) return;
    this.key = key;
    this.words.forEach((word, axis) => {
      const [kind, number, share] = names[axis] ?? [];
      word.hidden = !names[axis];
      word.classList.toggle("end", deep);
      if (!deep) word.style.transform = word.style.opacity = "";
      word.replaceChildren();
      if (!names[axis]) return;
      if (!deep && axis === 1) word.append(`${ARROWS[1]} `);
      element("span", "", word, kind);
      word.append([number, share].filter(Boolean).join(" · "));
      if (!deep && axis === 0) word.append(` ${ARROWS[0]}`);
    });
    this.wide = this.words.map((word) => word.offsetWidth / 2 + 4);
  }

  // To the ends of the axes, which turn with the points.
  place(lens, reach) {
    this.words.forEach((word, axis) => {
      if (word.hidden) return;
      const [x, y, depth] = project(lens, ...[0, 1, 2].map((other) => (other === axis ? reach * 1.1 : 0)));
      const [inX, inY] = [clamp(x, this.wide[axis], lens.box.w - this.wide[axis]), clamp(y, 9, lens.box.h - 9)];
      word.style.transform = `translate(${inX.toFixed(1)}px, ${inY.toFixed(1)}px) translate(-50%, -50%)`;
      word.style.opacity = depth < -0.2 ? 0.45 : 1;
    });
  }
}
