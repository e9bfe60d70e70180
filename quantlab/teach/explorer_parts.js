// Controls, axes and number formats that all explorers share. No library, no network.
const SVG = "http://www.w3.org/2000/svg";
// Every module on a page has a copy of this file: ids are counted on the page, or they would meet.
const serial = () => (globalThis.qlSerial = (globalThis.qlSerial ?? 0) + 1);

export function tag(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
export function attributes(node, wanted) { // only those that are new
  for (const [key, value] of Object.entries(wanted)) if (node.getAttribute(key) !== String(value)) node.setAttribute(key, value);
}
// Text that stands already is not written again: the browser would lay it out.
export function write(node, text) { if (node.textContent !== String(text)) node.textContent = text; }
// Made anew only when what it is made from has changed.
export function kept(make) {
  let from = null, made = null;
  return (...now) => {
    if (now.some((v, i) => !Object.is(v, from?.[i]))) made = make(...(from = now));
    return made;
  };
}
export const escape = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
export const clamp = (v, low, high) => Math.min(Math.max(v, low), high);

// ---- numbers: at most `digits` significant ones, a true minus, thousands separated
const written = new Map(); // making a formatter costs more than a drawing
function fixed(v, places) {
  if (!written.has(places)) written.set(places, new Intl.NumberFormat("en-US", { maximumFractionDigits: places }));
  return written.get(places).format(v);
}
export const count = (v) => fixed(v, 0);
const raised = (e) => (e < 0 ? "⁻" : "") + [...String(Math.abs(e))].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]).join("");
export function number(v, digits = 3) {
  if (v === null || Number.isNaN(v)) return "not measured";
  if (!Number.isFinite(v)) return v > 0 ? "∞" : "−∞";
  if (v === 0) return "0";
  const size = Math.abs(v);
  if (size < 1e-4 || size >= 1e9) {
    const [m, e] = v.toExponential(digits - 1).split("e");
    return (m.replace(/\.?0+$/, "") + "×10" + raised(+e)).replace("-", "−");
  }
  const places = clamp(digits - 1 - Math.floor(Math.log10(size)), 0, 12);
  return fixed(v, places).replace("-", "−");
}
export const withUnit = (text, unit) => (unit ? `${text}\u00a0${unit}` : text);

export function ticks(low, high, count) {
  const raw = (high - low) / Math.max(count, 1), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const list = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) list.push(i * step);
  return list;
}

function powers(low, high) { // ticks of a logarithmic axis: 1, 2, 5 in each decade, or fewer
  const decades = Math.log10(high / low), among = decades <= 2.2 ? [1, 2, 5] : decades <= 3.2 ? [1, 3] : [1], every = Math.ceil(decades / 6), list = [];
  for (let e = Math.floor(Math.log10(low)); 10 ** e <= high; e += every) list.push(...among.map((m) => +`${m}e${e}`));
  return list.filter((v) => v >= low * 0.999 && v <= high * 1.001);
}

