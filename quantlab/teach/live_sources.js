// Where the candles of the live model come from: a simulator, Bybit's public market data, a file.
//
//   simulated({ first, step, interval, columns, seed, history, ticks, pace }, env)
//   bybit({ symbol, interval, category, rows, rest, stream }, env)
//   fromFile(textOrBytes, name, { history, pace }, env)
//
// Each gives { kind, name, start(on) }, and start gives stop(). Nothing is asked of any network
// before bybit(...).start. `on` hears plain objects; every text in them is plain text, never HTML:
//
//   { kind: "candles", rows, symbol, interval, step, source: { kind, name, note } }
//       closed candles, oldest first; replaces what was there. A row is
//       [start in ms, open, high, low, close, volume, turnover].
//   { kind: "candle", row, late? }   newly closed, later than all before; late: the one before it
//       came only after this one had closed, so nobody can have decided about it in time
//   { kind: "open", row, closesIn }  the growing candle, and real ms until it closes
//   { kind: "status", level, code, text, retryInSeconds?, final? }
//       level ok, busy, warn or fault; final: the source stopped by itself, start(on) tries again
//
// env replaces parts of the surroundings: fetch, WebSocket, now, setTimeout, clearTimeout, random,
// onLine. Checks and error texts follow quantlab.market: Candles, from_csv (allow_breaks=True),
// fetch_klines. Unlike Python, files with dates by week number or digits of other scripts are refused.

const feedDay = 86400000, feedLast = 253402300800000;
const feedLengths = Object.fromEntries(["1", "3", "5", "15", "30", "60", "120", "240", "360", "720"].map((m) => [m, m * 60000]).concat([["D", feedDay], ["W", 7 * feedDay]]));
const feedUtc = (ms) => (Number.isFinite(ms) && Math.abs(ms) < feedLast ? new Date(ms).toISOString().slice(0, 16).replace("T", " ") : String(ms));
const feedCount = (n, what) => `${n.toLocaleString("en-US")} ${what}${n === 1 ? "" : "s"}`;
const feedPlain = (text) => String(text).replace(/[^\x20-\x7e]+|[<>]/g, " ").trim().slice(0, 80);

// What can go wrong, with its code. One that passes is tried again, after `wait` ms if the host said so.
class FeedFault extends Error {
  constructor(code, text, passes = false, wait = null) { super(text); Object.assign(this, { code, passes, wait }); }
}

function feedNext(start, interval) { // the start of the next candle: the moment this one closes
  if (interval !== "M") return start + feedLengths[interval];
  const day = new Date(start);
  return Date.UTC(day.getUTCFullYear(), day.getUTCMonth() + 1, 1);
}
function feedAligned(start, interval) {
  if (interval === "M") return start % feedDay === 0 && new Date(start).getUTCDate() === 1;
  return (start - (interval === "W" ? 4 * feedDay : 0)) % feedLengths[interval] === 0; // weeks start on Monday
}

// Rows in the order of time: throws what cannot be candles; gives gaps and the opens off the close before.
function feedCheck(rows, interval, where) {
  const gaps = [], breaks = [];
  rows.forEach((row, i) => {
    const [start, open, high, low, close, volume, turnover] = row, before = rows[i - 1];
    const refuse = (came, expected) => {
      throw new FeedFault("malformed", `${where(i)} (${feedUtc(start)} UTC: open ${open}, high ${high}, low ${low}, close ${close}, volume ${volume}): ${came}; expected ${expected}`);
    };
    if (!(start >= 0 && start < feedLast)) refuse("the time is out of range", "the years 1970 to 9999");
    if (!row.every(Number.isFinite)) refuse("a value is not a finite number", "seven finite numbers");
    if (Math.min(open, low, close) <= 0) refuse("a price is not positive", "prices above zero");
    if (volume < 0 || turnover < 0) refuse("volume or turnover is negative", "zero or more");
    if (low > Math.min(open, close)) refuse("the low is above open or close", "a low of at most open and close");
    if (high < Math.max(open, close)) refuse("the high is below open or close", "a high of at least open and close");
    if (!feedAligned(start, interval)) refuse("the time is off the grid", `starts on the ${interval} grid`);
    if (!before) return;
    if (start <= before[0]) refuse("the time is not after the one before", "each start once, with one set of values");
    if (feedNext(before[0], interval) !== start) gaps.push([feedNext(before[0], interval), start]);
    else if (open !== before[4]) breaks.push(i);
  });
  return { gaps, breaks };
}
const feedGaps = (gaps, interval) => {
  const missing = gaps.reduce((sum, [a, b]) => sum + (interval === "M" ? 1 : Math.round((b - a) / feedLengths[interval])), 0);
  return `${feedCount(missing, "candle")} missing in ${feedCount(gaps.length, "place")}, the first from ${feedUtc(gaps[0][0])} UTC`;
};

