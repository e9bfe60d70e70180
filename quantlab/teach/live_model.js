// The live model: candles close, three models decide about the next one, and each is held to it.
import { FLOAT, cameTrue, candlesToTell, compareLogits, featureRow, forward, onGrids, pathOf, ruleDecisions, scaleRow, violent } from "./live_arithmetic.js";
import { Plot, button, choice, clamp, count, escape, floats, number, panel, refresher, slider, tag, withUnit } from "./explorer_parts.js";
import { bench, board, lineOf, minus } from "./grab_parts.js";
import { bybit, fromFile, simulated } from "./live_sources.js";

const DAY = 864e5, SPEEDS = [0.5, 1, 2, 5, 20], MOST = 5000, MORE = 1000, MOST_BYTES = 2e7;
const NAMES = ["bits", "activations", "scheme", "granularity", "range", "weights"];
const TITLES = { synthetic: "Simulated market", bybit: "Live Bybit", replay: "Replay of a market", file: "Your file", given: "Candles of the kernel" };
const clock = (ms) => new Date(ms).toISOString().slice(11, 16);
const signed = (v, digits = 2) => minus(`${v > 0 ? "+" : ""}${v.toFixed(digits)}`);
const decibels = (v) => (Number.isFinite(v) ? minus(v.toFixed(1)) : "∞");
const ends = ([, low, high]) => (Number.isFinite(low) ? ` [${signed(low, 1)}, ${signed(high, 1)}]` : "");

// Weights and biases cut from one buffer; where training on a grid moved them, the float32 model follows.
function unpackModels(spec, buffer) {
  const data = floats(buffer);
  let at = 0;
  const take = (n) => data.subarray(at, at += n);
  const net = (grids) => ({ grids, layers: spec.sizes.slice(1).map((outputs, k) => ({ inputs: spec.sizes[k], outputs, weight: take(spec.sizes[k] * outputs), bias: take(outputs) })) });
  return spec.entries.map((e) => {
    const weights = net(e.grids);
    return { ...e, weights, reference: e.own ? net(e.grids) : weights };
  });
}

// Candles as they close, the rows that a model can decide on, and every model's logits on all of them.
function record(frame, rules, entries) {
  const candles = [], rows = [], truth = [], rule = [], place = new Map(), twins = new Map();
  const inputs = (entry, from) => {
    const width = rows[0].x.length, x = new Float32Array((rows.length - from) * width);
    for (let r = from; r < rows.length; r++) x.set(rows[r].scaled[entry], (r - from) * width);
    return x;
  };
  const self = {
    candles, rows, truth, rule, place, frame,
    row(list, i) {
      const row = featureRow(list, i, frame);
      return row && { ...row, i, scaled: entries.map((e) => scaleRow(row.x, e.scaler)), said: ruleDecisions(rules, row.x) };
    },
    push(candle) {
      const before = rows.at(-1), last = candles.at(-1);
      if (before && last && before.i === candles.length - 1 && last[0] + frame.step === candle[0]) truth[rows.length - 1] = cameTrue(rules.target, candle, before.median);
      candles.push(candle);
      const row = self.row(candles, candles.length - 1);
      if (!row) return;
      place.set(row.i, rows.length);
      rows.push(row);
      truth.push(null);
      rule.push(row.said[rules.best]);
    },
    twin(entry, setting, wanted = true) { // a model at a setting, with the logits of all rows so far; null if it is not made yet and not wanted
      const key = `${entry} ${NAMES.slice(0, 5).map((n) => (n === "range" && setting.activations === FLOAT ? "" : setting[n])).join()}`;
      if (!twins.has(key)) {
        if (!wanted) return null;
        if (twins.size > 6000) twins.clear();
        twins.set(key, { ...onGrids(entries[entry][setting.own ?? "weights"], setting), z: [] });
      }
      const twin = twins.get(key), from = twin.z.length;
      if (from < rows.length) for (const z of forward(twin.layers, inputs(entry, from)).logits) twin.z.push(z);
      return twin;
    },
  };
  return self;
}

