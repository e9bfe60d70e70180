// Shows a measured grid: one control per dimension, a curve with its interval, all measures at a point.
import { Plot, attributes, button, choice, floats, guessed, live, number, panel, presets, refresher, shell, slider, tag, withUnit, write } from "./explorer_parts.js";

const named = (v) => (typeof v === "number" ? number(v, 6) : String(v));

// The arrays of one measure, cut from the common buffer: values, low, high, law (some may be absent).
function unpack(spec, buffer) {
  const size = spec.dims.reduce((n, d) => n * d.values.length, 1);
  return spec.measures.map((m) => {
    const parts = {};
    for (const [key, offset] of Object.entries(m.parts)) parts[key] = buffer.subarray(offset, offset + size);
    return { ...m, ...parts };
  });
}
function at(spec, point) { // index of a point in C order
  return spec.dims.reduce((i, d) => i * d.values.length + (point[d.name] ?? 0), 0);
}
// At most five grey curves, each with a name: the current setting with one dimension changed.
function ghosts(spec, point, along) {
  const d = spec.dims.find((k) => k.name === along);
  if (!d) return [];
  const rest = d.values.map((_, i) => i).filter((i) => i !== point[d.name]), most = Math.min(5, rest.length);
  const chosen = Array.from({ length: most }, (_, k) => rest[most === 1 ? 0 : Math.round(k * (rest.length - 1) / (most - 1))]);
  return chosen.map((i) => [{ ...point, [d.name]: i }, inWords(d, i)]);
}
const value = (d, i) => withUnit(named(d.values[i]), d.unit);
const inWords = (d, i) => (typeof d.values[i] === "string" ? d.values[i] : d.name === "bits" ? withUnit(named(d.values[i]), d.values[i] === 1 ? "bit" : "bits") : `${d.name}\u00a0${value(d, i)}`);
const settingInWords = (spec, point, but) => spec.dims.filter((d) => d.name !== but && d.values.length > 1).map((d) => inWords(d, point[d.name])).join(", ");
// The axes hold every setting of the whole grid, so that a slider never moves them.
const bounds = (list) => list.reduce(([a, b], v) => (Number.isFinite(v) ? [Math.min(a, v), Math.max(b, v)] : [a, b]), [Infinity, -Infinity]);
function limits(m, more) {
  m.bounds ??= [m.values, m.low, m.high, m.law, m.references.map((r) => r[1])].filter(Boolean).flatMap((a) => bounds(a));
  const [low, high] = bounds([...m.bounds, ...more]);
  if (low > high) return { y: [0, 1], ylog: false };
  if (low > 0 && high / low >= 100) return { y: [low / (high / low) ** 0.06, high * (high / low) ** 0.06], ylog: true };
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return { y: [low - room, high + room], ylog: false };
}

