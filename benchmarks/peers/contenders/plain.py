"""PyTorch by hand: the loop of the walk-throughs, and its step with everything else left out."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
import tutorial
from torch import nn, optim

from ..material import Array, Material, weights_of
from ..torchvision_sets import training_set


class Trainee:
    """A network of `tutorial.py` and its optimizer."""

    network: nn.Module
    optimizer: optim.Optimizer

    def __init__(self, material: Material) -> None:
        self.material = material
        self.training = material.task.training

    def prepare(self, epochs: int, _head: bool) -> None:
        self.epochs = epochs
        self.network = self.material.network().train()
        self.optimizer = self.training.optimizer(
            self.network.parameters(), lr=self.training.learning_rate
        )

    def weights(self) -> list[Array]:
        return weights_of(self.network)


class BareSteps(Trainee):
    """The same batch again and again; no loss is read.

    The learning rate is 0: a batch learnt by heart has gradients so small that processors take
    many times as long for them.
    """

    def prepare(self, epochs: int, head: bool) -> None:
        super().prepare(epochs, head)
        batches = self.material.batches(head)
        self.batch, self.steps = batches[0], epochs * len(batches)
        self.optimizer = self.training.optimizer(self.network.parameters(), lr=0.0)

    def fit(self) -> None:
        images, labels = self.batch
        for _ in range(self.steps):
            loss = F.cross_entropy(self.network(images), labels)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()


class OnBatches(Trainee):
    """The loop as it stands, over batches that lie ready."""

    def prepare(self, epochs: int, head: bool) -> None:
        super().prepare(epochs, head)
        self.loader = self.material.ready_loader(head)

    def fit(self) -> None:
        for _ in range(self.epochs):
            tutorial.train_epoch(self.network, self.loader, self.optimizer)


class ByDefaults(Trainee):
    """The walk-through: torchvision's set, one sample at a time."""

    def prepare(self, epochs: int, head: bool) -> None:
        super().prepare(epochs, head)
        self.sets = training_set(self.material, head)

    def fit(self) -> None:
        train_set, val_set = self.sets
        size, shuffle = self.training.batch_size, self.training.shuffle
        train_loader = tutorial.DataLoader(train_set, batch_size=size, shuffle=shuffle)
        val_loader = tutorial.DataLoader(val_set, batch_size=size)
        for _ in range(self.epochs):
            tutorial.train_epoch(self.network, train_loader, self.optimizer)
            if len(val_set):
                tutorial.evaluate(self.network, val_loader)


class Predicting:
    """`eval`, `inference_mode`, batches of 1,000."""

    def __init__(self, material: Material) -> None:
        self.network = material.network().eval()

    def many(self, images: Array) -> Array:
        parts = [self._labels(part) for part in torch.from_numpy(images).split(1000)]
        return torch.cat(parts).numpy()

    def one(self, image: Array) -> int:
        return int(self._labels(torch.from_numpy(image[np.newaxis])))

    def _labels(self, images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = self.network(images[:, None].float() / 255)
            return logits.argmax(1)


class CompiledPredicting(Predicting):
    """The same, compiled for each of the two sizes of a batch."""

    def __init__(self, material: Material) -> None:
        super().__init__(material)
        self.network = torch.compile(self.network, dynamic=False)  # type: ignore[assignment]
