"""What every contender is asked to do: to train four networks of `tutorial.py`, and to predict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import tutorial

Table = Literal["batches", "defaults", "predict"]

HEAD_STEPS = 20
"""Steps of the short training that comes before those that are timed."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training in one of two ways, or predictions of one trained network."""

    name: str
    """In `tutorial.TRAININGS`, and of sartor's recipe."""
    table: Table
    """batches: images ready in memory, no order drawn, nothing judged, nothing shown; the order is
    the same for all. defaults: what the tool's documentation has a newcomer write. predict: bytes
    in memory to the number of a class, with weights that are the same for all."""
    source: str
    """Named set."""
    train_images: int
    """The first of the set, with `val_images` after them; those that are predicted."""
    val_images: int = 0
    epochs: int = 1
    """Of the training that is timed."""
    whole_epochs: int = 0
    """Of the walk-through, for those who train as long as it does."""

    @property
    def training(self) -> tutorial.Training:
        """Network and hyper-parameters."""
        return tutorial.TRAININGS[self.name]

    @property
    def shuffle(self) -> bool:
        """Whether each epoch has an order of its own."""
        return self.table == "defaults" and self.training.shuffle

    @property
    def steps(self) -> int:
        """In an epoch."""
        return -(-self.train_images // self.training.batch_size)

    @property
    def head_images(self) -> int:
        """Of the short training: as many whole batches and the same last one."""
        size = self.training.batch_size
        return HEAD_STEPS * size + self.train_images % size

    def quick(self) -> Task:
        """A tenth of the images, or less, and few epochs: to see that everything runs."""
        size = self.training.batch_size
        train_images = min(self.train_images, 4 * HEAD_STEPS * size + self.train_images % size)
        val_images = min(self.val_images, 3 * size)
        whole_epochs = min(self.whole_epochs, 3)
        return replace(
            self,
            train_images=train_images,
            val_images=val_images,
            epochs=2,
            whole_epochs=whole_epochs,
        )

    @property
    def key(self) -> str:
        """Names the task among all."""
        return f"{self.table}/{self.name}"


# Batches are all whole, so that nothing is compiled twice for the last one.
TASKS: tuple[Task, ...] = (
    Task(
        name="fashion-cnn",
        table="batches",
        source="fashion-mnist",
        train_images=20_000,
        epochs=3,
    ),
    Task(name="mnist-mlp", table="batches", source="mnist", train_images=9_600, epochs=4),
    Task(name="mnist-logistic", table="batches", source="mnist", train_images=29_952, epochs=7),
    Task(
        name="fashion-mlp", table="batches", source="fashion-mnist", train_images=29_952, epochs=6
    ),
    Task(
        name="fashion-cnn",
        table="defaults",
        source="fashion-mnist",
        train_images=60_000,
        epochs=1,
        whole_epochs=5,
    ),
    Task(
        name="mnist-mlp",
        table="defaults",
        source="mnist",
        train_images=60_000,
        val_images=10_000,
        epochs=1,
        whole_epochs=3,
    ),
    Task(
        name="mnist-logistic",
        table="defaults",
        source="mnist",
        train_images=50_000,
        val_images=10_000,
        epochs=2,
        whole_epochs=5,
    ),
    Task(
        name="fashion-mlp",
        table="defaults",
        source="fashion-mnist",
        train_images=50_000,
        val_images=10_000,
        epochs=2,
        whole_epochs=10,
    ),
    Task(name="fashion-cnn", table="predict", source="fashion-mnist", train_images=10_000),
    Task(name="mnist-mlp", table="predict", source="mnist", train_images=10_000),
)