// ---- one plot: axes, then marks, each the text of one element
const cents = (px) => Math.round(100 * px) / 100;
export class Plot {
  constructor(width, height, { x, y, xlabel, ylabel, xticks, yticks, xname = number, log = false, ylog = false, margin = 10 }) {
    const marks = yticks ?? (ylog ? powers(y[0], y[1]) : ticks(y[0], y[1], Math.max(2, Math.round(height / 45))));
    const yLabels = marks.map((v) => [v, number(v)]);
    const left = 30 + 6.3 * Math.max(...yLabels.map(([, s]) => s.length), 1);
    Object.assign(this, { width, height, left, right: width - margin, top: 10, bottom: height - 40, x, y, log, ylog });
    this.id = "ql-plot"; // stands for the name that the drawing has on its page
    this.marks = [];
    this.targets = [];
    this.outside = [];
    this.frame = [];
    const room = Math.max(2, Math.floor((this.right - left) / 58));
    for (const [v, name] of yLabels) {
      const py = this.Y(v);
      this.frame.push(`<line class="ql-rule" x1="${left}" x2="${this.right}" y1="${py}" y2="${py}"/>`,
        `<text x="${left - 6}" y="${py + 4}" text-anchor="end">${escape(name)}</text>`);
    }
    let free = -Infinity; // a label that would touch its neighbor is left out, its tick stays
    for (const v of xticks ?? (log ? powers(...x) : ticks(x[0], x[1], room))) {
      const px = this.X(v), name = String(xname(v)), half = 3.6 * name.length, shift = Math.min(0, width - 2 - px - half);
      this.frame.push(`<line class="ql-axis" x1="${px}" x2="${px}" y1="${this.bottom}" y2="${this.bottom + 4}"/>`);
      if (px + shift - half < free) continue;
      free = px + shift + half + 6;
      this.frame.push(`<text x="${px + shift}" y="${this.bottom + 17}" text-anchor="middle">${escape(name)}</text>`);
    }
    const middle = (this.top + this.bottom) / 2;
    this.frame.push(`<line class="ql-axis" x1="${left}" x2="${this.right}" y1="${this.bottom}" y2="${this.bottom}"/>`,
      `<text class="ql-label" x="${(left + this.right) / 2}" y="${height - 5}" text-anchor="middle">${escape(xlabel)}</text>`,
      `<text class="ql-label" transform="translate(12 ${middle}) rotate(-90)" text-anchor="middle">${escape(ylabel)}</text>`);
  }
  X(v) {
    const f = this.log ? Math.log : (u) => u, [a, b] = this.x;
    return cents(this.left + (this.right - this.left) * (f(v) - f(a)) / (f(b) - f(a)));
  }
  Y(v) {
    const f = this.ylog ? Math.log : (u) => u, [a, b] = this.y;
    const y = this.bottom - (this.bottom - this.top) * (f(v) - f(a)) / (f(b) - f(a));
    return cents(clamp(y, -1e4, 1e4));
  }
  atX(px) { // the value under a place of the drawing
    const [a, b] = this.x, t = clamp((px - this.left) / (this.right - this.left), 0, 1);
    return this.log ? a * (b / a) ** t : a + (b - a) * t;
  }
  atY(py) {
    const [a, b] = this.y, t = clamp((this.bottom - py) / (this.bottom - this.top), 0, 1);
    return this.ylog ? a * (b / a) ** t : a + (b - a) * t;
  }
  // A place that answers to a finger or a mouse: words() is asked only then.
  target(x, y, words) {
    if (Number.isFinite(y)) this.targets.push([this.X(x), this.Y(y), words]);
    return this;
  }
  add(...marks) { this.marks.push(...marks); return this; }
  // A line through [x, y] pairs; a missing y breaks it.
  line(points, kind) {
    let d = "", pen = "M";
    for (const [x, y] of points) {
      if (Number.isFinite(y)) { d += `${pen}${this.X(x)} ${this.Y(y)}`; pen = "L"; } else pen = "M";
    }
    if (kind === "ql-quantized") this.add(`<path class="ql-line ql-casing" d="${d}"/>`); // orange alone is faint on white
    return this.add(`<path class="ql-line ${kind}" d="${d}"/>`);
  }
  area(points, kind) { // points: [x, low, high]
    const p = points.filter(([, a, b]) => Number.isFinite(a) && Number.isFinite(b));
    if (!p.length) return this;
    const up = p.map(([x, , b]) => `${this.X(x)} ${this.Y(b)}`), down = p.map(([x, a]) => `${this.X(x)} ${this.Y(a)}`);
    return this.add(`<path class="${kind}" d="M${up.join("L")}L${down.reverse().join("L")}Z"/>`);
  }
  bars(edges, heights, kind) {
    const d = heights.map((h, i) => h > 0
      ? `M${this.X(edges[i])} ${this.bottom}V${this.Y(h)}H${this.X(edges[i + 1])}V${this.bottom}Z` : "");
    return this.add(`<path class="ql-bar ${kind}" d="${d.join("")}"/>`);
  }
  dot(x, y, kind, radius = 3) {
    if (!Number.isFinite(y)) return this;
    return this.add(`<circle class="ql-dot ${kind}" cx="${this.X(x)}" cy="${this.Y(y)}" r="${radius}"/>`);
  }
  diamond(x, y, kind, radius = 5) {
    if (!Number.isFinite(y)) return this;
    const px = this.X(x), py = this.Y(y);
    return this.add(`<path class="ql-dot ${kind}" d="M${px} ${py - radius}L${px + radius} ${py}L${px} ${py + radius}L${px - radius} ${py}Z"/>`);
  }
  square(x, y, kind, half = 4) {
    if (!Number.isFinite(y)) return this;
    return this.add(`<rect class="ql-dot ${kind}" x="${this.X(x) - half}" y="${this.Y(y) - half}" width="${2 * half}" height="${2 * half}"/>`);
  }
  aside(px, py, text) { // a name in the margin, at a place of the drawing
    this.outside.push(`<text class="ql-aside" x="${px}" y="${py}">${escape(text)}</text>`);
    return this;
  }
  vertical(x, kind) {
    return this.add(`<line class="ql-line ${kind}" x1="${this.X(x)}" x2="${this.X(x)}" y1="${this.top}" y2="${this.bottom}"/>`);
  }
  horizontal(y, kind) {
    return this.add(`<line class="ql-line ${kind}" x1="${this.left}" x2="${this.right}" y1="${this.Y(y)}" y2="${this.Y(y)}"/>`);
  }
  shade(from, to) { // hatched: outside the limits
    const a = clamp(this.X(from), this.left, this.right), b = clamp(this.X(to), this.left, this.right);
    if (b - a < 0.5) return this;
    return this.add(`<rect class="ql-limit" x="${a}" y="${this.top}" width="${(b - a).toFixed(2)}" `
      + `height="${this.bottom - this.top}" fill="url(#${this.id}-hatch)"/>`);
  }
  note(x, y, text, anchor = "start") {
    return this.add(`<text class="ql-note" x="${x}" y="${y}" text-anchor="${anchor}">${escape(text)}</text>`);
  }
  layers(id) { // axes as text, marks and names beside as one text each; the drawing's own name for clip and hatch
    const axes = `<defs><clipPath id="${id}"><rect x="${this.left - 5}" y="${this.top - 5}" `
      + `width="${this.right - this.left + 10}" height="${this.bottom - this.top + 6}"/></clipPath>`
      + `<pattern id="${id}-hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">`
      + `<line class="ql-hatch" x1="0" x2="0" y1="0" y2="6"/></pattern></defs>` + this.frame.join("");
    return [axes, this.marks.map((m) => m.replaceAll(`#${this.id}-`, `#${id}-`)), this.outside];
  }
}

