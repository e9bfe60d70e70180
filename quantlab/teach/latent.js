// The latent weight: what is dragged is not what is used; its slope is borrowed from the mark that it rounds to.
import { rint } from "./explorer_arithmetic.js";
import { Plot, button, clamp, count, number, slider, tag } from "./explorer_parts.js";
import { bench, board, handle, minus, way } from "./grab_parts.js";

const f = Math.fround;
// fake_quantize and the mask of ste_gradient for one weight; scale and best are float32.
export function used(w, scale, bits) {
  const top = Math.max(2 ** (bits - 1) - 1, 1), code = bits === 1 ? (w >= 0 ? 1 : -1) : rint(f(w / scale));
  return { back: f(clamp(code, -top, top) * scale), inside: bits === 1 ? Math.abs(w) <= f(2 * scale) : Math.abs(code) <= top };
}
// Gradient steps on 1/2 (rounded - best)^2, straight through the rounding: latent and rounded weight before each.
export function walk(w, best, scale, bits, rate, mask, steps) {
  const latent = [f(w)], rounded = [];
  for (let i = 0; i <= steps; i++) {
    const { back, inside } = used(latent[i], scale, bits);
    rounded.push(back);
    latent.push(f(latent[i] - f(rate * (inside || !mask ? f(back - best) : 0))));
  }
  return { latent: latent.slice(0, -1), rounded };
}

