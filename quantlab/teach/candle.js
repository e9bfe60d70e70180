// The candle: one long wick, and what it does to the levels that all other candles share.
import { quantizeGroups } from "./explorer_arithmetic.js";
import { clamp, count, floats, number, slider, tag } from "./explorer_parts.js";
import { bench, board, decimals, handle, lineOf, minus, shares } from "./grab_parts.js";

// Ranges scaled as FeatureScaler does, then on an asymmetric min-max grid: codes, and the levels as ranges.
export function onLevels(ranges, method, bits) {
  const log = method === "log-zscore", x = new Float64Array(ranges), scaled = new Float32Array(x.length);
  if (log) {
    let smallest = Infinity;
    for (const v of x) if (v > 0 && v < smallest) smallest = v;
    for (let i = 0; i < x.length; i++) x[i] = Math.log(Math.max(x[i], smallest));
  }
  let low = Infinity, high = -Infinity, sum = 0, squares = 0;
  for (const v of x) { low = Math.min(low, v); high = Math.max(high, v); sum += v; }
  const mean = sum / x.length;
  for (const v of x) squares += (v - mean) ** 2;
  const offset = log ? mean : (high + low) / 2, width = (log ? Math.sqrt(squares / x.length) : (high - low) / 2) || 1;
  for (let i = 0; i < x.length; i++) scaled[i] = (x[i] - offset) / width;
  const ends = { low: Math.fround((low - offset) / width), high: Math.fround((high - offset) / width) };
  const { codes, params: [p] } = quantizeGroups([{ x: scaled, start: 0, ...ends }], bits, "asymmetric");
  const back = (code) => { const v = (code - p.zero) * p.scale * width + offset; return log ? Math.exp(v) : v; };
  return { codes, levels: Array.from({ length: 2 ** bits }, (_, i) => back(p.qmin + i)) };
}
// How the codes serve all candles but one: how many are used, and the share of the fullest.
export function crowd(codes, skip) {
  const seen = new Map();
  codes.forEach((c, i) => { if (i !== skip) seen.set(c, (seen.get(c) ?? 0) + 1); });
  return { used: seen.size, fullest: Math.max(...seen.values()) / Math.max(1, codes.length - 1) };
}

