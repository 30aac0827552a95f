"""How a model does with fewer blocks, and what it costs then: every depth in one pass."""

import contextlib
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List

import numpy as np
import torch
from torch import Tensor

from ..decoding.results import rates
from ..decoding.search import Hypothesis, best_paths
from ..finetuned.labelled import Classified, Transcribed
from ..finetuned.outputs import shown_outputs


@dataclass(frozen=True)
class Depth:
    """Of the lowest `layers` blocks. rate: WER or accuracy in percent, read as the model reads its
    layers. alone: of the last of them alone. time, multiply_adds: of a forward pass, relative to
    the whole model."""

    layers: int
    rate: float
    alone: float
    time: float
    multiply_adds: float


Score = Callable[[List[Any]], float]


def recognizer_curve(
    model: Any, task: Any, subset: str, split: Transcribed, max_tokens: int
) -> List[Depth]:
    """WER, of the best path."""
    labels, count = task.target_dictionary, len(split.manifest.entries)

    def read(log_probs: Tensor, net_output: Dict[str, Any]) -> List[Hypothesis]:
        lengths = net_output["lengths"].tolist()
        return best_paths(log_probs, lengths, model.blank, labels, split.post_process)

    def combined(net_output: Dict[str, Any]) -> Tensor:
        return model.predict(net_output).log_probs

    def score(hypotheses: List[Hypothesis]) -> float:
        return rates(split.references, hypotheses)[0]

    return _curve(model, task, subset, count, max_tokens, combined, read, score)


def classifier_curve(
    model: Any, task: Any, subset: str, split: Classified, max_tokens: int
) -> List[Depth]:
    """Accuracy."""

    def read(log_probs: Tensor, net_output: Dict[str, Any]) -> List[int]:
        return log_probs.argmax(-1).tolist()

    def score(predictions: List[int]) -> float:
        return 100 * float((np.array(predictions) == split.labels).mean())

    count = len(split.labels)
    return _curve(model, task, subset, count, max_tokens, model.combined, read, score)


def _curve(model, task, subset, count, max_tokens, combined, read, score: Score) -> List[Depth]:
    """combined: the model's output -> log-probabilities. read: those -> what is scored."""
    depths = range(1, model.num_predictions + 1)
    together = [[None] * count for _ in depths]
    alone = [[None] * count for _ in depths]
    with _measured(model, _seconds) as clock:
        for rows, net_output in shown_outputs(model, task, subset, max_tokens):
            clock.stop()
            for index, layers in enumerate(depths):
                at_depth = model.at_depth(net_output, layers)
                read_together = read(combined(at_depth), net_output)
                of_layer = read(net_output["layer_logits"][index], net_output)
                for row, one, other in zip(rows, read_together, of_layer):
                    together[index][row], alone[index][row] = one, other
    rate_of = [(score(one), score(other)) for one, other in zip(together, alone)]
    operations = _operations(model, task, subset)
    return [
        Depth(layers, *rate_of[layers - 1], seconds, adds)
        for layers, seconds, adds in zip(depths, clock.shares(), operations)
    ]


class _Meter:
    """What a model has used up, of anything that is counted, when each of its blocks ends."""

    def __init__(self, count: Callable[[], float], layers: int):
        self.count, self.layers = count, layers
        self.used = np.zeros(layers + 1)  # the last: of the whole forward pass
        self.start, self.block = 0.0, 0

    def begin(self, *_: Any) -> None:
        self.start, self.block = self.count(), 0

    def block_ends(self, *_: Any) -> None:
        self.used[self.block] += self.count() - self.start
        self.block += 1

    def stop(self) -> None:
        self.used[-1] += self.count() - self.start

    def shares(self) -> List[float]:
        """Of the whole, for each depth: blocks up to it, and its part of what reads them."""
        depth = np.arange(1, self.layers + 1) / self.layers
        reading = self.used[-1] - self.used[-2]
        return ((self.used[:-1] + depth * reading) / self.used[-1]).tolist()


@contextlib.contextmanager
def _measured(model: Any, count: Callable[[], float]) -> Iterator[_Meter]:
    encoder = model.w2v_encoder
    meter = _Meter(count, encoder.num_layers)
    blocks = encoder.spec.blocks(encoder.w2v_model)
    hooks = [block.register_forward_hook(meter.block_ends) for block in blocks]
    hooks.append(model.register_forward_pre_hook(meter.begin))
    try:
        yield meter
    finally:
        for hook in hooks:
            hook.remove()


def _seconds() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@torch.no_grad()
def _operations(model: Any, task: Any, subset: str) -> List[float]:
    """Multiply-adds up to each depth, of the longest utterance, relative to the whole."""
    from torch.utils.flop_counter import FlopCounterMode

    dataset = task.dataset(subset)
    sample = dataset.collater([dataset[int(np.argmax(dataset.sizes))]])
    parameter = next(model.parameters())
    source = sample["net_input"]["source"].to(parameter)
    counter = FlopCounterMode(display=False)
    with counter, _measured(model, counter.get_total_flops) as meter:
        model(source=source, padding_mask=None)
        meter.stop()
    return meter.shares()


def table(measure: str, depths: List[Depth]) -> List[str]:
    """A header, and a line a depth."""
    header = ["layers", measure, f"{measure}_of_this_layer_alone", "time", "multiply_adds"]
    lines = ["\t".join(header)]
    for depth in depths:
        values = [f"{depth.rate:.4f}", f"{depth.alone:.4f}", f"{depth.time:.4f}"]
        lines.append("\t".join([str(depth.layers), *values, f"{depth.multiply_adds:.4f}"]))
    return lines


def draw_curve(plt: Any, measure: str, depths: List[Depth], title: str) -> Any:
    """A figure of rates over the share of the time."""
    figure, axis = plt.subplots(figsize=(6.5, 4.2), constrained_layout=True)
    times = [depth.time for depth in depths]
    rate = [depth.rate for depth in depths]
    axis.plot(times, rate, "o-", color="#1f3550", label="the first K layers together")
    axis.plot(
        times, [depth.alone for depth in depths], "o--", color="#4878a8", label="layer K alone"
    )
    for depth in depths:
        axis.annotate(
            str(depth.layers), (depth.time, depth.rate), textcoords="offset points", xytext=(4, 6)
        )
    axis.set(xlabel="time of the encoder, whole = 1", ylabel=f"{measure} %", ylim=(0, None))
    axis.set_title(title)
    axis.legend(frameon=False)
    return figure
