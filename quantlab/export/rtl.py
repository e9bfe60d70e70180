"""A model as a circuit: integer layers one after another, each as parallel as its area allows."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from quantlab import _checks
from quantlab.nn.integer import IntegerLayer, IntegerModel, check_layer
from quantlab.nn.layers import QuantizedLinearLayer
from quantlab.nn.ptq import QuantizedModel
from quantlab.tensor import quantize

try:
    from amaranth.back import rtlil
    from amaranth.hdl import Array, Const, Fragment, Module, Mux, Signal
    from amaranth.lib.memory import Memory
    from amaranth.sim import Simulator
except ModuleNotFoundError:  # the package imports without its extra
    Module = None

FAN_IN = 4  # terms that one level of an adder tree adds in a cycle
PIECE = 17  # bits of a multiplier that one signed 18-bit block takes


class Value(NamedTuple):
    """Something in a circuit, and the smallest and the largest integer that it can be."""

    signal: Any
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class Circuit:
    """A clocked circuit that computes what an IntegerModel computes, bit for bit.

    `start` high for one cycle takes the codes at `inputs`; `cycles` later `done` is high for one
    cycle and `outputs` hold the integer output, until the next sample's. `module`, `start` and so
    on are Amaranth's.
    Made by `silicon_circuit`. Taught in chapter 15.
    """

    model: IntegerModel
    products: int
    module: Any
    start: Any
    done: Any
    inputs: list[Any]
    outputs: list[Any]
    cycles: int

    def __repr__(self) -> str:
        return f"Circuit({self.model.sizes}, products={self.products}, {self.cycles} cycles)"

    def rtlil(self) -> str:
        """Return the circuit as text that Yosys reads."""
        ports = [self.start, self.done, *self.inputs, *self.outputs]
        return rtlil.convert(self.module, name="top", ports=ports, emit_src=False)


def silicon_circuit(model: IntegerModel, products: int, *, blocks: bool = False) -> Circuit:
    """Turn an integer-only model into a circuit with so many products a cycle in each layer.

    A layer (out, in) with `products` of at least out * in does all of them at once, with constant
    weights, as shifts and adders (blocks=True: with multiplier blocks); with fewer, multipliers
    are shared in time and the weights come from a memory.
    Weights of -1 and +1 need no multiplier, and with inputs of 0 and 1 only XNOR and popcount.
    Sums are as wide as the weights can drive them; a layer that returns two codes compares with
    a threshold, one whose factors are powers of two shifts, any other multiplies once more.

    Raises ValueError for another model and for products below 1, ModuleNotFoundError without the
    extra `silicon`.
    Source: Duarte et al. 2018 (arXiv 1804.06913), reuse factor; Umuroglu et al. 2017 (arXiv
    1612.07119), thresholds. Taught in chapter 15.

    >>> import quantlab as ql
    >>> x = np.random.default_rng(0).standard_normal((200, 2))
    >>> twin = ql.integer_model(ql.post_training_quantize(ql.TradingModel((2, 8, 1)), x))
    >>> silicon_circuit(twin, products=16), silicon_circuit(twin, products=1)
    (Circuit((2, 8, 1), products=16, 10 cycles), Circuit((2, 8, 1), products=1, 34 cycles))
    """
    me = "silicon_circuit"
    if not isinstance(model, IntegerModel):
        raise ValueError(f"{me}: got a {type(model).__name__}; expected what integer_model returns")
    if Module is None:
        raise ModuleNotFoundError(f"{me} needs Amaranth: pip install 'quantlab[silicon]'")
    products = _checks.integer(products, me, "products", 1, 2**20)
    m, start = Module(), Signal(name="start")
    low, high = model.layers[0].input_range
    inputs = [Signal(_shape(low, high), name=f"x{k}") for k in range(model.sizes[0])]
    with m.If(start):
        values = [_register(m, x, low, high) for x in inputs]
    done, cycles = _later(m, start, 1), 1
    for layer in model.layers:
        values, done, taken = _layer(m, layer, values, done, products, blocks)
        cycles += taken
    Fragment.get(m, None)  # what cannot be built fails here
    return Circuit(model, products, m, start, done, inputs, [v.signal for v in values], cycles)


def _layer(
    m: Any, layer: IntegerLayer, codes: list[Value], start: Any, products: int, multiply: bool
) -> tuple[list[Value], Any, int]:
    """Add a layer that begins at `start`; return its outputs, when they are there, its cycles."""
    n, k = layer.shape
    wide, tall = min(k, products), min(n, max(1, products // k))  # inputs, outputs at once
    turns, groups = -(-k // wide), -(-n // tall)
    steps, span = turns * groups, layer.input_range
    weight = layer.weight.astype(np.int64) - layer.weight_zero[:, None]
    signs = bool((abs(weight) == 1).all())
    bits = signs and span == (0, 1)
    blocks = np.full((groups * tall, turns * wide), int(signs))
    blocks[:n, :k] = weight
    # what meets in one cycle: (steps, outputs, inputs)
    blocks = blocks.reshape(groups, tall, turns, wide).swapaxes(1, 2).reshape(steps, tall, wide)

    first = last = start
    factors = blocks[0]
    if steps > 1:
        step, turn, busy = Signal(range(steps)), Signal(range(turns)), Signal()
        issue = start | busy
        with m.If(issue):
            m.d.sync += [step.eq(Mux(step == steps - 1, 0, step + 1)), busy.eq(step != steps - 1)]
            m.d.sync += turn.eq(Mux(turn == turns - 1, 0, turn + 1))
        first, last = issue & (turn == 0), issue & (turn == turns - 1)
        signals = [c.signal for c in codes] + [Const(0)] * (turns * wide - k)
        codes = [_register(m, Array(signals[i::wide])[turn], *span) for i in range(wide)]
        factors = _memory(m, blocks, step, signs)
    how = "agree" if bits else "sign" if signs else "multiply" if multiply else "add"
    sums = []
    for row, *ends in zip(factors, blocks.min(axis=0), blocks.max(axis=0), strict=True):
        terms = []
        for x, w, *both in zip(codes, row, *ends, strict=True):
            reach = [0, 1] if bits else [a * int(b) for a in (x.low, x.high) for b in both]
            terms.append(_register(m, _times(x.signal, w, how), min(reach), max(reach)))
        sums.append(_tree(m, terms))
    delay = (steps > 1) + 1 + _levels(wide)  # one cycle for the memory, one for the products
    # XNOR counts agreements: sum_k w x is those less the weights of -1, for x of 0 and 1
    bias = layer.bias.astype(np.int64) - bits * (weight < 0).sum(axis=1)
    lows, highs = (ends - bias for ends in layer.accumulator_range())
    if turns > 1:
        begin = _later(m, first, delay)
        sums = [_accumulated(m, begin, total, lows.min(), highs.max()) for total in sums]
        delay += 1
    outputs, done, more = _finish(m, layer, bias, sums, _later(m, last, delay), groups)
    return outputs, done, steps - 1 + delay + more


def _shape(low: Any, high: Any) -> Any:
    """The narrowest register that holds 0 and low to high, both included."""
    return range(min(int(low), 0), max(int(high), 0) + 1)


def _register(m: Any, value: Any, low: Any, high: Any) -> Value:
    """Take the value at each clock."""
    signal = Signal(_shape(low, high))
    m.d.sync += signal.eq(value)
    return Value(signal, int(low), int(high))


def _later(m: Any, signal: Any, cycles: int) -> Any:
    for _ in range(cycles):
        before, signal = signal, Signal.like(signal)
        m.d.sync += signal.eq(before)
    return signal


def _memory(m: Any, blocks: np.ndarray, step: Any, signs: bool) -> list[list[Any]]:
    """Weights (steps, outputs, inputs), all of a step in one word: there one cycle later."""
    codes = (blocks > 0).astype(np.int64) if signs else blocks
    shape = Signal(_shape(codes.min(), codes.max())).shape()
    width, (_, tall, wide) = shape.width, blocks.shape
    words = [
        sum((int(c) % 2**width) << width * i for i, c in enumerate(block.ravel()))
        for block in codes
    ]
    m.submodules += (memory := Memory(shape=width * tall * wide, depth=len(words), init=words))
    port = memory.read_port()
    m.d.comb += port.addr.eq(step)
    fields = [port.data.word_select(i, width) for i in range(tall * wide)]
    fields = [field.as_signed() if shape.signed else field for field in fields]
    return [fields[c * wide : (c + 1) * wide] for c in range(tall)]


def _times(x: Any, w: Any, how: str) -> Any:
    """x w for a number or a signal w; a sign as a signal is 1 for +1."""
    known = isinstance(w, np.integer)
    if how == "agree":  # 1 where the bit of x is the sign of w
        return x ^ int(w < 0) if known else ~(x ^ w)
    if known and how != "multiply":
        return sum((x << i if digit > 0 else -(x << i)) for i, digit in _digits(int(w)))
    if how == "sign":
        return Mux(w, x, -x)
    return x * (int(w) if known else w)


def _digits(w: int) -> list[tuple[int, int]]:
    """w as the fewest powers of two, added or subtracted: (exponent, sign) of each.

    >>> _digits(119)  # 128 - 8 - 1
    [(0, -1), (3, -1), (7, 1)]
    """
    digits = []
    while w:
        low = w & -w
        sign = 2 - (w // low & 3)
        digits.append((low.bit_length() - 1, sign))
        w -= sign * low
    return digits


def _levels(terms: int) -> int:
    """Levels of the adder tree over so many terms."""
    return 0 if terms == 1 else 1 + _levels(-(-terms // FAN_IN))


def _tree(m: Any, terms: list[Value]) -> Value:
    while len(terms) > 1:
        few = [terms[i : i + FAN_IN] for i in range(0, len(terms), FAN_IN)]
        terms = [
            _register(m, sum(t.signal for t in g), sum(t.low for t in g), sum(t.high for t in g))
            for g in few
        ]
    return terms[0]


def _accumulated(m: Any, begin: Any, term: Value, low: Any, high: Any) -> Value:
    """Add up turn by turn; a partial sum may wrap, because the last one fits."""
    total = Signal(_shape(low, high))
    m.d.sync += total.eq(Mux(begin, 0, total) + term.signal)
    return Value(total, int(low), int(high))


def _finish(
    m: Any, layer: IntegerLayer, bias: np.ndarray, sums: list[Value], ready: Any, groups: int
) -> tuple[list[Value], Any, int]:
    """From sums to the layer's outputs: bias, factor, rounding, clamp; the cycles they take."""
    n, tall = layer.shape[0], len(sums)
    group = Signal(range(groups))
    with m.If(ready):
        m.d.sync += group.eq(Mux(group == groups - 1, 0, group + 1))
    lows, highs = (ends - bias for ends in layer.accumulator_range())

    def pick(values: list[int], stage: int) -> list[Any]:
        """What each lane needs of a value per output, `stage` cycles after the sums."""
        if groups == 1:
            return values
        chosen = []
        for lane in range(tall):
            mine = values[lane::tall]
            value = _register(m, Array(Const(v) for v in mine)[group], min(mine), max(mine))
            chosen.append(_later(m, value.signal, stage))
        return chosen

    stages = groups > 1
    if stages:
        sums = [_register(m, *s) for s in sums]
    if layer.multiplier is None:
        results = [s.signal + b for s, b in zip(sums, pick(bias.tolist(), 0), strict=True)]
        ranges = list(zip(lows + bias, highs + bias, strict=True))
    elif layer.high - layer.low == 1:
        edges = _thresholds(layer, bias, lows, highs)
        results = [
            Mux(s.signal >= edge, layer.high, layer.low)
            for s, edge in zip(sums, pick(edges, 0), strict=True)
        ]
    else:
        results, more = _requantized(m, layer, bias, sums, (lows, highs), pick)
        stages += more
    if layer.multiplier is not None:
        ranges = [(layer.low, layer.high)] * n
    outputs = [Value(Signal(_shape(*ends)), int(ends[0]), int(ends[1])) for ends in ranges]
    ready, group = _later(m, ready, stages), _later(m, group, stages)
    done = _later(m, ready & (group == groups - 1), 1)
    with m.If(ready), m.Switch(group):
        for g in range(groups):
            with m.Case(g):
                mine = outputs[g * tall : (g + 1) * tall]
                m.d.sync += [o.signal.eq(r) for o, r in zip(mine, results, strict=False)]
    return outputs, done, stages + 1


