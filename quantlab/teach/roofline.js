// The roofline of one layer: its weights cross the bus, its products take arithmetic, and the longer of the two binds.
import { Plot, clamp, count, number } from "./explorer_parts.js";
import { bench, board, handle } from "./grab_parts.js";

// Least seconds of a layer n x n for m rows: of the bus (GB/s), and of the arithmetic (peak, G operations a second).
export function needs(n, m, bits, peak, bandwidth) {
  const bytes = n * n * bits / 8 + 4 * n * (bits < 16 ? 2 : 1) + 8 * m * n, work = 2 * n * n * m;
  return { bytes, work, bus: bytes / bandwidth / 1e9, arithmetic: work / peak / 1e9 };
}
// The batch at which both take equally long; none if the bus takes longer however large the batch.
export function balance(n, bits, peak, bandwidth) {
  const fixed = needs(n, 0, bits, peak, bandwidth).bus, one = needs(n, 1, bits, peak, bandwidth);
  const gain = one.arithmetic - (one.bus - fixed);
  return gain > 0 ? fixed / gain : Infinity;
}
const unit = (v, names) => { const i = clamp(Math.floor(Math.log10(v) / 3), 0, names.length - 1); return `${number(v / 1000 ** i, 2)}\u00a0${names[i]}`; };
const seconds = (v) => unit(v * 1e9, ["ns", "µs", "ms", "s"]);
const DASHES = ["", "7 3", "3 3", "2 2 7 2", "1 3", "9 2"];

function render(view) {
  const b = bench(view, "ql-roofline", ["width", "batch"], "Drag the layer."), { ui, spec, put } = b, { kinds, bandwidth } = spec;
  const map = board(190), times = board(56 + 33 * kinds.length);
  let plot;
  const wide = (v) => put({ width: Math.round(2 ** v) }), deep = (v) => put({ batch: Math.round(2 ** clamp(v, 0, 10)) });
  ui.controls.append(b.again());
  const side = handle(map, { label: "batch", kind: "tall", axis: "y", read: (_, y) => Math.log2(plot.atY(y)), move: deep });
  const dot = handle(map, { label: "width of the layer", kind: "dot", axis: "xy",
    read: (x, y) => { deep(Math.log2(plot.atY(y))); return Math.log2(plot.atX(x)); }, move: wide });

  function picture() {
    const { width: n, batch: m } = b.state(), p = plot = new Plot(map.width, map.height, { x: [16, 4096], y: [0.35, 1024], log: true, ylog: true,
      xticks: [16, 64, 256, 1024, 4096], yticks: [1, 8, 64, 512], xlabel: "width of the layer", ylabel: "batch", margin: 56 });
    const xs = Array.from({ length: 65 }, (_, i) => 16 * 2 ** (i / 8));
    let free = Infinity;
    kinds.map(([name, bits, peak], i) => ({ name, i, ys: xs.map((x) => balance(x, bits, peak, bandwidth)) })).sort((a, c) => a.ys[64] - c.ys[64]).forEach(({ name, i, ys }) => {
      p.line(xs.map((x, k) => [x, ys[k] <= 1024 && ys[k] >= 1 ? ys[k] : NaN]), `ql-signal" style="stroke-dasharray:${DASHES[i]}`);
      const y = Math.min(p.Y(clamp(ys[64], 1, 1024)) + 4, free);
      if (ys[64] <= 1024) { p.note(p.right + 5, y, name); p.frame.push(p.marks.pop()); free = y - 13; } // beside the clipped part
    });
    p.note(p.left + 6, p.top + 16, "above a line: arithmetic binds").note(p.left + 6, p.bottom - 8, "below: the bus binds");
    p.add(`<path class="ql-line ql-law" d="M${p.left} ${p.Y(m)}H${p.X(n)}V${p.bottom}"/>`);
    map.show(p, `width ${n} and batch ${m} on a map; a line for each precision divides it into bus and arithmetic`);
    dot.set({ x: p.X(n), y: p.Y(m), value: Math.log2(n), min: 4, max: 12, step: 0.5, text: `${n}` });
    side.set({ x: p.left, y: p.Y(m), value: Math.log2(m), min: 0, max: 10, step: 1, text: `${m}` });
    const found = kinds.map(([name, bits, peak]) => ({ name, ...needs(n, m, bits, peak, bandwidth) }));
    const t = new Plot(times.width, times.height, { x: [1e-9, 1], y: [0, 1], log: true, xticks: [1e-9, 1e-6, 1e-3, 1], yticks: [], xname: seconds, xlabel: "least time", ylabel: "", margin: 26 });
    found.forEach((k, i) => {
      const y = 18 + 33 * i, bound = k.bus >= k.arithmetic;
      t.note(t.left, y, `${k.name}: ${unit(k.bytes, ["B", "kB", "MB"])}, ${seconds(Math.max(k.bus, k.arithmetic))}, ${bound ? "bus binds" : "arithmetic binds"}`);
      [["ql-error-bar", k.bus, 7], ["ql-agree", k.arithmetic, 13]].forEach(([kind, v, down]) => t.add(`<path class="${kind}" d="M${t.left} ${y + down}H${t.X(Math.max(v, 1e-9))}"/>`));
    });
    times.show(t, found.map((k) => `${k.name}: bus ${seconds(k.bus)}, arithmetic ${seconds(k.arithmetic)}`).join("; "));
    const least = (k) => Math.max(k.bus, k.arithmetic), [first, ...others] = found;
    b.say(`${count(n)} x ${count(n)} weights, batch ${count(m)}. Blue: the bus, orange: the arithmetic. At their limits, against ${first.name}: ${others.map((k) => `${k.name} ${number(least(first) / least(k), 2)}`).join(", ")} times faster.`);
  }
  return b.run([map, times], picture);
}
export default { render };
