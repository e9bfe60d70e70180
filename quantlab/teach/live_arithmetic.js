// The live model's arithmetic: from candles to features, to logits at any setting, to what they are worth.
// Pure: tests run this text in node against the package. A candle is [start, open, high, low, close, volume].
import { group, quantizeGroups } from "./explorer_arithmetic.js";

const USUAL = 1.6; // quantlab.market.features.USUAL

// ---- quantlab.candle_features, one row at a time: null where the window has a gap or nothing traded
export function featureRow(candles, i, { step, window, short }) {
  const first = i - window + 1;
  if (first < 0 || candles[i][0] - candles[first][0] !== (window - 1) * step) return null;
  const spread = new Float64Array(window);
  let volume = 0, hour = 0;
  for (let k = 0; k < window; k++) {
    const [, , high, low, , traded] = candles[first + k];
    spread[k] = high - low;
    volume += traded;
    if (k >= window - short) hour += spread[k];
  }
  const now = spread[window - 1], sorted = spread.sort(), median = (sorted[(window - 1) >> 1] + sorted[window >> 1]) / 2;
  volume /= window;
  if (!(median > 0 && volume > 0)) return null;
  const [, open, , , close, traded] = candles[i];
  return { x: Float32Array.of((close - open) / open, now / median, traded / volume, hour / short / median), median };
}
// What came true in the next candle, and what the rules without a model said.
export function cameTrue(target, [, open, high, low, close], median) {
  if (target === "direction") return close > open;
  const spread = high - low;
  return target === "range" ? spread > median : spread > median / USUAL && spread < median * USUAL;
}
export function ruleDecisions({ target, majority, threshold }, [moved, spread, , hour]) {
  const rule = { range: spread > 1, usual: Math.abs(Math.log(spread)) < Math.log(USUAL), direction: moved < 0 }[target];
  const score = { range: hour, usual: -Math.abs(Math.log(hour)), direction: -moved }[target];
  return { majority, rule, "hour rule": score > threshold };
}
// quantlab.FeatureScaler.transform of one row; an end that is null does not clip.
export const scaleRow = (x, s) => Float32Array.from(x, (v, k) => {
  const inside = Math.min(Math.max(v, s.lower[k] ?? -Infinity), s.upper[k] ?? Infinity);
  return ((s.logged[k] ? Math.log(inside) : inside) - s.offset[k]) / s.width[k];
});
// A candle as violent as the one that the simulator plants: 8 % down, closes 4.4 % down, 20 times the volume.
export function violent(candles, step) {
  const [start, , , , close] = candles.at(-1), recent = candles.slice(-48), mean = recent.reduce((s, c) => s + c[5], 0) / recent.length;
  return [start + step, close, close * 1.0005, close * 0.92, close * 0.956, 20 * mean];
}

// ---- quantlab.post_training_quantize and Model.predict_logits
export const FLOAT = 17; // one step above 16 bits: float32

// The layers of a model at a setting: {bits, activations, scheme, granularity, range}.
// `model.layers`: {weight, bias, inputs, outputs}; `model.grids[range][bits - 2]`: [scale, zero point] of each layer's inputs.
export function onGrids(model, { bits, activations = FLOAT, scheme = "symmetric", granularity = "channel", range }) {
  let bytes = 0;
  const layers = model.layers.map((layer, k) => {
    const { weight, bias, inputs } = layer, run = { tensor: weight.length, channel: inputs, group: Math.min(8, inputs) }[granularity];
    const q = bits === FLOAT ? { values: weight, bytes: 4 * weight.length } : quantizeGroups(group(weight, run), bits, scheme);
    const grid = activations === FLOAT ? null : gridOf(model.grids[range][activations - 2][k], activations);
    bytes += q.bytes + 4 * bias.length + (grid ? 4 + (activations > 8 ? 2 : 1) : 0);
    return { ...layer, ...q, grid, columns: columnsOf(q.values, inputs) };
  });
  return { layers, bytes };
}
const columnsOf = (values, inputs) => Array.from({ length: inputs }, (_, k) => Float64Array.from({ length: values.length / inputs }, (_, o) => values[o * inputs + k]));
const gridOf = ([scale, zero], bits) => ({ scale, zero, qmax: 2 ** bits - 1, low: -zero * scale, high: (2 ** bits - 1 - zero) * scale });

