"""The public names of quantlab.export."""

from .c_header import export_c as export_c
from .onnx_graph import export_onnx as export_onnx, load_onnx as load_onnx
