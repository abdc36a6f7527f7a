"""sartor: `sartor.fit` with the recipe of the walk-through."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import sartor

from ..material import Array, Material, weights_of

_ALONE = {"check": False, "report": False}
"""Nothing but training."""


class Trainee:
    """A run of its own for every training, with its checkpoints on the disk."""

    run: sartor.Run
    choices: dict[str, Any]
    """What differs from the recipe and from the defaults of `fit`."""

    def __init__(self, material: Material) -> None:
        self.material = material
        self.folder = Path(tempfile.mkdtemp(prefix="run-", dir=Path.cwd()))

    def prepare(self, epochs: int, head: bool) -> None:
        self.epochs = epochs
        # A new object, since a dataset remembers its fingerprint, and the first fit has to make it.
        self.dataset = self._dataset(head)
        shutil.rmtree(self.folder)

    def fit(self) -> None:
        self.run = sartor.fit(
            self.dataset,
            split_method="drawn",
            recipe=self.material.task.name,
            out=self.folder,
            epochs=self.epochs,
            device="cpu",
            **self.choices,
        )

    def weights(self) -> list[Array]:
        return weights_of(self.run.network("last"))

    def _dataset(self, head: bool) -> sartor.Dataset:
        """Those to train on, then those to judge; none is set aside."""
        images, labels = self.material.part(head)
        val_images, val_labels = self.material.val_part()
        count = self._val_images(head)
        return sartor.Dataset(
            np.concatenate([images, val_images[:count]])[:, None],
            np.concatenate([labels, val_labels[:count]]),
            tuple(map(str, range(10))),
            test=np.empty(0, np.int64),
            name=self.material.task.name,
        )

    def _val_fraction(self, head: bool) -> float:
        train, val = len(self.material.part(head)[0]), self._val_images(head)
        return val / (train + val)

    def _val_images(self, head: bool) -> int:
        """With few to train on, no more than these: sartor wants no split that is nearly all."""
        count = self.material.task.val_images
        return min(count, len(self.material.part(head)[0])) if head else count


class OnBatches(Trainee):
    """The bytes in memory; it makes the batches of them itself, in each step."""

    def prepare(self, epochs: int, head: bool) -> None:
        super().prepare(epochs, head)
        self.choices = {"val_fraction": 0.0, "shuffle": False, **_ALONE}


class ByDefaults(Trainee):
    """As README has it: the data are checked, and a report is written."""

    def prepare(self, epochs: int, head: bool) -> None:
        super().prepare(epochs, head)
        self.choices = {"val_fraction": self._val_fraction(head)}


class TrainingAlone(ByDefaults):
    """Without the check of the data and without the report, which no other tool makes."""

    def prepare(self, epochs: int, head: bool) -> None:
        super().prepare(epochs, head)
        self.choices |= _ALONE


class Predicting:
    """A predictor that is held ready, and arrays."""

    def __init__(self, material: Material) -> None:
        self.predictor = sartor.Run.open(material.run_folder).predictor()

    def many(self, images: Array) -> Array:
        return self.predictor.probabilities(images).argmax(1)

    def one(self, image: Array) -> int:
        return int(self.predictor.probabilities(image[np.newaxis]).argmax())


class PredictingPictures:
    """Pictures in memory, and a run that is opened for every call."""

    def __init__(self, material: Material) -> None:
        self.run = sartor.Run.open(material.run_folder)

    def many(self, images: Array) -> Array:
        answers = self.run.predict([Image.fromarray(image) for image in images])
        return np.array([self._number(answer) for answer in answers])

    def one(self, image: Array) -> int:
        (answer,) = self.run.predict(Image.fromarray(image))
        return self._number(answer)

    def _number(self, answer: sartor.Prediction) -> int:
        return list(answer.probabilities).index(answer.label)
