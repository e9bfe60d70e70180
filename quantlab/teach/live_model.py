"""The live model: a trained network that decides candle by candle in the reader's browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import traitlets as tr
from matplotlib.figure import Figure

from quantlab import _checks
from quantlab.error import snr_db
from quantlab.market.candles import Candles
from quantlab.market.features import (
    PER_DAY,
    SHORTEST_SHORT,
    candle_features,
    fit_threshold,
    rule_and_score,
)
from quantlab.market.times import following
from quantlab.nn.evaluate import agreement
from quantlab.nn.model import TradingModel
from quantlab.nn.ptq import QuantizedModel, activation_params, post_training_quantize
from quantlab.scheme import QuantizationScheme
from quantlab.study import PreparedData
from quantlab.teach.figures import COLORS
from quantlab.teach.objects import _Object
from quantlab.teach.widgets import _axes, _module, _one_of

FLOAT = 17  # one step of the slider above 16 bits
RANGES = {"min-max": "minmax", "percentile": "percentile"}
GRANULARITIES = ("tensor", "channel", "group")
BLOCK = 8  # weights that share a scale under "group"
WORDS = {"usual": ("unusual", "usual"), "range": ("narrow", "wide"), "direction": ("down", "up")}
COLUMNS = ("open", "high", "low", "close", "volume")
WIDTHS = (8, 6, 4, 3, 2, 1)  # lines of the report
CONTROLS = ("bits", "activations", "scheme", "granularity", "range", "weights")
PANELS = ("decision", "curve", "grids", "log")


class LiveModel(_Object):
    """A trained model that decides candle by candle, in float32, at W8A8 and at the reader's bits.

    Features, grids, logits, what they are worth, and the sweep over all widths are computed in the
    browser, as candles close. They come from the simulator (which goes on where `candles` end),
    from the market (after a click that says whom the browser asks) or from a dropped CSV file;
    candles of another source stand still until then.

    models: a TradingModel, or {name: TradingModel or QuantizedModel}: weights to exchange, each
    judged against its own float32 model (`reference` of a quantized one). data: the PreparedData
    that they were trained on, whose scaler, training ranges and rules travel along; a value
    (model, data) in `models` brings its own, as another scaling needs. candles: Candles, of which
    the last `rows` decisions are shown. bits 1 to 16; activations 2 to 16, or 17 for float32;
    scheme; granularity "tensor", "channel" or "group" (runs of 8 weights); range "min-max" or
    "percentile" of the training rows: where the controls start. panels: what stands under the
    candles, some of "decision", "curve", "grids", "log"; controls: some of the six; symbols: what
    a click may ask the market for. refresh: a callable that returns new (models, data, candles),
    or a generator that yields (share done, words) on its way; its button needs a kernel. Traits
    of the six controls follow the hand.
    Raises ValueError for models that do not fit the data, too few candles and unknown names.
    Taught in chapter 17.

    >>> from quantlab.market import synthetic_candles
    >>> from quantlab.study import prepare, train_seeds
    >>> candles = synthetic_candles(3000, seed=7)
    >>> data = prepare(candles)
    >>> model = train_seeds(data, sizes=(8,), seeds=(0,), epochs=2)[0]
    >>> LiveModel(model, data, candles, rows=500, bits=4)
    LiveModel(SYNTH: 787 candles; 4-bit weights, 8-bit activations, symmetric, per channel)
    """

    _esm = _module(
        "explorer_arithmetic.js",
        "explorer_parts.js",
        "grab_parts.js",
        "live_arithmetic.js",
        "live_sources.js",
        "live_model.js",
    )
    candles = tr.Bytes().tag(sync=True)
    bits = tr.Int(3, min=1, max=16).tag(sync=True)
    activations = tr.Int(8, min=2, max=FLOAT).tag(sync=True)
    scheme = tr.Enum(("symmetric", "asymmetric"), "symmetric").tag(sync=True)
    granularity = tr.Enum(GRANULARITIES, "channel").tag(sync=True)
    range = tr.Enum(list(RANGES), "percentile").tag(sync=True)
    weights = tr.Unicode().tag(sync=True)

    def __init__(
        self,
        models: Any,
        data: PreparedData,
        candles: Candles,
        *,
        bits: int = 3,
        activations: int = 8,
        scheme: str = "symmetric",
        granularity: str = "channel",
        range: str = "percentile",
        rows: int = 1000,
        panels: Sequence[str] = PANELS,
        controls: Sequence[str] = CONTROLS,
        symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT", "SOLUSDT"),
        refresh: Callable[[], tuple] | None = None,
        caption: str = "",
    ) -> None:
        me = "LiveModel"
        self._refresh = refresh
        self._words = {
            "panels": [_one_of(me, "panels", p, PANELS) for p in panels],
            "controls": [_one_of(me, "controls", c, CONTROLS) for c in controls],
            "symbols": [str(s) for s in symbols],
            "caption": caption,
        }
        self._rows = _checks.integer(rows, me, "rows", 50, 5000)
        self._begin = {
            "bits": _checks.integer(bits, me, "bits", 1, 16),
            "activations": _checks.integer(activations, me, "activations", 2, FLOAT),
            "scheme": _one_of(me, "scheme", scheme, ("symmetric", "asymmetric")),
            "granularity": _one_of(me, "granularity", granularity, GRANULARITIES),
            "range": _one_of(me, "range", range, list(RANGES)),
        }
        super().__init__(**self._state(models, data, candles))
        self.on_msg(self._hear)

    def _state(self, models: Any, data: PreparedData, candles: Candles) -> dict[str, Any]:
        """Every trait, for these models and candles."""
        if not isinstance(models, Mapping):
            models = {"as trained": models}
        entries = {str(name): _entry(name, given, data) for name, given in models.items()}
        window = data.features.window
        shown = candles[-(self._rows + window - 1) :]
        if len(shown) < window + 50:
            raise ValueError(
                f"LiveModel: {len(candles):,} candles came; a window of {window} and 50 decisions "
                f"need {window + 50:,}"
            )
        _, score = rule_and_score(data.target, data.features.x[data.train.rows])
        sizes = next(iter(entries.values()))[1].sizes
        ragged = any(n % min(BLOCK, n) for n in sizes[:-1])
        start = self._begin | {"weights": next(iter(entries))}
        spec = {
            "title": "Live model: float32 against your bits, candle by candle",
            "entries": [_travels(name, *entry) for name, entry in entries.items()],
            "sizes": sizes,
            "answers": WORDS[data.target],
            "frame": {
                "step": int(following(np.int64(0), candles.interval)),
                "window": window,
                "short": max(window // PER_DAY, SHORTEST_SHORT),
            },
            "rules": {
                "target": data.target,
                "majority": bool(data.train.y.mean() > 0.5),
                "threshold": float(np.clip(fit_threshold(score, data.train.y), -1e30, 1e30)),
                "best": data.best_rule,
            },
            "features": data.features.names,
            "source": {
                "kind": candles.source.kind,
                "words": candles.describe(),
                "symbol": candles.symbol,
                "interval": candles.interval,
            },
            "limits": {"bits": [1, 16], "activations": [2, FLOAT]},
            "choices": {
                "scheme": ["symmetric", "asymmetric"],
                "granularity": [*GRANULARITIES[: 2 if ragged else 3]],
                "range": [*RANGES],
                "weights": [*entries],
            },
            "start": start,
            "refresh": self._refresh is not None,
            **self._words,
        }
        nets = [net for m, r, _ in entries.values() for net in ([m] if m is r else [m, r])]
        packed = np.concatenate([a.ravel() for net in nets for pair in net._pairs() for a in pair])
        columns = np.stack([getattr(shown, name) for name in COLUMNS])
        if candles.source.kind == "synthetic":  # no gaps, prices on a grid that float32 can carry
            spec["source"]["first"] = int(shown.start[0])
            table = columns.astype(np.float32)
        else:
            table = np.stack([shown.start, *columns], axis=1).astype(np.float64)
        self._entries, self._shown, self._target = entries, shown, data.target
        return {"spec": spec, "data": packed.tobytes(), "candles": table.tobytes(), **start}

    def quantized(self, bits: int | None = None) -> QuantizedModel:
        """The model at the present setting (at other `bits` if given), `reference` its float32."""
        model, reference, prepared = self._entries[self.weights]
        wide = self.activations == FLOAT
        per = "TENSOR" if self.granularity == "tensor" else "CHANNEL"
        coarse = post_training_quantize(
            model,
            None if wide else prepared.train.x,
            bits or self.bits,
            None if wide else self.activations,
            QuantizationScheme[f"{self.scheme.upper()}_PER_{per}"],
            activation_method=RANGES[self.range],
            block_size=BLOCK if self.granularity == "group" else None,
        )
        coarse.reference = reference
        return coarse

    def inputs(self) -> np.ndarray:
        """Scaled features of the candles that the page begins with, (n, 4) float32."""
        prepared = self._entries[self.weights][2]
        features = candle_features(self._shown, prepared.features.window)
        return prepared.scaler.transform(np.concatenate([features.x, features.latest]))

    def report(self) -> str:
        """What the page shows, in text for a terminal: a line for each of six widths."""
        x, words = self.inputs(), WORDS[self._target]
        exact = self._entries[self.weights][1].predict_logits(x)
        lines = [repr(self), f"float32: next {words[int(exact[-1] > 0)]} ({exact[-1]:+.2f})"]
        for bits in WIDTHS:
            coarse = self.quantized(bits)
            z = coarse.predict_logits(x)
            lines.append(
                f"{bits} bits: {coarse.nbytes:,} bytes, SNR {snr_db(exact, z):.1f} dB, agreement "
                f"{agreement(exact, z):.1f} %, next {words[int(z[-1] > 0)]} ({z[-1]:+.2f})"
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        inputs = "float32" if self.activations == FLOAT else f"{self.activations}-bit"
        symbol, n = self.spec["source"]["symbol"], len(self._shown)
        return (
            f"LiveModel({symbol}: {n:,} candles; {self.bits}-bit weights, "
            f"{inputs} activations, {self.scheme}, per {self.granularity})"
        )

    def figure(self) -> Figure:
        """The still: both models' logits on the last candles, and SNR against bits."""
        figure, (left, right) = _axes(2.9, ncols=2)
        x, exact = self.inputs(), self._entries[self.weights][1]
        logits, last = exact.predict_logits(x), slice(-60, None)
        here = self.quantized().predict_logits(x)
        left.axhline(0, color=COLORS["law"], linewidth=1)
        left.plot(logits[last], color=COLORS["signal"], label="float32")
        left.plot(here[last], color=COLORS["quantized"], label=f"{self.bits} bits")
        flips = np.flatnonzero((logits[last] > 0) != (here[last] > 0))
        left.plot(flips, here[last][flips], "o", color=COLORS["error"], label="other decision")
        left.set(xlabel="candle", ylabel=f"logit, above 0: {WORDS[self._target][1]}")
        bits = np.arange(1, 9)
        snr = [snr_db(logits, self.quantized(int(b)).predict_logits(x)) for b in bits]
        right.plot(bits, snr, "o-", color=COLORS["quantized"])
        right.set(xlabel="bits of the weights", ylabel="SNR of the logits (dB)", xticks=bits)
        left.legend(frameon=False, fontsize=7)
        return figure


