// A drawing with handles that pointer, touch and keys move; every step is drawn once.
import { Plot, attributes, button, canvas, clamp, live, number, shell, tag, ticks, write } from "./explorer_parts.js";

export function svgTag(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
export const minus = (text) => String(text).replace("-", "−");
// Decimals that show a hundredth of `size`.
export function decimals(size) {
  const places = 2 - Math.floor(Math.log10(size));
  return (v) => (places > 7 || Math.abs(v) >= 1e7 ? minus(v.toExponential(2)) : minus((v || 0).toFixed(Math.max(places, 0)).replace(/^-(0\.?0*)$/, "$1")));
}
// A plot with a number line below and no y axis.
export function lineOf(width, height, { x, y = [0, 1], label, left = 10, axis = height - 40 }) {
  const p = new Plot(width, height, { x, y, xticks: [], yticks: [], xlabel: "", ylabel: "" });
  Object.assign(p, { left, bottom: axis, frame: [] });
  p.frame.push(`<line class="ql-axis" x1="${p.left}" x2="${p.right}" y1="${axis}" y2="${axis}"/>`);
  for (const v of ticks(...x, Math.max(2, Math.floor(width / 64)))) {
    p.frame.push(`<line class="ql-axis" x1="${p.X(v)}" x2="${p.X(v)}" y1="${axis}" y2="${axis + 4}"/>`,
      `<text x="${p.X(v)}" y="${axis + 17}" text-anchor="middle">${number(v)}</text>`);
  }
  p.note((p.left + p.right) / 2, axis + 33, label, "middle");
  p.frame.push(p.marks.pop().replace("ql-note", "ql-label")); // outside the clipped part
  return p;
}

// ---- a board: one SVG with a picture, redrawn at each step, and handles, which stay
export function board(height, ...head) {
  const picture = svgTag("g", { role: "img" }), grips = svgTag("g"), svg = svgTag("svg", { class: "ql-board" }, picture, grips);
  const paint = canvas(picture), root = tag("figure", { class: "ql-panel" }, ...(head.length ? [tag("figcaption", {}, ...head)] : []), svg);
  const self = {
    root, svg, grips, height, width: 640,
    fit() { self.width = Math.max(260, svg.parentNode.clientWidth || 340); },
    show(plot, label) {
      attributes(svg, { viewBox: `0 0 ${plot.width} ${plot.height}` });
      attributes(picture, { "aria-label": label });
      paint(plot);
    },
    point(event) { // in the drawing's own pixels, also where it is scaled
      const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
      return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    },
  };
  return self;
}

const KNOBS = {
  dot: `<circle class="ql-knob" r="9"/>`,
  side: `<path class="ql-arrows" d="M-14 -5l-5 5 5 5M14 -5l5 5 -5 5"/><circle class="ql-knob" r="9"/>`,
  ring: `<circle class="ql-knob" r="8"/>`,
  bar: `<rect class="ql-knob" x="-8" y="-14" width="16" height="28" rx="5"/><path class="ql-ridges" d="M-2.5 -6V6M2.5 -6V6"/>`,
  cell: `<rect class="ql-knob ql-bare" x="-17" y="-12" width="34" height="24" rx="4"/>`,
  frame: `<rect class="ql-knob" x="-19" y="-13" width="38" height="26" rx="4"/>`,
  tall: `<rect class="ql-knob" x="-14" y="-8" width="28" height="16" rx="5"/><path class="ql-ridges" d="M-6 -2.5H6M-6 2.5H6"/>`,
};
// read: from a place on the board to a value; move: what a new value does; drop: after a step.
export function handle(place, { label, kind = "side", axis = "x", tone = "", read, move, drop = () => {} }) {
  const node = svgTag("g", { class: `ql-handle ql-${axis} ${tone}`, role: "slider", tabindex: 0, "aria-label": label,
    "aria-orientation": axis === "x" ? "horizontal" : "vertical" });
  node.innerHTML = `<circle class="ql-hit" r="22"/>${KNOBS[kind]}`;
  place.grips.append(node);
  let now = { value: 0, min: 0, max: 1, step: 1 }, offset = null;
  const to = (value) => move(clamp(value, now.min, now.max));
  node.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false }); // touch-action does not hold inside an SVG
  node.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    node.focus({ preventScroll: true });
    node.setPointerCapture(event.pointerId);
    const [x, y] = place.point(event);
    offset = [now.x - x, now.y - y]; // the thing stays where the finger took it
    node.classList.add("ql-held");
  });
  node.addEventListener("pointermove", (event) => {
    if (!offset) return;
    const [x, y] = place.point(event);
    to(read(x + offset[0], y + offset[1]));
  });
  const release = () => {
    if (!offset) return;
    offset = null;
    node.classList.remove("ql-held");
    drop();
  };
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) node.addEventListener(name, release);
  const KEYS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
  node.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const steps = KEYS[event.key];
    to(Number.isFinite(steps) ? now.value + steps * now.step : steps < 0 ? now.min : now.max);
    drop();
  });
  return {
    node,
    hide(hidden) { node.style.display = hidden ? "none" : ""; },
    set(state) { // x, y, value, min, max, step, text
      now = state;
      attributes(node, { transform: `translate(${state.x.toFixed(2)} ${state.y.toFixed(2)})`,
        "aria-valuenow": state.value, "aria-valuemin": state.min, "aria-valuemax": state.max, "aria-valuetext": state.text });
    },
  };
}

