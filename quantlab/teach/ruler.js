// The ruler: a value, the marks it may land on, and what it loses on the way.
import { chooseParams, quantizeGroups, rint } from "./explorer_arithmetic.js";
import { button, clamp, count, floats, kept, number, slider, tag, withUnit } from "./explorer_parts.js";
import { bench, board, decimals, glide, handle, lineOf, minus, shares, way } from "./grab_parts.js";

// The grid over [low, high], and values put on it: what choose_params and fake_quantize do.
const over = (low, high) => ({ low: Math.fround(low), high: Math.fround(high) });
export const gridOver = (low, high, bits, scheme) => chooseParams(over(low, high), bits, scheme);
export const putOnGrid = (x, low, high, bits, scheme) => quantizeGroups([{ x, start: 0, ...over(low, high) }], bits, scheme);

// The value in [from, to] that loses most: an end, or halfway between two marks.
export function worstValue(low, high, bits, scheme, from, to) {
  const p = gridOver(low, high, bits, scheme), x = [from, to];
  for (let q = p.qmin; q < p.qmax; q++) {
    const tie = (q + 0.5 - p.zero) * p.scale;
    if (tie > from && tie < to) x.push(tie);
  }
  const tried = Float32Array.from(x), { values } = putOnGrid(tried, low, high, bits, scheme);
  const errors = values.map((v, i) => Math.abs(v - tried[i])), at = errors.indexOf(Math.max(...errors));
  return { value: tried[at], error: errors[at] };
}

