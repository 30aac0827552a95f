"""One layer of a run as an ONNX graph, in the form that sherpa-onnx takes."""

import contextlib
import io
import logging
import os
import warnings
from typing import Any, List, Optional

import torch
from torch import Tensor, nn

from ..runtime.files import new_folder, write_lines
from ..upstream.plain import PlainEncoder
from .one_layer import OneLayer, one_layer

OPSET = 17
_NAMES = ("x", "logits")


def onnx(checkpoint: str, folder: str, layer: Optional[int] = None) -> List[str]:
    """A folder with model.onnx, whose batch and length may be any, and tokens.txt.

    layer: see `one_layer`. The graph takes audio x [N, samples] in float32, normalised where
    task.normalize is true, and gives logits [N, T, V], or [N, C] of a classifier. sherpa-onnx always
    normalises, which the group norm of a run with task.normalize=false forgives. The folder appears
    only once ONNX Runtime has computed what torch computes. Raises ModuleNotFoundError without onnx
    and onnxruntime, ValueError for a run that has no such graph, or a folder that is there.
    """
    for package in ("onnx", "onnxruntime"):
        _needs(package)
    with new_folder(folder) as partial:
        cut = one_layer(checkpoint, layer)
        if cut.ctc and not cut.normalize and cut.options.extractor_mode == "layer_norm":
            raise ValueError(
                f"{checkpoint} was trained with task.normalize=false and LayerNorms in its feature "
                "encoder: sherpa-onnx normalises the audio, which such an encoder does not forgive"
            )
        path = os.path.join(partial, "model.onnx")
        _trace(_Graph(cut).eval(), path, cut.sample_rate)
        difference = _compare(path, cut)
        write_lines(os.path.join(partial, "tokens.txt"), _tokens(cut))
        size = sum(os.path.getsize(os.path.join(partial, name)) for name in os.listdir(partial))
    return [
        f"layer {cut.layer} ({cut.chosen}), {size / 1e6:.1f} MB -> {folder}",
        f"ONNX Runtime's log-probabilities differ from torch's by at most {difference:.1e}",
    ]


def _needs(package: str) -> None:
    try:
        __import__(package)
    except ImportError:
        raise ModuleNotFoundError(
            f"varan-export onnx needs {package}: pip install 'varan-fairseq[onnx]'"
        ) from None


class _Graph(nn.Module):
    """[N, samples] -> logits."""

    def __init__(self, cut: OneLayer):
        super().__init__()
        self.encoder = PlainEncoder(cut.encoder)
        self.pooled = not cut.ctc
        weight, bias = cut.single_map()
        self.head = nn.Linear(weight.shape[1], weight.shape[0])
        self.head.weight.data, self.head.bias.data = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        read = self.encoder(x)
        return self.head(read.mean(1) if self.pooled else read)


def _trace(graph: _Graph, path: str, sample_rate: int) -> None:
    options: Any = {
        "opset_version": OPSET,
        "input_names": [_NAMES[0]],
        "output_names": [_NAMES[1]],
        "dynamic_axes": {
            _NAMES[0]: {0: "N", 1: "samples"},
            _NAMES[1]: {0: "N"} if graph.pooled else {0: "N", 1: "T"},
        },
    }
    if "dynamo" in torch.onnx.export.__code__.co_varnames:
        options["dynamo"] = False  # the tracer, also where it is not the default
    with _quiet(), torch.no_grad():
        torch.onnx.export(graph, (torch.randn(2, sample_rate),), path, **options)


@contextlib.contextmanager
def _quiet() -> Any:
    """Without the tracer's warnings about shapes, which the comparison makes up for."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _compare(path: str, cut: OneLayer) -> float:
    """The largest difference of log-probabilities between ONNX Runtime and torch, alone and in a
    batch, of audio shorter and longer than what was traced. Raises ValueError beyond
    `OneLayer.allowed`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    drawn = torch.Generator().manual_seed(0)
    largest = 0.0
    for rows, seconds in ((1, 0.7), (3, 2.6)):
        source = torch.randn(rows, int(seconds * cut.sample_rate), generator=drawn)
        with torch.no_grad():
            expected = cut.log_probs(source)
        (logits,) = session.run(None, {_NAMES[0]: source.numpy()})
        found = torch.from_numpy(logits).log_softmax(-1)
        if found.shape != expected.shape:
            raise ValueError(
                f"ONNX Runtime makes {tuple(found.shape)} of audio {tuple(source.shape)}, torch "
                f"{tuple(expected.shape)}: please report it"
            )
        difference = float((found - expected).abs().max())
        cut.check(difference, source, "ONNX Runtime's log-probabilities differ from torch's by")
        largest = max(largest, difference)
    return largest


def _tokens(cut: OneLayer) -> List[str]:
    """`symbol id` a line. sherpa-onnx prints symbols as they are, so a word boundary is a space."""
    symbols = list(cut.symbols)
    if cut.ctc:
        symbols = ["<blk>" if index == 0 else symbol for index, symbol in enumerate(symbols)]
        symbols = [" " if symbol == "|" else symbol for symbol in symbols]
    return [f"{symbol} {index}" for index, symbol in enumerate(symbols)]
