// The arithmetic of quantlab in the browser: the same float32 steps, the same codes.
// Tests run this text in node against the package.
const f32 = Math.fround;
const TINY = 1.1754943508222875e-38; // smallest normal float32

// Round half to even, as numpy.rint; Math.round sends every tie upward.
export function rint(v) {
  const low = Math.floor(v), part = v - low;
  if (part !== 0.5) return part < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

// Lowest and highest code. Symmetric leaves out -2^(b-1); 1 bit symmetric is {-1, +1}.
export function codeRange(bits, scheme) {
  const half = 2 ** (bits - 1);
  if (scheme !== "symmetric") return [-half, half - 1];
  return bits === 1 ? [-1, 1] : [1 - half, half - 1];
}

export const isBinary = (bits, scheme) => bits === 1 && scheme === "symmetric";

// numpy.percentile(values, p), linear interpolation, float64; `sorted` ascending.
export function percentile(sorted, p) {
  const at = (sorted.length - 1) * (p / 100), i = Math.floor(at), t = at - i;
  const a = sorted[i], b = sorted[Math.min(i + 1, sorted.length - 1)], d = b - a;
  return t >= 0.5 ? b - d * (1 - t) : a + d * t;
}

// numpy's mean of |x| in float64, summed in numpy's order so that it agrees to the last bit:
// buffers of 8,192 values, in each a pairwise sum.
function meanAbs(x) {
  let s = 0;
  for (let i = 0; i < x.length; i += 8192) s += sumAbs(x, i, Math.min(8192, x.length - i));
  return s / x.length;
}
function sumAbs(x, from, n) {
  if (n < 8) {
    let s = 0;
    for (let i = 0; i < n; i++) s += Math.abs(x[from + i]);
    return s;
  }
  if (n > 128) {
    const half = (n >> 1) - ((n >> 1) % 8);
    return sumAbs(x, from, half) + sumAbs(x, from + half, n - half);
  }
  const r = Array.from({ length: 8 }, (_, j) => Math.abs(x[from + j]));
  let i = 8;
  for (; i < n - (n % 8); i += 8) for (let j = 0; j < 8; j++) r[j] += Math.abs(x[from + i + j]);
  let s = (r[0] + r[1]) + (r[2] + r[3]) + ((r[4] + r[5]) + (r[6] + r[7]));
  for (; i < n; i++) s += Math.abs(x[from + i]);
  return s;
}

// A float32 array cut into runs of `length` values that share one scale.
export function group(data, length) {
  const groups = [];
  for (let start = 0; start < data.length; start += length) {
    const x = data.subarray(start, start + length);
    let low = x[0], high = x[0];
    for (const v of x) { if (v < low) low = v; if (v > high) high = v; }
    groups.push({ x, start, low, high, sorted: null, sortedAbs: null });
  }
  return groups;
}

// quantlab.choose_params (min-max or percentile) for one group, and the clip limits.
export function chooseParams(g, bits, scheme, clip = 100) {
  const [qmin, qmax] = codeRange(bits, scheme);
  if (isBinary(bits, scheme)) {
    const scale = f32(meanAbs(g.x)); // 0 for a group of zeros, which so comes back as zeros
    return { scale, zero: 0, qmin, qmax, low: -scale, high: scale };
  }
  let low = g.low, high = g.high;
  if (scheme === "symmetric") {
    let alpha = Math.max(Math.abs(low), Math.abs(high));
    if (clip < 100) {
      g.sortedAbs ??= Float64Array.from(g.x, Math.abs).sort();
      alpha = f32(percentile(g.sortedAbs, clip)) || f32(percentile(others(g.sortedAbs), clip));
    }
    const scale = finite(step(alpha, qmax), qmax);
    return { scale, zero: 0, qmin, qmax, low: -alpha, high: alpha };
  }
  if (clip < 100) {
    g.sorted ??= Float64Array.from(g.x).sort();
    const ends = (x) => [f32(percentile(x, 100 - clip)), f32(percentile(x, clip))];
    [low, high] = ends(g.sorted);
    if (low >= 0 && high <= 0) [low, high] = ends(others(g.sorted));
  }
  low = Math.min(low, 0);
  high = Math.max(high, 0);
  const scale = step(f32(high - low), qmax - qmin);
  const zero = Math.min(Math.max(rint(f32(qmin - f32(low / scale))), qmin), qmax);
  return { scale: finite(scale, Math.max(qmax - zero, zero - qmin)), zero, qmin, qmax, low, high };
}

// Where zeros alone decide, the other values do; zeros are exact on any grid.
const others = (sorted) => {
  const rest = sorted.filter((v) => v !== 0);
  return rest.length ? rest : [0];
};

// A span of zero gets the scale 1; a scale below float32's normal numbers gets the smallest one;
// one whose largest level would be infinite is made one float32 step smaller.
const step = (span, steps) => (span === 0 ? 1 : Math.max(f32(span / steps), TINY));
const finite = (scale, steps) => (Number.isFinite(f32(scale * steps)) ? scale : f32(scale * (1 - 2 ** -24)));

// The code before the clamp: float32 division, ties to even, then the zero point.
function rawCode(v, p, binary) {
  if (binary) return v >= 0 ? 1 : -1;
  return f32(rint(f32(v / p.scale)) + p.zero);
}

// Every group through its own grid. Returns values, error measures and the stored bytes.
export function quantizeGroups(groups, bits, scheme, clip) {
  const binary = isBinary(bits, scheme), n = groups.reduce((s, g) => s + g.x.length, 0);
  const values = new Float32Array(n), codes = new Int32Array(n), params = [];
  const [qmin, qmax] = codeRange(bits, scheme), used = new Uint8Array(qmax - qmin + 1);
  let noise = 0, power = 0, worst = 0, clipped = 0;
  for (const g of groups) {
    const p = chooseParams(g, bits, scheme, clip);
    params.push(p);
    for (let i = 0; i < g.x.length; i++) {
      const raw = rawCode(g.x[i], p, binary), q = Math.min(Math.max(raw, p.qmin), p.qmax);
      const y = f32((q - p.zero) * p.scale), e = y - g.x[i];
      codes[g.start + i] = q;
      values[g.start + i] = y;
      used[q - qmin] = 1;
      if (q !== raw) clipped++;
      noise += e * e;
      power += g.x[i] * g.x[i];
      if (Math.abs(e) > worst) worst = Math.abs(e);
    }
  }
  const snr = noise === 0 ? Infinity : 10 * Math.log10(power / noise);
  return {
    values, codes, params, binary, mse: noise / n, snr, maxError: worst, clipped, used: used.reduce((s, v) => s + v, 0),
    bytes: storedBytes(n, bits, params),
  };
}

// Packed below 8 bits, 4 bytes a scale, a code for each zero point unless all of them are 0.
export function storedBytes(n, bits, params) {
  const item = bits > 8 ? 2 : 1, body = bits < 8 ? Math.ceil(n * bits / 8) : n * item;
  return body + params.length * (4 + (params.some((p) => p.zero !== 0) ? item : 0));
}

// The law 6.02 b + 4.77 - 20 log10(crest), with one crest for all groups: rounding noise only.
export function lawSnr(groups, params, bits) {
  let power = 0, noise = 0;
  groups.forEach((g, k) => {
    const half = (params[k].high - params[k].low) / 2;
    for (const v of g.x) power += v * v;
    noise += g.x.length * half * half / 3;
  });
  return 20 * Math.log10(2) * bits + 10 * Math.log10(power / noise);
}
