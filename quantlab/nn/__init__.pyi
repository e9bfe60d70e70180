"""The public names of quantlab.nn."""

from .layers import (
    BinaryLinearLayer as BinaryLinearLayer,
    LinearLayer as LinearLayer,
    QuantizedLinearLayer as QuantizedLinearLayer,
)
from .base import Model as Model
from .model import TradingModel as TradingModel
from .training import TrainingOptions as TrainingOptions
from .ptq import (
    QuantizedModel as QuantizedModel,
    observe as observe,
    post_training_quantize as post_training_quantize,
)
from .repair import (
    choose_rounding as choose_rounding,
    correct_bias as correct_bias,
    equalize_layers as equalize_layers,
)
from .sweeps import sweep as sweep
from .mixed import mixed_precision as mixed_precision, sensitivity as sensitivity, within as within
from .table import Table as Table
from .integer import (
    IntegerLayer as IntegerLayer,
    IntegerModel as IntegerModel,
    integer_model as integer_model,
)
from .qat import quantization_aware_train as quantization_aware_train
from .evaluate import (
    accuracy as accuracy,
    agreement as agreement,
    block_interval as block_interval,
    decisions as decisions,
    edge_lost as edge_lost,
    paired_interval as paired_interval,
)
