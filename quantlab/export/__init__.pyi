"""The public names of quantlab.export."""

from .c_header import export_c as export_c
from .onnx_graph import export_onnx as export_onnx, load_onnx as load_onnx
from .rtl import (
    Circuit as Circuit,
    power_of_two_scales as power_of_two_scales,
    silicon_circuit as silicon_circuit,
    simulate_circuit as simulate_circuit,
    synthesize_circuit as synthesize_circuit,
)
