"""Every public name of floor 2 against bad arguments, odd arrays, copies, threads and processes."""

import copy
import multiprocessing
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import quantlab as ql

S = ql.QuantizationScheme
TENSOR, ROWS = S.SYMMETRIC_PER_TENSOR, S.SYMMETRIC_PER_CHANNEL
GRID = ql.QuantizationParams(0.5, 0)
SIGNS = np.uint64([[1]]), np.float32([1]), (1, 2)
MIDDLE = [1.0, 2.0]

BAD = {
    "NaN": [np.nan, 1.0], "infinity": -np.inf, "empty": np.zeros((0, 3)), "None": None,
    "text": "abc", "texts": ["a"], "objects": np.array([1, None], object), "complex": 1j,
    "dates": np.zeros(2, "M8[s]"), "records": np.zeros(2, "f4,i4"), "void": np.zeros(2, "V4"),
    "masked": np.ma.masked_equal(MIDDLE, 2), "masked inside": [[1.0, np.ma.masked]],
    "ragged": [[1], [1, 2]], "dict": {}, "set": {1.0}, "generator": iter(MIDDLE), "function": len,
    "class": int, "10^400": 10**400, "long double": np.longdouble("1e4000"), "bytes": b"ab",
    "FP16 infinity": np.float16([np.inf]), "number in text": np.str_("1.5"), "nested": [[[]]],
}  # fmt: skip
CALLS = {
    "choose_params": [
        lambda x: ql.choose_params(x, TENSOR),
        lambda x: ql.choose_params(x, ROWS),
        lambda x: ql.choose_params(MIDDLE, x),
        lambda x: ql.choose_params(MIDDLE, TENSOR, x),
        lambda x: ql.choose_params(MIDDLE, TENSOR, method=x),
        lambda x: ql.choose_params([MIDDLE], ROWS, axis=x),
        lambda x: ql.choose_params(MIDDLE, TENSOR, method="percentile", percentile=x),
        lambda x: ql.choose_params(MIDDLE, TENSOR, method="entropy", bins=x),
        lambda x: ql.choose_params(MIDDLE, TENSOR, method="aciq", distribution=x),
    ],
    "QuantizationParams": [
        lambda x: ql.QuantizationParams(x, 0),
        lambda x: ql.QuantizationParams(1, x),
        lambda x: ql.QuantizationParams(1, 0, x),
        lambda x: ql.QuantizationParams([1, 2], 0, axis=x),
    ],
    "quantize": [lambda x: ql.quantize(x, GRID), lambda x: ql.quantize(MIDDLE, x)],
    "dequantize": [ql.dequantize],
    "fake_quantize": [lambda x: ql.fake_quantize(x, GRID), lambda x: ql.fake_quantize(MIDDLE, x)],
    "ste_gradient": [
        lambda x: ql.ste_gradient(x, GRID, x),
        lambda x: ql.ste_gradient(MIDDLE, x, MIDDLE),
        lambda x: ql.ste_gradient(MIDDLE, GRID, x),
    ],
    "lsq_gradient": [
        lambda x: ql.lsq_gradient(x, GRID, x),
        lambda x: ql.lsq_gradient(MIDDLE, x, MIDDLE),
        lambda x: ql.lsq_gradient(MIDDLE, GRID, x),
    ],
    "QuantizedTensor": [
        lambda x: ql.QuantizedTensor(x, GRID),
        lambda x: ql.QuantizedTensor(np.zeros(2, np.int8), x),
    ],
    "from_packed": [
        lambda x: ql.QuantizedTensor.from_packed(x, GRID, (2,)),
        lambda x: ql.QuantizedTensor.from_packed(np.zeros(2, np.uint8), x, (2,)),
        lambda x: ql.QuantizedTensor.from_packed(np.zeros(2, np.uint8), GRID, x),
    ],
    "mse": [lambda x: ql.mse(x, x), lambda x: ql.mse(MIDDLE, x)],
    "max_error": [lambda x: ql.max_error(x, x)],
    "snr_db": [lambda x: ql.snr_db(x, x)],
    "measure": [lambda x: ql.measure(x, GRID), lambda x: ql.measure(MIDDLE, x)],
    "saturation_rate": [lambda x: ql.saturation_rate(x, GRID)],
    "predicted_snr_db": [
        lambda x: ql.predicted_snr_db(8, x),
        lambda x: ql.predicted_snr_db(x, 2.0),
    ],
    "kmeans_levels": [
        lambda x: ql.kmeans_levels(x, 2),
        lambda x: ql.kmeans_levels(MIDDLE, x),
        lambda x: ql.kmeans_levels(MIDDLE, 1, method=x),
    ],
    "learn_levels": [
        lambda x: ql.learn_levels(x, MIDDLE),
        lambda x: ql.learn_levels(MIDDLE, x),
        lambda x: ql.learn_levels(MIDDLE, MIDDLE, steps=x),
        lambda x: ql.learn_levels(MIDDLE, MIDDLE, learning_rate=x),
    ],
    "lloyd_max_levels": [
        lambda x: ql.lloyd_max_levels(x, 4),
        lambda x: ql.lloyd_max_levels("normal", x),
    ],
    "log_levels": [
        lambda x: ql.log_levels(x, 4),
        lambda x: ql.log_levels(MIDDLE, x),
        lambda x: ql.log_levels(MIDDLE, 2, rounding=x),
    ],
    "float_levels": [ql.float_levels],
    "quantize_codebook": [
        lambda x: ql.quantize_codebook(x, MIDDLE),
        lambda x: ql.quantize_codebook(MIDDLE, x),
        lambda x: ql.quantize_codebook(MIDDLE, MIDDLE, rounding=x),
    ],
    "CodebookTensor": [
        lambda x: ql.CodebookTensor(x, np.float32(MIDDLE), GRID),
        lambda x: ql.CodebookTensor(np.zeros(2, np.int8), x, GRID),
        lambda x: ql.CodebookTensor(np.zeros(2, np.int8), np.float32(MIDDLE), x),
    ],
    "binarize": [ql.binarize, lambda x: ql.binarize([MIDDLE], x)],
    "xnor_matmul": [lambda x: ql.xnor_matmul(ql.binarize([MIDDLE]), x)],
    "BinaryTensor": [
        lambda x: ql.BinaryTensor(x, *SIGNS[1:]),
        lambda x: ql.BinaryTensor(SIGNS[0], x, SIGNS[2]),
        lambda x: ql.BinaryTensor(*SIGNS[:2], x),
        lambda x: ql.BinaryTensor(*SIGNS, x),
    ],
    "MinMaxObserver": [lambda x: ql.MinMaxObserver().update(x)],
    "HistogramObserver": [
        ql.HistogramObserver,
        lambda x: ql.HistogramObserver().update(x),
        lambda x: ql.HistogramObserver().update(MIDDLE).values(x),
        lambda x: ql.HistogramObserver().update(MIDDLE).params(x),
    ],
}