def _requantized(
    m: Any,
    layer: IntegerLayer,
    bias: np.ndarray,
    sums: list[Value],
    reached: tuple[np.ndarray, np.ndarray],
    pick: Callable[[list[int], int], list[Any]],
) -> tuple[list[Any], int]:
    """Codes from sums: ((sum + bias) m + half >> shift) + zero, clamped; the cycles they take.

    Bias, half and zero point are one number: bias m + half + (zero << shift).
    """
    factors, shift = _common_factors(layer)
    rounding = (1 << shift - 1) + (layer.zero_point << shift)
    offsets = [int(b) * f + rounding for b, f in zip(bias, factors, strict=True)]
    shifts = all(f & (f - 1) == 0 < f for f in factors)
    if shifts:
        left = [f.bit_length() - 1 for f in factors]
        terms = [[s.signal << k] for s, k in zip(sums, pick(left, 0), strict=True)]
    else:
        terms = [[] for _ in sums]
        for low in range(0, max(factors).bit_length(), PIECE):
            pieces = pick([f >> low & 2**PIECE - 1 for f in factors], 0)
            for lane, (s, piece) in enumerate(zip(sums, pieces, strict=True)):
                ends = s.low * (2**PIECE - 1), s.high * (2**PIECE - 1)
                terms[lane].append(_register(m, s.signal * piece, *ends).signal << low)
    scaled = []
    for lane, offset in enumerate(pick(offsets, int(not shifts))):
        outputs = range(lane, len(factors), len(sums))
        reach = [int(end[c]) * factors[c] + offsets[c] for end in reached for c in outputs]
        scaled.append(_register(m, sum(terms[lane]) + offset, min(reach), max(reach)))
    codes = [s.signal >> shift for s in scaled]
    codes = [Mux(q < layer.low, layer.low, Mux(q > layer.high, layer.high, q)) for q in codes]
    return codes, 1 if shifts else 2


