"""fastai: `DataLoaders` around PyTorch's loaders, and a `Learner` with `fit`.

`OptimWrapper` takes PyTorch's optimizers: fastai's own Adam decays weights and has other defaults.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from fastai.callback import progress  # noqa: F401  adds `no_bar`, and the bar itself
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.metrics import accuracy
from fastai.optimizer import OptimWrapper
from torch.utils.data import DataLoader, TensorDataset

from ..material import Array, Material, weights_of
from ..torchvision_sets import training_set


class Trainee:
    """A learner of its own for every training."""

    def __init__(self, material: Material) -> None:
        self.material = material
        self.training = material.task.training

    def prepare(self, epochs: int, head: bool) -> None:
        self.epochs = epochs
        self.learner = Learner(
            DataLoaders(*self._loaders(head)),
            self.material.network(),
            loss_func=F.cross_entropy,
            opt_func=partial(OptimWrapper, opt=self.training.optimizer),
            metrics=accuracy if self.material.task.val_images else None,
        )

    def fit(self) -> None:
        self.learner.fit(self.epochs, lr=self.training.learning_rate)

    def weights(self) -> list[Array]:
        return weights_of(self.learner.model)

    def _loaders(self, head: bool) -> tuple[Any, Any]:
        raise NotImplementedError


class OnBatches(Trainee):
    """No progress bar, no lines."""

    def _loaders(self, head: bool) -> tuple[Any, Any]:
        return self.material.ready_loader(head), []

    def fit(self) -> None:
        with self.learner.no_bar(), self.learner.no_logging():
            super().fit()


class ByDefaults(Trainee):
    """As its pages on coming from PyTorch have it: torchvision's set in PyTorch's loaders."""

    def _loaders(self, head: bool) -> tuple[Any, Any]:
        train_set, val_set = training_set(self.material, head)
        size, shuffle = self.training.batch_size, self.material.task.shuffle
        train = DataLoader(train_set, batch_size=size, shuffle=shuffle)
        return train, DataLoader(val_set, batch_size=size) if len(val_set) else []


class Predicting:
    """`get_preds`; `predict` of one item needs fastai's own data sets."""

    def __init__(self, material: Material) -> None:
        self.learner = Learner(DataLoaders([], []), material.network(), loss_func=F.cross_entropy)

    def many(self, images: Array) -> Array:
        floats = torch.from_numpy(images)[:, None].float() / 255
        labels = torch.zeros(len(images), dtype=torch.int64)
        loader = DataLoader(TensorDataset(floats, labels), batch_size=1000)
        with self.learner.no_bar():
            answers, _ = self.learner.get_preds(dl=loader)
        return answers.argmax(1).numpy()

    def one(self, image: Array) -> int:
        raise NotImplementedError
