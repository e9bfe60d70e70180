// The matrix: codes to drag, one dot product to step through, and what the zero points cost in it.
import { group, quantizeGroups } from "./explorer_arithmetic.js";
import { choice, clamp, number, slider, tag } from "./explorer_parts.js";
import { bench, board, handle, minus, way } from "./grab_parts.js";

// x (m, k) on one asymmetric grid, w as columns (n, k); every accumulator as its four sums.
export function multiply(values, { m, k, n }, bits, weights, per) {
  const all = Float32Array.from(values), x = quantizeGroups(group(all.subarray(0, m * k), m * k), bits, "asymmetric");
  const length = { tensor: n * k, channel: k, group: k / 2 }[per], w = quantizeGroups(group(all.subarray(m * k), length), bits, weights), zx = x.params[0].zero;
  const ofWeight = (c) => w.params[Math.floor(c / length)], sum = (list) => list.reduce((s, v) => s + v, 0);
  const cell = (i, j) => {
    const run = Math.min(k, length), out = { products: 0, rows: 0, columns: 0, both: 0, each: [], accs: [], zw: 0, real: 0, float: 0 };
    for (let t = 0; t < k; t += run) { // products that share a scale have one sum
      const p = ofWeight(j * k + t), a = x.codes.subarray(i * k + t, i * k + t + run), b = w.codes.subarray(j * k + t, j * k + t + run), products = Array.from(a, (v, u) => v * b[u]);
      const terms = { products: sum(products), rows: -p.zero * sum(a), columns: -zx * sum(b), both: run * zx * p.zero }, acc = sum(Object.values(terms));
      for (const [name, v] of Object.entries(terms)) out[name] += v;
      out.each.push(...products);
      out.accs.push(acc);
      out.zw ||= p.zero;
      out.real += acc * x.params[0].scale * p.scale;
      out.float += sum(Array.from(a, (_, u) => values[i * k + t + u] * values[m * k + j * k + t + u]));
    }
    return { ...out, acc: out.accs.join(" | ") };
  };
  return { x, w, zx, length, ofWeight, cells: Array.from({ length: m * n }, (_, c) => cell(Math.floor(c / n), c % n)) };
}