def _thresholds(
    layer: IntegerLayer, bias: np.ndarray, lows: np.ndarray, highs: np.ndarray
) -> list[int]:
    """The smallest sum of each output that gives the higher code: rounding never goes down."""
    edges = []
    for c, (f, t) in enumerate(zip(layer.multiplier.tolist(), layer.shift.tolist(), strict=True)):
        need = (layer.high - layer.zero_point << t) - (1 << t - 1)
        first, beyond = int(lows[c]), int(highs[c]) + 1
        edge = -(-need // f) - int(bias[c]) if f else (first if need <= 0 else beyond)
        edges.append(min(max(edge, first), beyond))
    return edges


def _common_factors(layer: IntegerLayer) -> tuple[list[int], int]:
    """The multipliers over one shift, without the zeros at their ends: the same factors."""
    shift = int(layer.shift.max())
    factors = [
        f << shift - t for f, t in zip(layer.multiplier.tolist(), layer.shift.tolist(), strict=True)
    ]
    zeros = min([(f & -f).bit_length() - 1 for f in factors if f] or [0])
    zeros = min(zeros, shift - 1)
    return [f >> zeros for f in factors], shift - zeros


def power_of_two_scales(quantized: QuantizedModel) -> QuantizedModel:
    """The same model on grids whose scales are powers of two: requantization becomes a shift.

    Weight scales move to the power of two with the smaller squared error (each channel its own),
    input scales up to the next, so that nothing saturates that did not; the biases stay. The
    stored weights are rounded once more.

    Raises ValueError for layers that are not on integer grids, blocked or dynamic.
    Source: Jacob et al. 2018 (arXiv 1712.05877), equation 6, for the factor that it makes exact.
    Taught in chapter 15.

    >>> import quantlab as ql
    >>> x = np.random.default_rng(0).standard_normal((200, 2))
    >>> model = ql.post_training_quantize(ql.TradingModel((2, 8, 1)), x)
    >>> shifts = power_of_two_scales(model)
    >>> {int(m) for m in ql.integer_model(shifts).layers[0].multiplier}
    {1073741824}
    """
    if not isinstance(quantized, QuantizedModel):
        got = type(quantized).__name__
        raise ValueError(f"power_of_two_scales: got a {got}; expected a QuantizedModel")
    layers = []
    for i, layer in enumerate(quantized.layers):
        check_layer(f"power_of_two_scales: layer {i}", layer)
        weight, grid = layer.weight.params, layer.activation
        w = layer.weight.dequantize()
        options = [
            quantize(w, replace(weight, scale=2.0 ** turn(np.log2(weight.scale))))
            for turn in (np.floor, np.ceil)
        ]
        errors = [((q.dequantize() - w) ** 2).sum(axis=1) for q in options]
        if weight.axis is None:
            errors = [e.sum(keepdims=True) for e in errors]
        scale = np.where(errors[0] < errors[1], *(q.params.scale for q in options))
        coarse = 2.0 ** np.ceil(np.log2(grid.scale))
        low = (grid.qmin - grid.zero_point) * grid.scale
        zero = grid.qmin - np.rint(low / coarse)
        codes = quantize(w, replace(weight, scale=scale))
        grid = replace(grid, scale=coarse, zero_point=zero)
        layers.append(QuantizedLinearLayer(codes, layer.bias.copy(), grid))
    return QuantizedModel(layers, quantized.reference)


def simulate_circuit(circuit: Circuit, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clock the circuit through samples, one after another: (outputs, cycles).

    codes (n, n_0) as `integer_forward` takes them. Returns outputs (n, k) int64, the same integers
    if the circuit is right, and the cycles (n,) from start to done of each sample.
    Raises ValueError for other codes, RuntimeError if `done` does not come. Taught in chapter 15.

    >>> import quantlab as ql
    >>> x = np.random.default_rng(0).standard_normal((200, 2))
    >>> twin = ql.integer_model(ql.post_training_quantize(ql.TradingModel((2, 8, 1)), x))
    >>> codes = quantize(x[:3], twin.input_grid).codes
    >>> outputs, cycles = simulate_circuit(silicon_circuit(twin, products=2), codes)
    >>> bool((outputs == twin.integer_forward(codes)).all()), cycles.tolist()
    (True, [23, 23, 23])
    """
    me, (low, high) = "simulate_circuit", circuit.model.layers[0].input_range
    codes = _checks.real_array(codes, me, "codes")
    width = circuit.model.sizes[0]
    fits = codes.ndim == 2 and codes.shape[1] == width and codes.dtype.kind in "iu"
    if not fits or codes.min() < low or codes.max() > high:
        raise ValueError(
            f"{me}: codes are {codes.dtype} of shape {codes.shape}; expected integers {low} to "
            f"{high} of shape (rows, {width})"
        )
    outputs, cycles = [], []

    async def bench(ctx: Any) -> None:
        for row in codes.tolist():
            for signal, code in zip(circuit.inputs, row, strict=True):
                ctx.set(signal, code)
            ctx.set(circuit.start, 1)
            await ctx.tick()
            ctx.set(circuit.start, 0)
            taken = 1
            while not ctx.get(circuit.done):
                await ctx.tick()
                taken += 1
                if taken > circuit.cycles:
                    raise RuntimeError(f"{me}: not done after {circuit.cycles} cycles")
            outputs.append([ctx.get(signal) for signal in circuit.outputs])
            cycles.append(taken)

    simulator = Simulator(circuit.module)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return np.array(outputs), np.array(cycles)


# An ECP5 of Lattice, LFE5U-85F, fastest grade; the timing goal only steers.
OPTIONS = "--85k --package CABGA756 --speed 8 --freq 250".split()
OPTIONS += ["--timing-allow-fail", "--lpf-allow-unconstrained"]
PARTS = {"luts": "TRELLIS_COMB", "flip_flops": "TRELLIS_FF", "multipliers": "MULT18X18D"}
PARTS |= {"memories": "DP16KD", "pins": "TRELLIS_IO"}


def synthesize_circuit(
    circuit: Circuit, folder: Any, *, seeds: Sequence[int] = (1,)
) -> dict[str, Any]:
    """Map the circuit to an FPGA with Yosys and place it with nextpnr; return what it takes.

    The device is an ECP5 of 83,640 LUTs and 156 multiplier blocks of 18 x 18 bits. folder: where
    the circuit (design.il, and design.v in Verilog) and both logs stay. Keys: cycles; luts,
    flip_flops, multipliers, memories, pins (counts); `short` (the parts that do not suffice, empty
    if it fits); mhz_by_seed (after routing, one placement for each of the seeds), mhz, their
    median, and ns = 1000 cycles / mhz, both None if it does not fit.

    Raises ModuleNotFoundError without the extra `silicon`, RuntimeError with the tool's last
    lines if one fails for another reason. Taught in chapter 15.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "design.il").write_text(circuit.rtlil(), "utf8")
    script = "read_rtlil design.il; write_verilog -noattr design.v; "
    script += "synth_ecp5 -top top -json design.json"
    done = _tool(folder, "yosys", ["-q", "-p", script])
    if done.returncode:
        raise RuntimeError(f"synthesize_circuit: Yosys failed: {_tail(done.stdout)}")
    report: dict[str, Any] = {"cycles": circuit.cycles}
    short, clocks = [], []
    for seed in seeds:
        asked = [*OPTIONS, "--seed", str(seed), "--json", "design.json"]
        done = _tool(folder, "nextpnr_ecp5", asked)
        counts = {
            k: re.search(rf"{cell}:\s+(\d+)/\s*(\d+)", done.stdout) for k, cell in PARTS.items()
        }
        clock = re.findall(r"Max frequency for clock .*?: ([\d.]+) MHz", done.stdout)
        report |= {k: int(found[1]) for k, found in counts.items() if found}
        short = [k for k, found in counts.items() if found and int(found[1]) > int(found[2])]
        if short:
            break
        if done.returncode or not clock:
            raise RuntimeError(f"synthesize_circuit: nextpnr failed: {_tail(done.stdout)}")
        clocks.append(float(clock[-1]))  # the last word is after routing
    mhz = None if short else float(np.median(clocks))
    ns = mhz and round(1000 * circuit.cycles / mhz, 1)
    return report | {"short": short, "mhz": mhz, "mhz_by_seed": clocks, "ns": ns}


def _tool(folder: Path, name: str, arguments: list[str]) -> subprocess.CompletedProcess:
    """Run a tool of YoWASP in the folder; its log stays there."""
    code = f"import sys, yowasp_{name} as tool; sys.exit(tool.run_{name}(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *arguments]
    with (folder / f"{name}.log").open("w+", encoding="utf8") as log:
        done = subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    done.stdout = (folder / f"{name}.log").read_text("utf8")
    return done


def _tail(log: str) -> str:
    return "\n".join(log.splitlines()[-5:])
