// Quantizes an array in the browser; every panel is drawn from the real codes.
import { chooseParams, codeRange, group, isBinary, lawSnr, quantizeGroups } from "./explorer_arithmetic.js";
import { Plot, attributes, button, choice, clamp, count, floats, live, number, panel, presets, shell, slider, tag, ticks, withUnit, write } from "./explorer_parts.js";

const WORDS = { symmetric: "zero point 0", asymmetric: "zero point free" };
const signed = (v) => (v > 0 ? `+${v}` : String(v).replace("-", "−"));

export function bitsInWords(bits, scheme) {
  const [low, high] = codeRange(bits, scheme);
  return `${bits} · ${isBinary(bits, scheme) ? "binary" : bits === 2 && scheme === "symmetric" ? "ternary" : `${count(high - low + 1)} codes`}`;
}

// At most `most` items, evenly picked.
function some(list, most) {
  if (list.length <= most) return list;
  return Array.from({ length: most }, (_, i) => list[Math.round(i * (list.length - 1) / (most - 1))]);
}
const spread = (values) => {
  const low = Math.min(...values), high = Math.max(...values);
  return low === high ? number(low) : `${number(low)} to ${number(high)}`;
};
// The levels of one grid in [low, high], or null when too dense to draw.
function levels(p, binary, low, high, most) {
  if (binary) return [-p.scale, p.scale];
  const from = Math.max(p.qmin, Math.ceil(low / p.scale + p.zero)), to = Math.min(p.qmax, Math.floor(high / p.scale + p.zero));
  if (to - from > most) return null;
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => (from + i - p.zero) * p.scale);
}
function histogram(values, low, high, bins) {
  const counts = new Array(bins).fill(0), edges = Array.from({ length: bins + 1 }, (_, i) => low + (high - low) * i / bins);
  for (const v of values) counts[Math.min(Math.max(Math.floor((v - low) / (high - low) * bins), 0), bins - 1)]++;
  return { edges, heights: counts.map((c) => 100 * c / values.length) };
}
function padded(low, high, share = 0.06) {
  const room = (high - low || Math.abs(high) || 1) * share;
  return [low - room, high + room];
}
const DECIBELS = [-6, 104]; // one scale for all settings: 16 bits reach about 100 dB
function rowSnr(s, values) {
  return Array.from({ length: s.rows }, (_, r) => {
    let power = 0, noise = 0;
    for (let i = r * s.columns; i < (r + 1) * s.columns; i++) { power += s.data[i] ** 2; noise += (values[i] - s.data[i]) ** 2; }
    return noise ? 10 * Math.log10(power / noise) : NaN;
  });
}
// Where the data and the levels of every reachable grid lie: the axes never move.
function frameOf(a, spec) {
  const whole = group(a.data, a.data.length)[0], schemes = spec.controls.includes("scheme") ? ["symmetric", "asymmetric"] : [spec.start.scheme];
  let { low, high } = a;
  for (const scheme of schemes) {
    for (let bits = spec.controls.includes("bits") ? 1 : spec.start.bits; bits <= 16; bits++) {
      const p = chooseParams(whole, bits, scheme), ends = isBinary(bits, scheme) ? [-p.scale, p.scale] : [p.qmin, p.qmax].map((q) => (q - p.zero) * p.scale);
      low = Math.min(low, ...ends);
      high = Math.max(high, ...ends);
    }
  }
  return padded(low, high);
}
const axis = (s) => (s.unit ? `${s.name} (${s.unit})` : s.name);

