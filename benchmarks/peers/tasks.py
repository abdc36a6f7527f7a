"""What every contender is asked to train: four networks of `tutorial.py`, each in two ways."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import tutorial

Table = Literal["batches", "defaults"]
TABLES: tuple[Table, ...] = ("batches", "defaults")

HEAD_STEPS = 20
"""Steps of the short training that comes before those that are timed."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training, in one of the two ways."""

    name: str
    """In `tutorial.TRAININGS`, and of sartor's recipe."""
    table: Table
    """batches: images ready in memory, no order drawn, nothing judged, nothing shown; the order is
    the same for all. defaults: what the tool's documentation has a newcomer write."""
    source: str
    """Named set."""
    train_images: int
    """The first of the set; with `val_images` after them."""
    val_images: int = 0
    epochs: int
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
        train_images=30_000,
        epochs=4,
    ),
    Task(name="mnist-mlp", table="batches", source="mnist", train_images=19_200, epochs=4),
    Task(name="mnist-logistic", table="batches", source="mnist", train_images=59_904, epochs=7),
    Task(
        name="fashion-mlp", table="batches", source="fashion-mnist", train_images=59_904, epochs=5
    ),
    Task(
        name="fashion-cnn",
        table="defaults",
        source="fashion-mnist",
        train_images=60_000,
        epochs=2,
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
        epochs=3,
        whole_epochs=5,
    ),
    Task(
        name="fashion-mlp",
        table="defaults",
        source="fashion-mnist",
        train_images=50_000,
        val_images=10_000,
        epochs=3,
        whole_epochs=10,
    ),
)