@pytest.mark.parametrize("name", CALLS)
def test_bad_arguments_get_the_house_error(name):
    for number, call in enumerate(CALLS[name]):
        for kind, value in BAD.items():
            # a message of ours names who speaks, and nothing of NumPy's comes before it
            with warnings.catch_warnings():
                warnings.simplefilter("ignore" if kind == "masked inside" else "error")
                with pytest.raises(ValueError, match=r"^[A-Za-z_.]+: ") as caught:
                    call(value)
            assert len(str(caught.value)) < 400, (number, kind)


def test_laws_take_what_measures_give():
    assert ql.flip_probability(np.inf) == 0 and ql.flip_probability([-np.inf]).tolist() == [0.5]
    for bad in (np.nan, "20", None):
        with pytest.raises(ValueError, match=r"flip_probability: snr_db"):
            ql.flip_probability(bad)


def everything(x):
    """Results of the whole floor on one matrix, as bytes and numbers."""
    found = []
    for scheme in S:
        for bits in (1, 4, 8, 12):
            p = ql.choose_params(x, scheme, bits, method="percentile")
            q = ql.quantize(x, p)
            found += [q.codes.tobytes(), q.pack().tobytes(), q.dequantize().tobytes(), p.scale]
            found += [ql.fake_quantize(x, p).tobytes(), ql.measure(x, p), ql.ste_gradient(x, p, x)]
    words = ql.binarize(x)
    found += [words.words, ql.xnor_matmul(words, words), ql.kmeans_levels(x, 5)]
    found += [ql.quantize_codebook(x, ql.NF4, "absmax", axis=0).codes.tobytes()]
    found += [ql.HistogramObserver().update(x).params(TENSOR, 4).scale]
    return [np.asarray(a) for a in found]


