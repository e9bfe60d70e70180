// Shows a measured grid: one control per dimension, a curve with its interval, all measures at a point.
import { Plot, button, choice, floats, live, number, panel, shell, slider, tag, withUnit } from "./explorer_parts.js";

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
function others(spec, x) { // every combination of the other dimensions
  return spec.dims.filter((d) => d.name !== x.name).reduce(
    (list, d) => list.flatMap((p) => d.values.map((_, i) => ({ ...p, [d.name]: i }))), [{}]);
}
function limits(m) {
  const all = [m.values, m.low, m.high, m.law].flatMap((a) => (a ? [...a] : [])).concat(m.references.map((r) => r[1])).filter(Number.isFinite);
  if (!all.length) return { y: [0, 1], ylog: false };
  const low = Math.min(...all), high = Math.max(...all);
  if (low > 0 && high / low >= 100) return { y: [low / (high / low) ** 0.06, high * (high / low) ** 0.06], ylog: true };
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return { y: [low - room, high + room], ylog: false };
}

function paint(spec, m, point, w, h) {
  const x = spec.dims.find((d) => d.name === spec.x), n = x.values.length, numeric = x.values.every((v) => typeof v === "number");
  const log = numeric && Math.min(...x.values) > 0 && Math.max(...x.values) / Math.min(...x.values) >= 50;
  const place = (i) => (numeric ? x.values[i] : i), ends = [place(0), place(n - 1)];
  const a = Math.min(...ends), b = Math.max(...ends), room = (b - a || 1) * 0.04;
  const p = new Plot(w, h, {
    x: log ? [a / (b / a) ** 0.04, b * (b / a) ** 0.04] : [a - room, b + room], ...limits(m), log,
    xlabel: x.unit ? `${x.name} (${x.unit})` : x.name, ylabel: m.unit ? `${m.name} (${m.unit})` : m.name,
    xticks: x.values.map((_, i) => place(i)), xname: numeric ? number : (i) => named(x.values[i]),
  });
  const curve = (where, key) => x.values.map((_, i) => [place(i), m[key][at(spec, { ...where, [x.name]: i })]]);
  const settings = others(spec, x);
  if (settings.length <= 40) for (const where of settings) p.line(curve(where, "values"), "ql-ghost");
  if (m.low && m.high) p.area(x.values.map((_, i) => [place(i), ...["low", "high"].map((k) => m[k][at(spec, { ...point, [x.name]: i })])]), "ql-band");
  let last = -99;
  for (const [label, v] of [...m.references].sort((s, t) => t[1] - s[1])) {
    const y = Math.max(p.Y(v) - 5, last + 14);
    last = y;
    p.horizontal(v, "ql-reference").note(p.right - 4, y, `${label} ${number(v)}`, "end");
  }
  if (m.law) p.line(curve(point, "law"), "ql-law");
  p.line(curve(point, "values"), "ql-quantized");
  for (const [px, py] of curve(point, "values")) p.dot(px, py, "ql-quantized");
  const here = place(point[x.name]);
  p.vertical(here, "ql-here").dot(here, m.values[at(spec, point)], "ql-quantized ql-now", 6);
  return p;
}

function legend(spec, m) {
  const keys = [["ql-quantized", "this setting"]];
  if (m.low && m.high) keys.push(["ql-band", "interval"]);
  const settings = others(spec, { name: spec.x }).length;
  if (settings > 1 && settings <= 40) keys.push(["ql-ghost", "other settings"]); // as paint draws them
  if (m.law) keys.push(["ql-law", "law"]);
  return keys;
}
function table(spec, measures, point, current) {
  const i = at(spec, point);
  const rows = measures.map((m) => [
    m.name, Number.isFinite(m.values[i]) ? withUnit(number(m.values[i], 4), m.unit) : "not measured",
    m.low && m.high && Number.isFinite(m.low[i]) ? `${number(m.low[i])} to ${number(m.high[i])}` : "",
    [...(m.law && Number.isFinite(m.law[i]) ? [["law", m.law[i]]] : []), ...m.references].map(([k, v]) => `${k}\u00a0${number(v)}`).join(", "),
  ]);
  const heads = ["measure", "value", "interval", "compare"], kept = heads.map((_, c) => c < 2 || rows.some((r) => r[c])); // no empty column
  const line = (cells, node, scope) => cells.filter((_, c) => kept[c]).map((t, c) => (c && scope !== "col" ? tag("td", {}, t) : tag(node, { scope }, t)));
  return tag("table", {}, tag("thead", {}, tag("tr", {}, ...line(heads, "th", "col"))),
    tag("tbody", {}, ...rows.map((r, k) => tag("tr", measures[k] === current ? { class: "ql-current" } : {}, ...line(r, "th", "row")))));
}

