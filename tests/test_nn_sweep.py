"""One table for any grid of settings, and the split of a byte budget over layers."""

import math
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

import quantlab as ql
from quantlab.nn import (
    Table,
    TradingModel,
    accuracy,
    agreement,
    block_interval,
    decisions,
    mixed_precision,
    observe,
    paired_interval,
    post_training_quantize,
    sensitivity,
    sweep,
    within,
)
from quantlab.nn.mixed import _additive_front

DAYS = np.arange(900) // 90


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 4)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int)


@pytest.fixture(scope="module")
def models(rows):
    x, y = rows
    return [TradingModel((4, 16, 8, 1), seed=s).fit(x[:2100], y[:2100], epochs=4) for s in range(3)]


def test_every_row_is_what_the_parts_say_alone(rows, models):
    x, y = rows[0][2100:], rows[1][2100:]
    table = sweep(
        models,
        x,
        y,
        bits=[3, (8, 4, 8)],
        activation_bits=[None, 6],
        scheme=["symmetric", "asymmetric"],
        granularity=["tensor", "channel", 4],
        method="percentile",
        activation_method="mse",
        days=DAYS,
        calibration=rows[0][:500],
    )
    assert len(table) == 2 * 2 * 2 * 3
    exact = [m.predict_logits(x) for m in models]
    for row in table:
        kind = "TENSOR" if row["granularity"] == "tensor" else "CHANNEL"
        twins = [
            post_training_quantize(
                m,
                rows[0][:500],
                row["bits"],
                None if row["activation_bits"] == "float32" else row["activation_bits"],
                ql.QuantizationScheme[f"{row['scheme'].upper()}_PER_{kind}"],
                method="percentile",
                activation_method="mse",
                block_size=4 if row["granularity"] == 4 else None,
            )
            for m in models
        ]
        coarse = [t.predict_logits(x) for t in twins]
        mine, full = (np.stack([decisions(z) == y for z in zs]) for zs in (coarse, exact))
        pairs = list(zip(exact, coarse, strict=True))
        assert row["snr_db"] == pytest.approx(np.mean([ql.snr_db(*p) for p in pairs]))
        assert row["agreement"] == pytest.approx(np.mean([agreement(*p) for p in pairs]))
        assert row["accuracy"] == pytest.approx(np.mean([accuracy(z, y) for z in coarse]))
        assert row["bytes"] == twins[0].nbytes
        assert row["saturation"] == pytest.approx(np.mean([t.saturation(x) for t in twins]))
        change, low, high = paired_interval(mine, full, DAYS)
        assert (row["change"], row["change_low"], row["change_high"]) == (change, low, high)
        assert row["accuracy_low"] == block_interval(mine, DAYS)[1]
        worst = 100 * (mine.mean(axis=1) - full.mean(axis=1)).min()
        assert row["worst_seed"] == pytest.approx(worst)


def test_one_model_without_days_has_no_interval(rows, models):
    x, y = rows
    table = sweep(models[0], x, y, bits=range(2, 5))
    assert table["bits"].tolist() == [2, 3, 4] and np.isnan(table["change_low"]).all()
    assert np.isfinite(table["change"]).all() and (np.diff(table["snr_db"]) > 0).all()
    exact = sweep(models[0], x, y, bits=None)
    assert exact["snr_db"][0] == np.inf and exact["agreement"][0] == 100
    many = TradingModel((4, 6, 3), seed=1)
    assert sweep(many, x, np.arange(3000) % 3)["agreement"][0] > 95


def test_processes_and_progress_change_nothing(rows, models):
    pytest.importorskip("joblib")
    x, y = rows
    seen = []

    def bar(tasks, total):
        for task in tasks:
            seen.append(total)
            yield task

    both = {"scheme": ["symmetric", "asymmetric"], "granularity": ["tensor", "channel"]}
    options = {"bits": list(range(1, 17)), **both}
    one = sweep(models, x, y, **options, progress=bar)
    two = sweep(models, x, y, **options, n_jobs=2)
    assert seen == [6] * 6
    np.testing.assert_equal(one.columns, two.columns)


