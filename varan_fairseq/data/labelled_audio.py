"""Audio with one label an utterance, cropped before it is batched."""

from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import torch
from fairseq.data import FairseqDataset
from torch import Tensor


def middle(source: Any, most: Optional[int]) -> Any:
    """The middle of samples [T], of so many at most; all of them without a limit."""
    if most is None or len(source) <= most:
        return source
    start = (len(source) - most) // 2
    return source[start : start + most]


class LabelledAudio(FairseqDataset):
    """dataset: fairseq's audio dataset of N utterances, padding its batches. labels: [N] long,
    or None. leave_out: indices that are never batched. max_samples: length to crop to, or
    None; random_crop: anywhere, else to the middle.
    """

    def __init__(
        self,
        dataset: FairseqDataset,
        labels: Optional[Tensor],
        *,
        leave_out: Sequence[int] = (),
        max_samples: Optional[int] = None,
        random_crop: bool = False,
    ):
        super().__init__()
        self.dataset = dataset
        self.labels = labels
        self.leave_out = np.array(leave_out, dtype=np.int64)
        self.max_samples = max_samples
        self.random_crop = random_crop
        whole = np.asarray(dataset.sizes)
        self.sizes = whole if max_samples is None else np.minimum(whole, max_samples)

    def num_cropped(self) -> int:
        return int((np.asarray(self.dataset.sizes) > self.sizes).sum())

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Dict[str, Any]:
        item = self.dataset[index]
        item["source"] = self._crop(item["source"])
        if self.labels is not None:
            item["label"] = self.labels[index]
        return item

    def _crop(self, source: Tensor) -> Tensor:
        if self.max_samples is None or len(source) <= self.max_samples:
            return source
        if not self.random_crop:
            return middle(source, self.max_samples)
        # torch's generator differs between workers, numpy's does not
        start = int(torch.randint(len(source) - self.max_samples + 1, ()))
        return source[start : start + self.max_samples]

    def collater(self, samples: List[Dict[str, Any]]) -> Dict[str, Any]:
        """id [B]; net_input: source [B, samples], padding_mask [B, samples]; target [B]."""
        batch = self.dataset.collater(samples)
        if batch and self.labels is not None:
            batch["target"] = torch.stack([sample["label"] for sample in samples])
            batch["ntokens"] = len(samples)
        return batch

    def num_tokens(self, index: int) -> int:
        return self.sizes[index]

    def size(self, index: int) -> int:
        return self.sizes[index]

    def ordered_indices(self) -> np.ndarray:
        """Longest first, equal ones shuffled, as fairseq's audio datasets."""
        order = self.dataset.ordered_indices()
        return order[~np.isin(order, self.leave_out)]

    def filter_indices_by_size(self, indices, max_sizes):
        """By the cropped sizes. max_sizes: a number, or one for audio first, or None."""
        if isinstance(max_sizes, (tuple, list)):
            max_sizes = max_sizes[0]
        if max_sizes is None:
            return indices, []
        long = self.sizes[indices] > max_sizes
        return indices[~long], indices[long].tolist()

    def get_batch_shapes(self):
        return self.dataset.get_batch_shapes()
