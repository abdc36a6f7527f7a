"""What this machine's arithmetic could do at best, and how much of it a network asks for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
import tutorial
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

_SIZE = 2048
_TIMES = 5


def peak_flops() -> dict[str, float]:
    """float32 operations per second in a product of two 2048 x 2048 matrices, by each library."""
    left, right = torch.rand(_SIZE, _SIZE), torch.rand(_SIZE, _SIZE)
    return {
        name: 2 * _SIZE**3 / min(_seconds(product, left, right) for _ in range(_TIMES))
        for name, product in _products().items()
    }


def _products() -> Mapping[str, Callable[[Tensor, Tensor], Tensor]]:
    found: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mm": torch.mm}
    if torch.backends.mkldnn.is_available():

        def by_onednn(left: Tensor, right: Tensor) -> Tensor:
            product = torch.ops.mkldnn._linear_pointwise
            answer: Tensor = product(left, right, None, "none", [], "")
            return answer

        found["oneDNN"] = by_onednn
    return found


def _seconds(product: Callable[[Tensor, Tensor], Tensor], left: Tensor, right: Tensor) -> float:
    began = time.perf_counter()
    product(left, right)
    return time.perf_counter() - began


def training_flops(name: str) -> float:
    """Operations of one image's way forward and back, counting a product and a sum as two."""
    training = tutorial.TRAININGS[name]
    return _counted(training.network(), training.batch_size, backward=True)


def prediction_flops(name: str) -> float:
    """The same only of the forward pass."""
    return _counted(tutorial.TRAININGS[name].network(), 100, backward=False)


def _counted(network: nn.Module, batch_size: int, *, backward: bool) -> float:
    images = torch.zeros(batch_size, 1, 28, 28)
    labels = torch.zeros(batch_size, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        loss = F.cross_entropy(network(images), labels)
        if backward:
            loss.backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops()) / batch_size
