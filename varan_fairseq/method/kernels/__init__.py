"""What is here for speed alone. Every file begins with the plain formula of what it computes."""

from torch import Tensor


def on_host(tensor: Tensor) -> bool:
    """The one switch between a CPU's way and a GPU's: whether reading values waits for nothing."""
    return tensor.device.type == "cpu"