function feedEnv(given = {}) {
  return {
    fetch: (...a) => globalThis.fetch(...a), WebSocket: globalThis.WebSocket, now: () => Date.now(),
    setTimeout: (f, ms) => globalThis.setTimeout(f, ms), clearTimeout: (id) => globalThis.clearTimeout(id),
    random: () => Math.random(), onLine: () => globalThis.navigator?.onLine !== false, ...given,
  };
}

// ---- files
const feedTrim = (text) => text.replace(/^[^\S\ufeff]+|[^\S\ufeff]+$/g, ""); // as Python strips
function feedHalfEven(v) { const r = Math.round(v); return r - v === 0.5 && r % 2 ? r - 1 : r; }
const feedInteger = /^[+-]?\d+(_\d+)*$/, feedDecimal = /^[+-]?(\d+(_\d+)*\.?(\d+(_\d+)*)?|\.\d+(_\d+)*)(e[+-]?\d+(_\d+)*)?$/i;

function feedNumber(text) { // a number as Python's float() reads it, undefined if it is none
  const t = feedTrim(text);
  if (feedDecimal.test(t)) return Number(t.replaceAll("_", ""));
  const [, sign, word] = /^([+-]?)(inf|infinity|nan)$/i.exec(t) ?? [];
  return word && (/nan/i.test(word) ? NaN : sign === "-" ? -Infinity : Infinity);
}

const feedIso = /^(\d{4})(?:-(\d\d)-(\d\d)|(\d\d)(\d\d))(?:[\s\S](\d\d)(?:(:?)(\d\d)(?:\7(\d\d)(?:[.,](\d+))?)?)?(Z|[+-]\d\d(?::?\d\d(?::?\d\d(?:\.\d+)?)?)?)?)?$/;
function feedMoment(text) { // ms since 1970 of digits (s, ms, µs, ns by their count) or an ISO date; a string says why not
  const t = feedTrim(text);
  if (t.length > 8 && (feedInteger.test(t) || feedDecimal.test(t))) {
    const v = feedInteger.test(t) ? BigInt(t.replace(/[_+]/g, "")) : Number(t.replaceAll("_", "")), size = Number(v);
    if (size === 0) return 0;
    if (size >= 1e9 && size < 1e10) return typeof v === "bigint" ? size * 1000 : feedHalfEven(v * 1000);
    for (const [from, per] of [[1e12, 1], [1e15, 1000], [1e18, 1000000]]) {
      if (size >= from && size < 10 * from) return typeof v === "bigint" ? Number(v / BigInt(per)) : Math.floor(v / per);
    }
    return "whose unit is unclear: it has neither 10, 13, 16 nor 19 digits";
  }
  const m = feedIso.exec(t);
  if (!m) return "which is no ISO date";
  const [year, month, day, hour, minute, second] = [m[1], m[2] ?? m[4], m[3] ?? m[5], m[6] ?? 0, m[8] ?? 0, m[9] ?? 0].map(Number);
  const zone = /^([+-])(\d\d):?(\d\d)?:?([\d.]+)?$/.exec(m[11] ?? ""), fraction = Number(`0.${(m[10] ?? "0").slice(0, 6)}`);
  const shift = zone ? Number(`${zone[1]}1`) * (zone[2] * 3600 + (zone[3] ?? 0) * 60 + Number(zone[4] ?? 0)) : 0;
  const date = new Date(Date.UTC(year, month - 1, day));
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day || hour > 23 || minute > 59 || second > 59 || Math.abs(shift) >= 86400) return "which is no ISO date";
  const ms = date.getTime() + (hour * 3600 + minute * 60 + second) * 1000 + Math.floor(Math.round(fraction * 1e6 - shift * 1e6) / 1000);
  return year >= 1969 && ms >= 0 && ms < feedLast ? ms : "outside the years 1970 to 9999";
}

function feedCells(text, delimiter) { // [line number, cells]: quotes and doubled quotes as in RFC 4180
  const rows = [];
  let cells = [], cell = "", quoted = false, line = 0, first = 1;
  for (const part of text.split(/[\n\v\f\u2028\u2029]/)) {
    line++;
    if (!quoted) first = line;
    if (!quoted && !part.includes('"')) { rows.push([first, part.split(delimiter)]); continue; }
    let closed = false; // the quote of this cell is over: what follows is taken as it stands
    for (let i = 0; i < part.length; i++) {
      const c = part[i];
      if (quoted) {
        if (c !== '"') cell += c;
        else if (part[i + 1] === '"') { cell += c; i++; } else { quoted = false; closed = true; }
      } else if (c === '"' && cell === "" && !closed) quoted = true;
      else if (c === delimiter) { cells.push(cell); cell = ""; closed = false; } else cell += c;
    }
    if (quoted) continue;
    rows.push([first, [...cells, cell]]);
    cells = []; cell = "";
  }
  if (quoted) rows.push([first, [...cells, cell]]);
  return rows.filter(([, row]) => row.join("").trim());
}