// ---- the panels: from the state s and a size to [plot, description]
const PANELS = {
  trace: ["in order", [["ql-signal", "signal"], ["ql-quantized", "quantized"]], (s, w, h) => {
    const room = Math.min(300, Math.max(80, Math.round(w / 35) * 10)), rows = some([...Array(s.rows).keys()], Math.floor(room / 12));
    const each = Math.min(s.columns, Math.floor(room / rows.length)), at = [];
    for (const r of rows) for (let i = 0; i < each; i++) at.push(r * s.columns + i);
    const shown = at.map((i) => s.data[i]);
    const what = s.rows > 1 ? `${rows.length} of ${s.rows} ${s.channel}s, ${each} values each` : `sample (first ${count(at.length)} of ${count(s.data.length)})`;
    const y = s.frame;
    const p = new Plot(w, h, { x: [-0.5, at.length - 0.5], y, xlabel: what, ylabel: axis(s), xticks: s.rows > 1 ? [] : undefined });
    if (s.groups.length === 1) for (const v of levels(s.out.params[0], s.out.binary, ...y, 24) ?? []) p.horizontal(v, "ql-level");
    rows.forEach((r, k) => {
      if (s.rows === 1) return;
      if (k) p.vertical(k * each - 0.5, "ql-cut");
      if (rows.length <= 8 || k % 4 === 0) p.note(p.X((k + 0.5) * each - 0.5), p.bottom - 4, r, "middle");
    });
    const held = (values) => at.flatMap((j, i) => [[i - 0.5, values[j]], [i + 0.5, values[j]], ...(s.rows > 1 && (i + 1) % each === 0 ? [[i, NaN]] : [])]);
    if (s.pin) p.line(held(s.pin.out.values), "ql-pinned");
    p.line(held(s.out.values), "ql-quantized").line(shown.map((v, i) => [i, v]), "ql-signal");
    at.forEach((j, i) => p.target(i, s.data[j], () => `${withUnit(number(s.data[j]), s.unit)} comes back as ${withUnit(number(s.out.values[j]), s.unit)}`));
    return [p, `${s.name}: signal and its quantized steps`];
  }],
  staircase: ["in and out", [["ql-quantized", "staircase"], ["ql-law", "identity"]], (s, w, h) => {
    const x = padded(s.low, s.high), p = new Plot(w, h, { x, y: s.frame, xlabel: `${axis(s)}, in`, ylabel: "out" });
    p.line([[x[0], x[0]], [x[1], x[1]]], "ql-law");
    if (s.groups.length === 1 && !s.out.binary) {
      const g = s.out.params[0];
      p.shade(x[0], (g.qmin - g.zero) * g.scale).shade((g.qmax - g.zero) * g.scale, x[1]);
    }
    const picked = some([...s.groups.keys()], 6), many = s.groups.length > 1;
    for (const k of picked) p.line(stairs(s.out.params[k], s.out.binary, x, s.groups[k], many), "ql-quantized");
    if (s.pin && !many && s.pin.groups.length === 1) p.line(stairs(s.pin.out.params[0], s.pin.out.binary, x, s.groups[0], false), "ql-pinned");
    if (!many) for (const v of levels(s.out.params[0], s.out.binary, ...s.frame, 40) ?? []) p.target(clamp(v, ...x), v, () => `level ${withUnit(number(v), s.unit)}, code ${signed(Math.round(v / s.out.params[0].scale) + s.out.params[0].zero)}`);
    if (many) p.note(p.left + 6, p.top + 12, `${picked.length} of ${count(s.groups.length)} grids`);
    return [p, "staircase from value in to value out"];
  }],
  error: ["error", [["ql-error", "measured"], ["ql-law", "uniform"]], (s, w, h) => {
    const e = new Float64Array(s.data.length), width = s.out.binary ? 2 : 1;
    s.groups.forEach((g, k) => {
      for (let i = 0; i < g.x.length; i++) e[g.start + i] = (s.out.values[g.start + i] - g.x[i]) / (s.out.params[k].scale * width || 1); // S = 0: all zeros
    });
    const bins = 40, { edges, heights } = histogram(e, -1, 1, bins), law = 200 / bins;
    const outside = e.reduce((t, v) => t + (Math.abs(v) > 1), 0);
    const p = new Plot(w, h, { x: [-1, 1], y: [0, 1.08 * Math.max(law, ...heights)], xlabel: `error / step (step = ${s.out.binary ? "2 S" : "S"})`,
      ylabel: "share (%)", xticks: [-1, -0.5, 0, 0.5, 1] });
    p.bars(edges, heights, "ql-error");
    p.line([[-0.5, 0], [-0.5, law], [0.5, law], [0.5, 0]], "ql-law");
    if (outside) p.note(p.right - 2, p.top + 10, `${count(outside)} beyond ±1, in the end bars`, "end");
    return [p, `histogram of the error in steps; ${count(outside)} beyond one step`];
  }],
  values: ["histogram", [["ql-signal", "values"], ["ql-quantized", "levels"]], (s, w, h) => {
    const x = s.frame, { edges, heights } = histogram(s.data, x[0], x[1], Math.min(80, Math.round(w / 7)));
    const top = 1.08 * Math.max(...heights), p = new Plot(w, h, { x, y: [-0.14 * top, top], xlabel: axis(s), ylabel: "share (%)",
      yticks: ticks(0, top, 3) });
    const base = p.bottom;
    Object.assign(p, { bottom: p.Y(0), y: [0, top] });
    p.bars(edges, heights, "ql-signal");
    const picked = some([...s.groups.keys()], 4), lane = (base - p.bottom - 3) / picked.length;
    picked.forEach((k, i) => {
      const from = base - lane * (i + 1), list = levels(s.out.params[k], s.out.binary, x[0], x[1], p.right - p.left), g = s.out.params[k];
      const limits = [g.qmin, g.qmax].map((q) => p.X((q - g.zero) * g.scale));
      const d = list ? list.map((v) => `M${p.X(v)} ${from + 1}V${from + lane}`).join("") : `M${Math.max(p.left, limits[0])} ${from + lane / 2}H${Math.min(p.right, limits[1])}`;
      p.add(`<path class="ql-line ql-quantized" d="${d}"${list ? "" : ` style="stroke-width:${(lane - 1).toFixed(1)}"`}/>`);
    });
    p.bottom = base;
    return [p, "histogram of the values with the levels below"];
  }],
  snr: ["SNR", [["ql-quantized", "measured"], ["ql-law", "law"]], (s, w, h) => {
    const p = new Plot(w, h, { x: [0.5, 16.5], y: DECIBELS, yticks: h < 160 ? [0, 50, 100] : [0, 20, 40, 60, 80, 100], xlabel: "bits", ylabel: "SNR (dB)", xticks: [1, 4, 8, 12, 16] });
    p.line(s.curve.map((c) => [c.bits, c.law]), "ql-law");
    for (const c of s.curve) {
      p.dot(c.bits, c.snr, "ql-quantized").target(c.bits, c.snr, () => `${c.bits} ${c.bits === 1 ? "bit" : "bits"}: ${number(c.snr)}\u00a0dB${Number.isFinite(c.law) ? `, law ${number(c.law)}\u00a0dB` : ""}`);
    }
    if (s.pin) p.square(s.pin.bits, s.pin.out.snr, "ql-pinned", 5);
    p.vertical(s.bits, "ql-here").dot(s.bits, s.out.snr, "ql-quantized ql-now", 6);
    if (!Number.isFinite(s.out.snr)) p.note(p.X(s.bits), p.top + 12, "exact", s.bits > 12 ? "end" : "start");
    return [p, `SNR at 1 to 16 bits; ${number(s.out.snr)} dB at ${s.bits} bits`];
  }],
  channels: ["SNR of each row", [["ql-quantized", "measured"], ["ql-reference", "all rows together"]], (s, w, h) => {
    const each = rowSnr(s, s.out.values), known = each.filter(Number.isFinite);
    const p = new Plot(w, h, { x: [-0.5, s.rows - 0.5], y: DECIBELS, yticks: [0, 20, 40, 60, 80, 100], xlabel: s.channel, ylabel: "SNR (dB)",
      xticks: s.rows <= 12 ? [...each.keys()] : ticks(0, s.rows - 1, 5).filter(Number.isInteger) });
    p.horizontal(0, "ql-cut");
    if (Number.isFinite(s.out.snr)) p.horizontal(s.out.snr, "ql-reference"); // hides what the small rows lose
    each.forEach((v, r) => p.add(`<line class="ql-line ql-quantized" x1="${p.X(r)}" x2="${p.X(r)}" y1="${p.Y(0)}" y2="${p.Y(v || 0)}"/>`).dot(r, v, "ql-quantized")
      .target(r, v, () => `${s.channel} ${r}: ${number(v)}\u00a0dB`));
    if (s.pin) rowSnr(s, s.pin.out.values).forEach((v, r) => p.square(r, v, "ql-pinned", 3));
    return [p, `SNR of ${s.rows} ${s.channel}s, ${spread(known)} dB`];
  }],
};

