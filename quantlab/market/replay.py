"""A loopback server that answers and streams like Bybit's klines, from recorded candles.

    python -m quantlab.market.replay BTCUSDT-5m.csv

prints its address for QUANTLAB_BYBIT_URL (``--speed 60`` lets an hour pass in a minute, and gives
the stream's address too); in Python,

    with Replay(Candles.from_csv("BTCUSDT-5m.csv")) as server:
        candles = fetch_klines("BTCUSDT", base_url=server.url)

Paging is Bybit's: ``limit`` is clamped to 1..1000 (200 if missing); ``start`` alone gives the
oldest rows from the candle that contains it; otherwise the newest up to ``end``; both ends are
inclusive; newest row first. A candle that has begun and not closed by ``now``, the server's clock,
is row 0 with partial values; later ones are not there yet.

The stream is that of ``wss://stream.bybit.com/v5/public/linear``: ping, subscribe, and snapshots of
a candle, the last of which says ``confirm: true``. It needs the package websockets.
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from quantlab.market.candles import Candles
from quantlab.market.tables import symbol_in
from quantlab.market.times import INTERVALS, check_interval, floor_start, following, moment


class Replay:
    """Serve candles, or ``{symbol: rows}`` with rows oldest first, while the ``with`` block runs.

    A row is start, open, high, low, close, volume[, turnover]. ``now`` is the server's clock, by
    default the close of the last candle; it may be set at any time, and ``speed`` seconds pass in
    one of ours. ``requests`` lists the queries seen, ``url`` is the address; ``stream`` is that of
    the WebSocket, opened at first use. Pages of any origin may read the answers, unless ``cors`` is
    set to False.

    Taught in chapter 13.

    >>> from quantlab.market import fetch_klines, synthetic_candles
    >>> with Replay(synthetic_candles(300)) as server:
    ...     candles = fetch_klines("SYNTH", base_url=server.url)
    >>> len(candles), candles.source.kind
    (200, 'replay')
    """

    def __init__(
        self,
        candles: Candles | Mapping[str, Sequence[Sequence]],
        *,
        category: str = "linear",
        interval: str | int = "5",
        now: Any = None,
        speed: float = 0,
        port: int = 0,
    ) -> None:
        if isinstance(candles, Candles):
            category, interval = candles.category, candles.interval
            candles = {candles.symbol: candles.rows()}
        self.books = {s: [[str(v) for v in row] for row in rows] for s, rows in candles.items()}
        self.starts = {s: [int(row[0]) for row in rows] for s, rows in self.books.items()}
        self.category, self.interval = category, check_interval(interval)
        last = max((starts[-1] for starts in self.starts.values() if starts), default=0)
        self.subscribers: dict[Any, set[str]] = {}  # connection: its symbols
        self.now = self.closes(last) if now is None else moment(now, "Replay", "now")
        self.speed, self.cors, self.over = speed, True, threading.Event()
        self.requests: list[dict] = []
        self.routes = {"/v5/market/kline": self.answer}  # path: query -> (status, headers, body)
        self.httpd = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self.url = f"http://127.0.0.1:{self.httpd.server_address[1]}"

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self.httpd.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        threading.Thread(target=self.run, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.over.set()
        if "stream" in vars(self):
            self.socketd.shutdown()
        self.httpd.shutdown()
        self.httpd.server_close()
        self.thread.join()

    @property
    def now(self) -> int:
        """The server's clock, ms."""
        return self._now

    @now.setter
    def now(self, ms: int) -> None:
        since, self._now = getattr(self, "_now", ms), int(ms)
        for connection, symbols in list(self.subscribers.items()):
            for symbol in list(symbols):
                self.push(connection, symbol, since)

    def run(self) -> None:
        """Let the time pass, if it does."""
        self.begin, real = self.now, time.monotonic()
        while self.speed and not self.over.wait(0.05):
            self.now = self.begin + 1000 * self.speed * (time.monotonic() - real)

    @cached_property
    def stream(self) -> str:
        from websockets.sync.server import serve

        self.socketd = serve(self.listen, "127.0.0.1", 0)
        threading.Thread(target=self.socketd.serve_forever, daemon=True).start()
        return f"ws://127.0.0.1:{self.socketd.socket.getsockname()[1]}/v5/public/{self.category}"

    def listen(self, connection: Any) -> None:
        """Answer one client of the stream until it leaves."""
        from websockets.exceptions import ConnectionClosed

        symbols = self.subscribers[connection] = set()
        topics = {f"kline.{self.interval}.{symbol}": symbol for symbol in self.books}
        with suppress(ConnectionClosed):
            while True:
                query = json.loads(connection.recv())
                self.requests.append(query)
                op, asked = query.get("op"), query.get("args") or []
                known = op == "ping" or (op == "subscribe" and set(asked) <= set(topics))
                said = "pong" if op == "ping" else "" if known else "error:handler not found"
                self.send(connection, {"success": known, "ret_msg": said, "op": op})
                for topic in asked if known else ():
                    symbols.add(topics[topic])
                    self.push(connection, topics[topic], self.now)
        del self.subscribers[connection]

    def push(self, connection: Any, symbol: str, since: int) -> None:
        """Send what closed after ``since``, and the candle that grows now."""
        first = bisect_right(self.starts[symbol], since) - 1
        for row in self.books[symbol][max(first, 0) : bisect_right(self.starts[symbol], self.now)]:
            start, *values = self.serve(row)
            closes = self.closes(int(start))
            if closes <= since:
                continue
            names = ("open", "high", "low", "close", "volume", "turnover")
            candle = {"start": int(start), "end": closes - 1, "interval": self.interval}
            candle |= dict(zip(names, values, strict=True))
            candle |= {"confirm": closes <= self.now, "timestamp": self.now}
            topic = f"kline.{self.interval}.{symbol}"
            message = {"topic": topic, "type": "snapshot", "ts": self.now, "data": [candle]}
            self.send(connection, message)

    def send(self, connection: Any, message: dict | str) -> None:
        """One message of the stream."""
        from websockets.exceptions import ConnectionClosed

        with suppress(ConnectionClosed):
            connection.send(message if isinstance(message, str) else json.dumps(message))

    def closes(self, start: int) -> int:
        return int(following(start, self.interval))

    def envelope(self, code: int = 0, message: str = "OK", result: Any = None) -> dict:
        body = {"retCode": code, "retMsg": message, "result": result or {}}
        return body | {"retExtInfo": {}, "time": self.now}

    def rows(self, query: dict) -> list[list[str]]:
        """The rows Bybit would send, newest first."""
        book, starts = self.books[query["symbol"]], self.starts[query["symbol"]]
        limit = min(max(int(query.get("limit", 200)), 1), 1000)
        first, stop = 0, bisect_right(starts, self.now)
        if "start" in query:
            first = bisect_left(starts, int(floor_start(int(query["start"]), self.interval)))
        if "end" in query:
            stop = min(stop, bisect_right(starts, int(query["end"])))
        oldest = "start" in query and "end" not in query
        span = (first, min(stop, first + limit)) if oldest else (max(first, stop - limit), stop)
        return [self.serve(row) for row in reversed(book[span[0] : span[1]])]

    def serve(self, row: list[str]) -> list[str]:
        start, open_, high, low, close, volume = row[:6]
        if self.closes(int(start)) > self.now:  # still open: the last trade was at the high
            close, volume = high, f"{float(volume) / 2:.3f}"
        elif len(row) > 6 and row[6]:
            return row[:7]
        return [start, open_, high, low, close, volume, f"{float(volume) * float(close):.4f}"]

    def answer(self, query: dict) -> tuple[int, dict, dict | str]:
        """(status, headers, body) for a query."""
        self.requests.append(query)
        refused = self.refuse(query)
        if refused:
            return 200, {}, self.envelope(10001, refused)
        result = {"symbol": query["symbol"], "category": self.category, "list": self.rows(query)}
        return 200, {}, self.envelope(result=result)

    def refuse(self, query: dict) -> str | None:
        """Message of a 10001 answer, None when the query is fine."""
        if query.get("symbol") not in self.books:
            return "params error: symbol invalid"
        if query.get("category", "linear") != self.category:
            return "Not supported symbols"
        if query.get("interval") not in INTERVALS:
            return "params error: intervalTime is invalid"
        if query["interval"] != self.interval:
            return f"this replay holds interval {self.interval} only"
        numbers = [query[k] for k in ("limit", "start", "end") if k in query]
        return None if all(re.fullmatch(r"-?\d+", v) for v in numbers) else "params error"