function paint(spec, m, point, { pinned, along, guess }, w, h) {
  const x = spec.dims.find((d) => d.name === spec.x), n = x.values.length, numeric = x.values.every((v) => typeof v === "number");
  const log = numeric && Math.min(...x.values) > 0 && Math.max(...x.values) / Math.min(...x.values) >= 50;
  const place = (i) => (numeric ? x.values[i] : i), ends = [place(0), place(n - 1)];
  const a = Math.min(...ends), b = Math.max(...ends), room = (b - a || 1) * 0.04;
  const curve = (where, key) => x.values.map((_, i) => [place(i), m[key][at(spec, { ...where, [x.name]: i })]]);
  const grey = ghosts(spec, point, along), names = [...grey.map(([, name]) => name), ...m.references.map(([label, v]) => `${label} ${number(v)}`)];
  const longest = Math.max(0, ...names.map((s) => s.length)), margin = Math.min(16 + 6.4 * longest, w * 0.3);
  const p = new Plot(w, h, {
    x: log ? [a / (b / a) ** 0.04, b * (b / a) ** 0.04] : [a - room, b + room], ...limits(m, guess?.flat ?? []), log, margin: names.length ? margin : 10,
    xlabel: x.unit ? `${x.name} (${x.unit})` : x.name, ylabel: m.unit ? `${m.name} (${m.unit})` : m.name,
    xticks: numeric && n > 12 && !log ? undefined : x.values.map((_, i) => place(i)), xname: numeric ? number : (i) => named(x.values[i]),
  });
  // Levels stay level: each value holds halfway to its neighbors, with thin risers between.
  const halves = (points) => points.flatMap(([px, py], i) => [[i ? (points[i - 1][0] + px) / 2 : px, py], [i + 1 < n ? (px + points[i + 1][0]) / 2 : px, py]]);
  const draw = (points, kind) => p.line(m.steps && numeric ? halves(points) : points, kind);
  const tell = (points, name) => points.forEach(([px, py], i) => p.target(px, py, () => `${name}: ${withUnit(number(py, 4), m.unit)} at ${inWords(x, i)}`));
  const placed = [], side = []; // names at the right end, pushed apart
  grey.forEach(([where, name], k) => {
    const points = curve(where, "values"), end = points.findLast(([, y]) => Number.isFinite(y));
    draw(points, `ql-ghost ql-ghost-${k}`);
    tell(points, name);
    if (end) side.push([p.Y(end[1]), name]);
  });
  if (m.low && m.high) p.area(x.values.map((_, i) => [place(i), ...["low", "high"].map((k) => m[k][at(spec, { ...point, [x.name]: i })])]), "ql-band");
  for (const [label, v] of m.references) {
    p.horizontal(v, "ql-reference");
    side.push([p.Y(v), `${label} ${number(v)}`]);
  }
  if (m.law) p.line(curve(point, "law"), "ql-law");
  if (pinned) {
    draw(curve(pinned, "values"), "ql-pinned");
    tell(curve(pinned, "values"), `pinned (${settingInWords(spec, pinned, spec.x) || m.name})`);
    p.square(place(pinned[x.name]), m.values[at(spec, pinned)], "ql-pinned", 5);
  }
  draw(curve(point, "values"), "ql-quantized");
  if (n <= 24) for (const [px, py] of curve(point, "values")) p.dot(px, py, "ql-quantized");
  tell(curve(point, "values"), settingInWords(spec, point, spec.x) || m.name);
  if (guess) {
    if (guess.curve && guess.curve.length === n) {
      p.line(guess.curve.map((v, i) => [place(i), v]), "ql-guess");
      guess.curve.forEach((v, i) => p.diamond(place(i), v, "ql-guess"));
    } else if (guess.number !== undefined) p.horizontal(guess.number, "ql-guess");
    tell(x.values.map((_, i) => [place(i), guess.curve?.[i] ?? guess.number]), "your guess");
  }
  const here = place(point[x.name]);
  p.vertical(here, "ql-here").dot(here, m.values[at(spec, point)], "ql-quantized ql-now", 6);
  const letters = Math.floor((margin - 8) / 6.2), short = (s) => (s.length > letters ? `${s.slice(0, letters - 1)}…` : s);
  side.sort((s, t) => s[0] - t[0]);
  side.forEach(([y], k) => { placed[k] = Math.max(y, k ? placed[k - 1] + 14 : p.top + 4); });
  for (let k = side.length - 1, floor = p.bottom - 2; k >= 0; k--) { placed[k] = Math.min(placed[k], floor); floor = placed[k] - 14; }
  side.forEach(([, name], k) => p.aside(p.right + 6, placed[k] + 4, short(name)));
  return p;
}

