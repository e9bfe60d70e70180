// The accumulator: products arrive, the sum grows, a register holds it or wraps, a multiplier brings it back to a code.
import { quantizeGroups } from "./explorer_arithmetic.js";
import { Plot, button, clamp, floats, number, slider, tag } from "./explorer_parts.js";
import { bench, board, count, handle, minus } from "./grab_parts.js";

// Two's complement of `width` bits, as a register of that width keeps it.
export const wrap = (v, width) => { const size = 2 ** width, r = ((v % size) + size) % size; return r >= size / 2 ? r - size : r; };
// Codes of both, every partial sum as it is and as the register holds it.
export function accumulate(x, w, bits, width) {
  const grid = (v) => quantizeGroups([{ x: v, start: 0, low: v.reduce((a, b) => Math.min(a, b)), high: v.reduce((a, b) => Math.max(a, b)) }], bits, "symmetric");
  const [a, c] = [grid(x), grid(w)], sums = [0], held = [0];
  a.codes.forEach((q, i) => { sums.push(sums[i] + q * c.codes[i]); held.push(wrap(held[i] + q * c.codes[i], width)); });
  return { x: a.codes, w: c.codes, real: a.params[0].scale * c.params[0].scale, sums, held, first: sums.findIndex((v, i) => v !== held[i]), qmax: a.params[0].qmax };
}
// fixed_point_multiplier and requantize: one integer factor, one shift, one rounding.
export function toCode(acc, real, bits) {
  let exponent = Math.ceil(Math.log2(real)), m = Math.round(real / 2 ** exponent * 2 ** 31);
  if (m >= 2 ** 31) { m = Math.round(real / 2 ** ++exponent * 2 ** 31); }
  if (m < 2 ** 30) { m = Math.round(real / 2 ** --exponent * 2 ** 31); }
  const shift = BigInt(31 - exponent), q = Number((BigInt(acc) * BigInt(m) + (1n << (shift - 1n))) >> shift), top = 2 ** (bits - 1) - 1;
  return { m, shift: Number(shift), code: clamp(q, -top, top) };
}

function render(view) {
  const b = bench(view, "ql-accumulator", ["k", "bits", "width"], "Drag the sum, or the limit."), { ui, spec, put } = b;
  const all = floats(view.model.get("data")), n = all.length / 2, x = all.subarray(0, n), w = all.subarray(n), place = board(300), log = (v) => Math.sign(v) * Math.log2(1 + Math.abs(v));
  const bits = slider("bits of the codes", { min: 2, max: 8, step: 1 }, (v) => put({ bits: v })), edge = 22;
  let plot;
  const play = button("let them arrive", () => {
    let k = 0;
    const pace = matchMedia("(prefers-reduced-motion: reduce)").matches ? n : Math.ceil(n / 60), tick = () => { k = Math.min(n, k + pace); put({ k }); if (k < n && play.isConnected) requestAnimationFrame(tick); };
    tick();
  });
  ui.controls.append(bits.root, tag("div", { class: "ql-buttons" }, play, b.again()));
  const limit = handle(place, { label: "width of the register", kind: "tall", axis: "y", tone: "ql-quantized", read: (_, y) => plot.atY(y) + 1, move: (v) => put({ width: Math.round(v) }) });
  const end = handle(place, { label: "products so far", read: (px) => plot.atX(px), move: (v) => put({ k: Math.round(v) }) });
  function picture() {
    const s = b.state(), r = accumulate(x, w, s.bits, s.width), p = plot = new Plot(place.width, place.height, { x: [0, n], y: [-edge, edge], yticks: [-20, -15, -10, -5, 0, 5, 10, 15, 20],
      xlabel: "products so far, K", ylabel: "bits of the sum, by sign", margin: 46 }), top = 2 ** (s.width - 1), over = r.first >= 0 && r.first <= s.k;
    const y = s.width - 1;
    p.add(`<rect class="ql-flip-side" x="${p.left}" y="${p.top}" width="${p.right - p.left}" height="${Math.max(0, p.Y(y) - p.top)}"/>`, `<rect class="ql-flip-side" x="${p.left}" y="${p.Y(-y)}" width="${p.right - p.left}" height="${Math.max(0, p.bottom - p.Y(-y))}"/>`);
    const bound = Array.from({ length: 80 }, (_, i) => 1 + (n - 1) * i / 79);
    for (const sign of [1, -1]) p.line(bound.map((k) => [k, sign * log(k * r.qmax ** 2)]), "ql-law");
    p.horizontal(y, "ql-quantized").horizontal(-y, "ql-quantized");
    const path = (list) => list.slice(0, s.k + 1).map((v, i) => [i, log(v)]);
    if (over) p.line(path(r.held), "ql-error");
    p.line(path(r.sums), "ql-signal");
    p.note(p.left + 6, clamp(p.Y(y) - 6, 12, 999), `${s.width} bits end at ±${count(top)}`).note(p.right - 4, Math.max(p.Y(log(n * r.qmax ** 2)) - 6, 26), "worst case", "end");
    place.show(p, `the sum of ${s.k} products against a register of ${s.width} bits; ${over ? `overflows at product ${r.first}` : "no overflow"}`);
    limit.set({ x: p.right + 28, y: p.Y(y), value: s.width, min: 4, max: edge, step: 1, text: `${s.width} bits, up to ${count(top - 1)}` });
    end.set({ x: p.X(s.k), y: p.Y(log(r.sums[s.k])), value: s.k, min: 1, max: n, step: Math.max(1, Math.round(n / 64)), text: `${s.k} products, sum ${r.sums[s.k]}` });
    bits.set(s.bits, `${s.bits} bits`);
    const factor = r.real / (spec.reach / r.qmax), good = toCode(r.sums[s.k], factor, s.bits), kept = toCode(r.held[s.k], factor, s.bits), stop = (value, role, tone = "") => tag("span", { class: `ql-stop ${tone}` }, tag("b", {}, minus(value)), tag("small", {}, role));
    const wrapped = r.held[s.k] !== r.sums[s.k], arrow = (t) => tag("em", {}, t);
    ui.stats.replaceChildren(tag("div", { class: "ql-travel" }, stop(`${minus(r.x[s.k - 1])} × ${minus(r.w[s.k - 1])}`, "last product"), arrow("+ →"), stop(count(r.sums[s.k]), "sum", "ql-signal"), ...(wrapped ? [arrow("wraps →"), stop(count(r.held[s.k]), "register")] : []),
      arrow(`× ${count(kept.m)} ≫ ${kept.shift} →`), stop(kept.code, "code", "ql-quantized"), ...(wrapped ? [stop(good.code, "should be", "ql-error")] : [])));
    const safe = Math.floor((top - 1) / r.qmax ** 2);
    b.say(`${over ? `The register overflows at product ${count(r.first)}` : `${count(s.k)} products fit`}; ${s.width} bits are safe for any data up to K = ${count(safe)} at ${s.bits} bits (K · ${number(r.qmax)}² below ${count(top)}).`);
  }
  return b.run([place], picture);
}
export default { render };