// Inputs on their grid, and how many lay beyond it. Adding and taking away 1.5 * 2 ** 52 rounds half to even.
const ROUND = 6755399441055744;
export function putInputs(x, grid) {
  if (!grid) return { x, beyond: 0 };
  const { scale, zero, qmax } = grid, out = new Float32Array(x.length);
  let beyond = 0;
  for (let i = 0; i < x.length; i++) {
    const steps = Math.fround(x[i] / scale) + ROUND - ROUND + zero, code = steps < 0 ? 0 : steps > qmax ? qmax : steps;
    if (code !== steps) beyond++;
    out[i] = (code - zero) * scale;
  }
  return { x: out, beyond };
}
// A layer over rows x (n, inputs), a zero skipped. Each sum is made in float64 and rounded to float32 once, then the bias is added.
function throughLayer(x, { columns, bias, inputs, outputs }, rectify) {
  const n = x.length / inputs, z = new Float32Array(n * outputs), sum = new Float64Array(outputs);
  for (let r = 0; r < n; r++) {
    sum.fill(0);
    for (let k = 0; k < inputs; k++) {
      const v = x[r * inputs + k], w = columns[k];
      if (v !== 0) for (let o = 0; o < outputs; o++) sum[o] += v * w[o];
    }
    for (let o = 0; o < outputs; o++) {
      const v = Math.fround(sum[o]) + bias[o];
      z[r * outputs + o] = rectify && v < 0 ? 0 : v;
    }
  }
  return z;
}
// Rows x through all layers: the logits, and what each layer was given.
export function forward(layers, x) {
  const given = [], beyond = [];
  layers.forEach((layer, k) => {
    const put = putInputs(x, layer.grid);
    given.push(x);
    beyond.push(put.beyond / x.length);
    x = throughLayer(put.x, layer, k < layers.length - 1);
  });
  return { logits: x, given, beyond };
}
// How a logit got from the float model to the setting: layer by layer put on its grid, the parts add up to the whole move.
// Where the weights were trained on a grid, their training moved the logit first.
export function pathOf(reference, weights, coarse, x) {
  const logit = (layers) => forward(layers, x).logits[0], exact = reference.layers, own = weights.layers;
  const stops = coarse.map((_, k) => [`layer ${k + 1}`, logit([...coarse.slice(0, k + 1), ...own.slice(k + 1)])]);
  if (weights !== reference) stops.unshift(["training", logit(own)]);
  let z = logit(exact);
  const parts = stops.map(([name, next]) => {
    const move = next - z;
    z = next;
    return { name, move };
  });
  const start = logit(exact), flipped = start > 0 !== z > 0, toward = (p) => (z > start ? p.move : -p.move);
  return { start, end: z, parts, flipped, culprit: parts.reduce((a, b) => (toward(b) > toward(a) ? b : a)).name };
}

// ---- what it is worth
// Mean of values, with a 95 % interval over blocks of neighbors, which resemble each other: at most 48, at least ten blocks.
export function blockMean(values) {
  const n = values.length, mean = values.reduce((s, v) => s + v, 0) / n;
  if (n < 20) return [mean, -Infinity, Infinity];
  const size = Math.max(1, Math.min(48, Math.floor(n / 10))), blocks = Math.ceil(n / size);
  let squares = 0;
  for (let from = 0; from < n; from += size) {
    let sum = 0;
    const end = Math.min(from + size, n);
    for (let i = from; i < end; i++) sum += values[i] - mean;
    squares += sum * sum;
  }
  const t = 1.96 + 2.4 / (blocks - 1) + 3 / (blocks - 1) ** 2; // Student's, to a hundredth
  const half = t * Math.sqrt(blocks / (blocks - 1) * squares) / n;
  return [mean, mean - half, mean + half];
}
// Two sets of logits on the same rows; scored where `truth` is known. Shares and differences in percent.
export function compareLogits(exact, coarse, truth, rule) {
  let power = 0, noise = 0, same = 0, helped = 0, hurt = 0;
  const right = [], gain = [], edge = [];
  for (let i = 0; i < exact.length; i++) {
    const d = exact[i] - coarse[i], a = exact[i] > 0, b = coarse[i] > 0;
    power += exact[i] * exact[i];
    noise += d * d;
    same += a === b;
    if (truth[i] === null) continue;
    right.push(100 * (b === truth[i]));
    gain.push(100 * ((b === truth[i]) - (a === truth[i])));
    edge.push(100 * ((a === truth[i]) - (rule[i] === truth[i])));
    if (a !== b) { if (b === truth[i]) helped++; else hurt++; }
  }
  const scored = right.length, [float, change] = [blockMean(edge), blockMean(gain)];
  return {
    snr: noise === 0 ? Infinity : 10 * Math.log10(power / noise), agreement: 100 * same / exact.length, scored, helped, hurt,
    accuracy: blockMean(right), change, edge: float, left: float[0] > 0 ? 100 * (1 + change[0] / float[0]) : null,
  };
}
// Candles until a difference as large as the one measured would lie outside its own interval.
export function candlesToTell({ change: [mean, low, high], scored }) {
  const half = (high - low) / 2;
  return mean === 0 || !Number.isFinite(half) ? Infinity : Math.ceil(scored * (half / mean) ** 2);
}