// The button that measures anew: drawn only after a kernel has answered, so never on a served page.
function refresher(model, place) {
  const press = button("measure again", () => {
    press.disabled = true;
    press.textContent = "measuring …";
    say.textContent = "";
    model.send({ type: "refresh" });
  });
  const say = tag("span", { class: "ql-say", role: "alert" });
  const hear = (message) => {
    if (message.type === "alive" && !press.isConnected) place.append(press, say);
    if (message.type !== "done" && message.type !== "error") return;
    press.disabled = false;
    press.textContent = "measure again";
    say.textContent = message.type === "error" ? message.text : "";
  };
  model.on("msg:custom", hear);
  model.send({ type: "hello" });
  return () => model.off("msg:custom", hear);
}

function render({ model, el }) {
  const ui = shell(el, model.get("spec").title, "ql-grid");
  const extra = tag("span", { class: "ql-extra" });
  let spec, measures, controls, frame;
  const put = (name) => (i) => { model.set("point", { ...model.get("point"), [name]: +i }); model.save_changes(); };
  const build = () => { // again after a refresh
    spec = model.get("spec");
    measures = unpack(spec, floats(model.get("values")));
    controls = spec.dims.filter((d) => d.values.length > 1).map((d) => [d, d.values.every((v) => typeof v === "number")
      ? slider(d.name, { min: 0, max: d.values.length - 1, step: 1 }, put(d.name))
      : choice(d.name, d.values.map((v, i) => [i, named(v)]), put(d.name))]);
    const pick = measures.length > 1 ? [[null, choice("show", measures.map((m) => [m.name, m.name]), (v) => { model.set("measure", v); model.save_changes(); })]] : [];
    controls = [...pick, ...controls];
    ui.controls.replaceChildren(...controls.map(([, c]) => c.root), button("back to start", () => {
      model.set("point", spec.start);
      model.set("measure", measures[0].name);
      model.save_changes();
    }), extra);
    frame = panel("", [], 300);
    ui.panels.replaceChildren(frame.root);
    ui.words.replaceChildren(...[["ql-note-line", spec.note], ["ql-caption", spec.caption]].filter(([, t]) => t).map(([c, t]) => tag("p", { class: c }, t)));
  };
  const draw = () => {
    const point = model.get("point"), m = measures.find((k) => k.name === model.get("measure")) ?? measures[0], i = at(spec, point);
    for (const [d, c] of controls) {
      if (d) c.set(point[d.name], c.words ? withUnit(named(d.values[point[d.name]]), d.unit) : "");
      else c.set(m.name);
    }
    const where = spec.dims.map((d) => `${d.name} ${withUnit(named(d.values[point[d.name]]), d.unit)}`).join(", ");
    const value = Number.isFinite(m.values[i]) ? withUnit(number(m.values[i], 4), m.unit) : "not measured";
    ui.status.textContent = `${where}: ${m.name} ${value}.`;
    frame.explain(`${m.name} against ${spec.x}`, legend(spec, m));
    frame.show(paint(spec, m, point, frame.width, frame.height), `${m.name} against ${spec.x}; ${value} at ${where}`);
    ui.stats.replaceChildren(table(spec, measures, point, m));
  };
  build();
  const undo = live(model, ["point", "measure"], ui.root, () => [frame], draw);
  const renew = () => { build(); frame.fit(); draw(); };
  model.on("change:spec", renew);
  const quiet = spec.refresh ? refresher(model, extra) : () => {};
  return () => { undo(); quiet(); model.off("change:spec", renew); };
}
export default { render };
