"""The C header: compiled under every warning, run under the sanitizer, equal bit for bit."""

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import quantlab as ql
from quantlab.nn import (
    BinaryLinearLayer,
    IntegerModel,
    QuantizedModel,
    TradingModel,
    integer_model,
    post_training_quantize,
)

CC = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
compiled = pytest.mark.skipif(CC is None, reason="no C compiler: headers are not compiled")
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
SANITIZED = ["-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all"]
MAIN = """\
#include "HEADER"
#include "HEADER"
#include <stdio.h>
int main(void)
{
    X x[N_IN];
    Y y[N_OUT];
    if (SELF_TEST() != 0)
        return 100;
    while (fread(x, sizeof x, 1, stdin) == 1) {
        if (FORWARD(x, y) != 0)
            return 101;
        fwrite(y, sizeof y, 1, stdout);
    }
    return 0;
}
"""


def quantized_model(seed=0, sizes=(5, 9, 6, 2), **options):
    rng = np.random.default_rng(seed)
    model = TradingModel(sizes, seed)
    for layer in model.layers:
        layer.bias = rng.standard_normal(layer.bias.shape).astype(np.float32) / 4
    x = rng.standard_normal((200, sizes[0])).astype(np.float32)
    return post_training_quantize(model, x, **options), 1.3 * x


def build(header, twin, flags=SANITIZED):
    """Compile a program around the header; what the compiler said is part of the failure."""
    name = re.sub(r"\W", "_", header.stem)
    text = header.read_text()
    x_type, y_type = re.search(rf"int {name}_forward\(const (\w+) \*x, (\w+) \*y\)", text).groups()
    words = {"HEADER": header.name, "X": x_type, "Y": y_type, "N_IN": str(twin.sizes[0])}
    words |= {"N_OUT": str(twin.sizes[-1]), "SELF_TEST": f"{name}_self_test"}
    words |= {"FORWARD": f"{name}_forward"}
    source, program = header.with_suffix(".c"), header.with_suffix(".out")
    source.write_text(
        re.sub("|".join(rf"\b{w}\b|(?<=\"){w}" for w in words), lambda m: words[m[0]], MAIN)
    )
    command = [CC, *STRICT, *flags, source, "-o", program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return program, np.dtype(x_type.removesuffix("_t")), np.dtype(y_type.removesuffix("_t"))


def run(header, twin, codes, flags=SANITIZED):
    program, x_type, y_type = build(header, twin, flags)
    done = subprocess.run([program], input=codes.astype(x_type).tobytes(), capture_output=True)
    assert done.returncode == 0 and not done.stderr, (done.returncode, done.stderr.decode())
    return np.frombuffer(done.stdout, y_type).reshape(len(codes), twin.sizes[-1])


@compiled
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 19), min_size=2, max_size=5),
    st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 12]),
    st.sampled_from([2, 3, 4, 5, 6, 7, 8, 12]),
    st.sampled_from(ql.QuantizationScheme),
    st.booleans(),
)
def test_c_equals_python_bit_for_bit(tmp_path_factory, seed, sizes, bits, a_bits, scheme, last):
    options = {"weight_bits": bits, "activation_bits": a_bits, "scheme": scheme}
    quantized, x = quantized_model(seed, tuple(sizes), **options)
    tensor = ql.QuantizationScheme.ASYMMETRIC_PER_TENSOR
    output = ql.choose_params(quantized.predict_logits(x), tensor, a_bits) if last else None
    twin = integer_model(quantized, output)
    header = ql.export_c(twin, tmp_path_factory.mktemp("c") / "model.h")
    low, high = twin.layers[0].input_range
    codes = np.random.default_rng(seed).integers(low, high + 1, (500, sizes[0]))
    codes[0], codes[1] = low, high
    np.testing.assert_array_equal(run(header, twin, codes), twin.integer_forward(codes))


@compiled
def test_the_optimizer_changes_nothing(tmp_path):
    quantized, x = quantized_model(3)
    twin = integer_model(quantized)
    codes = ql.quantize(x, twin.input_grid).codes
    for flags in (["-O0"], ["-Os"], ["-O3"]):
        header = ql.export_c(twin, tmp_path / "model.h")
        np.testing.assert_array_equal(run(header, twin, codes, flags), twin.integer_forward(codes))


@compiled
def test_accumulators_at_the_end_of_int32_are_no_undefined_behavior(tmp_path):
    k = 66_311  # the last K whose products always fit (tests/test_nn_integer.py)
    quantized, _ = quantized_model(0, (1, 1))
    layer = integer_model(quantized).layers[0]
    signs, room = np.int32([1, -1]), 2**31 - 1 - k * 255 * 127
    weight = np.repeat(127 * signs[:, None], k, axis=1).astype(np.int8)
    full = replace(layer, weight=weight, weight_zero=0 * signs, bias=room * signs)
    twin = IntegerModel([full], quantized.layers[0].activation, np.float32([1, 1]))
    codes = np.full((1, k), 255)
    header = ql.export_c(twin, tmp_path / "model.h", vectors=codes)
    assert run(header, twin, codes).tolist() == [[2**31 - 1, 1 - 2**31]]


