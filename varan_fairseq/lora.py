"""Low-rank adaptation of the linear layers inside any torch module, in place.

LoRA (arXiv 2106.09685): W' = W + (alpha / r) B A. DoRA (arXiv 2402.09353): the same with
a learned magnitude for each output unit. W is frozen, B starts at zero.

    apply_lora(model, ["*.fc1", "*.q_proj"], rank=16, alpha=16)
    set_trainable(model, lora_parameters(model))
    ...
    safetensors.torch.save_file(lora_state(model), "lora.safetensors")
    merge_lora(model)

Names and shapes of the state dict stay as they were, so a model's own checkpoints load
before and after; the factors are added beside each `weight` as `lora_A` [r, in],
`lora_B` [out, r] and, for DoRA, `lora_magnitude` [out].
"""

import fnmatch
import math
import re
from typing import Any, Dict, Iterable, List, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KEYS = ("lora_A", "lora_B", "lora_magnitude")


class LoraLinear(nn.Linear):
    """What `apply_lora` turns an nn.Linear into; never constructed.

    Both ways of using a linear layer are adapted. Calling it takes the low-rank path,
    which needs no gradient of the size of W. Reading `weight`, as fairseq's attention
    does instead of calling, gives W'; the parameter of that name, in the state dict
    too, is W.
    """

    lora_A: Tensor
    lora_B: Tensor
    lora_magnitude: Optional[Tensor]
    lora_scale: float
    lora_dropout: float

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        if self.lora_dropout and self.training and torch.is_grad_enabled():
            raise ValueError(
                f"a layer adapted with LoRA dropout {self.lora_dropout} is not called, its weight "
                "is read: LoRA drops inputs of the layer, which a weight has not. Set the "
                "dropout to 0 or leave this layer out"
            )
        return self.adapted_weight()

    @property
    def frozen_weight(self) -> Any:
        return self._parameters["weight"]

    def adapted_weight(self) -> Tensor:
        """W' [out, in]."""
        weight = self._direction()
        if self.lora_magnitude is not None:
            weight = torch.addcmul(weight, weight, self._stretch(weight).unsqueeze(1))
        return weight

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        flat = input.reshape(-1, input.shape[-1])
        output = F.linear(flat, self.frozen_weight, self.bias)
        low = F.linear(F.dropout(flat, self.lora_dropout, self.training), self.lora_A)
        # in place, since a sum beside the output would be a second copy of it
        output.addmm_(low, self.lora_B.t().to(output.dtype), alpha=self.lora_scale)
        if self.lora_magnitude is not None:
            with torch.no_grad():
                direction = self._direction()
            plain = output if self.bias is None else output - self.bias
            output = torch.addcmul(output, plain, self._stretch(direction))
        return output.view(*input.shape[:-1], output.shape[-1])

    def _direction(self) -> Tensor:
        """V = W + (alpha / r) B A."""
        return torch.addmm(self.frozen_weight, self.lora_B, self.lora_A, alpha=self.lora_scale)

    def _stretch(self, direction: Tensor) -> Any:
        """m / ||V|| - 1 of each row; the norm is a constant in the backward pass (DoRA,
        section 4.3). In this form, zero at the start, an adapted layer equals the plain
        one to the last bit."""
        magnitude: Any = self.lora_magnitude
        norm = _row_norms(direction.detach()).to(magnitude.dtype)
        return magnitude / norm.clamp(min=torch.finfo(norm.dtype).tiny) - 1

    def extra_repr(self) -> str:
        kind = "DoRA" if self.lora_magnitude is not None else "LoRA"
        return f"{super().extra_repr()}, {kind} rank={len(self.lora_A)}"


def linear_names(module: nn.Module) -> List[str]:
    """Names of the layers inside `module` that can be adapted: plain nn.Linear, in order."""
    return [name for name, child in module.named_modules() if _adaptable(child)]


def match_linears(module: nn.Module, patterns: Iterable[str]) -> List[str]:
    """Names of the linear layers that match glob patterns (`*` spans dots too), in order.

    Raises:
        ValueError: for a pattern that matches none; it lists the layers there are.
    """
    available = linear_names(module)
    chosen = set()
    for pattern in patterns:
        matched = fnmatch.filter(available, pattern)
        if not matched:
            listed = ", ".join(
                dict.fromkeys(re.sub(r"(?<![^.])\d+(?![^.])", "*", name) for name in available)
            )
            raise ValueError(f"{pattern!r} matches no linear layer; there are {listed or 'none'}")
        chosen.update(matched)
    return [name for name in available if name in chosen]


