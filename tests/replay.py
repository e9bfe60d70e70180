"""The package's replay with faults on demand.

with Replay({"BTCUSDT": rows}, faults=["10006", None]) as server:
    fetch_klines(base_url=server.url)

The stream has its own: streams=["cut"] spoils the first connection, stream="mute" all others.
"""

import csv
import json
import time
from pathlib import Path

from quantlab.market import replay

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
     "gap", "slow", "drop", "no-time", "no-clock", "older", "echo", "markup", "unreadable",
     "429-told"]
)  # fmt: skip
STREAMS = (
    "cut", "mute", "reject", "refuse", "no-json", "markup", "early", "unconfirmed", "twice",
    "differently", "missing",
)  # fmt: skip


class Replay(replay.Replay):
    """Serve ``books`` = {symbol: rows oldest first}; row = start, o, h, l, c, volume[, turnover].

    ``faults`` holds one entry per request, in order: a name of FAULTS or None for a good answer;
    when it is used up, ``always`` (a name or None) holds. ``streams`` holds one of STREAMS for each
    connection of the stream, ``stream_always`` that of the rest.
    """

    def __init__(
        self, books, *, faults=(), always=None, slow=1.0, streams=(), stream_always=None, **options
    ) -> None:
        unknown = {f for f in [*faults, always] if f is not None} - set(FAULTS)
        if unknown:
            raise ValueError(f"Replay: unknown faults {sorted(unknown)}; there are {FAULTS}")
        self.faults, self.always, self.slow, self.previous = list(faults), always, slow, None
        self.streams, self.stream_always, self.kinds, self.told = (
            list(streams),
            stream_always,
            {},
            {},
        )
        super().__init__(books, **options)

    def leap(self, ms: int) -> None:
        """Let time pass while nobody listens: what is connected is dead."""
        for connection in list(self.subscribers):
            connection.close_socket()
        self.begin += ms
        self._now += ms

    def listen(self, connection) -> None:
        """One connection of the stream, with its fault."""
        kind = self.streams.pop(0) if self.streams else self.stream_always
        assert kind is None or kind in STREAMS, kind
        if kind == "reject":
            connection.close_socket()
            return
        self.kinds[connection], self.told[connection] = kind, 0
        super().listen(connection)

    def send(self, connection, message) -> None:
        """One message of the stream, or what the fault makes of it."""
        kind, send = self.kinds[connection], super().send
        if "data" not in message:
            if kind == "refuse" and message["op"] == "subscribe":
                message |= {"success": False, "ret_msg": "error:handler not found"}
            if kind != "mute" or message["op"] == "subscribe":
                send(connection, message)
            return
        (candle,) = message["data"]
        closing = candle["confirm"]
        self.told[connection] += closing
        if kind == "mute" or (kind == "missing" and closing and self.told[connection] % 2):
            return
        if kind == "unconfirmed":
            candle["confirm"] = False
        if kind == "early":
            candle["confirm"] = True
        send(connection, message)
        if not closing and kind == "cut":  # without a closing handshake, in mid-candle
            connection.close_socket()
        if closing and kind == "no-json":
            send(connection, "<html>" + json.dumps(message))
        if closing and kind in ("markup", "twice", "differently"):
            other = {"markup": {"open": "<img src=x onerror=alert(1)>"}, "twice": {}}
            changed = other.get(kind, {"volume": str(float(candle["volume"]) + 1)})
            send(connection, message | {"data": [candle | changed]})

    def answer(self, query: dict) -> tuple[int | None, dict, dict | str]:
        """(status, headers, body) for a query, fault included."""
        fault = self.faults.pop(0) if self.faults else self.always
        status, headers, body = super().answer(query)
        if fault == "slow":
            time.sleep(self.slow)
        if fault == "drop":
            return None, {}, ""
        if fault == "unreadable":  # a block whose answer no page may read
            return (
                403,
                {"Access-Control-Allow-Origin": "https://elsewhere.invalid"},
                PAGES["403-html"][1],
            )
        if fault == "429-told":
            shown = {"Retry-After": "20", "Access-Control-Expose-Headers": "Retry-After"}
            return 429, shown, "too many requests"
        if fault in PAGES:
            return PAGES[fault][0], {}, PAGES[fault][1]
        if fault in ("10006", "10006-header"):
            headers = {"X-Bapi-Limit-Reset-Timestamp": str(int(time.time() * 1000) + 700)}
            return 200, headers if "header" in fault else {}, self.envelope(*ERRORS["10006"])
        if fault in ERRORS:
            body = self.envelope(*ERRORS[fault])
            body["result"] = None if fault == "5004" else {"list": []}
        if body["retCode"]:
            return status, headers, body
        result = body["result"]
        if fault == "duplicate-page" and self.previous:
            result["list"] = self.previous
        step = self.closes(0)
        self.previous = result["list"] = spoil(result["list"], fault, self.previous, step)
        if fault == "echo":
            result["symbol"] = "OTHER"
        if fault == "null":
            body["result"] = None
        if fault in ("no-time", "no-clock"):
            del body["time"]
        if fault == "no-clock":
            headers["Date"] = "soon"
        return status, headers, body if fault != "truncated" else json.dumps(body)[:120]


def spoil(rows, fault, previous, step):
    """Rows (newest first) with the fault worked in."""
    rows = [list(row) for row in rows]
    if fault == "five":
        return [row[:5] for row in rows]
    if fault == "markup":
        rows[3][1] = "<img src=x onerror=alert(1)>"
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


def read_csv(path: str | Path) -> list[list[str]]:
    """Rows of a recorded CSV (start_ms,open,high,low,close,volume[,turnover]), oldest first."""
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    return rows[1:] if not rows[0][0].isdigit() else rows
