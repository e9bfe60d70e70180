// The accumulator: products arrive, the sum grows in a register of so many bits, one multiplier
// and one shift bring it back to a code.
import { chooseParams, group, quantizeGroups, rint } from "./explorer_arithmetic.js";
import { Plot, button, clamp, count, floats, number, slider, tag } from "./explorer_parts.js";
import { bench, board, handle, minus, way } from "./grab_parts.js";

// real = m * 2^-shift with m in [2^30, 2^31), as quantlab.fixed_point_multiplier.
export function fixedPoint(real) {
  let shift = 0, part = real;
  if (real > 0) for (; part < 2 ** 30; part *= 2) shift++;
  let m = rint(part);
  if (m === 2 ** 31) { m /= 2; shift--; }
  return m === 0 || shift > 62 ? { m: 0, shift: 31 } : { m, shift };
}
// One rounding, ties up; BigInt, because acc m has 62 bits.
export function requantize(acc, { m, shift }, zero, qmin, qmax) {
  const t = BigInt(shift), whole = Number((BigInt(acc) * BigInt(m) + (1n << (t - 1n))) >> t);
  return { whole, code: clamp(whole + zero, qmin, qmax) };
}
export const wrap = (sum, width) => sum - 2 ** width * Math.floor((sum + 2 ** (width - 1)) / 2 ** width);
export function bitsFor(sum) { // of a two's complement number
  let width = 1;
  while (wrap(sum, width) !== sum) width++;
  return width;
}
export const worstTerm = (bits) => (2 ** bits - 1) * (2 ** (bits - 1) - 1);
export const largestK = (bits, width) => Math.floor((2 ** (width - 1) - 1) / worstTerm(bits));

// x, w (n,) on their grids; sums(k) after k products, the row repeated where it is too short.
export function layerRow(x, w, bits, [low, high]) {
  const n = x.length, X = quantizeGroups(group(x, n), bits, "asymmetric"), W = quantizeGroups(group(w, n), bits, "symmetric");
  const zx = X.params[0].zero, terms = Array.from(X.codes, (c, i) => (c - zx) * W.codes[i]), sums = [0];
  for (const t of terms) sums.push(sums.at(-1) + t);
  const out = chooseParams(group(Float32Array.of(low, high), 2)[0], bits, "asymmetric");
  const unit = X.params[0].scale * W.params[0].scale;
  return { n, zx, X, W, terms, out, unit, fixed: fixedPoint(unit / out.scale), sum: (k) => Math.floor(k / n) * sums[n] + sums[k % n] };
}