def apply_lora(
    module: nn.Module,
    patterns: Iterable[str],
    *,
    rank: int = 16,
    alpha: float = 16.0,
    dropout: float = 0.0,
    magnitude: bool = False,
) -> List[str]:
    """Adapts, in place, the linear layers whose names match (see `match_linears`). The adapted
    weights are frozen; what else trains is the caller's choice (`set_trainable`).

    Args:
        module: any torch module.
        patterns: of names.
        rank: r.
        alpha: the update is scaled by alpha / r.
        dropout: of the inputs of the low-rank path while training.
        magnitude: DoRA.

    Returns:
        The adapted names.

    Raises:
        ValueError: for options out of range and patterns that match nothing.
    """
    check_lora(rank, alpha, dropout)
    names = match_linears(module, patterns)
    for name in names:
        _adapt(module.get_submodule(name), rank, alpha / rank, dropout, magnitude)
    return names


def check_lora(rank: int, alpha: float, dropout: float) -> None:
    """Raises ValueError for options of `apply_lora` that are out of range."""
    if rank < 1:
        raise ValueError(f"LoRA rank must be 1 or more, got {rank}")
    if not (math.isfinite(alpha) and alpha > 0):
        raise ValueError(f"LoRA alpha must be a finite number > 0, got {alpha}")
    if not 0 <= dropout < 1:
        raise ValueError(f"LoRA dropout must lie in [0, 1), got {dropout}")


def _adapt(linear: Any, rank: int, scale: float, dropout: float, magnitude: bool) -> None:
    weight = linear.weight.requires_grad_(False)
    linear.lora_A = nn.Parameter(weight.new_empty(rank, linear.in_features))
    linear.lora_B = nn.Parameter(weight.new_zeros(linear.out_features, rank))
    nn.init.kaiming_uniform_(linear.lora_A, a=math.sqrt(5))
    norms = nn.Parameter(_row_norms(weight).to(weight.dtype)) if magnitude else None
    linear.register_parameter("lora_magnitude", norms)
    linear.lora_scale = scale
    linear.lora_dropout = dropout
    linear.lora_class = type(linear)
    linear.__class__ = LoraLinear


def lora_parameters(module: nn.Module) -> Dict[str, nn.Parameter]:
    """The low-rank factors and magnitudes inside `module`, by name."""
    return {key: value for key, value in module.named_parameters() if is_lora(key)}


def set_trainable(module: nn.Module, names: Iterable[str]) -> None:
    """Exactly the parameters with these names take gradients. Raises ValueError for a name
    that is not a parameter of `module`."""
    wanted = set(names)
    unknown = wanted - {name for name, _ in module.named_parameters()}
    if unknown:
        raise ValueError(f"no such parameters: {', '.join(sorted(unknown))}")
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in wanted)


def lora_state(module: nn.Module) -> Dict[str, Tensor]:
    """The part of the state dict that `apply_lora` added."""
    return {key: value for key, value in module.state_dict().items() if is_lora(key)}


def load_lora_state(module: nn.Module, state: Dict[str, Tensor]) -> None:
    """Loads what `lora_state` returned into a module adapted alike.

    Raises:
        ValueError: before anything is loaded, naming keys that are missing or surplus and shapes
            that differ.
    """
    own = lora_state(module)
    missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [
        f"{key} {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ]
    if missing or surplus or shapes:
        raise ValueError(
            f"these adapters are for another model: missing {missing or 'none'}, "
            f"surplus {surplus or 'none'}, shapes {shapes or 'equal'}"
        )
    module.load_state_dict(state, strict=False)


def merge_lora(module: nn.Module) -> List[str]:
    """Folds the adapters inside `module` into their weights and turns the layers back into
    what they were: same outputs, up to rounding. Returns the names of the merged layers."""
    names = [name for name, child in module.named_modules() if isinstance(child, LoraLinear)]
    for name in names:
        linear: Any = module.get_submodule(name)
        dtype = linear.frozen_weight.dtype
        with torch.no_grad():
            weight = linear.to(_at_least_float32(dtype)).adapted_weight().to(dtype)
            linear.to(dtype)
        for key in KEYS:
            del linear._parameters[key]
        linear.__class__ = linear.lora_class
        del linear.lora_scale, linear.lora_dropout, linear.lora_class
        linear.weight = nn.Parameter(weight, requires_grad=False)
    return names


def _adaptable(module: nn.Module) -> bool:
    # A subclass with a forward of its own is used in ways unknown here.
    return isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward


def is_lora(key: str) -> bool:
    """Whether a state-dict key names a factor or magnitude that `apply_lora` added."""
    return key.rpartition(".")[2] in KEYS


def _row_norms(weight: Tensor) -> Tensor:
    return weight.norm(dim=1, dtype=_at_least_float32(weight.dtype))


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