function render(view) {
  const b = bench(view, "ql-candle", ["low", "part", "bits"], "Pull the long wick down, or push it up."), { ui, spec, put } = b;
  const all = floats(view.model.get("data")), { show, parts, long, worst, price, span } = spec, rows = (from, n) => Array.from({ length: n }, (_, i) => [...all.subarray(from + 4 * i, from + 4 * i + 4)]);
  const strip = rows(0, show), pieces = rows(4 * show, parts), ranges = all.slice(4 * (show + parts)), fixed = decimals(price[1] / 100), last = ranges.length - 1;
  const place = board(326), bits = slider("bits", { min: 2, max: 8, step: 1 }, (v) => put({ bits: v }));
  const scrub = slider("open candle", { min: 1, max: parts, step: 1 }, (v) => put({ part: v }));
  ui.controls.append(bits.root, scrub.root, tag("div", { class: "ql-buttons" }, b.again()));
  let plot;
  const wick = handle(place, { label: "low of the long candle", kind: "tall", axis: "y", tone: "ql-quantized", read: (_, y) => plot.atY(y), move: (low) => put({ low }) });

  function picture() {
    const s = b.state(), w = place.width, h = place.height, inset = w < 480 ? 84 : 130, edge = w - inset - 14, candles = strip.map((c) => [...c]);
    candles[long][2] = s.low;
    const grown = pieces.slice(0, s.part).reduce((c, p) => [c[0], Math.max(c[1], p[1]), Math.min(c[2], p[2]), p[3]], [...pieces[0]]);
    const part = (c) => 100 * (c[1] - c[2]) / c[0], closed = part(candles[show - 1]), now = ranges.slice();
    candles[show - 1] = grown;
    now[worst] = part(candles[long]);
    const p = plot = lineOf(w, h, { x: span, y: price, label: "range of a candle, (high − low) / open (%)", left: 12, axis: 284 });
    p.frame = [p.frame[0], p.frame.at(-1)]; // the axis and its name; the ticks are logarithmic
    Object.assign(p, { log: true, top: 14, bottom: 150 });
    const one = (c, x, half, Y) => {
      const up = c[3] >= c[0], [a, z] = [Y(Math.max(c[0], c[3])), Y(Math.min(c[0], c[3]))];
      p.add(`<path class="ql-wick" d="M${x} ${Y(c[1])}V${Y(c[2])}"/>`, `<rect class="ql-body ${up ? "ql-up" : "ql-down"}" x="${x - half}" y="${a}" width="${2 * half}" height="${Math.max(1.2, z - a)}"/>`);
    };
    const pitch = (edge - 12) / show, X = (i) => 12 + (i + 0.5) * pitch;
    candles.forEach((c, i) => one(c, X(i), Math.max(1.2, pitch * 0.32), (v) => p.Y(v)));
    // the open candle, close up
    const whole = strip[show - 1], room = (whole[1] - whole[2]) * 0.15 || whole[0] * 1e-4, close = (v) => 140 - 112 * (v - whole[2] + room) / (whole[1] - whole[2] + 2 * room);
    p.add(`<rect class="ql-inset" x="${edge + 10}" y="4" width="${w - edge - 18}" height="146" rx="5"/>`, `<path class="ql-line ql-here" d="M${X(show - 1) + pitch / 2} ${p.Y(grown[3])}L${edge + 10} 70"/>`);
    one(grown, edge + 10 + (w - edge - 18) / 2, inset / 8, close);
    p.note(edge + 10 + (w - edge - 18) / 2, 18, `open: ${s.part} of ${parts}`, "middle");
    // below: all ranges on one logarithmic axis, and the levels of both scalings
    Object.assign(p, { bottom: 284 });
    for (const v of [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30].filter((v) => v >= span[0] && v <= span[1])) p.frame.push(`<line class="ql-axis" x1="${p.X(v)}" x2="${p.X(v)}" y1="284" y2="288"/><text x="${p.X(v)}" y="301" text-anchor="middle">${number(v)}</text>`);
    const bins = Math.min(80, Math.round(w / 8)), logs = Float32Array.from(now, (v) => Math.log(Math.max(v, span[0]))), { edges, heights } = shares(logs, Math.log(span[0]), Math.log(span[1]), bins), top = Math.max(...heights);
    p.add(`<path class="ql-bar ql-signal" d="${[...heights].map((v, i) => (v ? `M${p.X(Math.exp(edges[i]))} 236V${(236 - 38 * Math.sqrt(v / top)).toFixed(1)}H${p.X(Math.exp(edges[i + 1]))}V236Z` : "")).join("")}"/>`);
    const texts = [["min-max", "minmax", 182, 169], ["log z-score", "log-zscore", 249, 275]].map(([name, method, y, label]) => {
      const { codes, levels } = onLevels(now, method, s.bits), { used, fullest } = crowd(codes, worst), open = onLevels(Float32Array.from(now, (v, i) => (i === last ? part(grown) : v)), method, s.bits).codes[last];
      const d = levels.filter((v) => v >= span[0] && v <= span[1]).map((v) => `M${p.X(v)} ${y - 8}v16`).join("");
      p.add(`<rect class="ql-ruler-body" x="12" y="${y - 9}" width="${p.right - 12}" height="18" rx="3"/>`, `<path class="ql-line ql-quantized" style="stroke-width:${s.bits > 5 ? 1 : 2}" d="${d}"/>`);
      p.note(14, label, `${name}: ${used} of ${2 ** s.bits} codes${w < 480 ? "" : " used"}, ${number(100 * fullest, 2)} % ${w < 480 ? "in" : "share"} one`);
      return { name, used, open, end: codes[last] };
    });
    p.add(`<circle class="ql-dot ql-quantized" cx="${p.X(clamp(now[worst], ...span))}" cy="230" r="5"/>`).note(clamp(p.X(now[worst]), 60, w - 60), 220, "long candle", "middle");
    p.top = 0;
    place.show(p, `${show} candles, one with a long wick; below, the ranges of ${count(ranges.length)} candles and two sets of levels`);
    Object.assign(p, { top: 14, bottom: 150 });
    wick.set({ x: X(long), y: p.Y(s.low) + 8, value: s.low, min: spec.limits.low[0], max: spec.limits.low[1], step: (spec.limits.low[1] - spec.limits.low[0]) / 100, text: `${fixed(s.low)}, range ${number(now[worst])} %` });
    bits.set(s.bits, `${s.bits} bits`);
    scrub.set(s.part, s.part === parts ? "closed" : `${s.part} of ${parts} parts`);
    const [a, z] = texts;
    b.say(`The long candle has a range of ${number(now[worst], 2)} %. Min-max leaves the others ${a.used} codes, log z-score ${z.used}. `
      + (s.part < parts ? `The open candle shows ${number(part(grown), 2)} % so far, code ${minus(z.open)} in log z-score; at its close ${number(closed, 2)} %, code ${minus(z.end)}.` : `The last candle closed with ${number(closed, 2)} %, code ${minus(z.end)} in log z-score.`));
  }
  return b.run([place], picture);
}
export default { render };