function render(view) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)"), { model } = view, b = bench(view, "ql-livemodel", NAMES, "Take bits away."), { ui, put } = b;
  const [no, yes] = b.spec.answers, word = (z) => (z > 0 ? yes : no), shows = (name) => b.spec.panels.includes(name);
  let spec, entries, past, source, stop = () => {}, kind, open = null, closesAt = 0, paused = false, visible = true, speed = calm.matches ? 0 : 1, whatIf = false, refused = false, log = [], now = null, later = null;

  // ---- sources: named, never switched silently, nothing asked of a network before its button
  const words = tag("p", { class: "ql-feed", role: "status" }), ask = tag("div", { class: "ql-ask" }), bar = tag("span"), wait = tag("div", { class: "ql-wait" }, tag("i", {}, bar), tag("span", { "aria-hidden": "true" }));
  const say = (level, of, text, more = []) => {
    words.className = `ql-feed ql-${level}`;
    words.replaceChildren(tag("b", {}, TITLES[of]), `: ${text}`, ...more);
  };
  function prepared() {
    const { kind: made, symbol, interval, first, words: name } = spec.source, { step } = spec.frame, given = floats(model.get("candles"));
    if (made === "synthetic") {
      const n = given.length / 5, [open, high, low, close, volume] = [0, 1, 2, 3, 4].map((k) => given.subarray(k * n, (k + 1) * n));
      return simulated({ first, step, interval, columns: { open, high, low, close, volume }, history: n, pace: () => (paused || whatIf || !visible ? Infinity : 1000 / SPEEDS[speed]) });
    }
    const table = new Float64Array(given.buffer), rows = [];
    for (let i = 0; i < table.length; i += 6) rows.push([...table.subarray(i, i + 6)]);
    return { kind: "given", name, start(on) {
      on({ kind: "candles", rows, symbol, interval, step, source: { kind: "given", name } });
      on({ kind: "status", level: "ok", code: "ok", text: name });
      return () => {};
    } };
  }
  function go(next) { // the old source falls silent; what it drew stays until the new one has candles
    stop();
    ask.replaceChildren();
    [source, refused, open] = [next, false, null];
    stop = next.start((event) => { if (source === next && !refused) hear(event); });
    if (refused) stop();
  }
  function hear(event) {
    if (event.kind === "open") { [open, closesAt] = [event.row, performance.now() + event.closesIn]; if (now && !calm.matches && !whatIf) strip(); }
    if (event.kind === "status") {
      if (event.code === "generated") return; // the line above says already that this page draws them
      const { text, level, final } = event, still = kind && kind !== source.kind && level === "fault" ? `${text.endsWith(".") ? "" : "."} Drawn is still: ${TITLES[kind].toLowerCase()}.` : "";
      if (final) open = null;
      say(level, source.kind, text + still, final ? [" ", button("try again", () => go(source)), " ", button(back(), home)] : []);
    }
    if (event.kind === "candles") take(event);
    if (event.kind === "candle") {
      if (!event.late) settle(event.row); // after a sleep: nothing was written in time
      past.push(event.row);
      if (past.rows.length > past.most) past = gather(past.frame, past.candles.slice(MORE - past.most - past.frame.window), past.symbol);
      open = null;
      b.draw();
    }
  }
  // A record of the newest candles; it grows by MORE decisions, then forgets as many: each step keeps its time.
  function gather(frame, rows, symbol) {
    const next = record(frame, spec.rules, entries);
    for (const row of rows.slice(-MOST - frame.window)) next.push(row);
    return Object.assign(next, { symbol, most: Math.max(next.rows.length, MORE) + MORE });
  }
  // New candles take the place of the old ones only if a decision can be made on them.
  function take({ rows, step, symbol }) {
    const window = step === spec.frame.step ? spec.frame.window : Math.max(Math.round(DAY / step), 24);
    const next = gather({ step, window, short: Math.max(Math.floor(window / 24), 3) }, rows, symbol);
    if (next.rows.length < 30) {
      refused = true; // its next candles are not those of the record
      stop();
      return say("fault", source.kind, `${symbol}: ${count(rows.length)} candles; a decision looks back on ${window} without a gap. Bring at least ${window + 30}. What is on screen stays.`, [" ", button(back(), home)]);
    }
    if (kind !== source.kind || past.symbol !== symbol || kind === "synthetic") log = []; // a market that is loaded anew keeps its log
    [past, open, whatIf, kind] = [next, null, false, source.kind];
    chosen();
    b.draw();
  }
  const home = () => go(prepared()), back = () => (spec.source.kind === "synthetic" ? "back to the simulator" : "back to the kernel's candles");
  const hosts = () => model.get("spec").hosts ?? {};
  const buttons = {
    synthetic: button("simulated", home),
    bybit: button("live Bybit …", () => {
      const { source: { interval }, symbols, frame } = spec, rows = frame.window + 1000;
      const host = hosts().rest ?? "api.bybit.com", stream = hosts().stream ?? "stream.bybit.com";
      ask.replaceChildren(tag("p", {}, `Your browser will ask ${host} for the last ${count(rows)} candles of the symbol that you choose, then listen to ${stream}. Both see your address and the symbol, and nothing else. The model stays the one of this page.`),
        tag("div", { class: "ql-buttons" }, ...symbols.map((symbol) => button(`ask for ${symbol}`, () => go(bybit({ symbol, interval, rows, ...hosts() })))), button("do not ask", () => ask.replaceChildren())));
      ask.querySelector("button").focus();
    }),
    file: button("your file …", () => {
      const input = tag("input", { type: "file", accept: ".csv,text/csv" });
      input.addEventListener("change", () => input.files[0] && read(input.files[0]));
      input.click();
    }),
  };
  const read = async (file) => go(fromFile(file.size > MOST_BYTES ? { byteLength: file.size } : await file.arrayBuffer(), file.name)); // refused unread
  const chosen = () => { for (const [name, node] of Object.entries(buttons)) node.setAttribute("aria-pressed", name === kind || (name === "bybit" && kind === "replay") || (name === "synthetic" && kind === "given")); play.hidden = fast.hidden = kind !== "synthetic"; };
  ui.root.addEventListener("dragover", (e) => { e.preventDefault(); ui.root.classList.add("ql-over"); });
  ui.root.addEventListener("dragleave", () => ui.root.classList.remove("ql-over"));
  ui.root.addEventListener("drop", (e) => {
    e.preventDefault();
    ui.root.classList.remove("ql-over");
    if (e.dataTransfer.files[0]) read(e.dataTransfer.files[0]);
  });
  const play = button("pause", () => { paused = !paused; play.textContent = paused ? "play" : "pause"; });
  const fast = button("", () => { speed = (speed + 1) % SPEEDS.length; pace(); });
  const pace = () => { fast.textContent = `${SPEEDS[speed]} candle${SPEEDS[speed] === 1 ? "" : "s"} a second`; };
  pace();
  const choose = tag("div", { class: "ql-choose" }, tag("div", { class: "ql-buttons" }, ...Object.values(buttons)), ask), origin = tag("div", { class: "ql-source" }, words);
  ui.controls.before(origin);
  wait.prepend(play, fast);

  // ---- controls
  const W = (s, per = "") => `W${s.bits}${s.activations === FLOAT ? "" : `A${s.activations}`}${per}`;
  const controls = {
    bits: slider("weights", { min: 1, max: 16, step: 1 }, (bits) => put({ bits })),
    activations: slider("activations", { min: 2, max: FLOAT, step: 1 }, (activations) => put({ activations })),
    scheme: choice("scheme", [["symmetric", "symmetric"], ["asymmetric", "asymmetric"]], (scheme) => put({ scheme })),
    granularity: choice("one scale per", b.spec.choices.granularity.map((v) => [v, v === "group" ? "8 weights" : v]), (granularity) => put({ granularity })),
    range: choice("range of activations", b.spec.choices.range.map((v) => [v, v]), (range) => put({ range })),
    weights: choice("which weights", b.spec.choices.weights.map((v) => [v, v]), (weights) => put({ weights })),
  };
  const shock = button("a violent candle", () => { whatIf = !whatIf; b.draw(); });
  ui.controls.append(...b.spec.controls.map((name) => controls[name].root), tag("div", { class: "ql-buttons" }, ...(shows("grids") ? [shock] : []), b.again(() => { whatIf = false; })));

  // ---- the drawings
  const stripBoard = board(246, tag("b", {}, "Asked before it, held against what came"), tag("span", { class: "ql-key ql-square" }, yes), tag("span", { class: "ql-key ql-hollow" }, no), tag("span", { class: "ql-key ql-flips" }, "they disagree")), nextBoard = board(214, tag("b", {}, "The next candle")), gridBoard = board(150, tag("b", {}, "Inputs on their grids"));
  const { fit } = stripBoard;
  stripBoard.fit = () => { // on a phone the drawing comes before these buttons too; what speaks stays above it
    fit.call(stripBoard);
    if (stripBoard.width < 440) wait.after(choose); else origin.prepend(choose);
  };
  const snrPanel = panel("SNR of the logits", [["ql-quantized", "every width"]], 190), hitPanel = panel("Right decisions", [["ql-quantized", "every width"], ["ql-band", "95 %"], ["ql-reference", "float32"], ["ql-law", "rule"], ["ql-ghost", "majority"]], 190);
  const boards = [stripBoard, ...(shows("decision") ? [nextBoard] : []), ...(shows("curve") ? [snrPanel, hitPanel] : []), ...(shows("grids") ? [gridBoard] : [])];
  const tiles = tag("div", { class: "ql-tiles" }), tell = tag("p", { class: "ql-tell" }), written = tag("div", { class: "ql-written" });
  ui.stats.append(tiles, tell);
  if (shows("log")) ui.status.after(written);

  function measure() {
    const s = b.state(), entry = spec.choices.weights.indexOf(s.weights), exact = past.twin(entry, { own: "reference", bits: FLOAT, activations: FLOAT });
    const mine = past.twin(entry, s), eight = past.twin(entry, { ...s, bits: 8, activations: 8, scheme: "symmetric", granularity: "channel" });
    const compared = (twin) => compareLogits(exact.z, twin.z, past.truth, past.rule);
    // All widths; while a hand moves, those that are new and do not fit into this frame come in the next ones.
    const until = now?.past === past ? performance.now() + 6 : Infinity, sweep = Array.from({ length: 16 }, (_, i) => {
      const twin = past.twin(entry, { ...s, bits: i + 1 }, i + 1 === s.bits || performance.now() < until);
      return twin && compared(twin);
    });
    if (sweep.includes(null) && !later) later = requestAnimationFrame(() => { later = null; b.draw(); });
    const bad = whatIf ? violent(past.candles, past.frame.step) : null, row = bad ? past.row([...past.candles.slice(-past.frame.window), bad], past.frame.window) : past.rows.at(-1);
    const x = row?.scaled[entry], own = entries[entry].own ? past.twin(entry, { bits: FLOAT, activations: FLOAT }) : exact;
    return { s, past, entry, exact, mine, eight, sweep, bad, x, value: sweep[s.bits - 1], path: x && pathOf(exact, own, mine.layers, x), eightLogit: x && forward(eight.layers, x).logits[0], label: W(s) };
  }
  function picture() {
    now = measure();
    strip();
    if (shows("decision")) next();
    if (shows("curve")) curves();
    if (shows("grids")) grids();
    numbers();
    if (shows("log")) journal();
  }
  const yesMark = (x, y, on, cls) => `<rect class="ql-mark ${cls}${on ? " ql-yes" : ""}" x="${(x - 4.5).toFixed(1)}" y="${y - 4.5}" width="9" height="9"/>`;
  function strip() {
    const { exact, mine, label, bad } = now, w = stripBoard.width, h = stripBoard.height, pitch = w < 480 ? 11 : 12.5, left = 58, { candles } = past;
    const n = Math.min(candles.length, Math.floor((w - left - 8) / pitch) - 1), first = candles.length - n, growing = bad ?? open;
    const shown = candles.slice(first), all = growing ? [...shown, growing] : shown;
    const low = all.reduce((a, c) => Math.min(a, c[3]), Infinity), high = all.reduce((a, c) => Math.max(a, c[2]), -Infinity), room = (high - low || 1) * 0.05;
    const p = lineOf(w, h, { x: [0, 1], label: "" });
    p.frame = [];
    p.outside = [];
    Object.assign(p, { y: [low - room, high + room], top: 12, bottom: 160, left: 0, right: w });
    const X = (k) => left + (k + 0.5) * pitch, lanes = [184, 206, 228];
    const body = (c, x, kind = "") => {
      const up = c[4] >= c[1], [a, z] = [p.Y(Math.max(c[1], c[4])), p.Y(Math.min(c[1], c[4]))];
      p.add(`<path class="ql-wick" d="M${x} ${p.Y(c[2])}V${p.Y(c[3])}"/><rect class="ql-body ${up ? "ql-up" : "ql-down"} ${kind}" x="${x - 3.5}" y="${a}" width="7" height="${Math.max(1.2, z - a).toFixed(2)}"/>`);
    };
    const decide = (k, i) => { // about candle i, asked when the one before it closed
      const r = past.place.get(i - 1);
      if (r === undefined) return;
      const [a, z] = [exact.z[r] > 0, mine.z[r] > 0], came = past.truth[r];
      if (a !== z) p.add(`<rect class="ql-flip-side ql-apart" x="${X(k) - pitch / 2}" y="10" width="${pitch}" height="228"/>`);
      p.add(yesMark(X(k), lanes[0], a, "ql-signal"), yesMark(X(k), lanes[1], z, "ql-quantized"));
      if (came !== null && i < candles.length) p.add(yesMark(X(k), lanes[2], came, "ql-came"));
    };
    p.add(`<rect class="ql-slot" x="${X(n) - pitch / 2}" y="6" width="${pitch}" height="234" rx="3"/>`);
    for (let k = 0; k <= n; k++) decide(k, first + k);
    shown.forEach((c, k) => body(c, X(k)));
    if (growing) body(growing, X(n), bad ? "ql-violent" : "ql-open");
    p.add(`<text class="ql-code" x="${X(n)}" y="232" text-anchor="middle">?</text>`);
    for (const [k, text] of ["float32", label, "came"].entries()) p.add(`<text class="ql-lane" x="2" y="${lanes[k] + 4}">${text}</text>`);
    p.add(`<text class="ql-lane" x="2" y="22">${escape(past.symbol)}</text><text class="ql-lane" x="2" y="154">${number(candles.at(-1)[4], 6)}</text>`);
    Object.assign(p, { top: 0, bottom: h });
    stripBoard.show(p, `The last ${n} candles of ${past.symbol}, what float32 and ${label} said before each, and what came`);
  }
  function next() {
    const { exact, label, path, eightLogit, bad } = now, w = nextBoard.width, left = 66, right = 118;
    nextBoard.root.firstChild.replaceChildren(tag("b", {}, bad ? "After a candle that falls 8 %: the next one" : `The candle ${clock(past.candles.at(-1)[0] + past.frame.step)} UTC`), tag("span", { class: "ql-key ql-law" }, "the threshold, 0"));
    if (!path) {
      const p = lineOf(w, nextBoard.height, { x: [0, 1], label: "" });
      p.frame = [];
      return nextBoard.show(p.note(w / 2, 80, "the last day has a gap: no decision", "middle"), "no decision");
    }
    const sorted = exact.z.slice(-1000).sort((u, v) => u - v), far = Math.max(Math.abs(sorted[Math.floor(sorted.length / 100)]), Math.abs(sorted[Math.floor(sorted.length * 0.99)]), 0.5, ...(bad ? [path.start, path.end, eightLogit].map(Math.abs) : [])) * 1.1;
    const p = lineOf(w - right + 10, nextBoard.height, { x: [-far, far], label: `logit: below 0 ${no}, above 0 ${yes}`, left, axis: 174 });
    Object.assign(p, { width: w, top: 6 });
    const X = (z) => p.X(clamp(z, -far, far)), zero = p.X(0);
    p.add(`<path class="ql-line ql-law" d="M${zero} 6V174"/>`);
    [["float32", path.start, "ql-signal"], ["W8A8", eightLogit, "ql-fine"], [label, path.end, "ql-quantized"]].forEach(([name, z, cls], k) => {
      const y = 22 + 26 * k, other = z > 0 !== path.start > 0;
      p.add(`<path class="ql-line ql-margin ${cls}" d="M${zero} ${y}H${X(z)}"/><circle class="ql-dot ql-model ${cls}" cx="${X(z)}" cy="${y}" r="6"/>`);
      p.aside(2, y + 4, name);
      p.outside.push(`<text class="ql-aside${other ? " ql-turned" : ""}" x="${w - right + 16}" y="${y + 4}">${word(z)} ${signed(z)}</text>`);
    });
    let z = path.start;
    path.parts.forEach(({ name, move }, k) => {
      const y = 100 + 18 * k, guilty = path.flipped && name === path.culprit;
      p.add(`<path class="ql-move${guilty ? " ql-guilty" : ""}" d="M${X(z)} ${y}H${X(z + move)}"/><path class="ql-line ql-here" d="M${X(z + move)} ${y}v18"/>`);
      p.aside(2, y + 4, name);
      p.outside.push(`<text class="ql-aside${guilty ? " ql-turned" : ""}" x="${w - right + 16}" y="${y + 4}">${signed(move)}${guilty ? " turned it" : ""}</text>`);
      z += move;
    });
    nextBoard.show(p, `float32 ${word(path.start)} ${signed(path.start)}, W8A8 ${word(eightLogit)} ${signed(eightLogit)}, ${label} ${word(path.end)} ${signed(path.end)}`);
  }
  function curves() {
    const { s, sweep, value } = now, bits = [1, 4, 8, 12, 16], axis = { x: [0.5, 16.5], xticks: bits, xlabel: "bits of the weights" }, rules = ratings();
    const made = sweep.map((v, i) => [i + 1, v]).filter(([, v]) => v), top = s.activations === FLOAT ? 100 : 10 * Math.ceil(0.1 * Math.max(30, ...made.map(([, v]) => Math.min(v.snr, 100))));
    const snr = new Plot(snrPanel.width, 190, { ...axis, y: [-0.1 * top, top], ylabel: "dB" }), drawn = made.map(([x, v]) => [x, clamp(v.snr, -0.1 * top, top)]);
    snr.vertical(s.bits, "ql-here").line(drawn, "ql-quantized");
    drawn.forEach(([x, y]) => { snr.dot(x, y, "ql-quantized").target(x, y, () => `${x} ${x === 1 ? "bit" : "bits"}: ${decibels(sweep[x - 1].snr)} dB`); });
    snr.dot(s.bits, Math.min(value.snr, top), "ql-now", 7);
    snrPanel.show(snr, `SNR against bits: ${decibels(value.snr)} dB at ${s.bits}`);
    const all = [...made.flatMap(([, v]) => v.accuracy.filter(Number.isFinite)), ...Object.values(rules)], ends = [Math.floor((Math.min(...all) - 1) / 5) * 5, Math.ceil((Math.max(...all) + 1) / 5) * 5];
    const hit = new Plot(hitPanel.width, 190, { ...axis, y: ends, ylabel: "%" });
    hit.area(made.map(([x, v]) => [x, v.accuracy[1], v.accuracy[2]]), "ql-band").horizontal(rules.float32, "ql-reference").horizontal(rules.rule, "ql-law").horizontal(rules.majority, "ql-ghost");
    hit.vertical(s.bits, "ql-here").line(made.map(([x, v]) => [x, v.accuracy[0]]), "ql-quantized");
    made.forEach(([x, v]) => { hit.dot(x, v.accuracy[0], "ql-quantized").target(x, v.accuracy[0], () => `${x} ${x === 1 ? "bit" : "bits"}: ${v.accuracy[0].toFixed(1)} %`); });
    hit.dot(s.bits, value.accuracy[0], "ql-now", 7);
    hitPanel.show(hit, `Right decisions against bits: ${value.accuracy[0].toFixed(1)} % at ${s.bits}, float32 ${rules.float32.toFixed(1)} %, ${spec.rules.best} ${rules.rule.toFixed(1)} %, majority ${rules.majority.toFixed(1)} %`);
  }
  const ratings = () => {
    const share = (test) => { let hit = 0, n = 0; past.truth.forEach((t, i) => { if (t !== null) { n++; hit += test(i) === t; } }); return 100 * hit / n; };
    return { float32: share((i) => now.exact.z[i] > 0), rule: share((i) => past.rule[i]), majority: share(() => spec.rules.majority) };
  };
  function grids() {
    const { mine, x, label } = now, w = gridBoard.width, left = 66, right = w - 92, p = lineOf(w, gridBoard.height, { x: [0, 1], label: "" });
    p.frame = [];
    Object.assign(p, { left: 0, right: w, bottom: gridBoard.height });
    if (!x) return gridBoard.show(p, "no decision");
    const { given } = forward(mine.layers, x);
    let beyondAll = 0;
    mine.layers.forEach(({ grid }, k) => {
      const v = [...given[k]], y = 26 + 46 * k, outside = (u) => grid && (u < grid.low - grid.scale / 2 || u > grid.high + grid.scale / 2);
      const low = Math.min(grid?.low ?? 0, ...v), high = Math.max(grid?.high ?? 0, ...v), span = high - low || 1, X = (u) => left + (right - left) * (u - low + 0.03 * span) / (1.06 * span), beyond = v.filter(outside).length;
      beyondAll += beyond;
      p.add(`<text class="ql-lane" x="2" y="${y + 4}">layer ${k + 1}</text>`);
      if (grid) {
        p.add(`<rect class="ql-ruler-body" x="${X(grid.low)}" y="${y - 12}" width="${(X(grid.high) - X(grid.low)).toFixed(1)}" height="24" rx="3"/>`);
        if (grid.qmax < 64) p.add(`<path class="ql-line ql-quantized" style="stroke-width:1" d="${Array.from({ length: grid.qmax + 1 }, (_, q) => `M${X(grid.low + q * grid.scale).toFixed(1)} ${y - 12}v24`).join("")}"/>`);
      } else p.add(`<path class="ql-line ql-ghost" d="M${left} ${y}H${right}"/>`);
      p.add(...v.map((u) => `<circle class="ql-dot ${outside(u) ? "ql-beyond" : "ql-signal"}" cx="${X(u).toFixed(1)}" cy="${y}" r="${outside(u) ? 6 : 3.5}"/>`));
      p.add(`<text class="ql-lane${beyond ? " ql-turned" : ""}" x="${right + 8}" y="${y + 4}">${grid ? (beyond ? `${beyond} of ${v.length} cut` : "all inside") : "no grid"}</text>`);
      p.add(`<text class="ql-code" x="${X(low)}" y="${y + 26}" text-anchor="start">${number(low, 2)}</text><text class="ql-code" x="${X(high)}" y="${y + 26}" text-anchor="end">${number(high, 2)}</text>`);
    });
    gridBoard.root.firstChild.replaceChildren(tag("b", {}, whatIf ? "A violent candle on the grids" : "The last candle on the grids"), tag("span", { class: "ql-key ql-signal" }, "an input"), tag("span", { class: "ql-key ql-band" }, "the grid"));
    gridBoard.show(p, `${label}: ${beyondAll} inputs beyond their grids`);
  }
  const tile = (name, value, more = "") => tag("div", {}, tag("span", {}, name), tag("b", {}, value), tag("i", {}, more));
  function numbers() {
    const { s, exact, mine, value, label, path, eightLogit } = now, rules = ratings(), edge = value.edge;
    tiles.replaceChildren(
      tile("SNR of the logits", withUnit(decibels(value.snr), "dB")),
      tile("decides as float32", `${value.agreement.toFixed(1)} %`),
      tile("bytes", count(mine.bytes), `float32: ${count(exact.bytes)}`),
      tile("right", `${value.accuracy[0].toFixed(1)} %`, `${Number.isFinite(value.accuracy[1]) ? `[${value.accuracy[1].toFixed(1)}, ${value.accuracy[2].toFixed(1)}], ` : ""}float32 ${rules.float32.toFixed(1)}, ${spec.rules.best} ${rules.rule.toFixed(1)}, majority ${rules.majority.toFixed(1)}`),
      tile(`edge over the ${spec.rules.best}`, value.left === null ? "none to keep" : value.left > 0 ? `${Math.round(value.left)} % left` : "all of it lost", `float32: ${signed(edge[0], 1)}${ends(edge)} points`),
    );
    const told = candlesToTell(value), [mean, low, high] = value.change, days = told * past.frame.step / DAY;
    const flips = `${label} turned ${value.helped + value.hurt} of ${count(value.scored)} answers: ${value.helped} to the better, ${value.hurt} to the worse, ${signed(mean, 1)}${ends(value.change)} points.`;
    tell.textContent = low > 0 || high < 0 ? `${flips} On these candles it can be told from float32.`
      : Number.isFinite(told) ? `${flips} That cannot be told from luck: if the difference is real, it takes about ${count(+told.toPrecision(2))} candles, ${number(days, 2)} days, to see it.`
        : `${flips} Nothing can be told from that, however long you wait.`;
    const setting = `${label}, ${s.scheme}, per ${s.granularity}${s.activations === FLOAT ? "" : `, ${s.range}`}${spec.choices.weights.length > 1 ? `, ${s.weights}` : ""}`;
    b.say(`${setting}: SNR ${decibels(value.snr)} dB. ` + (path ? `Next candle: float32 ${word(path.start)}, W8A8 ${word(eightLogit)}, ${label} ${word(path.end)} (${signed(path.end)})${path.flipped ? `, turned by ${path.culprit}` : ""}.` : "No decision: the last day has a gap."));
    controls.bits.set(s.bits, `${s.bits} ${s.bits === 1 ? "bit" : "bits"}`);
    controls.activations.set(s.activations, s.activations === FLOAT ? "float32" : `${s.activations} bits`);
    for (const name of ["scheme", "granularity", "range", "weights"]) controls[name].set(s[name], name === "range" && s.activations === FLOAT ? "no grid" : "");
    shock.setAttribute("aria-pressed", whatIf);
  }

  // ---- the log: written before a candle closes, held against it afterwards
  const due = () => past.candles.at(-1)[0] + past.frame.step;
  function settle(candle) {
    const r = past.rows.length - 1, last = past.rows[r];
    if (!now || !last || last.i !== past.candles.length - 1 || candle[0] !== due()) return;
    log.unshift({ start: candle[0], key: `${now.label} ${now.s.scheme} ${now.s.granularity} ${now.s.range} ${now.s.weights}`, label: now.label, exact: now.exact.z[r], mine: now.mine.z[r], came: cameTrue(spec.rules.target, candle, last.median), rule: past.rule[r] });
  }
  function journal() {
    const { exact, mine, label, s } = now, r = past.rows.length - 1, pending = past.rows[r]?.i === past.candles.length - 1;
    const line = (...cells) => tag("tr", {}, ...cells.map((t, k) => tag(k ? "td" : "th", k ? {} : { scope: "row" }, t)));
    const rows = log.slice(0, 5).map((e) => {
      const [a, z] = [e.exact > 0, e.mine > 0], verdict = a === z ? (z === e.came ? "both right" : "both wrong") : z === e.came ? "the flip helped" : "the flip hurt";
      return line(clock(e.start), word(e.exact), `${word(e.mine)} (${e.label})`, e.came ? yes : no, verdict);
    });
    if (pending) rows.unshift(line(clock(due()), word(exact.z[r]), `${word(mine.z[r])} (${label})`, "?", "written, not closed"));
    const key = `${label} ${s.scheme} ${s.granularity} ${s.range} ${s.weights}`, same = log.filter((e) => e.key === key);
    const v = same.length ? compareLogits(same.map((e) => e.exact), same.map((e) => e.mine), same.map((e) => e.came), same.map((e) => e.rule)) : null;
    const head = tag("p", {}, v ? `Since you came, ${count(v.scored)} decision${v.scored === 1 ? "" : "s"} at this setting: ${v.agreement.toFixed(1)} % as float32, flips that helped ${v.helped}, that hurt ${v.hurt}, ${signed(v.change[0], 1)}${ends(v.change)} points.` : "No candle has closed yet at this setting.");
    written.replaceChildren(tag("table", {}, tag("caption", {}, "Written before the candle closes, scored after"), tag("thead", {}, tag("tr", {}, ...["candle", "float32", "yours", "came", ""].map((t) => tag("th", { scope: "col" }, t)))), tag("tbody", {}, ...rows)), head);
  }
  // The countdown stands apart: it moves without a drawing.
  function tick() {
    const left = Math.max(0, closesAt - performance.now()), whole = kind === "synthetic" ? 1000 / SPEEDS[speed] : past?.frame.step;
    bar.style.width = open && !whatIf ? `${clamp(100 * (1 - left / whole), 0, 100)}%` : "0";
    wait.lastChild.textContent = whatIf ? "what if: not in the log" : !open ? "" : left >= 6e4 ? `closes in ${Math.floor(left / 6e4)} min ${Math.round(left % 6e4 / 1e3)} s` : `closes in ${Math.ceil(left / 1e3)} s`;
  }
  function begin() {
    spec = model.get("spec");
    entries = unpackModels(spec, model.get("data"));
    buttons.synthetic.textContent = spec.source.kind === "synthetic" ? "simulated" : "the kernel's";
    home();
  }
  begin();
  boards.splice(1, 0, { root: wait, fit() {} });
  const undo = b.run(boards, picture), timer = setInterval(tick, calm.matches ? 1000 : 200);
  const sight = new IntersectionObserver(([e]) => { visible = e.isIntersecting; });
  sight.observe(ui.root);
  model.on("change:candles", begin);
  const silence = b.spec.refresh ? refresher(model, ui.controls) : () => {};
  return () => { stop(); silence(); clearInterval(timer); sight.disconnect(); model.off("change:candles", begin); undo(); };
}
export default { render };
