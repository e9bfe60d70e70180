"""A loopback server that answers like Bybit's kline endpoint, with faults on demand.

    python tests/replay.py bybit_linear_BTCUSDT_5m_2025.csv --port 0

prints its URL; point QUANTLAB_BYBIT_URL at it. In a test:

    with Replay({"BTCUSDT": rows}, faults=["10006", None]) as server:
        fetch_klines(base_url=server.url)

Paging is Bybit's: ``limit`` is clamped to 1..1000 (200 if missing); ``start`` alone gives the
oldest rows from the candle that contains it; otherwise the newest up to ``end``; both ends are
inclusive; newest row first. ``now`` (ms) is the server's clock: a candle that has begun and not
closed is row 0 with partial values, later ones are not there yet.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import threading
import time
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, urlsplit

INTERVALS = {"1", "3", "5", "15", "30", "60", "120", "240", "360", "720", "D", "W", "M"}
BLOCKED = "The {} distribution is configured to block access from your country"
HTML = (
    "<!DOCTYPE HTML><HTML><HEAD><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD>"
    "<BODY><H1>403 ERROR</H1>{}</BODY></HTML>"
)
ERRORS = {
    "10000": (10000, "Server Timeout"),
    "10001": (10001, "params error: symbol invalid"),
    "10006": (10006, "Too many visits"),
    "10016": (10016, "System error. Please try again later."),
    "10018": (10018, "Exceeded the IP Rate Limit"),
    "5004": (5004, "Server Timeout"),
    "7001": (7001, "request params type error"),
}
PAGES = {  # name: (status, body)
    "403-json": (403, json.dumps({"error": BLOCKED.format("CDN")})),
    "403-html": (403, HTML.format(BLOCKED.format("CDN"))),
    "403-frequent": (403, "403, access too frequent"),
    "403-bad-request": (403, HTML.format("Bad request.")),
    "429": (429, "too many requests"),
    "5xx": (502, "<html>Bad gateway</html>"),
    "html": (200, "<html>please log in to this network</html>"),
}
FAULTS = sorted(
    [*ERRORS, *PAGES, "10006-header", "truncated", "null", "five", "duplicate-page", "conflict",
     "gap", "slow", "drop", "no-time", "older", "echo"]
)  # fmt: skip


class Replay:
    """Serve ``books`` = {symbol: rows oldest first}; row = start, o, h, l, c, volume[, turnover].

    ``faults`` holds one entry per request, in order: a name of FAULTS or None for a good answer;
    when it is used up, ``always`` (a name or None) holds. ``requests`` lists the queries seen.
    """

    def __init__(self, books, *, category="linear", interval="5", now=None, faults=(),
                 always=None, port=0, slow=1.0) -> None:  # fmt: skip
        unknown = {f for f in [*faults, always] if f is not None} - set(FAULTS)
        if unknown:
            raise ValueError(f"Replay: unknown faults {sorted(unknown)}; there are {FAULTS}")
        self.books = {s: [[str(v) for v in row] for row in rows] for s, rows in books.items()}
        self.starts = {s: [int(row[0]) for row in rows] for s, rows in self.books.items()}
        self.category, self.interval, self.slow = category, interval, slow
        self.step = {"D": 1440, "W": 10080, "M": 43200}.get(interval) or int(interval)
        self.step *= 60_000
        last = max((starts[-1] for starts in self.starts.values() if starts), default=0)
        self.now = now if now is not None else last + self.step
        self.faults, self.always, self.requests = list(faults), always, []
        self.previous = None
        self.httpd = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self.url = f"http://127.0.0.1:{self.httpd.server_address[1]}"

    def __enter__(self) -> Self:
        self.thread = threading.Thread(
            target=self.httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.httpd.shutdown()
        self.httpd.server_close()
        self.thread.join()

    def envelope(self, code=0, message="OK", result=None) -> dict:
        return {"retCode": code, "retMsg": message, "result": {} if result is None else result,
                "retExtInfo": {}, "time": self.now}  # fmt: skip

    def rows(self, query: dict) -> list[list[str]]:
        """The rows Bybit would send, newest first."""
        symbol = query["symbol"]
        book, starts = self.books[symbol], self.starts[symbol]
        limit = min(max(int(query.get("limit", 200)), 1), 1000)
        first, stop = 0, bisect_right(starts, self.now)
        if "start" in query:
            start = int(query["start"])
            first = bisect_left(starts, start - start % self.step)
        if "end" in query:
            stop = min(stop, bisect_right(starts, int(query["end"])))
        oldest = "start" in query and "end" not in query
        span = (first, min(stop, first + limit)) if oldest else (max(first, stop - limit), stop)
        return [self.serve(row) for row in reversed(book[span[0] : span[1]])]

    def serve(self, row: list[str]) -> list[str]:
        start, open_, high, low, close, volume = row[:6]
        if int(start) + self.step > self.now:  # still open: the last trade was at the high
            close, volume = high, f"{float(volume) / 2:.3f}"
        elif len(row) > 6 and row[6]:
            return row[:7]
        turnover = f"{float(volume) * float(close):.4f}"
        return [start, open_, high, low, close, volume, turnover]

    def answer(self, query: dict) -> tuple[int, dict, dict | str]:
        """(status, headers, body) for a query, fault included."""
        self.requests.append(query)
        fault = self.faults.pop(0) if self.faults else self.always
        if fault == "slow":
            time.sleep(self.slow)
        if fault in PAGES:
            return PAGES[fault][0], {}, PAGES[fault][1]
        if fault in ("10006", "10006-header"):
            headers = {"X-Bapi-Limit-Reset-Timestamp": str(int(time.time() * 1000) + 700)}
            return 200, headers if "header" in fault else {}, self.envelope(*ERRORS["10006"])
        if fault in ERRORS:
            body = self.envelope(*ERRORS[fault])
            body["result"] = None if fault == "5004" else {"list": []}
            return 200, {}, body
        refused = self.refuse(query)
        if refused:
            return 200, {}, self.envelope(10001, refused)
        rows = self.previous if fault == "duplicate-page" and self.previous else self.rows(query)
        rows = spoil(rows, fault, self.previous, self.step)
        self.previous = rows
        symbol = "OTHER" if fault == "echo" else query["symbol"]
        body = self.envelope(result={"symbol": symbol, "category": self.category, "list": rows})
        if fault == "null":
            body["result"] = None
        if fault == "no-time":
            del body["time"]
        return 200, {}, body if fault != "truncated" else json.dumps(body)[:120]

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


def spoil(rows, fault, previous, step):
    """Rows (newest first) with the fault worked in."""
    rows = [list(row) for row in rows]
    if fault == "five":
        return [row[:5] for row in rows]
    if fault == "gap":
        return rows[:10] + rows[13:]
    if fault == "conflict" and previous:  # a page that overlaps the last one and disagrees
        other = list(previous[-1])
        other[5] = str(float(other[5]) + 1)
        return [other, *rows]
    if fault == "older":
        early = list(rows[-1])
        early[0] = str(int(early[0]) - 500 * step)
        return [*rows, early]
    return rows


def _handler(server: Replay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet for headers and body: no 40 ms of delayed acknowledgment

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if int(self.headers.get("Content-Length") or 0):  # a GET with a body is refused
                self.close_connection = True
                return self.reply(403, {}, PAGES["403-bad-request"][1])
            if url.path != "/v5/market/kline":
                return self.reply(404, {}, "no such path")
            if (server.faults[:1] or [server.always]) == ["drop"]:
                del server.faults[:1]
                server.requests.append(dict(parse_qsl(url.query)))
                self.close_connection = True
                return None
            return self.reply(*server.answer(dict(parse_qsl(url.query))))

        def reply(self, status: int, headers: dict, body: dict | str) -> None:
            text = (body if isinstance(body, str) else json.dumps(body)).encode()
            try:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client gave up waiting

        def log_message(self, *_) -> None:
            pass

    return Handler


def read_csv(path: str | Path) -> list[list[str]]:
    """Rows of a recorded CSV (start_ms,open,high,low,close,volume[,turnover]), oldest first."""
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    return rows[1:] if not rows[0][0].isdigit() else rows


def symbol_of(path: str | Path) -> str:
    """``bybit_linear_BTCUSDT_5m_2025.csv`` -> ``BTCUSDT``."""
    found = re.search(r"(?<![A-Z0-9])[A-Z0-9]{2,}(USDT|USDC|USD)(?![A-Z0-9])", Path(path).name)
    return found.group(0) if found else Path(path).stem.upper()


def main() -> None:
    parser = argparse.ArgumentParser(description="Replay recorded candles on loopback.")
    parser.add_argument("csv", nargs="+", help="recorded candles; the symbol is in the file name")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--interval", default="5")
    parser.add_argument("--now", help="the server's clock, like 2025-12-01; default: all closed")
    given = parser.parse_args()
    now = given.now and datetime.fromisoformat(given.now).replace(tzinfo=UTC).timestamp() * 1000
    books = {symbol_of(path): read_csv(path) for path in given.csv}
    options = {"interval": given.interval, "now": int(now) if now else None, "port": given.port}
    with Replay(books, **options) as server:
        print(server.url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
