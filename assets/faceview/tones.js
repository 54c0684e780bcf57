// What the colour of a point can say. A tone is a place in the painters' table of colours: 0 is the colour of the
// point's class, 1 to 256 lie on the scale from little to much, those from 257 on name what became of an image.

export const JUDGED = 257;
export const UNKNOWN = JUDGED; // the first of them
export const ASKED = JUDGED + 7, TRAINED = JUDGED + 8; // validation and training images

export const COLOURS = {
  class: "Colour: class", right: "Right or wrong", angle: "Angle to own center", loss: "Loss", length: "Feature length",
  moved: "Moved since the start", versus: "Right in A, wrong in B", split: "Training or validation",
};

// What the two ends of the scale mean, the same at every moment.
export const ENDS = {
  angle: ["own center at 0°", "90° or more"], loss: ["loss 0", "0.7", "3 or more"],
  length: ["length 0", "longest of the panel"], moved: ["where it began", "as far as the picture's radius"],
};

const onScale = (share) => 1 + Math.round(255 * Math.min(Math.max(share, 0), 1));

// The tones of a panel's points under a mode. `a` and `b` are the panels that "versus" compares.
export function tonesOf(mode, panel, a, b) {
  const { n, facts, labels } = panel, tones = new Uint16Array(n);
  const right = (judge, at) => {
    const place = judge === panel ? at : judge?.find(panel.key(at)) ?? -1, guess = judge?.facts?.predictions[place];
    return guess === undefined || guess < 0 ? null : guess === judge.labels[place];
  };
  const tone = {
    class: () => 0,
    split: () => ASKED,
    right: (at) => JUDGED + { true: 1, false: 2, null: 0 }[right(panel, at)],
    angle: (at) => (facts && facts.angles[at] >= 0 ? onScale(facts.angles[at] / (Math.PI / 2)) : UNKNOWN),
    loss: (at) => (facts && facts.losses[at] >= 0 ? onScale((1 - Math.exp(-facts.losses[at])) / 0.95) : UNKNOWN),
    length: (at) => (facts && facts.lengths[at] >= 0 ? onScale(facts.lengths[at] / facts.longest) : UNKNOWN),
    moved: (at) => {
      if (!panel.origin || 3 * at >= panel.origin.length) return UNKNOWN;
      const far = [0, 1, 2].map((axis) => panel.to[3 * at + axis] - panel.origin[3 * at + axis]);
      return onScale(Math.hypot(...far) / panel.reach);
    },
    versus: (at) => {
      const [first, second] = [right(a, at), right(b, at)];
      if (first === null || second === null) return UNKNOWN;
      return JUDGED + (first ? (second ? 3 : 4) : second ? 5 : 6);
    },
  }[mode];
  for (let at = 0; at < labels.length; at++) tones[at] = tone(at);
  return tones;
}

// The table itself: rgb and shape of every tone, from the scale's few colours and the named ones.
export function table(scale, judged) {
  const rows = [{ rgb: [0, 0, 0] }];
  for (let at = 0; at < 256; at++) {
    const place = (at / 255) * (scale.length - 1), from = Math.min(Math.floor(place), scale.length - 2), t = place - from;
    rows.push({ rgb: scale[from].rgb.map((part, axis) => part + (scale[from + 1].rgb[axis] - part) * t) });
  }
  return [...rows, ...judged];
}