def _handler(server: Replay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet for headers and body: no 40 ms of delayed acknowledgment

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            route = server.routes.get(url.path)
            if int(self.headers.get("Content-Length") or 0):  # a GET with a body is refused
                self.close_connection = True
                status, headers, body = 403, {}, "<html>Bad request.</html>"
            elif route is None:
                status, headers, body = 404, {}, "no such path"
            else:
                status, headers, body = route(dict(parse_qsl(url.query)))
            text = (body if isinstance(body, str) else json.dumps(body)).encode()
            date = self.date_time_string(server.now / 1000)
            shared = {"Access-Control-Allow-Origin": "*"} if server.cors else {}
            headers = {"Date": date, "Content-Length": str(len(text))} | shared | headers
            try:
                if status is None:  # hang up without a word
                    self.close_connection = True
                    return
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client gave up waiting

        def log_message(self, *_) -> None:
            pass

    return Handler


def main(arguments: list[str] | None = None) -> None:
    """Serve one CSV file until the reader stops it."""
    parser = argparse.ArgumentParser("python -m quantlab.market.replay", description=main.__doc__)
    parser.add_argument("csv", help="as Bybit, freqtrade or ccxt write it: see Candles.from_csv")
    parser.add_argument("--symbol", help="default: from the file's name, else BTCUSDT")
    parser.add_argument("--interval", help="default: the smallest distance of two starts")
    parser.add_argument("--category", default="linear")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--now", help="the server's clock, like 2025-12-01; default: all closed")
    parser.add_argument("--speed", type=float, default=0, help="seconds of the market in one")
    given = parser.parse_args(arguments)
    symbol = given.symbol or symbol_in(given.csv) or "BTCUSDT"
    candles = Candles.from_csv(given.csv, given.interval, symbol=symbol, category=given.category)
    with Replay(candles, now=given.now, speed=given.speed, port=given.port) as server:
        stream = f"\nstream: {server.stream}" if given.speed else ""
        print(f"{candles.describe()}\nQUANTLAB_BYBIT_URL={server.url}{stream}", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
