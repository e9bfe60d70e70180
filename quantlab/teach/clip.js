// The clip: one threshold, two noises. What lies beyond it is overload, what is rounded below it is granular.
import { chooseParams, rint } from "./explorer_arithmetic.js";
import { clamp, floats, kept, number, slider, tag, withUnit } from "./explorer_parts.js";
import { bench, board, decimals, glide, handle, lineOf, shares } from "./grab_parts.js";

// Squared error of x on the symmetric grid over [-clip, clip]: of the values inside, and of those beyond.
export function noises(x, clip, bits, each) {
  const high = Math.fround(clip), { scale, qmax } = chooseParams({ low: -high, high }, bits, "symmetric");
  let granular = 0, overload = 0, beyond = 0;
  for (const v of x) { // the codes of quantizeGroups, without keeping them
    const back = Math.fround(clamp(rint(Math.fround(v / scale)), -qmax, qmax) * scale), square = (back - v) ** 2, over = Math.abs(v) > high;
    if (over) { overload += square; beyond++; } else granular += square;
    each?.(Math.abs(v), square, over);
  }
  return { granular, overload, beyond, scale, rms: Math.sqrt((granular + overload) / x.length) };
}

function render(view) {
  const b = bench(view, "ql-clip-object", ["clip", "bits", "wrong", "method"], "Drag the clip, above or on the curve."), { ui, spec, put } = b;
  const x = floats(view.model.get("data")), sizes = x.map(Math.abs), { unit, name, largest, tick } = spec, v = (t) => withUnit(t, unit);
  const place = board(308), root = (sum) => Math.sqrt(sum / x.length), curves = new Map();
  let plot, s, top = 0, aimed = 0;
  const alpha = (method, bits, wrong) => spec.methods[method][wrong ? 1 : 0][bits - 2];
  const losses = kept((bits, wrong) => Object.fromEntries(Object.keys(spec.methods).map((m) => [m, noises(x, alpha(m, bits, wrong), bits).rms])));
  const whole = kept((bits) => noises(x, largest, bits).rms), crowd = kept((low, high, bins) => shares(sizes, low, high, bins));
  const follow = (changes) => { // a method that was chosen keeps the clip when bits or data change
    const next = { ...b.state(), ...changes };
    put({ ...changes, ...(next.method ? { clip: alpha(next.method, next.bits, next.wrong) } : {}) });
  };
  const curve = (bits) => { // the U, from the data without the wrong tick
    if (!curves.has(bits)) {
      curves.set(bits, Array.from({ length: 97 }, (_, i) => {
        const at = largest * (0.02 + (i <= 64 ? i / 64 : 1 + (i - 64) / 33 * (tick / largest - 1))), n = noises(x, at, bits);
        return { at, granular: root(n.granular), overload: root(n.overload), rms: n.rms };
      }));
    }
    return curves.get(bits);
  };
  const worst = Math.max(...curve(2).map((c) => c.rms)), least = Math.min(...curve(8).map((c) => c.rms)), range = [least / 2 || worst / 1e4, worst * 1.3];

  const bits = slider("bits", { min: 2, max: 8, step: 1 }, (n) => follow({ bits: n }));
  const wrongTick = tag("button", { type: "button" }, "add a wrong tick");
  wrongTick.addEventListener("click", () => {
    const wrong = 1 - view.model.get("wrong");
    follow({ wrong, ...(wrong ? {} : { clip: Math.min(view.model.get("clip"), largest) }) });
  });
  ui.controls.append(bits.root, tag("div", { class: "ql-buttons" }, wrongTick, b.again()));
  const methods = Object.keys(spec.methods).map((method) => {
    const small = tag("small"), node = tag("button", { type: "button", class: "ql-method" }, method, small);
    node.addEventListener("click", () => follow({ method }));
    return { method, node, small };
  });
  ui.stats.append(tag("div", { class: "ql-buttons" }, ...methods.map((m) => m.node)));

  const grip = (label, kind) => handle(place, { label, kind, tone: "ql-quantized", read: (px) => plot.atX(px), move: (clip) => put({ clip, method: "" }) });
  const bar = grip("the clip", "bar"), dot = grip("the clip on the curve", "side");

  function picture() {
    s = b.state();
    const edge = s.wrong ? tick : largest;
    if (edge !== aimed) { // the axis glides to make room for the tick
      const from = aimed ? top : edge;
      aimed = edge;
      top = from;
      if (from !== edge) glide((t) => { top = from + t * (aimed - from); b.draw(); });
    }
    const w = place.width, h = place.height, left = 44, base = 106, deep = 148, u = [168, h - 40], bins = Math.min(80, Math.round(w / 9));
    const p = plot = lineOf(w, h, { x: [0, top * 1.04], y: range, left, label: `size of the ${name}${unit ? ` (${unit})` : ""}` });
    Object.assign(p, { top: u[0], ylog: true });
    const { edges, heights } = crowd(...p.x, bins), tall = Math.max(...heights), errors = [new Float64Array(bins), new Float64Array(bins)];
    const now = noises(x, s.clip, s.bits, (size, square, over) => { const i = Math.floor(size / p.x[1] * bins); if (i < bins) errors[+over][i] += square; });
    const total = now.granular + now.overload || 1, clipX = p.X(s.clip), half = (X, i) => [X(edges[i]), X(edges[i + 1])];
    // above: how many values; below: where the squared error comes from
    const bars = (list, height, sign, kind) => p.add(`<path class="ql-bar ${kind}" d="${[...list].map((q, i) => {
      const [a, z] = half((e) => p.X(e), i);
      return q > 0 ? `M${a} ${base}V${(base - sign * Math.min(1, Math.sqrt(q / height)) * (sign > 0 ? base - 34 : deep - base)).toFixed(1)}H${z}V${base}Z` : "";
    }).join("")}"/>`);
    bars(heights, tall, 1, "ql-signal");
    bars(errors[0], total / 5, -1, "ql-error");
    bars(errors[1], total / 5, -1, "ql-overload");
    p.add(`<rect class="ql-overload-veil" x="${clipX}" y="34" width="${Math.max(0, p.right - clipX)}" height="${base - 34}"/>`,
      `<line class="ql-axis" x1="${left}" x2="${p.right}" y1="${base}" y2="${base}"/>`);
    for (let q = 0, most = 2 ** (s.bits - 1) - 1; q <= most && most < 64; q++) p.add(`<line class="ql-line ql-quantized" x1="${p.X(q * now.scale)}" x2="${p.X(q * now.scale)}" y1="${base - 5}" y2="${base + 1}"/>`);
    if (s.wrong) p.add(`<circle class="ql-dot ql-overload" cx="${p.X(tick)}" cy="${base - 8}" r="5"/>`).note(p.X(tick) + 4, base - 20, "wrong tick", "end");
    const side = p.right - 2;
    p.note(left + 4, 12, "how many values").note(left + 4, deep + 8, w < 480 ? "its squared error" : "where the squared error comes from");
    p.add(`<text class="ql-note ql-error" x="${side}" y="${deep - 12}" text-anchor="end">granular ${number(100 * now.granular / total, 2)} %</text>`,
      `<text class="ql-note ql-over" x="${side}" y="${deep + 4}" text-anchor="end">overload ${number(100 * now.overload / total, 2)} %</text>`);
    // the U: both noises and their sum
    const known = curve(s.bits), points = (key) => known.filter((c) => c.at <= p.x[1]).map((c) => [c.at, Math.max(c[key], range[0] / 10)]);
    for (let e = Math.ceil(Math.log10(range[0])); 10 ** e <= range[1]; e++) p.frame.push(`<line class="ql-rule" x1="${left}" x2="${p.right}" y1="${p.Y(10 ** e)}" y2="${p.Y(10 ** e)}"/><text x="${left - 5}" y="${p.Y(10 ** e) + 4}" text-anchor="end">${number(10 ** e)}</text>`);
    for (const [key, kind] of [["granular", "ql-error"], ["overload", "ql-overload"]]) {
      p.area(points(key).map(([a, y]) => [a, range[0], Math.max(y, range[0])]), `ql-fill ${kind}`).line(points(key), kind);
    }
    p.line(points("rms"), "ql-quantized");
    p.note(p.right - 2, u[1] - 7, `error of all values, rms${unit ? ` (${unit})` : ""}`, "end");
    // where each method puts the clip
    const flags = Object.keys(spec.methods).map((m) => [m, alpha(m, s.bits, s.wrong)]).sort((a, z) => a[1] - z[1]), free = [0, 0, 0, 0], rms = losses(s.bits, s.wrong);
    for (const [m, at] of flags) {
      const px = p.X(at), wide = 3.6 * m.length + 4, cx = clamp(px, left + wide, p.right - wide), row = free.findIndex((f) => f < cx - wide), y = 44 + 14 * Math.max(row, 0);
      free[Math.max(row, 0)] = cx + wide;
      p.add(`<line class="ql-line ql-flag" x1="${px}" x2="${px}" y1="${y + 3}" y2="${base}"/>`).note(cx, y, m, "middle");
      p.dot(at, rms[m], "ql-method-dot", 4);
    }
    p.add(`<path class="ql-line ql-quantized" d="M${clipX} 20V${u[1]}"/>`);
    const onCurve = clamp(p.Y(now.rms), u[0], u[1]);
    p.top = 0; // the clip path of the SVG covers both parts
    place.show(p, `histogram of the sizes of ${name}, its squared error, and the error against the clip`);
    const fixed = decimals(largest), words = `${v(fixed(s.clip))}, error ${v(number(now.rms))} rms`;
    for (const [g, y] of [[bar, 20], [dot, onCurve]]) g.set({ x: clipX, y, value: s.clip, min: largest / 50, max: s.wrong ? tick : largest, step: largest / 100, text: words });
    bits.set(s.bits, `${s.bits} bits`);
    wrongTick.textContent = s.wrong ? "remove the wrong tick" : "add a wrong tick";
    wrongTick.setAttribute("aria-pressed", s.wrong === 1);
    for (const m of methods) {
      m.small.textContent = v(number(rms[m.method], 2));
      m.node.setAttribute("aria-pressed", m.method === s.method);
    }
    const gain = 20 * Math.log10(whole(s.bits) / now.rms), moved = flags.filter(([m, at]) => s.wrong && at > 1.5 * alpha(m, s.bits, false)).map(([m]) => m);
    b.say(`${s.bits} bits, clip at ${v(fixed(s.clip))}: error ${v(number(now.rms, 2))} rms, ${Math.abs(gain) < 0.05 ? "as without a clip" : `${number(Math.abs(gain), 2)} dB ${gain > 0 ? "less" : "more"} than without a clip`}; ${number(100 * now.beyond / x.length, 2)} % of the values lie beyond.`
      + (s.wrong ? ` ${moved.length ? `Ran after the wrong tick: ${moved.join(", ")}.` : "No method ran after the wrong tick."}` : ""));
  }
  return b.run([place], picture);
}
export default { render };
