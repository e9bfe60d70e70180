// The bits: two signs agree or not; XOR marks where not, popcount counts, and that is the whole product.
import { button, tag } from "./explorer_parts.js";
import { bench, board, handle, lineOf, minus } from "./grab_parts.js";

// 1 stands for +1, 0 for -1: the product of signs by XOR and popcount, and as it is defined.
export function xnor(a, b) {
  const xor = a.map((v, i) => v ^ b[i]), pop = xor.reduce((s, v) => s + v, 0);
  return { xor, pop, dot: a.length - 2 * pop, sum: a.reduce((s, v, i) => s + (2 * v - 1) * (2 * b[i] - 1), 0) };
}

function render(view) {
  const b = bench(view, "ql-bits", ["a", "b"], "Flip bits, or drag the product."), { ui, spec, put } = b, { k } = spec, place = board(112);
  const flip = (row, i) => { const bits = [...b.state()[row]]; bits[i] = 1 - bits[i]; put({ [row]: bits }); };
  const cells = Object.fromEntries(["a", "b"].map((row) => [row, Array.from({ length: k }, (_, i) => {
    const node = button("", () => flip(row, i));
    node.classList.add("ql-bit");
    return node;
  })]));
  const xors = Array.from({ length: k }, () => tag("td")), line = (name, nodes) => tag("tr", {}, tag("th", { scope: "row" }, name), ...nodes);
  const inside = (nodes) => nodes.map((n) => tag("td", {}, n));
  const blocks = Array.from({ length: Math.ceil(k / 6) }, (_, n) => { // a phone is six buttons wide
    const cut = (nodes) => nodes.slice(6 * n, 6 * n + 6);
    return tag("table", {}, tag("tbody", {}, line(spec.names[0], inside(cut(cells.a))), line(spec.names[1], inside(cut(cells.b))), line("XOR", cut(xors))));
  });
  ui.controls.append(tag("div", { class: "ql-bit-rows" }, ...blocks), tag("div", { class: "ql-buttons" }, b.again()));
  let plot;
  const dot = handle(place, { label: "the product of the signs", tone: "ql-quantized", read: (x) => plot.atX(x), move: (v) => {
    const s = b.state(), bits = [...s.b];
    for (let i = 0, { dot: now } = xnor(s.a, bits); i < k && Math.abs(v - now) >= 1; i++) { // flip from the left until it fits
      if ((bits[i] === s.a[i]) !== v > now) { bits[i] = 1 - bits[i]; now += v > now ? 2 : -2; }
    }
    put({ b: bits });
  } });
  function picture() {
    const s = b.state(), r = xnor(s.a, s.b), p = plot = lineOf(place.width, place.height, { x: [-k - 0.6, k + 0.6], label: `sum of ${k} products of signs`, axis: 70 });
    for (const row of ["a", "b"]) {
      cells[row].forEach((node, i) => {
        node.textContent = s[row][i];
        node.setAttribute("aria-pressed", s[row][i] === 1);
        node.setAttribute("aria-label", `${spec.names[row === "a" ? 0 : 1]}, bit ${i + 1}: ${s[row][i]}, the sign ${s[row][i] ? "+1" : "−1"}`);
      });
    }
    xors.forEach((node, i) => { node.textContent = r.xor[i]; node.className = r.xor[i] ? "ql-differs" : ""; });
    let d = "";
    for (let v = -k; v <= k; v += 2) d += `M${p.X(v)} 62v8`;
    p.add(`<path class="ql-line ql-quantized" d="${d}"/>`, `<path class="ql-agree" d="M${p.X(-k)} 30H${p.X(k - 2 * r.pop)}"/>`, `<path class="ql-error-bar" d="M${p.X(k - 2 * r.pop)} 30H${p.X(k)}"/>`);
    p.note(p.X(-k), 18, `${k - r.pop} agree`).note(p.X(k), 18, `${r.pop} differ`, "end");
    place.show(p, `the product ${r.dot} between ${-k} and ${k}`);
    dot.set({ x: p.X(r.dot), y: 58, value: r.dot, min: -k, max: k, step: 2, text: `${r.dot}: ${r.pop} of ${k} bits differ` });
    b.say(`popcount(XOR) = ${r.pop}, so the product of the signs is K − 2 · popcount = ${k} − ${2 * r.pop} = ${minus(r.dot)}. No multiplication.`);
  }
  return b.run([place], picture);
}
export default { render };
