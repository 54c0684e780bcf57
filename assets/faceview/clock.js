// The clock that all panels share: a place in training between 0 and 1, and the bar that moves it. It knows the
// moments of which some panel has a picture; a panel shows its newest one at or before the clock.

import { clamp } from "./lens.js";
import { button, choice, element, press } from "./page.js";

const SPEEDS = { 16: "½×", 8: "1×", 4: "2×", 2: "4×" }; // seconds that a whole training takes
const ICONS = {
  play: "M4 2.5v11l9.5-5.5z", pause: "M3.5 2.5h3.2v11h-3.2zM9.3 2.5h3.2v11h-3.2z", back: "M12 2.5v11l-7.5-5.5zM2.8 2.5h1.8v11h-1.8z",
  next: "M4 2.5v11l7.5-5.5zM11.4 2.5h1.8v11h-1.8z",
};

export class Clock {
  // `moved(ms)` is called when another moment is to be shown, with the time until the next one while playing.
  // `ready()` says whether all panels show the present one.
  constructor(parent, moved, ready) {
    Object.assign(this, { moved, ready, moments: [], at: null, playing: false, loop: false, pace: 8, total: 0 });
    this.bar = element("div", "clock", parent);
    this.bar.setAttribute("role", "group");
    this.bar.setAttribute("aria-label", "Time");
    button(ICONS.back, "One moment back (←)", this.bar, () => this.step(-1));
    this.playButton = button(ICONS.play, "Play (space)", this.bar, () => this.play(!this.playing));
    button(ICONS.next, "One moment on (→)", this.bar, () => this.step(1));
    this.slider = element("input", "time", this.bar);
    Object.assign(this.slider, { type: "range", min: 0, max: 1, step: "any" });
    this.slider.setAttribute("aria-label", "Place in training");
    this.slider.oninput = () => this.go(Number(this.slider.value));
    this.slider.onkeydown = (event) => {
      const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      this.step(by);
    };
    this.word = element("output", "", this.bar);
    this.loopButton = button("Loop", "Begin again at the end", this.bar, () => press(this.loopButton, (this.loop = !this.loop)));
    choice("Speed", SPEEDS, this.bar, (seconds) => (this.pace = Number(seconds))).value = this.pace;
    this.liveButton = button("Live", "Follow the newest moment", this.bar, () => this.go(null));
    press(this.loopButton, false);
  }

  // The moments are those of all panels; `live` when more will come.
  update(panels, live) {
    const shares = panels.flatMap(({ steps, total }) => (total ? steps.map((step) => step / total) : []));
    this.moments = [...new Set(shares)].sort((a, b) => a - b);
    const totals = new Set(panels.filter(({ steps }) => steps?.length).map(({ total }) => total));
    this.total = totals.size === 1 ? [...totals][0] : 0; // else: runs of different lengths, told in percent
    this.liveButton.textContent = live ? "Live" : "Newest";
    this.bar.hidden = this.moments.length < 2;
    this.show();
  }

  get share() {
    return this.at ?? this.moments.at(-1) ?? 1;
  }

  // Which of the moments is shown; -1 before the first.
  get index() {
    return this.moments.findLastIndex((moment) => moment <= this.share + 1e-9);
  }

  // To a place in training; null follows the newest.
  go(at, ms = 0) {
    const before = this.index;
    this.at = at === null ? null : clamp(at, this.moments[0] ?? 0, 1);
    this.show();
    if (this.index !== before || !ms) this.moved(ms);
  }

  step(by) {
    this.play(false);
    if (this.moments.length) this.go(this.moments[clamp(this.index + by, 0, this.moments.length - 1)]);
  }

  play(on) {
    if (this.playing === on || (on && this.moments.length < 2)) return;
    this.playing = on;
    if (on && this.index === this.moments.length - 1) this.go(this.moments[0]);
    this.before = performance.now();
    if (on) requestAnimationFrame((now) => this.tick(now));
    else this.moved(0);
    this.show();
  }

  tick(now) {
    if (!this.playing) return;
    const passed = Math.min(now - this.before, 100) / 1000 / this.pace, last = this.moments.at(-1);
    this.before = now;
    if (this.ready()) { // a moment that is still on its way is waited for
      const next = this.moments[this.index + 1] ?? last, gap = (next - this.moments[this.index]) * this.pace * 1000;
      if (this.share + passed < last) this.go(this.share + passed, clamp(gap, 16, 700));
      else if (this.loop) this.go(this.moments[0], 16);
      else {
        this.go(last, 16);
        return this.play(false);
      }
    }
    requestAnimationFrame((then) => this.tick(then));
  }

  show() {
    const { share, moments, total } = this, shown = moments[Math.max(this.index, 0)] ?? share;
    this.slider.value = share;
    const said = total ? `step ${Math.round(shown * total)} of ${total}` : `${(shown * 100).toFixed(shown < 0.1 ? 1 : 0)} % of training`;
    this.word.textContent = said;
    this.slider.setAttribute("aria-valuetext", said);
    this.playButton.querySelector("path").setAttribute("d", this.playing ? ICONS.pause : ICONS.play);
    this.playButton.setAttribute("aria-label", this.playing ? "Pause (space)" : "Play (space)");
    press(this.liveButton, this.at === null);
  }
}