// A group shows plots. The axes stand still: as a rule only some marks are new, and only they are parsed again.
export function canvas(group) {
  const id = `ql-clip-${serial()}`;
  let axes = null, layers = [], shown = [];
  const patch = (layer, marks, before) => {
    const fresh = marks.filter((m, i) => m !== before[i]).length;
    if (!fresh && marks.length === before.length) return;
    if (marks.length !== before.length || layer.childElementCount !== marks.length || 2 * fresh > marks.length) layer.innerHTML = marks.join("");
    else for (let i = 0, node = layer.firstChild; i < marks.length; i++) {
      const next = node.nextSibling;
      if (marks[i] !== before[i]) node.outerHTML = marks[i];
      node = next;
    }
  };
  return (plot) => {
    const [frame, ...lists] = plot.layers(id);
    if (frame !== axes) {
      group.innerHTML = `${frame}<g clip-path="url(#${id})"></g><g></g>`;
      axes = frame;
      layers = [...group.children].slice(-2);
      shown = [[], []];
    }
    lists.forEach((marks, k) => { patch(layers[k], marks, shown[k]); });
    shown = lists;
  };
}

// ---- a panel: heading, legend, and an SVG at its true width, so that text keeps its size
export function panel(title, legend, height = 205) {
  const picture = document.createElementNS(SVG, "g"), svg = document.createElementNS(SVG, "svg"), paint = canvas(picture);
  svg.setAttribute("role", "img");
  svg.append(picture);
  const tip = tag("div", { class: "ql-tip", "aria-hidden": "true" }), head = tag("figcaption");
  const root = tag("figure", { class: "ql-panel" }, head, svg, tip);
  let drawn = null, ring = null, said = "";
  const explain = (text, list) => {
    if (said === (said = JSON.stringify([text, list]))) return;
    head.replaceChildren(tag("b", {}, text), ...list.map(([kind, name]) => tag("span", { class: `ql-key ${kind}` }, name)));
  };
  const hide = () => { tip.textContent = ""; ring?.remove(); ring = null; };
  // The nearest target says what it is: which curve, which value.
  const point = (e) => {
    const box = svg.getBoundingClientRect(), k = drawn.width / box.width, px = (e.clientX - box.left) * k, py = (e.clientY - box.top) * k;
    let best = null, least = 30;
    for (const target of drawn.targets) {
      const far = Math.hypot(target[0] - px, target[1] - py);
      if (far <= least) { least = far; best = target; }
    }
    if (!best) return hide();
    const [x, y, words] = best;
    tip.textContent = words();
    const home = root.getBoundingClientRect(), half = tip.offsetWidth / 2;
    tip.style.top = `${box.top - home.top + y / k - 10}px`;
    tip.style.left = `${clamp(box.left - home.left + x / k, half, Math.max(home.width - half, half))}px`;
    if (!ring) svg.append(ring = document.createElementNS(SVG, "circle"));
    attributes(ring, { class: "ql-ring", cx: x, cy: y, r: 7 });
  };
  for (const what of ["pointermove", "pointerdown"]) svg.addEventListener(what, (e) => { if (drawn?.targets.length) point(e); });
  svg.addEventListener("pointerleave", (e) => { if (e.pointerType === "mouse") hide(); }); // a tapped one stays
  explain(title, legend);
  steady(head);
  return {
    root, svg, height, explain,
    show(plot, label) {
      attributes(svg, { width: plot.width, height: plot.height, viewBox: `0 0 ${plot.width} ${plot.height}`, "aria-label": label });
      if (ring) hide();
      paint(plot);
      drawn = plot;
    },
    // Read when the layout changed, not at each step: reading forces the browser to lay out.
    fit() { this.width = Math.max(240, root.clientWidth || 340); },
  };
}