@compiled
@pytest.mark.parametrize("table", ["w0", "bias1", "m0", "t1"])
def test_a_planted_fault_is_counted(tmp_path, table):
    twin = integer_model(quantized_model()[0])
    header = ql.export_c(twin, tmp_path / "model.h")
    broken, n = re.subn(
        rf"(model_{table}\[.*?\{{+\s*\{{?)(-?\d+)",
        lambda m: m[1] + str(int(m[2]) + (1 if table != "m0" else 10**6)),
        header.read_text(), count=1, flags=re.S,
    )  # fmt: skip
    assert n == 1
    header.write_text(broken)
    program, *_ = build(header, twin)
    assert subprocess.run([program], input=b"").returncode == 100


@compiled
def test_a_code_that_the_grid_does_not_have_is_refused(tmp_path):
    twin = integer_model(quantized_model(activation_bits=5)[0])
    header = ql.export_c(twin, tmp_path / "model.h")
    program, x_type, _ = build(header, twin)
    for code, status in ((31, 0), (32, 101), (255, 101)):
        row = np.full(5, code).astype(x_type).tobytes()
        assert subprocess.run([program], input=row, capture_output=True).returncode == status


def table(text, name):
    """A table of the header as an array of lists."""
    body = re.search(rf" model_{name}\[[^=]*=\s*(\{{.*?\}});", text, flags=re.S)[1]
    return np.array(eval(body.replace("{", "[").replace("}", "]")))  # the digits are our own


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_header_holds_every_layer_of_every_vector(tmp_path, bits):
    quantized, x = quantized_model(weight_bits=bits)
    twin = integer_model(quantized)
    text = ql.export_c(quantized, tmp_path / "model.h").read_text()
    codes = table(text, "x")
    assert codes.shape == (64, 5) and (codes[0] == 0).all() and (codes[1] == 255).all()
    for i, layer in enumerate(twin.layers):
        np.testing.assert_array_equal(
            table(text, f"a{i}"), layer.accumulate(codes.astype(np.uint8))
        )
        codes = layer.forward(codes)
        if i < 2:
            np.testing.assert_array_equal(table(text, f"h{i}"), codes)
        np.testing.assert_array_equal(table(text, f"bias{i}"), layer.bias)
    per_byte = 8 // bits
    assert table(text, "w0").shape == (9, -(-5 // per_byte))
    given = ql.quantize(x, twin.input_grid).codes[:7]
    text = ql.export_c(twin, tmp_path / "model.h", vectors=given).read_text()
    np.testing.assert_array_equal(table(text, "x"), given)
    assert "#define MODEL_VECTORS 7" in text


def test_the_header_is_integers_and_says_what_they_mean(tmp_path):
    twin = integer_model(quantized_model()[0])
    text = ql.export_c(twin, tmp_path / "model.h").read_text("ascii")
    assert not re.search(r"\b(float|double|malloc|calloc|free|long|printf)\b", text)
    assert re.findall(r"#include (.*)", text) == ["<stddef.h>", "<stdint.h>"]
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    assert not re.search(r"\d\.\d|\d[eE][+-]?\d", code.replace(twin_content(text), ""))
    assert f"value / {float(twin.input_grid.scale):.9g}) + {twin.input_grid.zero_point}," in text
    assert all(f"{float(s):.9g}" in text for s in twin.step)
    assert "#define MODEL_FORMAT 1" in text and "5 -> 9 -> 6 -> 2" in text
    again = ql.export_c(twin, tmp_path / "model.h").read_text()
    assert again == text  # no clock, no machine
    other = ql.export_c(integer_model(quantized_model(1)[0]), tmp_path / "model.h").read_text()
    assert twin_content(other) != twin_content(text)


def twin_content(text):
    return re.search(r'CONTENT "(\w{16})"', text)[1]


@pytest.mark.parametrize(
    ("file", "name"), [("trading-model 2.h", "trading_model_2"), ("8bit.h", "model_8bit")]
)
def test_names_come_from_the_file(tmp_path, file, name):
    text = ql.export_c(quantized_model()[0], tmp_path / file).read_text()
    assert f"{name}_self_test(void)" in text and f"#define {name.upper()}_H" in text


def test_what_cannot_be_written_says_why(tmp_path):
    quantized, x = quantized_model(activation_bits=4)
    twin, path = integer_model(quantized), tmp_path / "model.h"
    ql.export_c(twin, path)
    before = path.read_bytes()
    for vectors, match in (
        (0, "vectors is 0"),
        (2.5, "vectors"),
        (np.zeros((3, 4), int), r"vectors are int64 of shape \(3, 4\); expected a number"),
        (np.full((3, 5), 16), "integer codes 0 to 15"),
        (x, "vectors are float32"),
        ([], "vectors is empty"),
    ):
        with pytest.raises(ValueError, match=f"export_c: .*{match}"):
            ql.export_c(twin, path, vectors=vectors)
    for bad in (
        quantized.reference,
        QuantizedModel([BinaryLinearLayer.from_linear(a) for a in quantized.reference.layers]),
        None,
    ):
        with pytest.raises(ValueError, match="integer_model: "):
            ql.export_c(bad, path)
    with pytest.raises(FileNotFoundError):
        ql.export_c(twin, tmp_path / "none" / "model.h")
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