function render(view) {
  const b = bench(view, "ql-ruler", ["value", "low", "high", "bits"], "Drag the dot, or an end of the ruler."), { ui, spec, put } = b;
  const data = floats(view.model.get("data")), { scheme, unit, name, reach, ends } = spec, paired = scheme === "symmetric";
  const place = board(268), crowd = kept((low, high, bins) => shares(data, low, high, bins)), show = way(ui.stats);
  let plot, s, whole = [...reach], seen = [...reach], zoomed = false, game = null;

  const compute = () => {
    s = b.state();
    s.p = gridOver(s.low, s.high, s.bits, scheme);
    const x = Float32Array.of(s.value), out = putOnGrid(x, s.low, s.high, s.bits, scheme);
    s.level = (q) => Math.fround((q - s.p.zero) * s.p.scale);
    Object.assign(s, { x: x[0], code: out.codes[0], back: out.values[0], error: out.values[0] - x[0], clipped: out.clipped === 1 });
    s.steps = Math.fround(x[0] / s.p.scale);
    s.fixed = decimals(s.p.scale);
  };
  const around = () => { // the bin of the present value, and its neighbors' halves
    const c = s.back, half = 1.15 * s.p.scale;
    return [c - half, c + half];
  };
  function aim(target) {
    const from = [...seen];
    glide((t) => { seen = seen.map((_, i) => from[i] + t * (target[i] - from[i])); b.draw(); });
  }
  const bitControl = slider("bits", { min: 2, max: 8, step: 1 }, (bits) => { put({ bits }); settle(); });
  const zoomButton = button("zoom into this bin", () => {
    zoomed = !zoomed;
    zoomButton.textContent = zoomed ? "zoom out" : "zoom into this bin";
    aim(zoomed ? around() : whole);
  });
  const settle = () => {
    if (zoomed) aim(around());
    if (game) judge();
  };
  const gameButton = button("challenge: find the worst value", () => {
    game = game ? null : { tries: 0, said: "Which value loses most? Drag the dot there; the loss shows when you let go." };
    b.draw();
  });
  function judge() {
    const worst = worstValue(s.low, s.high, s.bits, scheme, ...ends), share = Math.min(1, Math.abs(s.error) / worst.error), tries = game.tries + 1;
    const bound = worst.error > 0.501 * s.p.scale ? "beyond the end of the ruler nothing bounds the loss" : "halfway between two marks, and never more than S/2";
    game = { tries, open: true, said: share > 0.97
      ? `Found in ${tries} ${tries === 1 ? "try" : "tries"}: ${bound}.`
      : `This value loses ${number(100 * share, 2)} % of the worst there is. Try another.` };
    b.draw();
  }
  ui.controls.append(bitControl.root, tag("div", { class: "ql-buttons" }, zoomButton, gameButton, b.again(() => { zoomed = false; game = null; seen = [...whole]; zoomButton.textContent = "zoom into this bin"; })));

  const end = (key, label) => handle(place, { label, kind: "bar", tone: "ql-quantized", read: (x) => plot.atX(x), drop: settle,
    move: (v) => put(paired ? { low: -Math.abs(v), high: Math.abs(v) } : { [key]: v }) });
  const lowEnd = end("low", "lower end of the ruler"), highEnd = end("high", "upper end of the ruler");
  const dot = handle(place, { label: `the value, ${name}`, read: (x) => plot.atX(x), drop: () => game && judge(),
    move: (value) => { if (game) game.open = false; put({ value }); } });

  function picture() {
    compute();
    const w = place.width, h = place.height, secret = game && !game.open, base = 150, body = [172, 210];
    const p = plot = lineOf(w, h, { x: seen, label: unit ? `${name} (${unit})` : name });
    const { edges, heights } = crowd(...seen, Math.min(90, Math.round(w / 8))), top = Math.max(...heights);
    const X = (v) => clamp(p.X(v), -50, w + 50);
    const bars = [...heights].map((v, i) => (v ? `M${X(edges[i])} ${base}V${(base - (base - 40) * Math.sqrt(v / top)).toFixed(1)}H${X(edges[i + 1])}V${base}Z` : ""));
    p.add(`<path class="ql-bar ql-signal" d="${bars.join("")}"/>`);
    const [first, last] = [s.level(s.p.qmin), s.level(s.p.qmax)];
    for (const [from, to] of [[seen[0], first], [last, seen[1]]]) {
      const [a, z] = [clamp(p.X(from), p.left, p.right), clamp(p.X(to), p.left, p.right)];
      if (z > a) p.add(`<rect class="ql-limit" x="${a}" y="${p.top}" width="${z - a}" height="${base - p.top}" fill="url(#${p.id}-hatch)"/>`);
    }
    // the ruler: body, marks, codes
    const margin = Math.min(14, Math.abs(p.X(s.p.scale) - p.X(0)) / 2), codes = s.p.qmax - s.p.qmin + 1, apart = p.X(s.p.scale) - p.X(0);
    p.add(`<rect class="ql-ruler-body" x="${X(first) - margin}" y="${body[0]}" width="${X(last) - X(first) + 2 * margin}" height="${body[1] - body[0]}" rx="4"/>`);
    let marks = "";
    for (let q = s.p.qmin; q <= s.p.qmax; q++) marks += `M${X(s.level(q))} ${body[0]}v${q === 0 || codes < 40 ? 16 : 10}`;
    p.add(`<path class="ql-line ql-quantized" style="stroke-width:${apart > 6 ? 2 : 1}" d="${marks}"/>`);
    const every = [1, 2, 4, 8, 16, 32, 64].find((k) => k * apart > 30) ?? 128;
    for (let q = s.p.qmin; q <= s.p.qmax; q++) {
      if ((q - s.p.zero) % every === 0 && (secret || Math.abs(q - s.code) * apart > 20)) p.add(`<text class="ql-code" x="${X(s.level(q))}" y="${body[1] - 8}" text-anchor="middle">${minus(q)}</text>`);
    }
    const x = X(s.x), y = X(s.back);
    if (zoomed) {
      const [a, z] = [X(s.back - s.p.scale / 2), X(s.back + s.p.scale / 2)];
      p.add(`<rect class="ql-band" x="${a}" y="${p.top}" width="${z - a}" height="${body[0] - p.top}"/>`,
        `<path class="ql-line ql-law" d="M${a} ${p.top + 26}H${z}M${a} ${p.top + 20}v12M${z} ${p.top + 20}v12"/>`);
      p.note((a + z) / 2, p.top + 16, secret ? "all of this becomes one code" : `one step, S = ${withUnit(number(s.p.scale), unit)}: all of it becomes ${minus(s.code)}`, "middle");
    }
    if (!secret) {
      p.add(`<path class="ql-line ql-quantized" style="stroke-width:4" d="M${y} ${body[0] - 8}V${body[1] - 22}"/>`,
        `<text class="ql-code ql-chosen" x="${y}" y="${body[1] - 6}" text-anchor="middle">${minus(s.code)}</text>`,
        `<path class="ql-error-bar" d="M${x} ${base + 15}H${y}"/>`);
      const wide = Math.abs(x - y), side = x < w / 2 ? 1 : -1;
      p.add(`<text class="ql-note ql-error" x="${clamp((x + y) / 2 + (wide > 90 ? 0 : side * (wide / 2 + 24)), 60, w - 60)}" y="${base - 16}" text-anchor="${wide > 90 ? "middle" : side > 0 ? "start" : "end"}">error ${withUnit(s.fixed(s.error), unit)}</text>`);
    }
    p.add(`<path class="ql-line ql-signal" d="M${x} ${base}V${body[0]}"/>`);
    if (!zoomed) for (const v of [s.low, s.high]) p.add(`<path class="ql-line ql-quantized" style="stroke-width:1.5" d="M${X(v)} 24V${body[1]}"/>`);
    place.show(p, `${name}: histogram of ${count(data.length)} values over a ruler of ${codes} marks`);
    const span = whole[1] - whole[0], room = 0.02 * span;
    dot.set({ x: clamp(p.X(s.value), p.left, p.right), y: base, value: s.value, min: Math.max(ends[0], zoomed ? seen[0] : -Infinity), max: Math.min(ends[1], zoomed ? seen[1] : Infinity),
      step: zoomed ? s.p.scale / 20 : span / 250, text: secret ? withUnit(s.fixed(s.value), unit) : `${withUnit(s.fixed(s.value), unit)}, code ${s.code}, comes back as ${s.fixed(s.back)}` });
    for (const [grip, v, min, max] of [[lowEnd, s.low, whole[0], paired ? -room : Math.min(0, s.high - room)], [highEnd, s.high, paired ? room : Math.max(0, s.low + room), whole[1]]]) {
      grip.hide(zoomed || p.X(v) < -5 || p.X(v) > w + 5);
      grip.set({ x: p.X(v), y: 44, value: v, min, max, step: span / 200, text: `${withUnit(s.fixed(v), unit)}, step S ${number(s.p.scale)}` });
    }
    bitControl.set(s.bits, `${s.bits} bits · ${codes} marks`);
    gameButton.textContent = game ? "end the challenge" : "challenge: find the worst value";
    travel(secret);
  }
  function travel(secret) {
    const v = (t) => withUnit(t, unit), whole = rint(s.steps), arrow = (what) => `${what} →`;
    const code = (before) => (s.clipped ? [`${before} → ${s.code}`, "clipped to a code"] : [s.code, "code"]);
    const row = [[v(s.fixed(s.x)), "the value", "ql-signal"], arrow("÷ S"), [s.steps.toFixed(2), "in steps"], arrow("round"),
      ...(s.p.zero ? [[whole, "whole steps"], arrow(`+ Z ${minus(s.p.zero)}`), code(whole + s.p.zero)] : [code(whole)])];
    row.push(arrow("× S"), [v(s.fixed(s.back)), "comes back", "ql-quantized"], [v(s.fixed(s.error)), "error", "ql-error"]);
    show(secret ? row.slice(0, 1) : row);
    const bound = s.clipped ? "beyond the last mark, so the code is clipped" : "inside the ruler no value loses more than S/2";
    b.say(game?.said ?? `${v(s.fixed(s.x))} takes code ${minus(s.code)} and comes back as ${v(s.fixed(s.back))}; ${bound}. S = ${v(number(s.p.scale))}.`);
  }
  return b.run([place], picture);
}
export default { render };
