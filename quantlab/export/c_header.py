"""An integer model as one C header: C99, integers only, nothing allocated."""

from __future__ import annotations

import hashlib
import re
import textwrap
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from quantlab import _checks
from quantlab.nn.files import write_whole
from quantlab.nn.integer import IntegerLayer, IntegerModel, code_type, integer_model

FORMAT = 1  # of the header; a change that callers would notice makes it 2

HEAD = """\
/* $name: $sizes, written by quantlab (header format $format, content $content).

   Integers only, C99, nothing but <stdint.h> and <stddef.h>. ${name}_self_test() == 0 says that
   the machine which runs it computes what the Python model computed, bit for bit.

   input   code = round(value / $scale) + $zero, held in $low to $high
   output  value = (y - $output_zero) * $step */
#ifndef ${NAME}_H
#define ${NAME}_H

#include <stddef.h>
#include <stdint.h>

#define ${NAME}_FORMAT $format
#define ${NAME}_CONTENT "$content"
#define ${NAME}_INPUTS $inputs
#define ${NAME}_OUTPUTS $outputs
#define ${NAME}_INPUT_LOW ($low)
#define ${NAME}_INPUT_HIGH ($high)
#define ${NAME}_OUTPUT_ZERO ($output_zero)
#define ${NAME}_VECTORS $vectors

/* acc m 2^-t, rounded once (a tie goes up), on the grid of the next inputs. C leaves the right
   shift of a negative number to the compiler; ~(~v >> t) rounds down without one. */
static inline int32_t ${name}_requantize(int32_t acc, int32_t m, uint8_t t,
                                         int32_t zero, int32_t low, int32_t high)
{
    int64_t v = (int64_t)acc * m + ((int64_t)1 << (t - 1));
    v = (v < 0 ? ~(~v >> t) : v >> t) + zero;
    return (int32_t)(v < low ? low : v > high ? high : v);
}
"""

LAYER = """
/* Layer $i: $inputs -> $outputs, $about */
$arrays

static inline int32_t ${name}_acc$i(const $x *x, size_t c)
{
    int32_t acc = ${name}_bias$i[c];
    for (size_t k = 0; k < $inputs; k++)
        acc += (int32_t)x[k] * ($weight);
    return acc;
}
"""

CODE = """
static inline $y ${name}_code$i(int32_t acc, size_t c)
{
    return ($y)${name}_requantize(acc, ${name}_m$i[c], ${name}_t$i[c], $zero, $low, $high);
}
"""

END = """
/* x: $inputs codes, y: $outputs results. Returns 0, or -1 for a code that is not on the grid. */
static inline int ${name}_forward(const $x *x, $y *y)
{
$forward
    return 0;
}

/* Input codes, and what every layer makes of them. */
$arrays

/* How many of these values come out differently here: 0, or something is wrong. */
static inline int32_t ${name}_self_test(void)
{
    int32_t wrong = 0;
    for (size_t n = 0; n < $vectors; n++) {
        $y y[$outputs];
$test
        wrong += ${name}_forward(${name}_x[n], y) != 0;
        for (size_t c = 0; c < $outputs; c++)
            wrong += y[c] != ${name}_$last[n][c];
    }
    return wrong;
}

#endif
"""


