"""Grids: code ranges, validation, shapes."""

import dataclasses

import numpy as np
import pytest

from quantlab import QuantizationParams, QuantizationScheme


def test_four_schemes():
    assert [s.name for s in QuantizationScheme] == [
        "SYMMETRIC_PER_TENSOR", "ASYMMETRIC_PER_TENSOR",
        "SYMMETRIC_PER_CHANNEL", "ASYMMETRIC_PER_CHANNEL",
    ]  # fmt: skip
    assert [s.symmetric for s in QuantizationScheme] == [True, False, True, False]
    assert [s.per_channel for s in QuantizationScheme] == [False, False, True, True]


@pytest.mark.parametrize("bits", range(1, 17))
def test_code_ranges(bits):
    wide = QuantizationParams(1, 0, bits)
    assert (wide.qmin, wide.qmax, wide.levels) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 2**bits)
    unsigned = QuantizationParams(1, 0, bits, signed=False)
    assert (unsigned.qmin, unsigned.qmax) == (0, 2**bits - 1)
    narrow = QuantizationParams(1, 0, bits, narrow_range=True)
    assert narrow.qmin == -narrow.qmax
    assert narrow.is_binary == (bits == 1)
    assert narrow.levels == max(2**bits - 1, 2)
    assert wide.code_dtype == (np.int8 if bits <= 8 else np.int16)
    assert unsigned.code_dtype == (np.uint8 if bits <= 8 else np.uint16)


def test_frozen_and_read_only():
    given = np.array([0.5, 1.0])
    p = QuantizationParams(given, [0, 1], axis=-1)
    given[0] = 7
    assert p.scale.dtype == np.float32 and p.zero_point.dtype == np.int32
    assert p.scale.tolist() == [0.5, 1.0]
    with pytest.raises(ValueError):
        p.scale[0] = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        p.bits = 4
    assert "codes -128..127" in repr(p)
    assert QuantizationParams([0.5], 0).scale.shape == ()  # one scale in a list is one scale


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(bits=0), "bits is 0; expected 1 to 16"),
        (dict(bits=17), "bits is 17; expected 1 to 16"),
        (dict(bits=8.0), "bits is 8.0; expected an integer"),
        (dict(bits=True), "bits is True; expected an integer"),
        (dict(scale=0), "expected a positive, finite number"),
        (dict(scale=-1, bits=1, narrow_range=True), "scale is -1.0"),
        (dict(scale=-1), "scale is -1.0"),
        (dict(scale=np.nan), "1 NaN value "),
        (dict(scale=1e300), "scale is inf in float32"),
        (dict(scale=1e-60), "scale is 0.0 in float32"),
        (dict(scale=1e38), "beyond float32"),
        (dict(scale="a"), "expected real numbers"),
        (dict(scale=[1, 2]), "axis is None"),
        (dict(scale=[1, 2], zero_point=[0, 0, 0], axis=0), "expected equal shapes"),
        (dict(zero_point=128), r"expected an integer code in \[-128, 127\]"),
        (dict(zero_point=0.5), "expected an integer code"),
        (dict(zero_point=1, bits=1, narrow_range=True), r"code in \[0, 0\]"),
        (dict(bits=1, signed=False, narrow_range=True), "single code"),
        (dict(block_size=4), "needs an axis"),
        (dict(scale=[[1, 2]], axis=0), r"expected \(channels,\)"),
        (dict(scale=[[1, 2]], axis=2, block_size=4), "axis 2 does not exist"),
        (dict(scale=[[1, 2]], axis=1, block_size=0), "block_size is 0"),
        (dict(scale=[1, 2], axis="row"), "axis is 'row'"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        QuantizationParams(**{"scale": 1, "zero_point": 0, **arguments})
    assert str(caught.value).startswith("QuantizationParams: ")


def test_broadcast():
    p = QuantizationParams([[1, 2], [3, 4]], [[0, 1], [2, 3]], axis=1, block_size=3)
    scale, zero_point = p.broadcast((2, 6))
    assert scale.tolist() == [[1, 1, 1, 2, 2, 2], [3, 3, 3, 4, 4, 4]]
    assert zero_point.tolist() == [[0, 0, 0, 1, 1, 1], [2, 2, 2, 3, 3, 3]]
    last = QuantizationParams([1, 2], 0, axis=-1)
    assert last.broadcast((1, 3, 2))[0].tolist() == [[[1, 2]] * 3]
    assert QuantizationParams(2, 0).broadcast(())[0].tolist() == 2


@pytest.mark.parametrize(
    "shape, message",
    [
        ((2, 7), "block_size 3 does not divide the 7 values along axis 1; pad with zeros to 9"),
        ((2, 9), r"needs \(2, 3\)"),
        ((6,), "axis 1 does not exist in an array of rank 1"),
    ],
)
def test_shapes_that_do_not_fit(shape, message):
    p = QuantizationParams([[1, 2], [3, 4]], 0, axis=1, block_size=3)
    with pytest.raises(ValueError, match=message):
        p.broadcast(shape)