function render(view) {
  const b = bench(view, "ql-latent", ["value", "best", "bits", "mask"], "Drag the weight across a border."), { ui, spec, put } = b;
  const { reach, rate, steps, scales } = spec, hill = board(262), path = board(212, tag("b", {}, `The next ${steps} steps`),
    tag("span", { class: "ql-key ql-signal" }, "latent"), tag("span", { class: "ql-key ql-quantized" }, "rounded"), tag("span", { class: "ql-key ql-law" }, "best"));
  const show = way(ui.stats);
  let plot, s, run = 0;
  const bits = slider("bits", { min: 1, max: 4, step: 1 }, (v) => put({ bits: v }));
  const mask = button("mask", () => put({ mask: 1 - s.mask }));
  const next = (k) => s.way.latent[k];
  const one = button("one step", () => put({ value: next(1) }));
  const follow = button("let it run", () => {
    const { latent } = s.way, mine = ++run, still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    let k = still ? steps - 1 : 0;
    const tick = () => { if (mine !== run || !hill.root.isConnected) return; put({ value: latent[++k] }); if (k < steps) setTimeout(tick, 40); };
    tick();
  });
  ui.controls.append(bits.root, tag("div", { class: "ql-buttons" }, one, follow, mask, b.again(() => { run++; })));
  const bottom = handle(hill, { label: "best weight, the bottom of the loss", kind: "bar", read: (x) => plot.atX(x), move: (best) => { run++; put({ best }); } });
  const dot = handle(hill, { label: "latent weight", read: (x) => plot.atX(x), move: (value) => { run++; put({ value }); } });

  function picture() {
    s = b.state();
    const scale = f(scales[s.bits - 1]), best = f(s.best), w = f(s.value), top = Math.max(2 ** (s.bits - 1) - 1, 1), now = used(w, scale, s.bits);
    s.way = walk(w, best, scale, s.bits, f(rate), s.mask, steps);
    const loss = (v) => (v - best) ** 2 / 2, slope = now.back - best, passed = now.inside || !s.mask ? slope : 0, peak = 0.42 * reach ** 2;
    const p = plot = new Plot(hill.width, hill.height, { x: [-reach, reach], y: [-0.14 * peak, peak], yticks: [0], xlabel: "latent weight", ylabel: "loss" });
    const edge = s.bits === 1 ? 2 * scale : (top + 0.5) * scale;
    if (s.mask) p.shade(-reach, -edge).shade(edge, reach);
    p.line(Array.from({ length: 81 }, (_, i) => -reach + reach * i / 40).map((v) => [v, loss(v)]), "ql-signal");
    const levels = s.bits === 1 ? [-1, 1] : Array.from({ length: 2 * top + 1 }, (_, i) => i - top), ends = levels.slice(1).map((q, i) => (q + levels[i]) / 2 * scale);
    p.line(levels.flatMap((q, i) => [[i ? ends[i - 1] : -reach, loss(q * scale)], [ends[i] ?? reach, loss(q * scale)]]), "ql-quantized");
    for (const q of levels) p.dot(q * scale, loss(q * scale), "ql-quantized", 3.5);
    const y = loss(now.back), far = 0.24 * reach, tangent = (x, m) => [[x - far, y - m * far], [x + far, y + m * far]];
    p.add(`<path class="ql-line ql-signal" style="stroke-dasharray:2 3" d="M${p.X(w)} ${p.Y(0)}V${p.Y(y)}"/>`);
    p.line(tangent(now.back, slope), "ql-error").line([[w - far, y], [w + far, y]], "ql-law");
    p.line(tangent(w, passed), "ql-error ql-borrowed").dot(w, y, "ql-method-dot", 4.5);
    const side = w < 0 ? 1 : -1, at = p.X(w) + side * 10;
    p.note(clamp(at, 60, p.right - 40), clamp(p.Y(y) - 30, 26, 999), `true slope 0, borrowed ${minus(number(passed || 0, 2))}`, side > 0 ? "start" : "end");
    hill.show(p, `loss against the weight: a parabola with its bottom at ${number(best)}, and the staircase that rounding makes of it`);
    bottom.set({ x: p.X(s.best), y: p.Y(0), value: s.best, min: spec.limits.best[0], max: spec.limits.best[1], step: reach / 100, text: number(best) });
    dot.set({ x: p.X(clamp(w, -reach, reach)), y: p.Y(-0.14 * peak) - 10, value: s.value, min: -reach, max: reach, step: reach / 100, text: `${number(w)}, used as ${number(now.back)}, borrowed slope ${number(passed || 0, 2)}` });
    const { latent, rounded } = s.way, t = new Plot(path.width, path.height, { x: [0, steps], y: [-reach, reach], xlabel: "step", ylabel: "weight" });
    for (const q of levels) t.horizontal(q * scale, "ql-rule");
    t.horizontal(best, "ql-law").line(rounded.flatMap((v, i) => [[i, v], [i + 1, v]]).slice(0, -1), "ql-quantized").line(latent.map((v, i) => [i, clamp(v, -reach, reach)]), "ql-signal");
    path.show(t, `latent and rounded weight over the next ${steps} steps`);
    bits.set(s.bits, `${s.bits} ${s.bits === 1 ? "bit" : "bits"} · ${levels.length} marks`);
    mask.textContent = s.mask ? "mask: on" : "mask: off";
    mask.setAttribute("aria-pressed", s.mask === 1);
    show([[number(w), "latent", "ql-signal"], "round →", [number(now.back), "used", "ql-quantized"], "slope of the loss there →",
      [number(slope, 2), "slope", "ql-error"], passed === slope ? "straight through →" : "stopped by the mask →", [number(next(1)), "latent, next step", "ql-signal"]]);
    const late = rounded.slice(-40), mean = late.reduce((a, v) => a + v, 0) / 40, hops = late.filter((v, i) => i && v !== late[i - 1]).length;
    b.say(passed === 0 && slope !== 0 ? `${number(w)} lies beyond the grid, and the mask stops its slope: it stays there.`
      : hops ? `It ends hopping between marks, ${count(hops)} times in the last 40 steps. The mean of the marks is ${number(mean, 3)}; the best weight is ${number(best, 3)}.`
        : `It ends at rest: in the last 40 steps it is used as ${number(mean, 3)}; the best weight is ${number(best, 3)}.`);
  }
  return b.run([hill, path], picture);
}
export default { render };