// ---- the bench: the shell of an explorer, the sentence below the drawing, a hint until the first grab
export function bench({ model, el }, kind, names, hint) {
  const spec = model.get("spec"), ui = shell(el, spec.title, `ql-grab ${kind}`), help = tag("p", { class: "ql-hint" }, tag("span", {}, hint));
  let batch = false, paint = () => {};
  const draw = () => { if (!batch) paint(); };
  const put = (changes) => { // several traits, one drawing
    batch = true;
    for (const [key, value] of Object.entries(changes)) model.set(key, value);
    batch = false;
    draw();
    model.save_changes();
  };
  for (const event of ["pointerdown", "keydown", "input"]) {
    ui.root.addEventListener(event, (e) => { if (e.target.closest(".ql-handle, input") && !/^(Tab|Shift)$/.test(e.key)) help.classList.add("ql-done"); });
  }
  const accept = (name, value) => { // what an address may set
    const [low, high] = spec.limits[name] ?? [];
    return [value].flat().every((v) => spec.choices[name]?.includes(v) ?? (v >= low && v <= high));
  };
  ui.panels.before(help);
  ui.stats.after(ui.status);
  if (spec.caption) ui.words.append(tag("p", { class: "ql-caption" }, spec.caption));
  return {
    ui, spec, put, draw,
    state: () => Object.fromEntries(names.map((n) => [n, model.get(n)])),
    again: (also = () => {}) => button("back to start", () => { also(); put(spec.start); }),
    say(text) { write(ui.status, text); },
    run(boards, picture) {
      paint = picture;
      ui.panels.append(...boards.map((b) => b.root));
      const buttons = [...ui.controls.children].filter((node) => node.matches(".ql-buttons"));
      const arrange = () => { // on a phone the drawing comes before the buttons, for eyes and for the Tab key
        const narrow = ui.root.clientWidth < 480;
        if (buttons.some((node) => (node.parentNode === ui.controls) === narrow)) narrow ? ui.panels.after(...buttons) : ui.controls.append(...buttons);
        return boards;
      };
      return live(model, names, ui.root, arrange, draw, { accept });
    },
  };
}

// A value on its way: a row of stops, [value, role, tone], and of the words between them.
export function way(place) {
  const root = tag("div", { class: "ql-travel" }), isStop = Array.isArray;
  let shape = "";
  place.append(root);
  return (row) => {
    if (shape !== (shape = row.map(isStop).join())) {
      root.replaceChildren(...row.map((part) => (isStop(part) ? tag("span", {}, tag("b"), tag("small")) : tag("em"))));
    }
    row.forEach((part, i) => {
      const node = root.children[i];
      if (!isStop(part)) return write(node, part);
      const [value, role, tone = ""] = part;
      attributes(node, { class: `ql-stop ${tone}` });
      write(node.firstChild, minus(value));
      write(node.lastChild, role);
    });
  };
}

// Glides a number from 0 to 1; at once for readers who asked for less motion.
export function glide(frame) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return frame(1);
  const start = performance.now(), tick = () => {
    const t = Math.min(1, (performance.now() - start) / 260);
    frame(1 - (1 - t) ** 3);
    if (t < 1) requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}
// Share of the values in each of `bins` equal bins; values outside are left out.
export function shares(values, low, high, bins) {
  const heights = new Float64Array(bins), edges = Array.from({ length: bins + 1 }, (_, i) => low + (high - low) * i / bins);
  for (const v of values) {
    const i = Math.floor((v - low) / (high - low) * bins);
    if (i >= 0 && (i < bins || v === high)) heights[Math.min(i, bins - 1)] += 1 / values.length;
  }
  return { edges, heights };
}