function render(view) {
  const b = bench(view, "ql-matrix", ["values", "bits", "weights", "per", "step", "picked", "folded"], "Drag a code up or down. Click a product."), { ui, spec, put } = b;
  const { m, k, n, reach } = spec, place = board(26 * (m + k) + 72), tall = 26, show = way(ui.stats);
  const bits = slider("bits", { min: 2, max: 8, step: 1 }, (v) => put({ bits: v })), step = slider("products so far", { min: 0, max: k, step: 1 }, (v) => put({ step: v }));
  const weights = choice("zero point of W", [["asymmetric", "free"], ["symmetric", "0"]], (v) => put({ weights: v }));
  const per = choice("one scale of W per", [["tensor", "matrix"], ["channel", "column"], ...(k % 2 ? [] : [["group", "half column"]])], (v) => put({ per: v }));
  const fold = tag("button", { type: "button" }, "fold what is known before");
  fold.addEventListener("click", () => put({ folded: 1 - view.model.get("folded") }));
  ui.controls.append(bits.root, step.root, weights.root, per.root, tag("div", { class: "ql-buttons" }, fold, b.again()));
  let side = 40, wide = 0;
  const xAt = (i, t) => [wide + (t + 0.5) * side, 36 + (k + i + 0.5) * tall + 22], wAt = (t, j) => [wide + (k + j + 0.5) * side + 26, 18 + (t + 0.5) * tall + 8];
  const outAt = (i, j) => [wAt(0, j)[0], xAt(i, 0)[1]];
  const grips = Array.from({ length: (m + n) * k }, (_, c) => {
    const isX = c < m * k, [row, t] = isX ? [Math.floor(c / k), c % k] : [Math.floor((c - m * k) / k), (c - m * k) % k];
    const where = () => (isX ? xAt(row, t) : wAt(t, row)), size = reach[isX ? 0 : 1];
    const grip = handle(place, { label: isX ? `input, row ${row + 1}, column ${t + 1}` : `weight, row ${t + 1}, column ${row + 1}`, kind: "cell", axis: "y",
      read: (_, y) => start - (y - where()[1]) / 60 * size, drop: () => { start = b.state().values[c]; },
      move: (v) => { const values = [...b.state().values]; values[c] = Math.fround(v); put({ values }); } });
    let start = b.state().values[c];
    grip.node.addEventListener("pointerdown", () => { start = b.state().values[c]; });
    return { grip, where, size, c };
  });
  place.svg.addEventListener("click", (event) => {
    const [px, py] = place.point(event), hit = Array.from({ length: m * n }, (_, c) => c).find((c) => {
      const [x, y] = outAt(Math.floor(c / n), c % n);
      return Math.abs(px - x) < side / 2 && Math.abs(py - y) < tall / 2;
    });
    if (hit !== undefined) put({ picked: hit });
  });
  const ring = handle(place, { label: "the product looked at", kind: "frame", axis: "xy", move: (c) => put({ picked: Math.round(c) }),
    read: (x, y) => clamp(Math.round((y - outAt(0, 0)[1]) / tall), 0, m - 1) * n + clamp(Math.round((x - outAt(0, 0)[0]) / side), 0, n - 1) });

  function picture() {
    const s = b.state(), r = multiply(s.values, spec, s.bits, s.weights, s.per), picked = Math.round(s.picked), [pi, pj] = [Math.floor(picked / n), picked % n], now = r.cells[picked];
    side = Math.min(56, (place.width - 40) / (k + n));
    wide = Math.max(2, (place.width - side * (k + n) - 26) / 2);
    const text = (x, y, words, cls = "ql-code") => `<text class="${cls}" x="${x}" y="${y + 4}" text-anchor="middle">${minus(words)}</text>`;
    const box = (x, y, cls) => `<rect class="ql-cell ${cls}" x="${x - side / 2 + 1}" y="${y - tall / 2 + 1}" width="${side - 2}" height="${tall - 2}" rx="3"/>`;
    const out = [], area = ([x0, y0], [x1, y1], cls) => out.push(`<rect class="ql-area ${cls}" x="${x0 - side / 2 - 2}" y="${y0 - tall / 2 - 2}" width="${x1 - x0 + side + 4}" height="${y1 - y0 + tall + 4}" rx="6"/>`);
    area(xAt(0, 0), xAt(m - 1, k - 1), "ql-scale-0");
    if (s.per === "tensor") area(wAt(0, 0), wAt(k - 1, n - 1), "ql-scale-1");
    else for (let c = 0, g = 0; c < n * k; c += r.length, g++) area(wAt(c % k, Math.floor(c / k)), wAt(c % k + r.length - 1, Math.floor(c / k)), `ql-scale-${1 + g % 3}`);
    for (let i = 0; i < m; i++) for (let t = 0; t < k; t++) out.push(box(...xAt(i, t), i === pi ? (t < s.step ? "ql-on" : "ql-next") : ""), text(...xAt(i, t), r.x.codes[i * k + t]));
    for (let j = 0; j < n; j++) for (let t = 0; t < k; t++) out.push(box(...wAt(t, j), j === pj ? (t < s.step ? "ql-on" : "ql-next") : ""), text(...wAt(t, j), r.w.codes[j * k + t]));
    r.cells.forEach((cell, c) => { const [x, y] = outAt(Math.floor(c / n), c % n); out.push(box(x, y, "ql-result"), text(x, y, s.per === "group" ? number(cell.real, 2) : cell.acc, c === picked ? "ql-code ql-chosen" : "ql-code")); });
    const [xl, yl] = xAt(0, 0), scales = r.w.params.map((p) => p.scale);
    const name = (x, y, words) => out.push(`<text class="ql-label" x="${x}" y="${y}">${words}</text>`);
    name(xl - side / 2, yl - tall / 2 - 26, `X: S ${number(r.x.params[0].scale, 2)}`);
    name(xl - side / 2, yl - tall / 2 - 10, `Z ${minus(r.zx)}`);
    name(wAt(0, 0)[0] - side / 2, 14, `W: S ${scales.length > 1 ? `${scales.length} of them` : number(scales[0], 2)}, Z ${scales.length > n ? (now.zw ? "for each" : "0") : minus(r.w.params.map((p) => p.zero).join(", "))}`);
    place.show({ width: place.width, height: place.height, layers: () => ["", [], out] }, `X times W in codes; accumulator ${now.acc} at row ${pi + 1}, column ${pj + 1}`);
    for (const { grip, where, size, c } of grips) {
      const [x, y] = where(), code = c < m * k ? r.x.codes[c] : r.w.codes[c - m * k];
      grip.set({ x, y, value: s.values[c], min: -size, max: size, step: size / 40, text: `${number(s.values[c])}, code ${code}` });
    }
    const [rx, ry] = outAt(pi, pj);
    ring.set({ x: rx, y: ry, value: picked, min: 0, max: m * n - 1, step: 1, text: `row ${pi + 1}, column ${pj + 1}: accumulator ${now.acc}` });
    bits.set(s.bits, `${s.bits} bits`);
    step.set(s.step, `${s.step} of ${k}`);
    weights.set(s.weights);
    per.set(s.per);
    fold.setAttribute("aria-pressed", s.folded === 1);
    const sofar = now.each.slice(0, s.step).reduce((a, v) => a + v, 0);
    const row = [[s.step < k ? sofar : now.products, "Σ x w", "ql-signal"]];
    if (now.zw) row.push("+", [now.rows, "−Zw Σx", "ql-term-row"]);
    if (s.folded) row.push("+", [now.columns + now.both, "in the bias, known before", "ql-term-column"]);
    else {
      row.push("+", [now.columns, "−Zx Σw", "ql-term-column"]);
      if (now.zw) row.push("+", [now.both, "K Zx Zw", "ql-term-both"]);
    }
    row.push("=", [s.step < k ? "…" : now.acc, "accumulator", ""], "× Sx Sw →", [number(now.real, 3), `float ${minus(number(now.float, 3))}`, "ql-quantized"]);
    if (s.per === "group") row.splice(0, row.length, [now.accs[0], "sum of group 1"], "× S₁ +", [now.accs[1], "sum of group 2"], "× S₂, all × Sx →", row.at(-1));
    show(row);
    const at = Math.max(0, s.step - 1), last = s.step ? ` Last product: ${minus(r.x.codes[pi * k + at])} × ${minus(r.w.codes[pj * k + at])} = ${minus(now.each[at])}.` : "";
    const lost = r.w.codes.reduce((sum, code, c) => sum + (s.values[m * k + c] !== 0 && code === r.ofWeight(c).zero), 0);
    const shared = `${{ tensor: "W has one scale", channel: "Each column of W has its own scale", group: "Each half column of W has its own scale, and its own sum" }[s.per]}, and ${lost} of its ${n * k} weights became 0.`;
    b.say(s.per === "group" ? `${shared}${last}` : `${shared} ${now.zw ? "A free zero point of W costs a sum over each row of X, new for every input." : "With Zw = 0 the row term is gone."} ${s.folded ? "The column term is in the bias." : "The column term never changes: it can be folded into the bias."}${last}`);
  }
  return b.run([place], picture);
}
export default { render };
