// The decision: every row a dot, its float logit against its quantized one; a dot that changes sides has changed its answer.
import { Plot, clamp, count, floats, kept, number, slider, tag, withUnit } from "./explorer_parts.js";
import { bench, board, glide, handle, minus } from "./grab_parts.js";

// What both models answer above a threshold, and what the yes of each earns after the fee.
export function compare(float, quantized, threshold, { targets, gains, fee = 0 } = {}) {
  const t = Math.fround(threshold), out = { flips: [], far: 0, yes: [0, 0], right: [0, 0], earned: [0, 0] };
  float.forEach((v, i) => {
    const answers = [v > t, quantized[i] > t];
    if (answers[0] !== answers[1]) {
      out.flips.push(i);
      out.far = Math.max(out.far, Math.abs(v - t));
    }
    answers.forEach((yes, k) => {
      out.yes[k] += yes;
      if (targets) out.right[k] += yes === targets[i] > 0;
      if (gains && yes) out.earned[k] += gains[i] - fee;
    });
  });
  return out;
}

function render(view) {
  const b = bench(view, "ql-decision", ["bits", "threshold", "fee", "picked"], "Take bits away. Drag the threshold."), { ui, spec, put } = b;
  const all = floats(view.model.get("data")), { n, widths, features, answers: [no, yes] } = spec;
  let offset = 0;
  const take = (length) => all.subarray(offset, offset += length);
  const float = take(n), quantized = new Map(widths.map((w) => [w, take(n)])), table = take(n * features.length);
  const targets = spec.targets ? take(n) : null, gains = spec.gains ? take(n) : null;
  const order = Array.from(float.keys()).sort((i, j) => float[i] - float[j]), rank = new Int32Array(n);
  order.forEach((i, k) => { rank[i] = k; });
  const place = board(338), [low, high] = spec.view;
  let shown = null, aimed = 0, run = 0, plot, now;
  const aim = (bits) => { // the dots glide to their new answers
    const from = shown, to = quantized.get(bits), mine = ++run;
    aimed = bits;
    if (!from) { shown = to; return; }
    glide((t) => { if (mine === run) { shown = from.map((v, i) => v + t * (to[i] - v)); b.draw(); } });
  };
  const bits = slider("bits", { min: 0, max: widths.length - 1, step: 1 }, (k) => put({ bits: widths[k] }));
  const feeControl = gains && slider("fee per trade", { min: 0, max: spec.most_fee, step: spec.most_fee / 50 }, (fee) => put({ fee }));
  const next = tag("button", { type: "button" }, "show the next flip");
  next.addEventListener("click", () => {
    const { flips } = now, here = flips.indexOf(view.model.get("picked"));
    if (flips.length) put({ picked: flips[(here + 1) % flips.length] });
  });
  ui.controls.append(bits.root, ...(feeControl ? [feeControl.root] : []), tag("div", { class: "ql-buttons" }, next, b.again()));

  const screen = (i) => [plot.X(clamp(float[i], low, high)), plot.Y(clamp(shown[i], low, high))];
  const dotAt = (i) => `M${screen(i).join(" ")}h0`, cloud = kept(() => Array.from(order, dotAt).join(""));
  const nearest = (x, y) => {
    let best = 0, least = Infinity;
    for (let i = 0; i < n; i++) {
      const [a, c] = screen(i), d = (a - x) ** 2 + (c - y) ** 2;
      if (d < least) { least = d; best = i; }
    }
    return best;
  };
  place.svg.addEventListener("click", (event) => {
    if (!event.target.closest(".ql-handle")) put({ picked: nearest(...place.point(event)) });
  });
  const cut = handle(place, { label: "threshold", tone: "ql-threshold", read: (x) => plot.atX(x), move: (threshold) => put({ threshold }) });
  const ring = handle(place, { label: "the row looked at", kind: "ring", axis: "xy", read: (x, y) => rank[nearest(x, y)], move: (k) => put({ picked: order[Math.round(k)] }) });
  const card = tag("div", { class: "ql-card" });

  function picture() {
    const s = b.state();
    s.picked = Math.round(s.picked);
    if (s.bits !== aimed) aim(s.bits);
    const q = quantized.get(s.bits), w = place.width, h = place.height, t = Math.fround(s.threshold);
    now = compare(float, q, t, { targets, gains, fee: s.fee });
    const flipped = new Set(now.flips), p = plot = new Plot(w, h, { x: [low, high], y: [low, high], xlabel: `${spec.name} in float32`, ylabel: `${spec.name} at ${s.bits} ${s.bits === 1 ? "bit" : "bits"}` });
    const [cx, cy] = [p.X(t), p.Y(t)];
    for (const [x, y, width, height] of [[p.left, p.top, cx - p.left, cy - p.top], [cx, cy, p.right - cx, p.bottom - cy]]) {
      p.add(`<rect class="ql-flip-side" x="${x}" y="${y}" width="${Math.max(0, width)}" height="${Math.max(0, height)}"/>`);
    }
    p.line([[low, low], [high, high]], "ql-law").vertical(t, "ql-here").horizontal(t, "ql-here");
    const marked = now.flips.map(dotAt).join("");
    p.add(`<path class="ql-points" d="${cloud(shown, w)}"/>`, `<path class="ql-points ql-flipped-edge" d="${marked}"/>`, `<path class="ql-points ql-flipped" d="${marked}"/>`);
    p.note(p.left + 8, p.top + 36, `was ${no}, now ${yes}`).note(p.right - 6, p.bottom - 8, `was ${yes}, now ${no}`, "end");
    place.show(p, `${count(n)} rows, float ${spec.name} against the ${spec.name} at ${s.bits} bits; ${count(now.flips.length)} changed sides`);
    cut.set({ x: cx, y: p.bottom, value: s.threshold, min: low, max: high, step: (high - low) / 200, text: number(s.threshold) });
    const [px, py] = screen(s.picked), say = (v) => (v > t ? yes : no);
    ring.set({ x: px, y: py, value: rank[s.picked], min: 0, max: n - 1, step: 1,
      text: `row ${s.picked}: float ${say(float[s.picked])}, ${s.bits} bits ${say(q[s.picked])}${flipped.has(s.picked) ? ", flipped" : ""}` });
    bits.set(widths.indexOf(s.bits), `${s.bits} ${s.bits === 1 ? "bit" : "bits"}`);
    feeControl?.set(s.fee, withUnit(number(s.fee), spec.unit));
    next.disabled = !now.flips.length;
    inspect(s.picked, q, say, flipped.has(s.picked));
    const share = (k) => `${number(100 * k / n, 3)} %`, money = (v) => withUnit(minus(`${v > 0 ? "+" : ""}${number(v, 3)}`), spec.unit);
    const lines = [now.flips.length ? `${count(now.flips.length)} of ${count(n)} answers change (${share(now.flips.length)}), none farther than ${number(now.far, 2)} from the threshold.` : `No answer of ${count(n)} changes.`];
    if (targets) lines.push(`Right: ${share(now.right[0])} in float, ${share(now.right[1])} at ${s.bits} ${s.bits === 1 ? "bit" : "bits"}.`);
    if (gains) lines.push(`After fees: ${money(now.earned[0])} from ${count(now.yes[0])} trades, ${money(now.earned[1])} from ${count(now.yes[1])}.`);
    b.say(`${s.bits} ${s.bits === 1 ? "bit" : "bits"}: ${lines.join(" ")}`);
  }
  function inspect(i, q, say, flipped) {
    const row = (name, value, kind = "") => tag("tr", { class: kind }, tag("th", { scope: "row" }, name), tag("td", {}, value));
    const body = features.map((f, k) => row(f, number(table[i * features.length + k])));
    body.push(row("float", `${number(float[i])}: ${say(float[i])}`, "ql-answer"), row("quantized", `${number(q[i])}: ${say(q[i])}`, "ql-answer"));
    if (targets) body.push(row("truth", targets[i] > 0 ? yes : no, "ql-answer"));
    card.replaceChildren(tag("b", {}, `row ${count(i)}${flipped ? " · flipped" : ""}`), tag("table", {}, tag("tbody", {}, ...body)));
  }
  const undo = b.run([place], picture);
  ui.panels.classList.add("ql-with-card");
  ui.panels.append(card);
  place.fit();
  b.draw();
  return undo;
}
export default { render };