def export_c(model: Any, path: Any, vectors: Any = 64) -> Path:
    """Write an integer model as one C header, with the vectors that prove it equal; its path.

    model: what `integer_model` returns, or a quantized model that has such a twin. The header
    holds codes (of up to 4 bits several in a byte), folded biases, multipliers, shifts, a version,
    `<name>_forward(x, y)` from codes to the twin's integer output, and `<name>_self_test()`;
    <name> is the file's. vectors: how many rows of input codes to write with every layer's
    accumulators and codes, or the rows themselves (n, n_0) int.

    Raises ValueError for a model without an integer twin, and for vectors that are no codes.
    Taught in chapter 15.

    >>> import tempfile
    >>> from quantlab.nn import TradingModel, post_training_quantize
    >>> x = np.random.default_rng(0).standard_normal((200, 2))
    >>> quantized = post_training_quantize(TradingModel((2, 3, 1), seed=1), x)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     text = export_c(quantized, f"{folder}/model.h").read_text()
    >>> print(re.search(r"static const int32_t model_bias0.*?;", text, flags=re.S)[0])
    static const int32_t model_bias0[3] =
        {...};
    """
    twin = model if isinstance(model, IntegerModel) else integer_model(model)
    path, codes = Path(path), _test_codes(twin, vectors)
    name = re.sub(r"\W", "_", path.stem, flags=re.ASCII)
    name = name if name[:1].isalpha() else f"model_{name}"
    low, high = twin.layers[0].input_range
    words: dict[str, Any] = {
        "name": name,
        "NAME": name.upper(),
        "sizes": " -> ".join(map(str, twin.sizes)),
        "format": FORMAT,
        "scale": f"{float(twin.input_grid.scale):.9g}",
        "zero": int(twin.input_grid.zero_point),
        "step": _listed(twin.step),
        "output_zero": twin.output_zero,
        "inputs": twin.sizes[0],
        "outputs": twin.sizes[-1],
        "vectors": len(codes),
        "low": low,
        "high": high,
    }
    types = _types(twin)
    layers = [_layer(name, i, types, layer) for i, layer in enumerate(twin.layers)]
    body = "".join([*layers, Template(END).substitute(words | _end(name, twin, types, codes))])
    words["content"] = hashlib.sha256(body.encode()).hexdigest()[:16]
    write_whole(path, (Template(HEAD).substitute(words) + body).encode())
    return path


def _test_codes(twin: IntegerModel, vectors: Any) -> np.ndarray:
    """Rows of input codes (n, n_0): the given ones, or both ends of the grid and random rows."""
    me, (low, high), width = "export_c", twin.layers[0].input_range, twin.sizes[0]
    if np.ndim(vectors) == 0:
        n = _checks.integer(vectors, me, "vectors", 1, 10_000)
        codes = np.random.default_rng(0).integers(low, high + 1, (n, width))
        codes[:1], codes[1:2] = low, high
        return codes
    codes = _checks.real_array(vectors, me, "vectors")
    ok = codes.ndim == 2 and codes.shape[1] == width and codes.dtype.kind in "iu"
    if not ok or codes.min() < low or codes.max() > high:
        raise ValueError(
            f"{me}: vectors are {codes.dtype} of shape {codes.shape}; expected a number of rows, "
            f"or integer codes {low} to {high} of shape (n, {width}): quantize(x, grid).codes"
        )
    return codes


def _ctype(low: int, high: int) -> str:
    return f"{code_type(low, high)}_t"


def _types(twin: IntegerModel) -> list[str]:
    """C types of the codes that enter each layer, and of what the last one gives."""
    last = twin.layers[-1]
    out = "int32_t" if last.multiplier is None else _ctype(last.low, last.high)
    return [*(_ctype(*layer.input_range) for layer in twin.layers), out]


def _listed(values: Any) -> str:
    text = ", ".join(f"{v:.9g}" for v in np.atleast_1d(values).tolist())
    return textwrap.fill(text, 80, subsequent_indent=" " * 28)


def _array(kind: str, name: str, values: np.ndarray) -> str:
    """A table of integers, one row of the last axis at a time."""
    rows = np.atleast_2d(values).tolist()
    lines = [
        textwrap.fill(f"{{{', '.join(map(str, row))}}}", 100, initial_indent="    ",
                      subsequent_indent="     ") for row in rows
    ]  # fmt: skip
    shape = "".join(f"[{n}]" for n in values.shape)
    if values.ndim == 1:
        return f"static const {kind} {name}{shape} =\n{lines[0]};"
    return f"static const {kind} {name}{shape} = {{\n" + ",\n".join(lines) + "\n};"