def _entry(name: str, given: Any, data: PreparedData) -> tuple:
    """(weights as TradingModel, its float32 model, the data that it was trained on)."""
    model, prepared = given if isinstance(given, tuple) else (given, data)
    reference = getattr(model, "reference", None) or model
    if isinstance(model, QuantizedModel):
        model = TradingModel.from_arrays([(layer.values, layer.bias) for layer in model.layers])
    if not (isinstance(model, TradingModel) and isinstance(reference, TradingModel)):
        raise ValueError(
            f"LiveModel: {name!r} is a {type(model).__name__}; expected a TradingModel, or a "
            "QuantizedModel with its reference"
        )
    width = prepared.train.x.shape[1]
    if model.sizes != reference.sizes or model.sizes[0] != width or model.sizes[-1] != 1:
        raise ValueError(
            f"LiveModel: {name!r} has sizes {model.sizes}; expected {width} inputs and one logit"
        )
    return model, reference, prepared


def _travels(name: str, model: TradingModel, reference: TradingModel, data: PreparedData) -> dict:
    """What of an entry goes to the page beside its weights: the scaler and the grids of inputs."""
    inputs, s = model.activations(data.train.x), data.scaler
    grids = {
        label: [
            [
                [float(p.scale), int(p.zero_point)]
                for p in (activation_params(a, b, method) for a in inputs)
            ]
            for b in range(2, FLOAT)
        ]
        for label, method in RANGES.items()
    }
    ends = {
        k: [float(v) if np.isfinite(v) else None for v in getattr(s, k)] for k in ("lower", "upper")
    }
    columns = {k: getattr(s, k).tolist() for k in ("logged", "offset", "width")}
    return {"name": name, "own": model is not reference, "grids": grids, "scaler": ends | columns}
