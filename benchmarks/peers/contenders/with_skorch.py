"""skorch: a `NeuralNetClassifier` around the network."""

from __future__ import annotations

from typing import Any

import numpy as np
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn

from ..material import Array, Material, weights_of


class Trainee:
    """A classifier of its own for every training."""

    choices: dict[str, Any]
    data: tuple[Any, Any]

    def __init__(self, material: Material) -> None:
        self.material = material
        self.training = material.task.training

    def prepare(self, epochs: int, _head: bool) -> None:
        self.net = NeuralNetClassifier(
            self.material.network(),
            criterion=nn.CrossEntropyLoss,
            optimizer=self.training.optimizer,
            lr=self.training.learning_rate,
            max_epochs=epochs,
            classes=range(10),
            **self.choices,
        )

    def fit(self) -> None:
        self.net.fit(*self.data)

    def weights(self) -> list[Array]:
        return weights_of(self.net.module_)


class OnBatches(Trainee):
    """Its loader is PyTorch's and can be handed whole batches; nothing is printed."""

    def prepare(self, epochs: int, head: bool) -> None:
        self.choices = {"train_split": None, "iterator_train__batch_size": None, "verbose": 0}
        self.data = (self.material.ready_loader(head).dataset, None)
        super().prepare(epochs, head)


class ByDefaults(Trainee):
    """Arrays of floats in memory, as in its walk-through on MNIST."""

    def prepare(self, epochs: int, head: bool) -> None:
        val = _floats(*self.material.val_part())
        self.choices = {
            "batch_size": self.training.batch_size,
            "iterator_train__shuffle": self.material.task.shuffle,
            "train_split": predefined_split(Dataset(*val)) if len(val[0]) else None,
        }
        self.data = _floats(*self.material.part(head))
        super().prepare(epochs, head)


class Predicting:
    """`predict`, in batches of 1,000."""

    def __init__(self, material: Material) -> None:
        self.net = NeuralNetClassifier(
            material.network(),
            criterion=nn.CrossEntropyLoss,
            classes=range(10),
            iterator_valid__batch_size=1000,
        ).initialize()

    def many(self, images: Array) -> Array:
        return np.asarray(self.net.predict(images[:, None].astype(np.float32) / 255))

    def one(self, image: Array) -> int:
        return int(self.many(image[np.newaxis])[0])


def _floats(images: Array, labels: Array) -> tuple[Array, Array]:
    """float32 (N, 1, 28, 28) in 0..1."""
    return images[:, None].astype(np.float32) / 255, labels