def test_a_dask_cluster_gives_the_same_table():
    joblib, distributed = pytest.importorskip("joblib"), pytest.importorskip("distributed")
    x = np.random.default_rng(5).standard_normal((400, 3))
    models, y = [TradingModel((3, 8, 1), seed=s) for s in range(2)], x[:, 0] > 0
    options = {"bits": [1, 4, 8], "scheme": ["symmetric", "asymmetric"]}
    wanted = sweep(models, x, y, **options)
    here = {"processes": False, "protocol": "inproc://", "dashboard_address": None}
    with distributed.Client(**here), joblib.parallel_config(backend="dask"):
        got = sweep(models, x, y, **options)
    np.testing.assert_equal(got.columns, wanted.columns)


def test_without_joblib_it_runs_one_by_one(rows):
    code = """
import sys
sys.modules["joblib"] = None
import numpy as np, quantlab as ql
x = np.random.default_rng(0).standard_normal((50, 2))
print(len(ql.sweep(ql.TradingModel((2, 1)), x, x[:, 0] > 0, bits=[2, 4])))
try:
    ql.sweep(ql.TradingModel((2, 1)), x, x[:, 0] > 0, n_jobs=2)
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("2\nsweep: n_jobs is 2, which needs joblib")


def test_calibration_in_pieces_serves_every_model(rows, models):
    x, y = rows
    options = {"bits": [4, 8], "activation_bits": 8}
    whole = sweep(models, x, y, calibration=x[:600], **options)
    pieces = sweep(models, x, y, calibration=iter(np.array_split(x[:600], 4)), **options)
    np.testing.assert_equal(pieces.columns, whole.columns)
    dynamic = sweep(models, x, y, dynamic=True, **options)
    assert (dynamic["saturation"] == 0).all() and (dynamic["snr_db"] > 5).all()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"models": []}, "expected one or more TradingModels"),
        ({"models": ["a"]}, "expected one or more TradingModels"),
        ({"models": [TradingModel((4, 1)), TradingModel((4, 2, 1))]}, "expected the same"),
        ({"scheme": "symetric"}, "scheme is 'symetric'"),
        ({"granularity": "row"}, "granularity is 'row'"),
        ({"granularity": 3}, "block_size 3 does not divide"),
        ({"method": "best"}, "method is 'best'"),
        ({"bits": []}, "a setting is an empty list"),
        ({"bits": 17}, "bits is 17"),
        ({"bits": (8, 8)}, "2 entries for 1 layers"),
        ({"activation_bits": 8}, "calibration is None"),
        ({"y": np.zeros(5)}, r"y has shape \(5,\)"),
        ({"x": np.zeros((30, 3))}, "x has 3 columns"),
        ({"days": np.zeros(30)}, "one block"),
    ],
)
def test_bad_settings_are_named(change, match):
    given = {"models": TradingModel((4, 1)), "x": np.ones((30, 4)), "y": np.ones(30)} | change
    with pytest.raises(ValueError, match=match):
        sweep(**given)


# The table


def test_table_is_tidy(rows, models):
    table = sweep(models[:1], *rows, bits=[2, 4], granularity=["tensor", 4])
    assert table["granularity"].tolist() == ["tensor", 4, "tensor", 4]
    assert table.where(bits=4, granularity=4)["bytes"].shape == (1,)
    both = table.with_settings(scaling="minmax") + table.with_settings(scaling="zscore")
    assert len(both) == 8 and both.settings[0] == "scaling"
    assert both.where(scaling="zscore").rows[0]["snr_db"] == table.rows[0]["snr_db"]
    frame = pytest.importorskip("pandas") and both.to_frame()
    assert frame.shape == (8, len(both.columns)) and frame["bits"].dtype == np.int64
    assert repr(table).splitlines()[0].split()[:2] == ["bits", "activation_bits"]
    assert "float32" in repr(table) and len(repr(table).splitlines()) == 5
    with pytest.raises(ValueError, match="no column 'snr'; it has bits, "):
        table["snr"]
    with pytest.raises(ValueError, match="no column 'nothing'"):
        table.where(nothing=3)
    with pytest.raises(ValueError, match="stack tables of the same columns"):
        table + both
    with pytest.raises(ValueError, match="expected one length"):
        Table({"a": [1], "b": [1, 2]})


def test_the_explorer_takes_the_table(rows, models):
    from quantlab.teach.widgets import GridExplorer

    table = sweep(
        models,
        rows[0][2100:],
        rows[1][2100:],
        bits=[2, 4, None],
        activation_bits=[None, 8],
        granularity=["channel", 4],
        days=DAYS,
        calibration=rows[0],
    )
    shown = {"change": {"low": "change_low", "high": "change_high", "unit": "points"}}
    shown |= {"agreement": {"unit": "%"}, "snr_db": {"name": "SNR", "unit": "dB"}}
    text = repr(GridExplorer.from_table(table, shown, x="bits", dims=table.varying))
    assert "over bits (3) x activation_bits (2) x granularity (2)" in text
    only = sweep(models[0], *rows, bits=[8, 2, 4])
    assert "over bits (3); at bits 2" in repr(
        GridExplorer.from_table(only, ["snr_db"], x="bits", dims=only.varying)
    )


# Mixed precision


def test_sensitivity_quantizes_one_layer_at_a_time(rows, models):
    x, y = rows
    table = sensitivity(models[0], x, y, bits=(2, 8), calibration=x, activation_bits=8)
    assert table["layer"].tolist() == [0, 0, 1, 1, 2, 2]
    for row in table:
        bits = [None] * 3
        bits[row["layer"]] = row["bits"]
        alone = post_training_quantize(models[0], x, bits, 8)
        wanted = ql.snr_db(models[0].predict_logits(x), alone.predict_logits(x))
        assert row["snr_db"] == pytest.approx(wanted) and row["bytes"] == alone.nbytes
    assert (table.where(bits=8)["snr_db"] > table.where(bits=2)["snr_db"]).all()


def test_the_exact_front_is_the_best_of_all(rows, models):
    x, y = rows
    bits = (2, 4, 8)
    front = mixed_precision(models[0], x, y, bits=bits)
    every = sweep(models[0], x, y, bits=list(product(bits, repeat=3)))
    assert (np.diff(front["bytes"]) > 0).all() and (np.diff(front["snr_db"]) > 0).all()
    for row in every:
        rivals = front["snr_db"][front["bytes"] <= row["bytes"]]
        assert rivals.max() >= row["snr_db"]
    assert front["bits"][0] == (2, 2, 2)
    for budget in (300, 420):
        best = within(front, budget)
        fits = every["snr_db"][every["bytes"] <= budget]
        assert best["bytes"] <= budget and best["snr_db"] == fits.max()
        twin = post_training_quantize(models[0], None, best["bits"], None)
        assert twin.nbytes == best["bytes"]
    with pytest.raises(ValueError, match=r"budget is 10 bytes; the smallest .* takes \d+"):
        within(front, 10)


def test_the_additive_front_is_the_best_of_its_model(rows, models):
    x, y = rows
    alone = sensitivity(models[0], x, y, bits=(2, 3, 4, 8))
    found = _additive_front(alone, models[0].nbytes, 1000)
    noise = {(r["layer"], r["bits"]): 10 ** (-r["snr_db"] / 10) for r in alone}
    size = {(r["layer"], r["bits"]): r["bytes"] for r in alone}
    cost = {
        b: (sum(size[i, c] for i, c in enumerate(b)), sum(noise[i, c] for i, c in enumerate(b)))
        for b in product((2, 3, 4, 8), repeat=3)
    }
    for b, (s, n) in cost.items():
        beaten = any(t <= s and m <= n and (t, m) != (s, n) for t, m in cost.values())
        assert (b in found) != beaten or (not beaten and math.isclose(n, cost[found[0]][1]))


def test_a_deep_model_goes_by_sensitivity(rows):
    x, y = rows
    model = TradingModel((4, 8, 8, 8, 8, 1), seed=1)
    front = mixed_precision(model, x, y, bits=(2, 4, 6, 8), exhaustive=60)
    assert 3 <= len(front) <= 60 and (np.diff(front["snr_db"]) > 0).all()
    uniform = sweep(model, x, y, bits=[2, 4, 6, 8])
    assert within(front, uniform["bytes"][1])["snr_db"] >= uniform["snr_db"][1] - 1
    assert front["snr_db"][-1] >= uniform["snr_db"][-1]


def test_observers_belong_to_one_model(rows, models):
    x, y = rows
    observers = observe(models[0], [x])
    assert sweep(models[0], x, y, activation_bits=8, calibration=observers)["snr_db"][0] > 20
    with pytest.raises(ValueError, match="observers belong to one model"):
        sweep(models, x, y, activation_bits=8, calibration=observers)