const feedColumns = ["start", "open", "high", "low", "close", "volume", "turnover"];
const feedNames = {
  start: "start startms starttime timestamp opentime time datetime date ts unix", open: "open o", high: "high h", low: "low l", close: "close c",
  volume: "volume basevolume vol v", turnover: "turnover quotevolume quoteassetvolume volumequote",
};
const feedMost = 20e6; // bytes

// Rows, interval, symbol and notes of a CSV as Bybit, freqtrade or ccxt write it; throws what, where, and what was expected.
export function readTable(given, name, now) {
  const refuse = (text) => { throw new FeedFault("file", `${name}: ${text}`); };
  const size = given.byteLength ?? given.length;
  if (size > feedMost) refuse(`it has ${(size / 1e6).toFixed(0)} MB; expected at most ${feedMost / 1e6}: keep the newest rows`);
  let text = given;
  if (typeof given !== "string") {
    try { text = new TextDecoder("utf-8", { fatal: true }).decode(given); } catch { refuse("it is no text in UTF-8; expected a CSV file"); }
  }
  text = text.replace(/^\ufeff/, "").replace(/\r\n?/g, "\n");
  const head = text.split("\n", 1)[0], often = (c) => head.split(c).length;
  const lines = feedCells(text, [",", ";", "\t"].reduce((best, c) => (often(c) > often(best) ? c : best)));
  if (!lines.length) refuse("it has no rows; expected one line a candle");
  const width = lines[0][1].length, odd = lines.find(([, row]) => row.length !== width);
  if (odd) refuse(`line ${odd[0]} has ${feedCount(odd[1].length, "cell")}; expected ${width}, as line ${lines[0][0]} has`);
  if (width < 6) refuse(`line ${lines[0][0]} has ${feedCount(width, "cell")}; expected at least 6: ${feedColumns.slice(0, 6).join(", ")}`);
  const named = !/^[-+.\d]+$/.test(lines[0][1][width - 2].trim());
  let places = { start: 0, open: 1, high: 2, low: 3, close: 4, volume: 5, turnover: width > 6 ? 6 : -1 };
  if (named) {
    const plain = lines.shift()[1].map((n) => n.toLowerCase().replace(/price|[^a-z]/g, ""));
    places = Object.fromEntries(feedColumns.map((ours) => [ours, plain.indexOf(feedNames[ours].split(" ").find((alias) => plain.includes(alias)))]));
    const lacking = feedColumns.slice(0, 6).filter((ours) => places[ours] < 0);
    if (lacking.length) refuse(`no column for ${lacking.join(", ")} in its header; expected ${feedColumns.slice(0, 6).join(", ")} (a time: start, timestamp or date)`);
  } else if (width > 7) refuse(`${width} columns without names; expected 6 or 7: ${feedColumns.join(", ")}`);

  let estimated = 0;
  const table = lines.map(([line, row]) => {
    const start = feedMoment(row[places.start]);
    if (typeof start === "string") refuse(`the time in line ${line} is "${feedPlain(row[places.start])}", ${start}; expected ms since 1970 (13 digits) or a date like 2025-01-31 12:00`);
    const values = feedColumns.slice(1).map((ours) => {
      const cell = row[places[ours]] ?? "", value = feedNumber(cell);
      if (value === undefined && !(ours === "turnover" && ["", "None", "<NA>"].includes(cell.trim()))) refuse(`${ours} in line ${line} is "${feedPlain(cell)}"; expected a number`);
      return value ?? NaN;
    });
    if (Number.isNaN(values[5])) { values[5] = values[4] * values[3]; estimated++; }
    return { line, row: [start, ...values] };
  }).sort((a, b) => a.row[0] - b.row[0]);
  const kept = table.filter(({ row }, i) => !i || row.some((v, k) => v !== table[i - 1].row[k]));
  const rows = kept.map((k) => k.row);
  const notes = estimated ? [`turnover of ${feedCount(estimated, "row")} estimated from volume and close`] : [];
  if (table.length > rows.length) notes.push(`${feedCount(table.length - rows.length, "repeated row")} dropped`);

  const step = rows.reduce((least, row, i) => (i && row[0] > rows[i - 1][0] ? Math.min(least, row[0] - rows[i - 1][0]) : least), Infinity);
  let interval = Object.keys(feedLengths).find((n) => feedLengths[n] === step);
  if (step >= 28 * feedDay && step < Infinity && rows.every(([start]) => feedAligned(start, "M"))) interval = "M";
  if (!interval) refuse(`the smallest distance of its ${feedCount(rows.length, "time")} is ${step < Infinity ? +(step / 60000).toPrecision(6) : 0} min; expected one of ${Object.keys(feedLengths).join(" ")} M (minutes, day, week, month)`);
  let found;
  try { found = feedCheck(rows, interval, (i) => `line ${kept[i].line}`); } catch (error) { refuse(error.message); }
  const closed = rows.filter(([start]) => feedNext(start, interval) <= now);
  if (closed.length < rows.length) notes.push(`${feedCount(rows.length - closed.length, "row")} dropped: open until after ${feedUtc(now)} UTC`);
  if (!closed.length) refuse("no candle of it is closed yet; expected times in the past");
  if (found.gaps.length) notes.push(feedGaps(found.gaps, interval));
  if (found.breaks.length) notes.push(`${feedCount(found.breaks.length, "open")} off the close before`);
  const [, coin, money] = /(?<![A-Z0-9])([A-Z0-9]{2,})[_-]?(USDT|USDC|USD)(?![A-Z0-9])/.exec(name) ?? [];
  return { rows: closed, interval, symbol: coin ? coin + money : "DATA", notes, gaps: found.gaps, breaks: found.breaks.length };
}