function legend(m, { pinned, along, guess }) {
  const keys = [["ql-quantized", "this setting"]];
  if (m.low && m.high) keys.push(["ql-band", "interval"]);
  if (along) keys.push(["ql-ghost", `other ${along}`]);
  if (m.law) keys.push(["ql-law", m.law_name]);
  if (pinned) keys.push(["ql-pinned", "pinned"]);
  if (guess) keys.push(["ql-guess", "your guess"]);
  return keys;
}
// As many digits as the interval supports, as the ledger of claims writes them.
function supported(m, i, v) {
  const width = m.low && m.high ? m.high[i] - m.low[i] : NaN;
  if (!(width > 0)) return number(v, 4);
  const places = Math.max(-Math.floor(Math.log10(width / 2)), Math.abs(m.values[i]) < 10 ? 1 : 0);
  return number(Number(v.toFixed(Math.min(places, 12))), 6);
}
const shown = (m, i) => Number.isFinite(m.values[i]) ? withUnit(supported(m, i, m.values[i]), m.unit) : "not measured";
const between = (m, i) => m.low && m.high && Number.isFinite(m.low[i]) ? `${supported(m, i, m.low[i])} to ${supported(m, i, m.high[i])}` : "";
// Texts of the table, row by row, the heads first.
function numbers(spec, measures, point, pinned) {
  const i = at(spec, point), j = pinned && at(spec, pinned);
  const rows = measures.map((m) => [
    m.name, shown(m, i), pinned ? shown(m, j) : "", between(m, i),
    [...(m.law && Number.isFinite(m.law[i]) ? [[m.law_name, m.law[i]]] : []), ...m.references].map(([k, v]) => `${k}\u00a0${number(v)}`).join(", "),
  ]);
  const heads = ["measure", "this setting", "pinned", "interval", "compare"];
  return [heads, ...rows].map((r) => r.filter((_, c) => c < 2 || rows.some((q) => q[c]))); // no empty column
}
function table([heads, ...rows]) {
  const line = (r) => tag("tr", {}, ...r.map((_, c) => (c ? tag("td") : tag("th", { scope: "row" }))));
  return tag("table", {}, tag("thead", {}, tag("tr", {}, ...heads.map(() => tag("th", { scope: "col" })))), tag("tbody", {}, ...rows.map(line)));
}