// ---- controls: native elements with a label and the value in words
export function slider(label, { min, max, step }, change) {
  const id = `ql-${serial()}`, input = tag("input", { type: "range", id, min, max, step });
  const output = tag("output", { for: id });
  input.addEventListener("input", () => change(+input.value));
  return {
    words: true,
    root: tag("div", { class: "ql-control" }, tag("label", { for: id }, label), output, input),
    set(value, words, disabled = false) {
      if (+input.value !== value) input.value = value;
      input.disabled = disabled;
      write(output, words);
      attributes(input, { "aria-valuetext": words });
    },
  };
}
export function choice(label, options, change) { // options: [value, text]
  const id = `ql-${serial()}`, input = tag("select", { id }), output = tag("output", { for: id });
  input.append(...options.map(([value, text]) => tag("option", { value }, text)));
  input.addEventListener("change", () => change(input.value));
  return {
    root: tag("div", { class: "ql-control" }, tag("label", { for: id }, label), output, input),
    set(value, words = "") { input.value = value; write(output, words); },
  };
}

// ---- the shell: controls, one sentence for eyes and screen readers, panels, numbers, words
export function shell(el, name, kind) {
  const part = (cls, node = "div", attributes = {}) => tag(node, { class: cls, ...attributes });
  const root = part(`ql ${kind}`, "div", { role: "group", "aria-label": name });
  root.addEventListener("keydown", (e) => e.stopPropagation()); // JupyterLab would take the arrow keys
  const parts = {
    root, controls: part("ql-controls"), status: part("ql-status", "p"),
    panels: part("ql-panels"), stats: part("ql-stats"), words: part("ql-words"),
  };
  root.append(parts.controls, parts.status, parts.panels, parts.stats, parts.words, voice(parts.status));
  el.append(root);
  steady(parts.status, parts.stats);
  return parts;
}
// The room that a sentence, a legend or a table once needed stays theirs: nothing moves back and forth under the hand.
function steady(...nodes) {
  const widths = new Map(), watch = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (widths.get(target) !== target.clientWidth) target.style.minHeight = "";
      widths.set(target, target.clientWidth);
      target.style.minHeight = `${Math.ceil(target.getBoundingClientRect().height)}px`;
    }
  });
  for (const node of nodes) watch.observe(node);
}
// What a screen reader hears: the sentence, once the hand rests and only if it says something new.
function voice(status) {
  const region = tag("span", { class: "ql-live", role: "status", "aria-live": "polite" });
  let said = null, timer = 0;
  new MutationObserver(() => {
    said ??= status.textContent; // the first sentence is found by reading, not called out
    clearTimeout(timer);
    timer = setTimeout(() => { if (status.textContent !== said) region.textContent = said = status.textContent; }, 500);
  }).observe(status, { childList: true, characterData: true, subtree: true });
  return region;
}
export function button(text, press) {
  const node = tag("button", { type: "button", class: "ql-button" }, text);
  node.addEventListener("click", press);
  return node;
}
// Named settings as buttons: {name: state}; show(holds) marks the one that the controls stand on.
export function presets(list, choose) {
  const all = Object.entries(list ?? {}).map(([name, state]) => [state, button(name, () => choose(state))]);
  const root = all.length ? tag("div", { class: "ql-presets", role: "group", "aria-label": "named settings" }, ...all.map(([, b]) => b)) : null;
  return { root, show(holds) { for (const [state, b] of all) attributes(b, { "aria-pressed": holds(state) }); } };
}
// The button that measures anew: drawn only after a kernel has answered, so never on a served page.
export function refresher(model, place) {
  const press = button("measure again", () => {
    press.disabled = true;
    press.textContent = "measuring …";
    say.textContent = "";
    model.send({ type: "refresh" });
  });
  const say = tag("span", { class: "ql-say", role: "alert" }), bar = tag("progress", { max: 1, hidden: "", "aria-label": "measured so far" });
  const hear = (message) => {
    if (message.type === "alive" && !press.isConnected) place.append(press, bar, say);
    bar.hidden = message.type !== "progress";
    if (message.type === "progress") [bar.value, say.textContent] = [message.share, message.text];
    if (message.type !== "done" && message.type !== "error") return;
    press.disabled = false;
    press.textContent = "measure again";
    say.textContent = message.type === "error" ? message.text : "";
  };
  model.on("msg:custom", hear);
  model.send({ type: "hello" });
  return () => model.off("msg:custom", hear);
}

