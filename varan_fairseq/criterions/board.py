"""What TensorBoard shows of a run beside the scalars that fairseq writes there."""

import itertools
import os
from typing import Any, Iterable, Optional, Tuple

from fairseq.distributed import utils as distributed_utils

from ..runtime.fairseq_compat import whole_config

CHARTS = {
    "layers": {
        "weight of each layer": ["Multiline", [r"posterior_\d+"]],
        "loss of each layer": ["Multiline", [r"nll_\d+"]],
    }
}
EXAMPLES = 5


class Board:
    """Two charts with a line for each layer, under "custom scalars", and a few transcripts of each
    validation, under "text", in the folder `layers` beside fairseq's own. Writes nothing without
    `common.tensorboard_logdir`, or on any process but the first.

    cfg: the criterion's section of a run.
    """

    def __init__(self, cfg: Any):
        whole = whole_config(cfg)
        folder = whole.common.tensorboard_logdir if whole is not None else None
        # a sweep changes the working directory between runs
        self.folder = os.path.abspath(os.path.join(folder, "layers")) if folder else None
        self.shown_at: Optional[int] = None
        self._writer: Any = None

    def wants(self, updates: int) -> bool:
        """Whether a validation after so many updates has shown no transcripts yet."""
        first = self.folder and distributed_utils.get_global_rank() == 0
        return bool(first) and updates != self.shown_at

    def show(self, updates: int, pairs: Iterable[Tuple[str, str]]) -> None:
        """pairs: (reference, hypothesis) of utterances, of which it takes the first few."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(self.folder)
            self._writer.add_custom_scalars(CHARTS)
        rows = [
            f"| {reference} | {hypothesis} |".replace("\n", " ")
            for reference, hypothesis in itertools.islice(pairs, EXAMPLES)
        ]
        table = "\n".join(["| reference | hypothesis |", "| --- | --- |", *rows])
        self._writer.add_text("validation", table, updates)
        self._writer.flush()
        self.shown_at = updates