export function fromFile(given, name, { history = Infinity, pace = () => 1000 } = {}, env = {}) {
  const e = feedEnv(env);
  return {
    kind: "file", name,
    start(on) {
      let table;
      try { table = readTable(given, name, e.now()); } catch (error) {
        if (!(error instanceof FeedFault)) throw error;
        on({ kind: "status", level: "fault", code: "file", text: error.message, final: true });
        return () => {};
      }
      const { rows, symbol, interval, notes } = table, shown = rows.slice(0, history);
      on({ kind: "candles", rows: shown, symbol, interval, step: feedNext(0, interval), source: { kind: "file", name, note: notes.join("; ") } });
      on({ kind: "status", level: notes.length ? "warn" : "ok", code: "file", text: [`${feedCount(rows.length, "candle")} of ${name}, read in this page; nothing was sent anywhere`, ...notes].join("; ") });
      return feedPlay(on, e, pace, (i) => rows[shown.length + i]);
    },
  };
}

// ---- playing candles at a speed: each grows in a few steps, then closes; ends where rowAt gives none
function feedPlay(on, env, pace, rowAt) {
  let timer = 0, over = false, count = 0, row = rowAt(0), done = 0;
  const later = (ms) => { timer = env.setTimeout(step, ms); };
  function step() {
    if (over || !row) return;
    const ms = pace();
    if (!(ms < Infinity)) return later(200); // paused
    const steps = Math.max(1, Math.min(12, Math.floor(ms / 120)));
    done += 1 / steps;
    if (done > 1 - 1e-9) {
      on({ kind: "candle", row });
      done = 0;
      row = rowAt(++count);
    } else on({ kind: "open", row: feedGrown(row, done), closesIn: ms * (1 - done) });
    if (!over) later(ms / steps);
  }
  later(0);
  return () => { over = true; env.clearTimeout(timer); };
}
// A candle when a share of it is over: from the open to the one end, to the other, to the close.
function feedGrown([start, open, high, low, close, volume, turnover], share) {
  const way = close < open ? [open, high, low, close] : [open, low, high, close];
  const leg = Math.min(2, Math.floor(share * 3)), now = way[leg] + (way[leg + 1] - way[leg]) * (share * 3 - leg);
  const seen = [...way.slice(0, leg + 1), now];
  return [start, open, Math.max(...seen), Math.min(...seen), now, volume * share, turnover * share];
}

// ---- the simulator: candles that Python made, then the same law (quantlab.market.synthetic) without end
export function simulated({ first, step = 300000, interval = "5", columns, seed = 7, history = 1000, ticks = 10, pace = () => 1000 }, env = {}) {
  const name = `simulator seed ${seed}`, { open, high, low, close, volume } = columns;
  const grid = (v) => Math.round(v * ticks) / ticks; // a price that traveled as float32 is on its grid again, and so is a volume
  const made = Array.from(open, (_, i) => [first + i * step, grid(open[i]), grid(high[i]), grid(low[i]), grid(close[i]), Math.round(volume[i] * 1000) / 1000, NaN]);
  return {
    kind: "synthetic", name,
    start(on) {
      const more = feedMarket(made, step, seed, ticks), shown = made.slice(0, history);
      on({ kind: "candles", rows: shown, symbol: "SYNTH", interval, step, source: { kind: "synthetic", name, note: `prepared until ${feedUtc(first + made.length * step)} UTC, then drawn in this page` } });
      on({ kind: "status", level: "ok", code: "ok", text: `Playing ${name}; no network` });
      return feedPlay(on, feedEnv(env), pace, (i) => {
        if (shown.length + i === made.length) on({ kind: "status", level: "ok", code: "generated", text: "The prepared candles are over; from here this page draws them, by the same law" });
        return made[shown.length + i] ?? more.next().value;
      });
    },
  };
}

