// A market in virtual time for the tests of live_sources.js: a clock, REST answers and a stream of
// five-minute candles, with faults on demand.

// Time that passes when the test says so.
export function world(start) {
  let t = start, id = 0;
  const queue = new Map();
  const rest = async () => {
    for (let i = 0; i < 5; i++) await new Promise((r) => setImmediate(r));
  };
  const env = {
    now: () => t + env.skew, skew: 0, random: () => 0.5, onLine: () => true,
    setTimeout: (f, ms) => { queue.set(++id, [t + Math.max(0, ms), f]); return id; },
    clearTimeout: (i) => queue.delete(i),
  };
  return {
    env, time: () => t, waiting: () => queue.size,
    sleep(ms) { t += ms; }, // the computer sleeps: no timer fires
    async pass(ms) {
      const end = t + ms;
      for (;;) {
        await rest();
        const [next] = [...queue].sort((a, b) => a[1][0] - b[1][0] || a[0] - b[0]);
        if (!next || next[1][0] > end) break;
        t = Math.max(t, next[1][0]);
        queue.delete(next[0]);
        next[1][1]();
      }
      t = Math.max(t, end);
      await rest();
    },
  };
}

const STEP = 300000, T0 = 1735689600000;
const text = (row) => row.map(String);
// faults: one for each REST answer, null for a good one; stream: what a connection does
export function exchange(w, rows, { begin, faults = [], always = null, connections = [], later = 'good' }) {
  const x = { asked: [], sockets: [], faults, now: () => begin + w.time() };
  const partial = ([t, o, h, l, c, v, u], n) => {
    const part = Math.min(1, (n - t) / STEP);
    return [t, o, Math.max(o, c), Math.min(o, c), c, v * part, u * part];
  };
  const served = () => rows.filter((r) => r[0] <= x.now())
    .map((r) => (r[0] + STEP <= x.now() ? r : partial(r, x.now())));
  const good = (q) => {
    let list = served().filter((r) => r[0] >= (q.start ?? 0) && r[0] <= (q.end ?? Infinity));
    list = q.start && !q.end ? list.slice(0, q.limit) : list.slice(-q.limit);
    return { retCode: 0, retMsg: 'OK', time: x.now(), result: {
      symbol: q.symbol, category: q.category, list: list.map(text).reverse() } };
  };
  const answer = (status, body, headers = {}) => ({ status, headers: new Headers(headers),
    text: async () => (typeof body === 'string' ? body : JSON.stringify(body)) });
  w.env.fetch = (url, { signal, mode }) => {
    const q = Object.fromEntries(new URL(url).searchParams);
    for (const k of ['start', 'end', 'limit']) if (q[k]) q[k] = +q[k];
    x.asked.push({ ...q, at: w.time(), mode });
    const fault = x.faults.length ? x.faults.shift() : always;
    const body = good(q), list = body.result.list;
    if (fault === 'reject') return Promise.reject(new TypeError('Failed to fetch'));
    if (fault === 'opaque') return Promise.resolve(answer(0, ''));
    if (fault === 'hang') return new Promise((_, no) => {
      signal.addEventListener('abort', () => no(new DOMException('late', 'AbortError')));
    });
    if (fault?.status) return Promise.resolve(answer(fault.status, fault.body, fault.headers));
    if (fault?.spoil) fault.spoil(list, body);
    return Promise.resolve(answer(200, body));
  };
  w.env.WebSocket = class {
    constructor(url) {
      Object.assign(this, { url, readyState: 0, sent: [], kind: connections.shift() ?? later });
      x.sockets.push(this);
      this.at = w.time();
      w.env.setTimeout(() => {
        if (this.readyState) return;
        if (this.kind === 'refused') return this.end();
        this.readyState = 1;
        this.onopen();
      }, 50);
    }
    send(text) {
      const { op, args } = JSON.parse(text);
      this.sent.push(text);
      if (op === 'ping' && this.kind !== 'mute') this.say({ success: true, ret_msg: 'pong', op });
      if (op === 'subscribe') {
        if (this.kind === 'unsubscribed') {
          return this.say({ success: false, ret_msg: 'error:handler not found', op });
        }
        this.say({ success: true, ret_msg: '', op });
        this.topic = args[0];
        this.told = x.now();
        this.beat();
      }
    }
    say(m) { if (this.readyState === 1) this.onmessage({ data: m.raw ?? JSON.stringify(m) }); }
    candle(r, confirm, extra = {}) {
      const [start, open, high, low, close, volume, turnover] = r;
      const d = { start, end: start + STEP - 1, interval: '5', open: `${open}`, high: `${high}`,
        low: `${low}`, close: `${close}`, volume: `${volume}`, turnover: `${turnover}`, confirm,
        timestamp: x.now(), ...extra };
      this.say({ topic: this.topic, type: 'snapshot', ts: x.now(), data: [d] });
    }
    beat() { // every two seconds: what closed, then the open one
      if (this.readyState !== 1 || x.now() - this.told > 60000) return; // a sleep kills it, silently
      if (this.kind !== 'mute') {
        for (const r of rows) {
          const closes = r[0] + STEP;
          if (closes > this.told && closes <= x.now()) this.script(r, true);
        }
        const open = rows.find((r) => r[0] <= x.now() && r[0] + STEP > x.now());
        if (open) this.script(partial(open, x.now()), false);
      }
      this.told = x.now();
      w.env.setTimeout(() => this.beat(), 2000);
    }
    script(r, confirm) {
      const k = this.kind;
      if (typeof k === 'function') k(this, r, confirm, x);
      else if (k === 'cut' && w.time() - this.at > 130000) this.end();
      else if (k === 'short' && w.time() - this.at > 3000) this.end();
      else this.candle(r, confirm);
    }
    end() { this.readyState = 3; this.onclose(); }
    close() { this.readyState = 3; }
  };
  return x;
}
// A listener that sorts what it hears, and what must hold whatever happens.
export async function watch(bybit, rows, options, minutes, more = async () => {}) {
  const w = world(0), x = exchange(w, rows, { begin: T0 + 400 * STEP + 100000, ...options });
  w.env.skew = x.now() - w.time() + (options.skew ?? 0);
  Object.assign(w.env, options.env);
  const heard = [], at = [];
  const source = bybit({ rows: 300, rest: 'https://api.bybit.com/', ...options.market }, w.env);
  const before = x.asked.length + x.sockets.length;
  const stop = source.start((e) => { heard.push(e); at.push(w.time()); });
  await more(w, x, stop);
  await w.pass(minutes * 60000);
  const closed = [];
  let wrong = null;
  for (const e of heard) {
    if (e.kind === 'candles') closed.splice(0, Infinity, ...e.rows);
    if (e.kind === 'candle') closed.push(e.row);
  }
  closed.forEach((r, i) => {
    const truth = rows.find((t) => t[0] === r[0]);
    if (r.slice(0, 6).some((v, k) => v !== truth[k])) wrong ??= ['differs', r, truth];
    if (i && r[0] <= closed[i - 1][0]) wrong ??= ['order', r];
  });
  const last = closed.length ? closed[closed.length - 1][0] : null;
  heard.forEach((e, i) => { // no candle before its time
    const when = at[i] + x.now() - w.time();
    if (e.kind === 'candle' && e.row[0] + STEP > when + 100) wrong ??= ['early', e.row];
    if (e.kind === 'status' && /[<>]/.test(e.text)) wrong ??= ['markup', e.text];
  });
  const count = (kind) => heard.filter((e) => e.kind === kind).length;
  const said = heard.filter((e) => e.kind === 'status');
  stop();
  return { source: [source.kind, source.name], before, wrong, last, now: x.now(), n: closed.length,
    starts: closed.map((r) => r[0]), codes: said.map((e) => e.code), said,
    late: heard.filter((e) => e.late).length, opens: count('open'), live: count('candle'), histories: count('candles'),
    asked: x.asked, sockets: x.sockets.length, sent: x.sockets[0]?.sent, waiting: w.waiting() };
}
