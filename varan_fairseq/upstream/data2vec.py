"""data2vec (arXiv 2202.03555) and data2vec 2.0 (arXiv 2212.07525), whose code fairseq keeps
among its examples: found there and registered, without a second user dir."""

import contextlib
import os
import sys
import types

import fairseq
from fairseq.models import MODEL_REGISTRY
from torch import Tensor, nn

from ..runtime.fairseq_compat import find_example, import_example

_MODULES = {"data2vec_audio": "data2vec_audio", "data2vec_multi": "data2vec2"}


def register(name: str) -> None:
    """Registers fairseq's model `data2vec_audio` or `data2vec_multi`, once.

    Raises ModuleNotFoundError, naming a fairseq that has it, if this one does not.
    """
    if name in MODEL_REGISTRY:
        return
    module = f"data2vec.models.{_MODULES[name]}"
    path = find_example(module)
    if path is None:
        raise ModuleNotFoundError(
            f"this fairseq ({fairseq.__version__}) came without examples/"
            f"{module.replace('.', '/')}.py, the code of {name}: install ve-fairseq==0.12.3 "
            "(Python 3.11, 3.12), or fairseq's main branch from its repository"
        )
    # The package that holds the enumeration of modalities also reads image data sets.
    data = types.ModuleType("examples.data2vec.data")
    data.__path__ = [os.path.join(os.path.dirname(os.path.dirname(path)), "data")]
    with without_timm(), _stand_ins(data):
        import_example(module)


@contextlib.contextmanager
def without_timm():
    """While active, data2vec 2.0 can be imported and built without timm and the torchvision
    that it needs: the audio model's blocks take two small modules from it."""
    layers = types.ModuleType("timm.models.layers")
    layers.to_2tuple = None
    vision = types.ModuleType("timm.models.vision_transformer")
    vision.DropPath, vision.Mlp = DropPath, Mlp
    vision.PatchEmbed = vision.Block = vision.Attention = nn.Module  # of the image encoder
    packages = [types.ModuleType("timm"), types.ModuleType("timm.models")]
    with _stand_ins(*packages, layers, vision):
        yield


@contextlib.contextmanager
def _stand_ins(*modules: types.ModuleType):
    """While active, these are imported under their names."""
    shadowed = {module.__name__: sys.modules.get(module.__name__) for module in modules}
    sys.modules.update({module.__name__: module for module in modules})
    try:
        yield
    finally:
        for name, module in shadowed.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): zeroes whole examples [B, ...] of a residual
    branch while training, and scales the others so that the mean stays."""

    def __init__(self, drop_prob: float = 0.0):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_prob == 0:
            return x
        kept = x.new_empty((len(x),) + (1,) * (x.dim() - 1)).bernoulli_(1 - self.drop_prob)
        return x * kept / (1 - self.drop_prob)


class Mlp(nn.Module):
    """Two linear maps; weights have the names that timm gives them."""

    def __init__(self, in_features: int, hidden_features: int, act_layer=nn.GELU, drop=0.0):
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden_features, in_features)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] -> the same shape."""
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))