def same(a, b):
    return all((x == y).all() for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def matrix():
    return np.random.default_rng(0).standard_normal((12, 40)).astype(np.float32)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # np.matrix
def test_layout_of_the_input_changes_nothing(matrix):
    expected = everything(matrix)
    wide = np.zeros((24, 120), np.float32)
    wide[::2, ::-3] = matrix
    locked = matrix.copy()
    locked.setflags(write=False)
    views = {
        "strided and reversed": wide[::2, ::-3], "Fortran": np.asfortranarray(matrix),
        "read-only": locked, "big-endian": matrix.astype(">f4"), "float64": matrix.astype(float),
        "long double": matrix.astype(np.longdouble), "list": matrix.tolist(),
        "broadcast twice": np.broadcast_to(matrix, (2, 12, 40))[1], "matrix": np.asmatrix(matrix),
        "unmasked": np.ma.array(matrix), "unaligned": np.frombuffer(
            b"." + matrix.tobytes(), np.uint8)[1:].view(np.float32).reshape(matrix.shape),
    }  # fmt: skip
    before = matrix.copy()
    for name, view in views.items():
        assert same(everything(view), expected), name
    assert (matrix == before).all()


def test_threads_agree(matrix):
    expected = everything(matrix)
    with ThreadPoolExecutor(4) as pool:
        assert all(same(found, expected) for found in pool.map(everything, [matrix] * 8))


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_processes_agree(way, matrix):
    if way not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {way}")
    expected = everything(matrix)
    context = multiprocessing.get_context(way)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert same(pool.submit(everything, matrix).result(timeout=120), expected)


def test_copies_and_pickles(matrix):
    p = ql.choose_params(matrix, ROWS, 4)
    tensors = [ql.quantize(matrix, p), ql.quantize_codebook(matrix, ql.NF4, "absmax", axis=0)]
    for q in (*tensors, ql.binarize(matrix)):
        for make in (copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a)), replace):
            again = make(q)
            assert (again.dequantize() == q.dequantize()).all() and again.nbytes == q.nbytes
    for make in (copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a)), replace):
        assert (make(p).scale == p.scale).all()
        with pytest.raises(ValueError, match="read-only"):
            make(p).scale[0] = 1
    observer = ql.HistogramObserver().update(matrix)
    resumed = pickle.loads(pickle.dumps(observer)).update(2 * matrix)
    whole = ql.HistogramObserver().update(matrix).update(2 * matrix)
    assert (resumed.counts == whole.counts).all() and observer.count == matrix.size


def test_reprs_are_one_short_line_without_markup(matrix):
    p = ql.choose_params(matrix, ROWS, 4)
    shown = [p, ql.quantize(matrix, p), ql.binarize(matrix), ql.quantize_codebook(matrix, ql.NF4)]
    for text in map(repr, shown):
        assert "\n" not in text and len(text) < 200 and "<" not in text and "0x" not in text