export function floats(view) { // DataView or ArrayBuffer from the model, possibly unaligned
  const copy = view.buffer ? view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) : view;
  return new Float32Array(copy);
}
// Draw now, and again whenever the width or the model changes; returns the undo for anywidget.
// On a page the named values also stand in the address; accept(name, value) may refuse one from there.
export function live(model, names, root, panels, draw, { address = true, accept = () => true } = {}) {
  let width = -1, busy = false;
  const fit = () => {
    if (root.clientWidth === width) return;
    width = root.clientWidth;
    for (const p of panels()) p.fit();
    draw();
  };
  const redraw = () => { if (!busy) draw(); };
  const quiet = (change) => { busy = true; try { change(); } finally { busy = false; } };
  const forget = address && model.number ? remember(model, names, root, accept, quiet, () => { if (width >= 0) draw(); }) : () => {};
  const watch = new ResizeObserver(fit);
  watch.observe(root);
  for (const n of names) model.on(`change:${n}`, redraw);
  fit();
  return () => { watch.disconnect(); forget(); for (const n of names) model.off(`change:${n}`, redraw); };
}

// ---- the state in the address: #ql1=bits:3,scheme:asymmetric&ql2=point.bits:4; what stands as it started is left out
const shared = () => location.hash.slice(1).split("&").filter((part) => /^ql\d+=/.test(part)).map((part) => part.split("="));
function remember(model, names, root, accept, quiet, redraw) {
  const key = `ql${model.number}`, flat = () => Object.fromEntries(names.flatMap((n) => {
    const v = model.get(n);
    return v && typeof v === "object" ? Object.entries(v).map(([k, u]) => [`${n}.${k}`, u]) : [[n, v]];
  }));
  const start = flat(), whole = Object.fromEntries(names.map((n) => [n, model.get(n)]));
  let timer = 0;
  const read = () => {
    const text = shared().find(([k]) => k === key)?.[1];
    const next = structuredClone(whole);
    for (const part of text?.split(",") ?? []) {
      const [n, v] = part.split(":").map(decodeURIComponent), [outer, inner] = n.split(/\.(.*)/s);
      if (v === undefined || !names.includes(outer)) continue;
      const known = typeof start[n] === "string" || v === "" || !Number.isFinite(+v) ? v : +v;
      if (n in start && typeof known !== typeof start[n]) continue;
      const list = Array.isArray(whole[outer]);
      if (list && !(n in start)) continue;
      const value = inner === undefined ? known : list ? Object.assign([...next[outer]], { [inner]: known }) : { ...next[outer], [inner]: known };
      if (typeof value === typeof whole[outer] && accept(outer, value)) next[outer] = value;
    }
    quiet(() => { for (const n of names) if (JSON.stringify(next[n]) !== JSON.stringify(model.get(n))) model.set(n, next[n]); });
    redraw();
    return text !== undefined;
  };
  const write = () => {
    const now = flat(), changed = Object.entries(now).filter(([n, v]) => v !== start[n]);
    const mine = changed.map(([n, v]) => [n, v].map(encodeURIComponent).join(":")).join(",");
    const parts = [...shared().filter(([k]) => k !== key), ...(mine ? [[key, mine]] : [])].map((p) => p.join("="));
    if (parts.length || shared().length) history.replaceState(history.state, "", location.href.split("#")[0] + (parts.length ? `#${parts.join("&")}` : ""));
  };
  const later = () => { clearTimeout(timer); timer = setTimeout(write, 300); };
  const hash = () => { if (shared().length) read(); };
  for (const n of names) model.on(`change:${n}`, later);
  addEventListener("hashchange", hash);
  if (read() && shared()[0][0] === key) { // a shared link shows the explorer that it is about
    const come = () => { root.dispatchEvent(new Event("beforematch", { bubbles: true })); root.scrollIntoView({ block: "center" }); };
    if (document.readyState === "complete") come(); else addEventListener("load", come, { once: true });
  }
  return () => { clearTimeout(timer); removeEventListener("hashchange", hash); for (const n of names) model.off(`change:${n}`, later); };
}

// ---- predictions: what the reader guessed, for the page (which unfolds) and for explorers (which mark it)
export function announce(name, open, prediction) {
  (window.qlGuesses ??= new Map()).set(name, open ? prediction : null);
  document.dispatchEvent(new CustomEvent("ql-guess", { detail: { name, open } }));
}
export const guessed = (name) => window.qlGuesses?.get(name) ?? null;