// The staircase as corner points; where the steps are finer than the drawing, its outline.
function stairs(p, binary, view, g, own) {
  const [from, to] = own ? [Math.min(g.low, 0), Math.max(g.high, 0)] : view;
  const list = levels(p, binary, Math.max(from - p.scale, view[0] - p.scale), to + p.scale, 240);
  if (!list?.length) {
    const [low, high] = [p.qmin, p.qmax].map((q) => (q - p.zero) * p.scale);
    return [[Math.min(from, low), low], [low, low], [high, high], [Math.max(to, high), high]];
  }
  const points = [[Math.min(from, list[0]), list[0]]];
  for (let i = 1; i < list.length; i++) {
    const tie = (list[i - 1] + list[i]) / 2;
    points.push([tie, list[i - 1]], [tie, list[i]]);
  }
  return [...points, [Math.max(to, list.at(-1)), list.at(-1)]];
}

// ---- state: what the model says, computed once per change that needs it
function reader(model) {
  const spec = model.get("spec"), buffer = floats(model.get("data")), kept = new Map();
  let offset = 0;
  const arrays = spec.arrays.map((a) => {
    const size = a.rows * a.columns, data = buffer.subarray(offset, offset + size);
    offset += size;
    return { ...a, data, low: data.reduce((m, v) => Math.min(m, v), Infinity), high: data.reduce((m, v) => Math.max(m, v), -Infinity) };
  });
  for (const a of arrays) a.frame = frameOf(a, spec);
  const once = (key, make) => kept.get(key) ?? kept.set(key, make()).get(key);
  return () => {
    const s = { ...spec, ...Object.fromEntries(["bits", "scheme", "clip", "granularity"].map((k) => [k, model.get(k)])) };
    Object.assign(s, arrays.find((a) => a.label === model.get("array")) ?? arrays[0]);
    const length = { tensor: s.data.length, channel: s.columns }[s.granularity] ?? +s.granularity;
    s.groups = once(`${s.label}|${length}`, () => group(s.data, length));
    if (kept.size > 400) kept.clear();
    s.curve = once(`${s.label}|${length}|${s.scheme}|${s.clip}`, () => Array.from({ length: 16 }, (_, i) => {
      const out = quantizeGroups(s.groups, i + 1, s.scheme, s.clip);
      return { bits: i + 1, snr: out.snr, law: isBinary(i + 1, s.scheme) ? NaN : lawSnr(s.groups, out.params, i + 1) };
    }));
    s.out = quantizeGroups(s.groups, s.bits, s.scheme, s.clip);
    const pinned = { ...model.get("pinned") };
    if (Object.keys(pinned).length) {
      const p = { bits: s.bits, scheme: s.scheme, clip: s.clip, granularity: s.granularity, ...pinned };
      const length = { tensor: s.data.length, channel: s.columns }[p.granularity] ?? +p.granularity;
      p.groups = once(`${s.label}|${length}`, () => group(s.data, length));
      p.out = once(`${s.label}|${length}|${p.scheme}|${p.clip}|${p.bits}`, () => quantizeGroups(p.groups, p.bits, p.scheme, p.clip));
      s.pin = p;
    }
    return s;
  };
}