const MOST = 2 ** 17, CELLS = 34;
function render(view) {
  const b = bench(view, "ql-accumulator", ["k", "bits", "width", "inputs"], "Drag the dot: products arrive."), { ui, spec, put } = b;
  const raw = floats(view.model.get("data")), n = spec.n, x = raw.subarray(0, n), w = raw.subarray(n, 2 * n);
  const place = board(262), show = way(ui.stats);
  let plot;
  const bits = slider("bits of a code", { min: 2, max: 8, step: 1 }, (v) => put({ bits: v }));
  const by = (one, words, text) => {
    const node = button(text, () => put({ k: clamp(b.state().k + one, 1, MOST) }));
    node.setAttribute("aria-label", words);
    return node;
  };
  const largest = button("largest codes", () => put({ inputs: b.state().inputs === "worst" ? "row" : "worst" }));
  const play = button("let them arrive", () => { // one frame a product, a second at most
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches, pace = still ? n : Math.ceil(n / 60);
    const tick = (k) => { put({ k }); if (k < n && play.isConnected) requestAnimationFrame(() => tick(Math.min(n, k + pace))); };
    tick(1);
  });
  ui.controls.append(bits.root, tag("div", { class: "ql-buttons" }, play, by(-1, "one product less", "− 1"), by(1, "one product more", "+ 1"), largest, b.again()));
  const dot = handle(place, { label: "products so far", read: (px) => Math.round(plot.atX(px)), move: (k) => put({ k: Math.round(k) }) });
  const lid = handle(place, { label: "bits of the accumulator", kind: "tall", axis: "y", read: (_, py) => Math.round(plot.atY(py)), move: (v) => put({ width: Math.round(v) }) });

  function picture() {
    const s = b.state(), row = layerRow(x, w, s.bits, spec.out), term = worstTerm(s.bits), worst = s.inputs === "worst";
    const sumAt = (k) => (worst ? k * term : row.sum(k)), sum = sumAt(s.k), kept = wrap(sum, s.width), lost = kept !== sum, need = bitsFor(sum);
    const p = plot = new Plot(place.width, 186, { x: [1, MOST], y: [0, 36], xlabel: "products in the sum, K", ylabel: "bits of the sum", log: true,
      xticks: [1, 8, 64, 512, 4096, 32768], xname: count, yticks: [8, 16, 24, 32], margin: 22 });
    const size = (v) => Math.log2(Math.abs(v) + 1) + 1, ks = [...new Set(Array.from({ length: 240 }, (_, i) => Math.round(MOST ** (i / 239))))];
    p.add(`<rect class="ql-limit" x="${p.left}" y="${p.top}" width="${p.right - p.left}" height="${Math.max(0, p.Y(s.width) - p.top)}" fill="url(#${p.id}-hatch)"/>`)
      .line([[1, size(term)], [MOST, size(MOST * term)]], "ql-law")
      .line(ks.map((k) => [k, size(row.sum(k))]), worst ? "ql-faint" : "ql-signal")
      .horizontal(s.width, "ql-limit-line");
    const edge = largestK(s.bits, s.width);
    if (edge >= 1 && edge < MOST) p.add(`<path class="ql-line ql-law" d="M${p.X(edge)} ${p.Y(s.width) - 6}v12"/>`);
    const free = place.width > 480;
    p.note(p.X(free ? 3 : 2), p.Y(size(3 * term)) - 12, "largest codes").note(p.right - 4, p.Y(s.width) - 7, lost ? "does not fit" : `int${s.width} ends here`, "end");
    // the register, highest bit first
    const side = (place.width - 16) / CELLS, top = 213, pattern = BigInt.asUintN(CELLS, BigInt(sum));
    p.height = place.height;
    p.outside.push(`<text class="ql-label" x="8" y="${top - 9}">${minus(count(sum))} in bits</text>`);
    for (let i = 0; i < CELLS; i++) {
      const at = CELLS - 1 - i, one = (pattern >> BigInt(at)) & 1n, out = at >= s.width, spoiled = out && lost && at < need;
      const left = 8 + i * side, cls = `${one ? "ql-one" : ""} ${spoiled ? "ql-lost" : out ? "ql-beyond" : ""}`;
      p.outside.push(`<rect class="ql-cell ${cls}" x="${left + 0.5}" y="${top}" width="${side - 1}" height="22" rx="2"/>`);
      if (side > 13) p.outside.push(`<text class="ql-code" x="${left + side / 2}" y="${top + 15}" text-anchor="middle">${one}</text>`);
    }
    const split = 8 + (CELLS - s.width) * side;
    p.outside.push(`<path class="ql-line ql-limit-line" d="M${split} ${top - 5}v32"/>`, `<text class="ql-label" x="${split + 3}" y="${top + 37}">kept: ${s.width} bits</text>`);
    if (split > 60) p.outside.push(`<text class="ql-label" x="${split - 3}" y="${top + 37}" text-anchor="end">${lost ? "lost" : "not needed"}</text>`);
    place.show(p, `bits of the sum over K; after ${s.k} products the sum ${sum} needs ${need} bits, the accumulator has ${s.width}`);
    dot.set({ x: p.X(s.k), y: p.Y(size(sum)), value: s.k, min: 1, max: MOST, step: Math.max(1, Math.round(s.k / 16)), text: `${count(s.k)} products, sum ${sum}, ${need} bits` });
    lid.set({ x: p.right - 2, y: p.Y(s.width), value: s.width, min: 8, max: 32, step: 1, text: `${s.width} bits` });
    bits.set(s.bits, `${s.bits} bits`);
    largest.setAttribute("aria-pressed", worst);

    const { out, fixed } = row, toCode = (v) => requantize(v, fixed, out.zero, out.qmin, out.qmax), { whole, code } = toCode(kept), good = toCode(sum).code;
    const at = (s.k - 1) % n, pair = worst ? [2 ** s.bits - 1, 2 ** (s.bits - 1) - 1] : [row.X.codes[at] - row.zx, row.W.codes[at]];
    const arrow = (t) => `${t} →`;
    const line = [[`${pair[0]} × ${minus(pair[1])}`, "last product"], arrow("add"), [count(sum), `sum of ${count(s.k)}`, "ql-signal"]];
    if (lost) line.push(arrow("keep"), [count(kept), `in ${s.width} bits`, "ql-wrong"]);
    line.push(arrow(`× ${count(fixed.m)}, >> ${fixed.shift}`), [count(whole), "steps of the output"], arrow(`+ Z ${minus(out.zero)}${whole + out.zero === code ? "" : ", clamp"}`), [code, "code", "ql-quantized"]);
    if (good !== code) line.push([good, "should be", "ql-wrong"]);
    else line.push(arrow("× S"), [number((code - out.zero) * out.scale, 3), `exact ${minus(number(sum * row.unit, 3))}`, "ql-quantized"]);
    show(line);
    const always = edge >= MOST ? `more than ${count(MOST)}` : count(edge);
    b.say(`${lost ? `The sum needs ${need} bits and the accumulator keeps ${s.width}: it wraps${good === code ? "" : ", and the code is wrong"}.` : `The sum needs ${need} of ${s.width} bits.`} With the largest codes ${always} ${edge === 1 ? "product fits" : "products fit"} for sure.${!worst && s.k > n ? ` The row has ${count(n)} inputs and repeats.` : ""}`);
  }
  return b.run([place], picture);
}
export default { render };
