"""Model `varan_regression`: a pre-trained encoder, read by an aggregation, for numbers of an
utterance."""

from dataclasses import dataclass
from typing import Any, Dict, List, Sequence

import torch
from fairseq.models import register_model
from torch import Tensor, nn

from ..data.findings import Split
from ..method.choices import REGRESSION_RULES
from ..method.combine import likeliest_layer, pick_layer
from ..method.regression import mixture_mean
from ..scoring.regression import spread
from ..tasks.utterance_regression import UtteranceRegressionTask
from ..upstream import Encoder
from .layerwise import LayerwiseModel
from .varan_classification import VaranClassificationConfig, check_utterances


class Scale(nn.Module):
    """Mean and standard deviation of the training targets, [D]: heads work on targets with mean 0 and
    variance 1, whatever their unit. Both are in checkpoints and adapters."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    def set(self, mean: Tensor, deviation: Tensor) -> None:
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def standard(self, values: Tensor) -> Tensor:
        """Of targets [..., D]."""
        return (values - self.mean) / self.deviation

    def original(self, values: Tensor) -> Tensor:
        """Of outputs [..., D], in the unit of the targets; at least float32."""
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        return values * self.deviation.to(values) + self.mean.to(values)


@dataclass
class VaranRegressionConfig(VaranClassificationConfig):
    """Keys of `VaranClassificationConfig`."""


@register_model("varan_regression", dataclass=VaranRegressionConfig)
class VaranRegression(LayerwiseModel):
    """`LayerwiseModel` with D numbers per utterance, read from the mean of its frames.

    cfg: `VaranRegressionConfig`. num_values: D.
    """

    rules = REGRESSION_RULES
    scale: Scale

    def __init__(self, cfg: VaranRegressionConfig, encoder: Encoder, num_values: int):
        super().__init__(cfg, encoder, num_values, pooled=True)
        self.scale = Scale(num_values)

    @classmethod
    def on_encoder(
        cls, cfg: VaranRegressionConfig, encoder: Encoder, task: Any
    ) -> "VaranRegression":
        model = cls(cfg, encoder, len(task.target_dictionary))
        targets = task.train_targets()
        if targets is not None:
            mean, deviation = spread(targets)
            for name, value in zip(task.target_dictionary.symbols, deviation):
                if not value > 0:
                    raise ValueError(
                        f"{name} is the same for all {len(targets)} utterances of "
                        f"{task.train_split}: there is nothing to learn"
                    )
            model.scale.set(torch.from_numpy(mean), torch.from_numpy(deviation))
        return model

    @classmethod
    def check_data(cls, cfg: VaranRegressionConfig, task: Any, names: Sequence[str]) -> List[Split]:
        return check_utterances("regression", UtteranceRegressionTask, task, names)

    def combined(self, net_output: Dict[str, Any]) -> Tensor:
        """The predicted numbers [B, D], in the unit of the targets: by `cfg.combine` the mean of the
        layers' mixture or the likeliest layer, or that of `cfg.decode_layer`."""
        layers, log_q = net_output["layer_logits"], net_output["log_q"]
        if self.cfg.decode_layer or len(layers) == 1:
            value = layers[max(self.cfg.decode_layer, 1) - 1]
        elif self.cfg.combine == "best_layer":
            self.warn_of_no_gradient()
            value = pick_layer(layers, likeliest_layer(log_q))
        else:
            value = mixture_mean(layers, log_q)
        return self.scale.original(value)