// One sentence that a person would say.
function inWords(s) {
  const o = s.out, bits = (b) => `${b}\u00a0${b === 1 ? "bit" : "bits"}`, db = (r) => (r.mse === 0 ? "nothing" : `${number(r.snr)}\u00a0dB`);
  const lost = o.mse === 0 ? "every value comes back exactly" : `the signal stands ${number(o.snr)}\u00a0dB above the error`;
  const cut = o.binary || !o.clipped ? "" : `, ${count(o.clipped)} of ${count(s.data.length)} values are clipped`;
  const pin = s.pin ? ` Pinned: ${bits(s.pin.bits)}, ${s.pin.out.mse === 0 ? "exact" : db(s.pin.out)}.` : "";
  return `At ${bits(s.bits)} ${lost}; the largest error is ${withUnit(number(o.maxError), s.unit)}${cut}.${pin}`;
}
function facts(s, o = s.out, { groups, bits, scheme } = s) {
  const n = s.data.length, unit = s.unit, scales = o.params.map((p) => p.scale), zeros = o.params.map((p) => p.zero);
  const [low, high] = codeRange(bits, scheme), many = groups.length > 1 ? ` (${count(groups.length)})` : "";
  return [
    [`scale S${many}`, withUnit(spread(scales), unit)],
    ["zero point Z", spread(zeros)],
    ["codes used", `${count(o.used)} of ${o.binary ? 2 : count(high - low + 1)}`],
    ["codes", `${signed(low)}${o.binary ? " and " : " to "}${signed(high)}`],
    ["SNR", o.mse === 0 ? "exact" : `${number(o.snr)}\u00a0dB`],
    ["MSE", withUnit(number(o.mse), unit && (unit.length > 1 ? `(${unit})²` : `${unit}²`))],
    ["largest error", withUnit(number(o.maxError), unit)],
    ["clipped", o.binary ? "all go to ±S" : `${number(100 * o.clipped / n)}\u00a0% (${count(o.clipped)})`],
    ["stored", `${count(o.bytes)} bytes, ${number(8 * o.bytes / n, 4)} bits a value`],
  ];
}