def _layer(name: str, i: int, types: list[str], layer: IntegerLayer) -> str:
    """The constants of one layer, its product, and the step to the codes of the next."""
    kind, weight, width = _packed(layer.weight)
    zero = layer.weight_zero.astype(np.int64)
    read = f"(int32_t){name}_w{i}[c][k]"
    if width < 8:
        zero = zero - int(layer.weight.min())
        per, mask = 8 // width, 2**width - 1
        read = f"(int32_t)(({name}_w{i}[c][k / {per}] >> (k % {per} * {width})) & {mask})"
    arrays = [_array(kind, f"{name}_w{i}", weight)]
    if (zero != zero[0]).any():
        arrays.append(_array("int32_t", f"{name}_zero{i}", zero))
        read += f" - {name}_zero{i}[c]"
    elif zero[0]:
        read += f" - ({zero[0]})"
    arrays.append(_array("int32_t", f"{name}_bias{i}", layer.bias))
    about, code = "the last: its accumulators leave", ""
    if layer.multiplier is not None:
        arrays.append(_array("int32_t", f"{name}_m{i}", layer.multiplier))
        arrays.append(_array("uint8_t", f"{name}_t{i}", layer.shift))
        factor = layer.multiplier * 0.5**layer.shift
        about = f"factors m 2^-t from {factor.min():.6g} to {factor.max():.6g}"
        code = CODE
    return Template(LAYER + code).substitute(
        name=name,
        i=i,
        inputs=layer.shape[1],
        outputs=layer.shape[0],
        about=about,
        arrays="\n".join(arrays),
        weight=read,
        x=types[i],
        y=types[i + 1],
        zero=layer.zero_point,
        low=layer.low,
        high=layer.high,
    )


def _packed(codes: np.ndarray) -> tuple[str, np.ndarray, int]:
    """C type, table and bits of a code: of 1, 2 or 4 bits, from the smallest up, many a byte."""
    low, high = int(codes.min()), int(codes.max())
    width = next((b for b in (1, 2, 4) if high - low < 2**b), 8)
    if width == 8:
        return _ctype(low, high), codes, width
    per, (outputs, inputs) = 8 // width, codes.shape
    padded = np.zeros((outputs, -(-inputs // per) * per), np.int64)
    padded[:, :inputs] = codes.astype(np.int64) - low
    places = padded.reshape(outputs, -1, per) << (width * np.arange(per))
    return "uint8_t", places.sum(axis=2), width


def _end(name: str, twin: IntegerModel, types: list[str], codes: np.ndarray) -> dict[str, str]:
    """The body of the forward pass, the test vectors, and the loops that compare them."""
    low, high = twin.layers[0].input_range
    ends, last = np.iinfo(code_type(low, high)), twin.layers[-1]
    outside = [f"x[k] < {low}"] * (low > ends.min) + [f"x[k] > {high}"] * (high < ends.max)
    forward = [f"    {types[i]} h{i - 1}[{n}];" for i, n in enumerate(twin.sizes[:-1]) if i]
    test, arrays = [], [_array(types[0], f"{name}_x", codes)]
    if outside:  # else every value of the type is a code, and a compiler would complain
        forward += [f"    for (size_t k = 0; k < {twin.sizes[0]}; k++)"]
        forward += [f"        if ({' || '.join(outside)})", "            return -1;"]
    x, table = "x", "x"
    for i, layer in enumerate(twin.layers):
        y = "y" if layer is last else f"h{i}"
        acc = layer.accumulate(np.ascontiguousarray(codes, code_type(*layer.input_range)))
        codes = layer.forward(codes)
        loop = f"for (size_t c = 0; c < {layer.shape[0]}; c++)"
        value = f"{name}_acc{i}({x}, c)"
        arrays.append(_array("int32_t", f"{name}_a{i}", acc))
        test += [f"        {loop}", f"            wrong += {name}_acc{i}({name}_{table}[n], c)"]
        test[-1] += f" != {name}_a{i}[n][c];"
        if layer.multiplier is not None:
            value, table = f"{name}_code{i}({value}, c)", f"h{i}"
            arrays.append(_array(types[i + 1], f"{name}_{table}", codes))
            test += [
                f"        {loop}",
                f"            wrong += {name}_code{i}({name}_a{i}[n][c], c)",
            ]
            test[-1] += f" != {name}_{table}[n][c];"
        forward += [f"    {loop}", f"        {y}[c] = {value};"]
        x = y
    return {
        "forward": "\n".join(forward),
        "test": "\n".join(test),
        "arrays": "\n".join(arrays),
        "last": table if last.multiplier is not None else f"a{len(twin.layers) - 1}",
        "x": types[0],
        "y": types[-1],
    }
