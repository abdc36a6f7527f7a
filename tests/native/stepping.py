"""Logits of the engine native, and a single step of its, for tests of its layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sartor import native_module
from sartor.inference.chain import array_of, layers_of, network_of

Shape = tuple[int, int, int]
CLASSES = 4


def seeded(network: nn.Module, seed: int) -> None:
    """Parameters that are not nearly zero or one, as those of batch normalisation would be."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan = max(1, parameter[0].numel())
            parameter.copy_(
                torch.randn(parameter.shape, generator=generator) / math.sqrt(fan) + 0.1
            )


def compiled(network: nn.Module, shape: Shape, threads: int = 1, instructions: str = "auto") -> Any:
    return network_of(layers_of(network, shape), shape, CLASSES, threads, instructions)


def logits_of(network: nn.Module, images: Tensor, threads: int = 1, isa: str = "auto") -> Tensor:
    shape = tuple(images.shape[1:])
    found = torch.empty(len(images), CLASSES)
    compiled(network, shape, threads, isa).forward(array_of(images), array_of(found))
    return found


def step(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    threads: int = 1,
    isa: str = "auto",
    together: Any = None,
) -> float:
    """A step of gradient descent with rate 1; returns the loss, summed over the images."""
    module = native_module.module()
    assert module is not None
    trainer = module.Trainer(
        compiled(network, tuple(images.shape[1:]), threads, isa),
        {"kind": "cross-entropy", "smoothing": 0.0, "weights": None},
        {
            "kind": "sgd",
            "momentum": 0.0,
            "nesterov": False,
            "beta1": 0.9,
            "beta2": 0.999,
            "epsilon": 1e-8,
            "alpha": 0.99,
            "parameters": [
                {
                    "parameter": array_of(one),
                    "decay": 0.0,
                    "factor": 1.0,
                    "step": np.zeros(1, np.float32),
                }
                for one in network.parameters()
            ],
        },
        1,
        0.0,
        together,
    )
    losses, weights, correct = np.empty(1), np.empty(1), np.empty(1, np.int64)
    rest = (np.ones(1), np.array([7], np.uint64), losses, weights, correct)
    trainer.steps_of_floats(array_of(images), array_of(labels), len(images), *rest)
    return float(losses[0])


def batch(shape: Shape, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, *shape, generator=generator)
    return images, torch.randint(CLASSES, (size,), generator=generator)