function render({ model, el }) {
  const ui = shell(el, model.get("spec").title, "ql-grid");
  const extra = tag("span", { class: "ql-extra" });
  let spec, measures, controls, frame, named_, pin, along, shape = "";
  const set = (changes) => { for (const [k, v] of Object.entries(changes)) model.set(k, v); model.save_changes(); };
  const put = (name) => (i) => {
    if (name !== spec.x) along = name; // the grey curves are the others of what the hand moves
    set({ point: { ...model.get("point"), [name]: +i } });
  };
  const start = () => spec.dims.find((d) => d.name !== spec.x && d.values.length > 1)?.name;
  const build = () => { // again after a refresh
    spec = model.get("spec");
    measures = unpack(spec, floats(model.get("values")));
    along = start();
    controls = spec.dims.filter((d) => d.values.length > 1).map((d) => [d, d.values.every((v) => typeof v === "number")
      ? slider(d.name, { min: 0, max: d.values.length - 1, step: 1 }, put(d.name))
      : choice(d.name, d.values.map((v, i) => [i, named(v)]), put(d.name))]);
    const pick = measures.length > 1 ? [[null, choice("show", measures.map((m) => [m.name, m.name]), (v) => { model.set("measure", v); model.save_changes(); })]] : [];
    controls = [...pick, ...controls];
    pin = button("pin this setting", () => set({ pinned: pinnedOf() ? {} : { ...model.get("point") } }));
    const back = button("back to start", () => {
      along = start();
      set({ point: spec.start, measure: measures[0].name, pinned: {} });
    });
    ui.controls.replaceChildren(...controls.map(([, c]) => c.root), tag("div", { class: "ql-buttons" }, pin, back, extra));
    named_?.root?.remove();
    named_ = presets(spec.presets, (p) => set({ point: { ...model.get("point"), ...p } }));
    if (named_.root) ui.controls.before(named_.root);
    frame = panel("", [], 300);
    ui.panels.replaceChildren(frame.root);
    ui.words.replaceChildren(...[["ql-note-line", spec.note], ["ql-caption", spec.caption]].filter(([, t]) => t).map(([c, t]) => tag("p", { class: c }, t)));
  };
  const draw = () => {
    const point = model.get("point"), m = measures.find((k) => k.name === model.get("measure")) ?? measures[0], i = at(spec, point), pinned = pinnedOf();
    for (const [d, c] of controls) {
      if (d) c.set(point[d.name], c.words ? value(d, point[d.name]) : "");
      else c.set(m.name);
    }
    write(pin, pinned ? "unpin" : "pin this setting");
    attributes(pin, { "aria-pressed": pinned !== null });
    named_.show((p) => Object.entries(p).every(([k, v]) => point[k] === v));
    const marks = { pinned, along, guess: m === measures[0] ? guess() : null };
    const where = settingInWords(spec, point), finite = Number.isFinite(m.values[i]), found = shown(m, i);
    const sure = finite && between(m, i) ? ` (${between(m, i)})` : "";
    const other = pinned && Number.isFinite(m.values[at(spec, pinned)]) ? `; pinned: ${shown(m, at(spec, pinned))}` : "";
    const sentence = `${where}: ${m.name} ${found}${sure}${other}.`;
    write(ui.status, sentence[0].toUpperCase() + sentence.slice(1));
    frame.explain(`${m.name} against ${spec.x}`, legend(m, marks));
    frame.show(paint(spec, m, point, marks, frame.width, frame.height), `${m.name} against ${spec.x}; ${found} at ${where}`);
    const texts = numbers(spec, measures, point, pinned);
    if (shape !== (shape = texts.map((r) => r.length).join())) {
      ui.stats.replaceChildren(table(texts));
      for (const node of [ui.stats, ui.stats.firstChild]) scrolls.observe(node);
    }
    texts.forEach((r, i) => {
      const row = ui.stats.firstChild.rows[i];
      r.forEach((text, c) => { write(row.cells[c], text); });
      attributes(row, { class: measures[i - 1] === m ? "ql-current" : "" });
    });
  };
  // A table wider than its box scrolls: then, and only then, the box is a tab stop.
  const scrolls = new ResizeObserver(() => {
    const wide = ui.stats.scrollWidth > ui.stats.clientWidth;
    for (const [key, v] of [["tabindex", 0], ["role", "region"], ["aria-label", "numbers of this setting"]]) wide ? ui.stats.setAttribute(key, v) : ui.stats.removeAttribute(key);
  });
  const pinnedOf = () => {
    const pinned = model.get("pinned") ?? {};
    return Object.keys(pinned).length ? { ...model.get("point"), ...pinned } : null;
  };
  const guess = () => {
    const g = spec.guess && guessed(spec.guess);
    if (!g || g.guess === undefined || g.form === "choice") return null;
    return g.form === "curve" ? { curve: g.guess, flat: g.guess } : { number: g.guess, flat: [g.guess] };
  };
  const accept = (name, v) => (name === "measure" ? measures.some((m) => m.name === v)
    : Object.entries(v).every(([k, i]) => Number.isInteger(i) && i >= 0 && i < (spec.dims.find((d) => d.name === k)?.values.length ?? 0)));
  build();
  const undo = live(model, ["point", "measure", "pinned"], ui.root, () => [frame], draw, { accept });
  document.addEventListener("ql-guess", draw);
  const renew = () => { build(); frame.fit(); draw(); };
  model.on("change:spec", renew);
  const quiet = spec.refresh ? refresher(model, extra) : () => {};
  return () => { undo(); quiet(); scrolls.disconnect(); document.removeEventListener("ql-guess", draw); model.off("change:spec", renew); };
}
export default { render };