function render({ model, el }) {
  const read = reader(model), spec = model.get("spec"), ui = shell(el, spec.title, "ql-array");
  const put = (key) => (value) => { model.set(key, value); model.save_changes(); };
  const make = {
    data: () => choice("data", spec.arrays.map((a) => [a.label, a.label]), put("array")),
    bits: () => slider("bit width", { min: 1, max: 16, step: 1 }, put("bits")),
    scheme: () => choice("scheme", ["symmetric", "asymmetric"].map((v) => [v, v]), put("scheme")),
    clip: () => slider("clip at percentile", { min: 90, max: 100, step: 0.1 }, put("clip")),
    granularity: () => choice("one scale per", spec.granularities.map((g) => [g, { tensor: "tensor", channel: spec.channel }[g] ?? `group of ${g}`]), put("granularity")),
  };
  const controls = spec.controls.map((k) => [k, make[k]()]), settings = ["bits", "scheme", "clip", "granularity"];
  const set = (state) => { for (const [k, v] of Object.entries(state)) model.set(k, v); model.save_changes(); };
  const isPinned = () => Object.keys(model.get("pinned") ?? {}).length > 0;
  const pin = button("pin this setting", () => set({ pinned: isPinned() ? {} : Object.fromEntries(settings.map((k) => [k, model.get(k)])) }));
  ui.controls.append(...controls.map(([, c]) => c.root), tag("div", { class: "ql-buttons" }, pin, button("back to start", () => set({ ...spec.start, pinned: {} }))));
  const ready = presets(spec.presets, set);
  if (ready.root) ui.controls.before(ready.root);
  const panels = spec.panels.map((k) => ({ ...panel(PANELS[k][0], PANELS[k][1]), paint: PANELS[k][2] }));
  ui.panels.append(...panels.map((p) => p.root));
  for (const [cls, text] of [["ql-note-line", spec.note], ["ql-caption", spec.caption]]) if (text) ui.words.append(tag("p", { class: cls }, text));
  const accept = (name, v) => ({
    bits: () => Number.isInteger(v) && v >= 1 && v <= 16, clip: () => v >= 90 && v <= 100, scheme: () => v in WORDS,
    granularity: () => spec.granularities.includes(v), array: () => spec.arrays.some((a) => a.label === v),
    pinned: () => Object.entries(v).every(([k, u]) => settings.includes(k) && accept(k, k === "granularity" ? String(u) : u)),
  })[name]();
  return live(model, [...settings, "array", "pinned"], ui.root, () => panels, () => {
    const s = read(), o = s.out, words = {
      data: [s.label, ""], bits: [s.bits, bitsInWords(s.bits, s.scheme)], scheme: [s.scheme, WORDS[s.scheme]],
      clip: o.binary ? [s.clip, "unused at 1\u00a0bit", true] : [s.clip, `${number(s.clip, 4)}\u00a0%`],
      granularity: [s.granularity, `${count(s.groups.length)} ${s.groups.length === 1 ? "scale" : "scales"}`],
    };
    for (const [k, c] of controls) c.set(...words[k]);
    write(pin, s.pin ? "unpin" : "pin this setting");
    attributes(pin, { "aria-pressed": Boolean(s.pin) });
    ready.show((state) => Object.entries(state).every(([k, v]) => model.get(k) === v));
    write(ui.status, inWords(s));
    for (const p of panels) p.show(...p.paint(s, p.width, p.height));
    spec.panels.forEach((k, i) => { panels[i].explain(PANELS[k][0], [...PANELS[k][1], ...(s.pin && k !== "error" && k !== "values" ? [["ql-pinned", "pinned"]] : [])]); });
    const before = s.pin ? facts(s, s.pin.out, s.pin) : [];
    facts(s).forEach(([name, value], i) => {
      const box = ui.stats.children[i] ?? ui.stats.appendChild(tag("div", {}, tag("span"), tag("b"), tag("i")));
      [name, value, before[i]?.[1] ?? ""].forEach((text, j) => { write(box.children[j], text); });
    });
  }, { accept });
}
export default { render };
