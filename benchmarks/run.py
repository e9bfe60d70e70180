"""Side by side with NumPy, onnxruntime and torch, one thread, in one process: `make bench`.

Every comparison runs in interleaved rounds, warm; minima and medians; limits of this machine are
measured in the same run; an answer is checked before it is timed. Writes latest.json, latest.md
and latest.svg beside this file. A peer that is not installed is named as absent.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

import quantlab as ql
from quantlab import kernels
from quantlab.kernels import reference
from quantlab.teach.timing import compare, machine, show_seconds

ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
HERE = Path(__file__).resolve().parent
RNG = np.random.default_rng(0)
FAST = kernels.path() in ("avx2", "avx512")
if FAST:
    from quantlab.kernels import gemm, int4, popcount, simd
try:
    import torch
    torch.set_num_threads(1)
except ImportError:
    torch = None
try:
    import onnx
    import onnxruntime
except ImportError:
    onnxruntime = None

ROWS: list[dict] = []
LIMITS: dict[str, float] = {}


def record(what, size, comparison, accuracy, *, work=None, unit="", limit=None, goal=None):
    """One row for each contender; goal = (text, True where it holds for ours)."""
    for name in comparison.seconds:
        best = comparison.minimum(name)
        rate = work / best / 1e9 if work else None
        ROWS.append({
            "what": what, "size": size, "name": name, "minimum": best,
            "median": comparison.median(name), "rate": rate, "unit": unit,
            "of_limit": 100 * rate / LIMITS[limit] if limit and rate else None,
            "ratio": comparison.minimum("quantlab") / best,
            "accuracy": accuracy.get(name, "exact") if isinstance(accuracy, dict) else accuracy,
            "goal": goal[0] if goal and name == "quantlab" else None,
            "holds": bool(goal[1]) if goal and name == "quantlab" else None})
    times = ", ".join(f"{n} {show_seconds(comparison.minimum(n))}" for n in comparison.seconds)
    said = f" | {goal[0]}: {'holds' if goal[1] else 'FAILS'}" if goal else ""
    print(f"{what} {size}: {times}{said}", flush=True)


def peers(comparison, names):
    """Fastest minimum among the named contenders that took part."""
    return min(comparison.minimum(n) for n in names if n in comparison.seconds)


# Limits: registers only, or memory only

def _peak(step, vector):
    @intrinsic
    def run(typingctx, count):
        def emit(context, b, signature, args):
            start = [simd.same(vector, 1)] * 12
            total, *rest = simd.loop(b, args[0], start, lambda k, s: [step(b, v) for v in s])
            for value in rest:
                total = b.fadd(total, value) if vector is simd.FLOATS else b.add(total, value)
            return b.extract_element(b.bitcast(total, simd.INTS), simd.ir.Constant(simd.I32, 0))
        return types.int32(types.intp), emit

    @njit
    def loop(count):
        return run(count)
    return loop


@njit(fastmath=True)
def read(x):
    total = np.float32(0)
    for i in range(x.size):
        total += x[i]
    return total


def limits():
    """GOPS of registers, GB/s of memory."""
    n = 2_000_000
    if FAST:
        def fma(b, v):
            return simd.call(b, f"llvm.fma.v{simd.LANES}f32", simd.FLOATS, v, v, v)

        steps = {"FP32": (fma, simd.FLOATS, 2 * simd.LANES),
                 "INT8": (lambda b, v: simd.dot4(b, v, v, v, True), simd.INTS, 8 * simd.LANES)}
        for name, (step, vector, work) in steps.items():
            run = _peak(step, vector)
            seconds = compare({name: lambda run=run: run(n)}, rounds=7).minimum(name)
            LIMITS[name] = 12 * n * work / seconds / 1e9
    x, y = np.ones(50_000_000, np.float32), np.zeros(50_000_000, np.float32)
    calls = {"read": lambda: read(x), "copy": lambda: np.copyto(y, x)}
    if FAST:
        calls["streamed copy"] = _stream_copy(x, y)
    times = compare(calls, rounds=7)
    LIMITS["read"] = x.nbytes / times.minimum("read") / 1e9
    LIMITS["copy"] = max(2 * x.nbytes / times.minimum(k) / 1e9 for k in calls if k != "read")
    print({k: round(v, 1) for k, v in LIMITS.items()}, flush=True)


def _stream_copy(x, y):
    @njit
    def copy(x, y, at):
        simd.stream(x, y, at, (4 * x.size - at) // 64 * 64)
    at = -y.ctypes.data % 64
    return lambda: copy(x, y, at)


# Elementwise

def elementwise(n, rounds):
    x, scale, zero = RNG.standard_normal(n).astype(np.float32), np.float32(0.03), 3
    data, s, z = x[None, None], np.full((1, 1, 1), scale), np.full((1, 1, 1), zero, np.int32)
    q, f = np.zeros(data.shape, np.int8), np.zeros(data.shape, np.float32)
    wanted = reference.quantize(data, s, z, -128, 127, q.copy())
    assert (kernels.quantize(data, s, z, -128, 127, q) == wanted).all()

    def numpy_quantize():
        return np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8)

    calls = {"quantlab": lambda: kernels.quantize(data, s, z, -128, 127, q),
             "NumPy": numpy_quantize}
    if torch:
        t = torch.from_numpy(x)
        calls["torch"] = lambda: torch.quantize_per_tensor(t, float(scale), zero, torch.qint8)
    if onnxruntime:
        calls["onnxruntime"] = _onnx("QuantizeLinear", x, [("s", scale), ("z", np.int8(zero))])
    result = compare(calls, rounds=rounds)
    ours, best = result.minimum("quantlab"), peers(result, ("NumPy", "torch", "onnxruntime"))
    goal = "1.3x the fastest peer", best / ours >= 1.3
    if n > 10**7:
        share = 5 * n / ours / 1e9 / LIMITS["copy"]
        goal = "1.3x the fastest peer, 90 % of the copy limit", best / ours >= 1.3 and share >= 0.9
    record("quantize", f"{n:.0e}", result, "codes equal", work=5 * n, unit="GB/s", limit="copy",
           goal=goal)
    calls = {"quantlab": lambda: kernels.dequantize(q, s, z, f),
             "NumPy": lambda: (q.astype(np.int32) - zero).astype(np.float32) * scale}
    record("dequantize", f"{n:.0e}", compare(calls, rounds=rounds), "equal", work=5 * n,
           unit="GB/s", limit="copy")
    calls = {"quantlab": lambda: kernels.fake_quantize(data, s, z, -128, 127, f),
             "NumPy": lambda: (np.clip(np.rint(x / scale) + zero, -128, 127) - zero) * scale}
    if torch:
        calls["torch"] = lambda: torch.fake_quantize_per_tensor_affine(t, float(scale), zero,
                                                                       -128, 127)
    result = compare(calls, rounds=rounds)
    record("fake-quantize", f"{n:.0e}", result, "equal", work=8 * n, unit="GB/s", limit="copy",
           goal=("1.3x the fastest peer", peers(result, ("NumPy", "torch"))
                 / result.minimum("quantlab") >= 1.3))

    def numpy_measure():
        y = (np.clip(np.rint(x / scale) + zero, -128, 127) - zero) * scale
        return np.sum((x - y) ** 2), np.sum(x**2)

    calls = {"quantlab": lambda: kernels.measure(data, s, z, -128, 127), "NumPy": numpy_measure}
    result = compare(calls, rounds=rounds)
    share = 4 * n / result.minimum("quantlab") / 1e9 / LIMITS["read"]
    goal = ("8x NumPy", result.speedup("NumPy") <= 1 / 8) if n < 10**7 else (
        "95 % of the read limit, 8x NumPy", share >= 0.95 and result.speedup("NumPy") <= 1 / 8)
    record("one-pass measure", f"{n:.0e}", result, "6 digits", work=4 * n, unit="GB/s",
           limit="read", goal=goal)
    calls = {"quantlab": lambda: kernels.minmax(x), "NumPy": lambda: (x.min(), x.max())}
    if torch:
        calls["torch"] = lambda: torch.aminmax(t)
    result = compare(calls, rounds=rounds)
    record("min and max", f"{n:.0e}", result, "exact", work=4 * n, unit="GB/s", limit="read",
           goal=("not slower than a peer", result.minimum("quantlab")
                 <= 1.02 * peers(result, ("NumPy", "torch"))))


def _onnx(operator, x, constants):
    """A one-operator model with constant operands, bound to x."""
    kinds = {np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.int8): 3}
    h = onnx.helper
    fixed = [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in constants]
    graph = h.make_graph(
        [h.make_node(operator, ["x", *(n for n, _ in constants)], ["y"])], "g",
        [h.make_tensor_value_info("x", kinds[x.dtype], x.shape)],
        [h.make_tensor_value_info("y", 6 if operator == "MatMulInteger" else 3 if operator
                                  == "QuantizeLinear" else 1, None)], fixed)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


# Products

def product(m, k, rounds):
    x = RNG.integers(0, 128 if kernels.path() == "avx2" else 256, (m, k)).astype(np.uint8)
    w = RNG.integers(-127, 128, (k, k)).astype(np.int8)  # (out, in)
    fx, fw, wt = x.astype(np.float32), w.T.astype(np.float32).copy(), w.T.copy()
    if FAST:
        panels, sums = gemm.pack_panels(w)
        none, out = np.zeros_like(sums), np.empty((m, k), np.int32)

        def ours():
            return gemm.multiply(*gemm.prepare(x), panels, none, out)
    else:
        def ours():
            return kernels.integer_matmul(x, w.T, 0, np.zeros(k, np.int32))
    calls = {"quantlab": ours, "NumPy FP32": lambda: fx @ fw}
    if onnxruntime:
        calls["onnxruntime"] = _onnx("MatMulInteger", x, [("w", wt)])
        assert (calls["onnxruntime"]() == ours()).all()
    if torch and m > 16:
        tx, tw = torch.from_numpy((x >> 1).view(np.int8)), torch.from_numpy(wt)
        calls["torch"] = lambda: torch._int_mm(tx, tw)
    if m * k <= 2**19:
        assert (ours() == reference.integer_matmul(x, wt, 0, np.zeros(k, np.int32))).all()
    result = compare(calls, rounds=rounds)
    mine, best = result.minimum("quantlab"), peers(result, ("onnxruntime", "torch", "quantlab"))
    work, faster = 2 * m * k * k, result.minimum("NumPy FP32") / mine
    texts, holds = ["not slower than a peer"], mine <= 1.02 * best
    if m >= 32 and k >= 256 and FAST:
        need = 4 if kernels.path() == "avx512" else 2
        texts.append(f"{need}x FP32")
        holds &= faster >= need
    if m >= 256 and k >= 1024 and kernels.path() == "avx512":
        texts.append("90 % of the peak")
        holds &= work / mine / 1e9 >= 0.9 * LIMITS["INT8"]
    record("INT8 product", f"{m} x {k} x {k}", result, {"NumPy FP32": "float32"}, work=work,
           unit="GOPS", limit="INT8" if FAST else None, goal=(", ".join(texts), holds))


def binary(m, k):
    x, w = (RNG.standard_normal((n, k)).astype(np.float32) for n in (m, k))
    signs, words = kernels.pack_signs(x), kernels.pack_signs(w)
    panels, wt = popcount.pack_panels(words) if FAST else None, w.T.copy()

    def ours():
        if FAST:
            return popcount.multiply(signs, panels, k, k)
        return kernels.xnor_matmul(signs, words, k)

    assert (ours() == reference.xnor_matmul(signs, words, k)).all()
    result = compare({"quantlab": ours, "NumPy FP32": lambda: x @ wt}, rounds=7)
    record("binary product", f"{m} x {k} x {k}", result, {"NumPy FP32": "float32"},
           work=2 * m * k * k, unit="GOPS",
           goal=("20x FP32", result.minimum("NumPy FP32") / result.minimum("quantlab") >= 20))


@njit(fastmath=True)
def _dot(w, x):
    total = np.float32(0)
    for k in range(x.size):
        total += w[k] * x[k]
    return total


@njit
def gemv(w, x):
    out = np.empty(w.shape[0], np.float32)
    for i in range(w.shape[0]):
        out[i] = _dot(w[i], x)
    return out


def ensemble(models=10, depth=3, k=2048):
    """Ten models of 50 MB, one sample: every weight crosses the memory bus once."""
    weights = [RNG.standard_normal((k, k), dtype=np.float32) / np.float32(k**0.5)
               for _ in range(models * depth)]
    x = np.maximum(RNG.standard_normal(k), 0).astype(np.float32)
    packed, none = {8: [], 4: []}, np.zeros(k, np.int32)
    for w in weights:
        scale = np.abs(w).max(axis=1) / np.float32(127)
        codes = np.rint(w / scale[:, None]).astype(np.int8)
        packed[8].append((*gemm.pack_panels(codes), scale))
        groups = w.reshape(k, -1, 128)
        scale = np.abs(groups).max(axis=2) / np.float32(7)
        packed[4].append(int4.pack(np.rint(groups / scale[:, :, None]).astype(np.int8)
                                   .reshape(k, k), scale))

    def codes_of(a):
        top = a.max() / np.float32(255) or np.float32(1)
        return np.rint(a / top).astype(np.uint8)[None], top

    def run(layer):
        total = 0
        for first in range(0, len(weights), depth):
            a = x
            for n in range(first, first + depth):
                a = layer(n, a)
                a = np.maximum(a, 0) if n < first + depth - 1 else a
            total = total + a
        return total

    def int8_layer(n, a):
        (panels, _, scale), (codes, step) = packed[8][n], codes_of(a)
        out = np.empty((1, k), np.int32)
        return gemm.multiply(*gemm.prepare(codes), panels, none, out)[0] * (scale * step)

    def int4_layer(n, a):
        codes, step = codes_of(a)
        return int4.multiply(*int4.pack_inputs(codes, k // 128), 0, *packed[4][n], k)[0] * step

    layers = {"quantlab FP32": lambda n, a: gemv(weights[n], a), "quantlab INT8": int8_layer,
              "quantlab INT4": int4_layer, "NumPy FP32": lambda n, a: weights[n] @ a}
    calls = {name: lambda f=f: run(f) for name, f in layers.items()}
    exact = calls["quantlab FP32"]()
    accuracy = {n: f"{ql.snr_db(exact, c()):.0f} dB" for n, c in calls.items() if "INT" in n}
    result = compare(calls, rounds=7)
    size = sum(w.nbytes for w in weights)
    bytes_moved = {"quantlab FP32": size, "NumPy FP32": size,
                   "quantlab INT8": sum(p[0].nbytes for p in packed[8]),
                   "quantlab INT4": sum(p[0].nbytes + p[1].nbytes for p in packed[4])}
    base = result.minimum("quantlab FP32")
    goals = {"quantlab INT8": 3.9, "quantlab INT4": 6.3}
    for name in calls:
        seconds, need = result.minimum(name), goals.get(name)
        rate = bytes_moved[name] / seconds / 1e9
        ROWS.append({
            "what": "ten models of 50 MB", "size": f"{bytes_moved[name] / 1e6:.0f} MB moved",
            "name": name, "minimum": seconds, "median": result.median(name), "rate": rate,
            "unit": "GB/s", "of_limit": 100 * rate / LIMITS["read"], "ratio": base / seconds,
            "accuracy": accuracy.get(name, "float32"), "goal": f"{need}x FP32" if need else None,
            "holds": bool(base / seconds >= need) if need else None})
        print("ten models", name, show_seconds(seconds), f"{rate:.1f} GB/s {base / seconds:.2f}x",
              accuracy.get(name, ""), flush=True)


# Small models, levels, start

def single_sample():
    model = ql.TradingModel((12, 64, 32, 1), seed=1)
    x = RNG.standard_normal((1000, 12)).astype(np.float32)
    kinds = {"FP32": model, "INT8": ql.post_training_quantize(model, x),
             "INT4": ql.post_training_quantize(model, x, weight_bits=4)}
    wanted, row, parts = model.predict_logits(x), x[0], [(a.weight.T, a.bias) for a in model.layers]
    for name, kind in kinds.items():
        predict = kind.compile()
        close = f"{ql.snr_db(wanted, predict.rows(x)[:, 0]):.0f} dB"
        loop = compare({"quantlab": lambda p=predict: p.rows(x)}, rounds=60)
        each = type(loop)({n: s / len(x) for n, s in loop.seconds.items()}, loop.baseline)
        record(f"MLP 12-64-32-1 {name}", "in a loop", each, close, goal=(
            "35 ns", each.minimum("quantlab") < 35e-9) if name == "INT8" else None)

        def numpy(a=row):
            for w, bias in parts[:-1]:
                a = np.maximum(a @ w + bias, 0)
            return a @ parts[-1][0] + parts[-1][1]

        calls = {"quantlab": lambda p=predict: p(row), "NumPy FP32": numpy}
        if torch:
            first, *others = [torch.nn.Linear(*w.shape) for w, _ in parts]
            relus = [m for step in others for m in (torch.nn.ReLU(), step)]
            net = torch.nn.Sequential(first, *relus)
            tensor = torch.from_numpy(row)
            calls["torch FP32"] = torch.inference_mode()(lambda n=net, t=tensor: n(t))
        result = compare(calls, rounds=30)
        record(f"MLP 12-64-32-1 {name}", "call from Python", result, {"quantlab": close}, goal=(
            "0.3 us", result.minimum("quantlab") < 0.3e-6) if name == "INT8" else None)


def levels():
    x = RNG.standard_normal(1_000_000).astype(np.float32)
    result = compare({"quantlab": lambda: ql.kmeans_levels(x, 16)}, rounds=7)
    record("k-means levels", "1e6, k = 16", result, "within 0.1 %",
           goal=("4 ms", result.minimum("quantlab") <= 4e-3))


def starts():
    """All kernels ready in a new process: an empty cache, then the one it left."""
    code = ("import time; t = time.perf_counter(); import quantlab; quantlab.warm(); "
            "print(time.perf_counter() - t)")
    with tempfile.TemporaryDirectory() as folder:
        for name, need in (("cold", 6), ("warm", 1)):
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                                  check=True, env={**os.environ, "NUMBA_CACHE_DIR": folder})
            seconds = float(done.stdout)
            ROWS.append({"what": "all kernels ready", "size": f"{name} start", "name": "quantlab",
                         "minimum": seconds, "median": seconds, "rate": None, "unit": "",
                         "of_limit": None, "ratio": 1.0, "accuracy": "", "goal": f"{need} s",
                         "holds": seconds < need})
            print(name, "start", show_seconds(seconds), flush=True)


# Results

def table():
    absent = [n for n, there in (("torch", torch), ("onnxruntime", onnxruntime)) if not there]
    lines = ["# Latest benchmark", "", f"{machine()} · path {kernels.path()} · one thread.", "",
             "Limits in this run: " + ", ".join(
                 f"{k} {v:.0f} {'GOPS' if k in ('FP32', 'INT8') else 'GB/s'}"
                 for k, v in LIMITS.items()) + ".",
             f"Not installed, hence absent: {', '.join(absent)}." if absent else "",
             "", "Speed: quantlab = 1 (ten models: quantlab FP32 = 1).", "",
             "| what | size | who | minimum | median | rate | of the limit | speed | accuracy "
             "| goal |", "|---|---|---|---|---|---|---|---|---|---|"]
    for r in ROWS:
        rate = f"{r['rate']:.0f} {r['unit']}" if r["rate"] else ""
        share = f"{r['of_limit']:.0f} %" if r["of_limit"] else ""
        goal = f"{r['goal']}: {'holds' if r['holds'] else '**fails**'}" if r["goal"] else ""
        lines.append(f"| {r['what']} | {r['size']} | {r['name']} | {show_seconds(r['minimum'])} | "
                     f"{show_seconds(r['median'])} | {rate} | {share} | {r['ratio']:.2g} | "
                     f"{r['accuracy']} | {goal} |")
    return "\n".join(lines) + "\n"


def figure():
    """How cost grows with size: the product by K, and elementwise by n."""
    from quantlab.teach import figures

    figures.style()
    fig, (left, right) = figures.figure(ncols=2)
    styles = {"quantlab": ("quantized", "-"), "NumPy FP32": ("signal", "-"),
              "NumPy": ("signal", "-"), "onnxruntime": ("error", "-"), "torch": ("law", "--")}
    for axes, what, label in ((left, "INT8 product", "K = N, with M = 32"),
                              (right, "quantize", "values")):
        for name, (color, line) in styles.items():
            points = [(float(r["size"].split()[-1]), r["minimum"]) for r in ROWS
                      if r["what"] == what and r["name"] == name
                      and (what == "quantize" or r["size"].startswith("32 x"))]
            if points:
                axes.loglog(*zip(*points, strict=True), line, marker="o", label=name,
                            color=figures.COLORS[color])
        axes.set_xlabel(label)
        axes.set_ylabel("seconds")
        axes.legend()
    fig.savefig(HERE / "latest.svg")


def main():
    begin = time.perf_counter()
    kernels.warm()
    limits()
    for n, rounds in ((10_000, 15), (100_000, 15), (1_000_000, 15), (50_000_000, 5)):
        elementwise(n, rounds)
    for k in (64, 256, 1024, 4096):
        for m in (1, 32, 256, 2048):
            product(m, k, 3 if m * k >= 2**20 else 9)
    for m, k in ((32, 1024), (256, 1024), (256, 4096)):
        binary(m, k)
    if FAST:
        ensemble()
    single_sample()
    levels()
    starts()
    document = {"machine": machine(), "path": kernels.path(), "limits": LIMITS, "rows": ROWS,
                "features": sorted(f for f in kernels.compiled_features() if "avx" in f),
                "seconds": time.perf_counter() - begin}
    (HERE / "latest.json").write_text(json.dumps(document, indent=1) + "\n")
    (HERE / "latest.md").write_text(table())
    figure()
    failed = [f"{r['what']} {r['size']}" for r in ROWS if r["holds"] is False]
    print(f"{document['seconds']:.0f} s; goals that fail: {', '.join(failed) or 'none'}")


if __name__ == "__main__":
    if any(os.environ.get(name) != "1" for name in ONE_THREAD):  # read when NumPy is imported
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    main()