const feedHours = [0, 6, 12, 14.5, 20, 24], feedSeason = [0.1, -0.28, -0.12, 0.48, 0.05, 0.1];
function feedWave(start) { // the daily and weekly season of the log volatility
  const hour = (start % feedDay) / 3600000, k = feedHours.findIndex((h) => h > hour);
  const share = (hour - feedHours[k - 1]) / (feedHours[k] - feedHours[k - 1]);
  return feedSeason[k - 1] + share * (feedSeason[k] - feedSeason[k - 1]) + ((Math.floor(start / feedDay) + 3) % 7 >= 5 ? -0.35 : 0);
}
function* feedMarket(made, step, seed, ticks) {
  let state = seed >>> 0;
  const uniform = () => { // mulberry32, never 0 or 1
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  const memory = (steps, std, skew, value = std * normal()) => { // a first-order autoregression
    const phi = Math.exp(-1 / steps), size = std * Math.sqrt(1 - phi * phi), flat = Math.sqrt(1 - skew * skew);
    return () => (value = phi * value + size * (flat * normal() + skew * (-Math.log(uniform()) - 1)));
  };
  const perDay = feedDay / step, level0 = 0.00093 * Math.sqrt(step / 300000), recent = made.slice(-288);
  // The slow component goes on where the last prepared day stood.
  const stood = recent.reduce((sum, [t, o, h, l]) => sum + Math.log(Math.max(h - l, 1 / ticks) / o / level0 / 1.6) - feedWave(t), 0) / recent.length;
  const parts = [memory(6 * perDay, 0.38, 0, stood), memory(0.18 * perDay, 0.4, 0.5, 0), memory(0.012 * perDay, 0.2, 0.5, 0)];
  const crowd = memory(6, 0.45, 0);
  let [start, , , , last] = made[made.length - 1], level = Math.log(last * ticks), before = 0;
  for (;;) {
    start += step;
    const h = parts.reduce((sum, part) => sum + part(), feedWave(start) + 0.27 * normal()), sigma = level0 * Math.exp(h);
    const draw = normal(), move = sigma * (draw - 0.05 * before);
    const up = (move + Math.sqrt(move * move - 2 * sigma * sigma * Math.log(uniform()))) / 2;
    const down = (move - Math.sqrt(move * move - 2 * sigma * sigma * Math.log(uniform()))) / 2;
    const at = (v) => Math.max(Math.round(Math.exp(level + v)), 2), open = Math.round(last * ticks), close = at(move);
    const high = Math.max(at(up), open, close), low = Math.min(at(down), open, close);
    const volume = Math.round(150000 * Math.exp(1.1 * h + 0.6 * Math.log((up - down) / sigma / 1.6) + 0.3 * normal() + crowd())) / 1000;
    yield [start, open / ticks, high / ticks, low / ticks, close / ticks, volume, NaN];
    [level, last, before] = [level + move, close / ticks, draw];
  }
}

// ---- Bybit: history by REST, then the stream, REST again where the stream fails
const feedTries = 7, feedTimeout = 10000, feedPage = 1000; // waits of 1, 2, 4 ... 32 s between tries
const feedPing = 20000, feedSilence = 60000, feedAsleep = 90000, feedPoll = 10000;

export function bybit({ symbol = "BTCUSDT", interval = "5", category = "linear", rows = 1000, rest = "https://api.bybit.com", stream = `wss://stream.bybit.com/v5/public/${category}` } = {}, env = {}) {
  const host = new URL(rest).host, kind = /(^|\.)(bybit|bytick)\./.test(host) ? "bybit" : "replay";
  const market = { symbol: symbol.toUpperCase(), interval: String(interval), category, rows, rest: rest.replace(/\/+$/, ""), stream, host, kind };
  return { kind, name: host, start: (on) => feedLive(market, on, feedEnv(env)) };
}

// Status and retCode of an answer, as fetch_klines reads them: a fault, or null if it is fine.
function feedRefused(host, status, text, body, told) {
  if (status === 403) {
    if (/too frequent/i.test(text)) return new FeedFault("banned", `${host} banned this address for too many requests; wait 10 minutes without any call`);
    if (/your country/i.test(text)) return new FeedFault("geo-block", `${host} does not serve this country (United States, Mainland China, many cloud machines); stay with the simulator or drop a file`);
    return new FeedFault("forbidden", `${host} refused the request (HTTP 403); a proxy may have changed it, so try another network`);
  }
  if (status === 429) return new FeedFault("rate-limit", `${host} asks for a pause (HTTP 429, too many requests)`, true, told);
  if (status >= 500) return new FeedFault("server", `${host} has trouble (HTTP ${status})`, true, told);
  if (typeof body?.retCode !== "number") return new FeedFault("malformed", `${host} sent no answer of a market (HTTP ${status}); a login page or a proxy may have answered; expected JSON with a retCode`);
  const said = `${host} says ${body.retCode} ${feedPlain(body.retMsg)}`;
  if ([10009, 10018].includes(body.retCode)) return new FeedFault("banned", `${said}; wait 10 minutes without any call`);
  if (body.retCode === 10006) return new FeedFault("rate-limit", `${said}: too many requests`, true, told);
  if ([10000, 10016, 5004].includes(body.retCode)) return new FeedFault("server", said, true, told);
  if (body.retCode || status !== 200) return new FeedFault("symbol", `${said}; check symbol and interval`);
  return null;
}

// Numbers of one row of seven strings (or of a message of the stream), NaN where there is none.
const feedValues = (cells) => cells.map((cell) => (typeof cell === "string" && cell.trim() !== "" ? Number(cell) : NaN));

function feedRows(body, { symbol, category, interval, host }) { // of one answer, oldest first
  const refuse = (came, expected) => { throw new FeedFault("malformed", `${host} sent ${came}; expected ${expected}`); };
  const { result } = body;
  if (!Array.isArray(result?.list)) refuse("no list of rows", "result.list");
  for (const [key, asked] of [["symbol", symbol], ["category", category]]) {
    if (result[key] !== undefined && result[key] !== null && result[key] !== asked) refuse(`${key} "${feedPlain(result[key])}"`, asked);
  }
  const rows = result.list.map((row, i) => (Array.isArray(row) && row.length === 7 && row.every((cell) => typeof cell === "string")
    ? feedValues(row) : refuse(`a row ${i} that is not seven strings`, "start, open, high, low, close, volume, turnover")));
  if (rows.length > 1 && rows[0][0] > rows[1][0]) rows.reverse();
  const { breaks } = feedCheck(rows, interval, (i) => `${host}, row ${i}`);
  if (breaks.length) refuse(`an open off the close before at ${feedUtc(rows[breaks[0]][0])} UTC`, "each open to be the close before: a candle is corrupt");
  return rows;
}

function feedLive(market, on, env) {
  const { symbol, interval, category, host } = market, step = feedNext(0, interval), topic = `kline.${interval}.${symbol}`;
  const timers = new Set();
  let over = false, abort = null, socket = null, heard = 0, opened = 0, losses = 0, retrying = false, spoiled = 0;
  let last = null, seen = 0, offset = 0, clocked = false, busy = false, due = 0, lateness = 0, polling = false, ticked = env.now(), asked = -Infinity;

  const later = (ms, f) => {
    const id = env.setTimeout(() => { timers.delete(id); if (!over) f(); }, ms);
    timers.add(id);
    return id;
  };
  const cancel = (id) => { timers.delete(id); env.clearTimeout(id); };
  const pause = (ms) => new Promise((go) => later(ms, go));
  const say = (level, code, text, more = {}) => { if (!over) on({ kind: "status", level, code, text, ...more }); };
  const clock = () => env.now() + offset;
  function stop() {
    over = true;
    for (const id of timers) env.clearTimeout(id);
    timers.clear();
    abort?.abort();
    hang();
  }
  function fail(error) {
    if (over) return;
    const known = error instanceof FeedFault;
    say("fault", known ? error.code : "error", `${known ? error.message : `This page made a mistake: ${error}`}. What is on screen stays.`, { final: true });
    stop();
    if (!known) throw error;
  }

  // -- REST
  async function once(query) {
    await pause(Math.max(0, asked + 110 - env.now()));
    asked = env.now();
    const url = `${market.rest}/v5/market/kline?${new URLSearchParams({ category, symbol, interval, ...query })}`;
    const plain = { credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer" };
    abort = new AbortController();
    let late = false, answer, text;
    const timer = later(feedTimeout, () => { late = true; abort.abort(); });
    try {
      answer = await env.fetch(url, { ...plain, signal: abort.signal });
      text = await answer.text();
    } catch {
      if (over) await pause(0); // for ever: stopped
      if (late) throw new FeedFault("timeout", `${host} did not answer within ${feedTimeout / 1000} s`, true);
      if (!env.onLine()) throw new FeedFault("offline", "This computer is offline", true);
      // A page is not told why. A host that answers a blind request is there and lets no page read it.
      const there = await env.fetch(url, { ...plain, mode: "no-cors", signal: abort.signal }).then(() => true, () => false);
      if (there) throw new FeedFault("cross-origin", `${host} answers, but forbids this page to read it (a cross-origin refusal; a country block can look the same); stay with the simulator or drop a file`);
      throw new FeedFault("offline", `No connection to ${host}: offline, a blocker, or a firewall`, true);
    } finally { cancel(timer); }
    let body = null;
    try { body = JSON.parse(text); } catch { /* feedRefused says so */ }
    const wait = Number(answer.headers.get("retry-after") ?? NaN) * 1000;
    const refused = feedRefused(host, answer.status, text, body, wait >= 0 ? Math.min(wait, 60000) : null);
    if (refused) throw refused;
    let served = Number(body.time);
    if (served > 0 && served < feedLast) {
      offset = served - env.now();
      if (!clocked && Math.abs(offset) > 10000) say("warn", "clock", `This computer's clock is ${feedSpan(Math.abs(offset))} ${offset > 0 ? "slow" : "fast"}; the exchange's clock is used`);
    } else {
      served = asked + offset;
      if (!clocked) say("warn", "clock", "The answer carried no time: this computer's clock decides which candle is open");
    }
    clocked = true;
    return { rows: feedRows(body, market), time: served };
  }
  async function ask(query) {
    for (let tries = 1, bad = 0; ; tries++) {
      try { return await once(query); } catch (error) {
        const again = error instanceof FeedFault && (error.passes || (error.code === "malformed" && !bad++));
        if (!again || tries >= feedTries) throw error;
        const wait = error.wait ?? 500 * 2 ** tries * (0.75 + 0.5 * env.random());
        say("warn", error.code, `${error.message}; try ${tries + 1} of ${feedTries} in ${Math.ceil(wait / 1000)} s`, { retryInSeconds: wait / 1000 });
        await pause(wait);
      }
    }
  }
  async function history() {
    say("busy", "asking", `Asking ${host} for ${feedCount(market.rows, "candle")} of ${symbol}`);
    const found = new Map();
    let query = {}, served = null;
    while (found.size <= market.rows) { // one more than asked for: the newest is as a rule still open
      const limit = Math.min(feedPage, market.rows + 1 - found.size), page = await ask({ limit, ...query }), before = found.size;
      served ??= page.time;
      for (const row of page.rows) {
        const twin = found.get(row[0]);
        if (twin?.some((v, k) => v !== row[k])) throw new FeedFault("conflict", `${host} gave two answers about the candle of ${feedUtc(row[0])} UTC`);
        found.set(row[0], row);
      }
      if (found.size === before || page.rows.length < limit) break;
      query = { end: page.rows[0][0] - 1 };
    }
    const all = [...found.values()].sort((a, b) => a[0] - b[0]), closed = all.filter(([t]) => feedNext(t, interval) <= served).slice(-market.rows);
    const { gaps, breaks } = feedCheck(closed, interval, (i) => `${host}, row ${i}`);
    if (!closed.length) throw new FeedFault("symbol", `${host} has no closed candle of ${symbol} yet`);
    if (breaks.length) throw new FeedFault("malformed", `${host} sent pages that do not join at ${feedUtc(closed[breaks[0]][0])} UTC; expected each open to be the close before`);
    const note = gaps.length ? feedGaps(gaps, interval) : "";
    settle(closed[closed.length - 1]);
    on({ kind: "candles", rows: closed, symbol, interval, step, source: { kind: market.kind, name: host, note } });
    if (gaps.length) say("warn", "gap", note);
    else say("ok", "ok", `${feedCount(closed.length, "candle")} of ${symbol} from ${host}, the last closed at ${feedUtc(feedNext(last[0], interval))} UTC`);
    grow(all[all.length - 1]);
  }
  // What the stream has not brought: everything after the last closed candle, which must be as we have it.
  async function refill() {
    const from = last, answer = await ask({ start: from[0], limit: feedPage });
    if (over) return;
    const rows = answer.rows.filter(([t]) => t >= from[0]), known = rows[0], same = known?.[0] === from[0] && known.slice(0, 6).every((v, k) => v === from[k]);
    if (!same) {
      say("warn", "corrected", `${host} tells the candle of ${feedUtc(from[0])} UTC differently now; everything is loaded anew`);
      return history();
    }
    if (rows.length === feedPage) return history();
    for (const row of rows) if (row[0] > last[0] && feedNext(row[0], interval) <= answer.time) accept(row);
    if (rows.length) grow(rows[rows.length - 1]);
    if (last !== from) return;
    const closes = feedNext(feedNext(last[0], interval), interval);
    if (closes > clock() - 1000) due = closes + 1500;
    else { // it should have closed: wait longer each time
      due = clock() + Math.min(step, 5000 * 2 ** lateness++);
      if (lateness > 3) say("warn", "late", `${host} has shown no closed candle since ${feedUtc(feedNext(last[0], interval))} UTC; asking again in ${feedSpan(due - clock())}`, { retryInSeconds: (due - clock()) / 1000 });
    }
  }
  function run(job) { // one at a time
    if (busy || over) return;
    busy = true;
    job().then(() => { busy = false; }, fail);
  }

  // -- candles
  function settle(row) {
    last = row;
    seen = clock();
    lateness = 0;
    due = feedNext(feedNext(row[0], interval), interval) + (socket && opened ? 8000 : 1500);
  }
  function accept(row) {
    const expected = feedNext(last[0], interval);
    if (row[0] !== expected) say("warn", "gap", feedGaps([[expected, row[0]]], interval));
    const late = seen >= feedNext(row[0], interval);
    settle(row);
    on({ kind: "candle", row, ...(late ? { late } : {}) });
  }
  function grow(row) {
    const closes = feedNext(row[0], interval);
    if (row[0] === feedNext(last[0], interval) && closes > clock()) on({ kind: "open", row, closesIn: closes - clock() });
  }

  // -- stream
  function hang() {
    const old = socket;
    socket = null;
    opened = 0;
    if (old && old.readyState < 2) old.close();
  }
  function connect() {
    retrying = false;
    hang();
    let mine;
    try { mine = socket = new env.WebSocket(market.stream); } catch { return lost("stream-refused", "This browser opens no stream here"); }
    heard = env.now();
    spoiled = 0;
    const ping = () => later(feedPing, () => { if (socket === mine) { mine.send('{"op":"ping"}'); ping(); } });
    mine.onopen = () => {
      if (socket !== mine) return mine.close();
      mine.send(JSON.stringify({ op: "subscribe", args: [topic] }));
      ping();
    };
    mine.onmessage = ({ data }) => { if (socket === mine && !over) hear(data); };
    mine.onclose = () => { if (socket === mine && !over) lost("stream-cut", opened ? `The stream was cut during the candle of ${feedUtc(feedNext(last[0], interval))} UTC` : "The stream could not be opened"); };
  }
  function lost(code, text) {
    if (opened && env.now() - opened > feedSilence) losses = 0; // it had held
    hang();
    losses++;
    due = Math.min(due, clock() + 1500);
    if (code === "stream-refused" || losses >= feedTries) {
      polling = true;
      return say("warn", "polling", `${text}; from here ${host} is asked every ${feedPoll / 1000} s instead`);
    }
    const wait = 500 * 2 ** losses * (0.75 + 0.5 * env.random());
    retrying = true;
    say("warn", code, `${text}; connecting again in ${Math.ceil(wait / 1000)} s, ${host} is asked meanwhile`, { retryInSeconds: wait / 1000 });
    later(wait, () => { if (retrying) connect(); });
  }
  function garbled(came) {
    if (spoiled++ === 0) say("warn", "malformed", `The stream sent ${came}; it is left out`);
    if (spoiled >= 5) lost("malformed", "The stream sends what is no candle");
  }
  function hear(data) {
    heard = env.now();
    let message;
    try { message = JSON.parse(data); } catch { return garbled("no JSON"); }
    if (message?.success === false) return lost("stream-refused", `The stream refused ${topic} (${feedPlain(message.ret_msg)})`);
    if (message?.topic !== topic) return;
    if (!Array.isArray(message.data)) return garbled("a message without data");
    const told = Number(message.ts) - env.now();
    if (Math.abs(told - offset) < 60000) offset = told;
    for (const d of message.data) {
      const row = [Number(d?.start), ...feedValues([d?.open, d?.high, d?.low, d?.close, d?.volume, d?.turnover])];
      try { feedCheck([row], interval, () => "the stream"); } catch { garbled("a row that is no candle"); continue; }
      if (!socket) return; // given up in garbled
      if (!opened) {
        opened = env.now();
        say("ok", "streaming", `Streaming ${symbol} from ${new URL(market.stream).host}`);
        run(refill); // what closed between history and stream
      }
      take(row, d.confirm === true);
    }
  }
  function take(row, confirmed) {
    const expected = feedNext(last[0], interval), closes = feedNext(row[0], interval);
    if (row[0] < last[0]) return;
    if (row[0] === last[0]) {
      if (!confirmed || row.slice(0, 6).every((v, k) => v === last[k])) return;
      say("warn", "conflict", `The stream closed the candle of ${feedUtc(row[0])} UTC twice, differently; ${host} is asked which is true`);
      return run(refill);
    }
    if (row[0] > expected || row[1] !== last[4]) return run(refill); // something is missing in between
    if (!confirmed) return grow(row);
    if (closes > clock() + 100) return say("warn", "early", `The stream called the candle of ${feedUtc(row[0])} UTC closed ${feedSpan(closes - clock())} too early; it stays open until its time`);
    accept(row);
  }

  // -- once a second: asleep, silent, late, or polling
  function tick() {
    const now = env.now(), away = now - ticked;
    ticked = now;
    if (away > feedAsleep) {
      say("busy", "slept", `This page slept for ${feedSpan(away)}; asking ${host} for the candles in between`);
      losses = 0;
      due = 0;
      if (!polling) connect();
    } else if (socket && now - heard > feedSilence) lost("stream-silent", `The stream said nothing for ${feedSilence / 1000} s`);
    const watching = !opened && now - asked >= feedPoll;
    if (last && (clock() >= due || watching)) run(refill);
    later(1000, tick);
  }

  if (!/^[A-Z0-9-]{2,30}$/.test(symbol) || !(interval in feedLengths || interval === "M")) {
    fail(new FeedFault("symbol", `"${feedPlain(symbol)}" at interval "${feedPlain(interval)}" is no market; Bybit writes them like BTCUSDT and 5`));
    return stop;
  }
  run(() => history().then(() => { if (!over) { connect(); later(1000, tick); } }));
  return stop;
}
function feedSpan(ms) {
  const s = Math.round(ms / 1000), m = Math.round(s / 60);
  if (s < 100) return `${s} s`;
  return m < 100 ? `${m} min` : `${Math.round(m / 60)} h`;
}
