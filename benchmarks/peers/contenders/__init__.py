"""The tools, one file each: how its own documentation has one train these networks.

A file has a class for each table, made from the material. Nothing is imported
here, for a process loads only one tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Protocol, cast

from ..material import Array, Material
from ..tasks import Table, Task


class Trainee(Protocol):
    """A network that can be trained again and again from the same first weights."""

    def prepare(self, epochs: int, head: bool) -> None:
        """Back to the first weights, and whatever comes before the training; not timed."""

    def fit(self) -> None:
        """Train as prepared; timed."""

    def weights(self) -> list[Array]:
        """As the last training left them, in the order of the network's parameters."""


class Predictor(Protocol):
    """A trained network, ready to answer."""

    def many(self, images: Array) -> Array:
        """The class of each of these images, uint8 (N, 28, 28) -> (N,)."""

    def one(self, image: Array) -> int:
        """The class of one image, uint8 (28, 28).

        Raises:
            NotImplementedError: the tool's documentation has nothing for a single image.
        """


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One row of the tables."""

    title: str
    module: str
    """File in this folder."""
    makers: Mapping[Table, str]
    """The class of its trainee, for each table that it is in."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of its process."""
    whole: bool = False
    """Whether it trains as many epochs as the walk-through, which for the slower takes too long."""

    def epochs(self, task: Task) -> int:
        """Of the training that is timed."""
        return task.whole_epochs if self.whole and task.whole_epochs else task.epochs

    def import_tool(self) -> ModuleType:
        """The file, which imports the tool."""
        return import_module(f".{self.module}", __package__)

    def trainee(self, material: Material) -> Trainee:
        """Ready to be prepared."""
        return cast(Trainee, self._made_of(material))

    def predictor(self, material: Material) -> Predictor:
        """Ready to answer."""
        return cast(Predictor, self._made_of(material))

    def _made_of(self, material: Material) -> object:
        return getattr(self.import_tool(), self.makers[material.task.table])(material)


ALL: Mapping[Table, str] = {
    "batches": "OnBatches",
    "defaults": "ByDefaults",
    "predict": "Predicting",
}

CONTENDERS: Mapping[str, Contender] = {
    "bare": Contender(
        title="a bare step on one batch", module="plain", makers={"batches": "BareSteps"}
    ),
    "loop": Contender(
        title="tutorial loop",
        module="plain",
        makers={"batches": "OnBatches", "defaults": "ByDefaults"},
    ),
    "eager": Contender(title="plain torch", module="plain", makers={"predict": "Predicting"}),
    "compiled": Contender(
        title="torch.compile", module="plain", makers={"predict": "CompiledPredicting"}
    ),
    "sartor": Contender(title="sartor", module="with_sartor", makers=ALL, whole=True),
    "sartor-alone": Contender(
        title="sartor, training only", module="with_sartor", makers={"defaults": "TrainingAlone"}
    ),
    "sartor-pictures": Contender(
        title="sartor, run.predict of pictures",
        module="with_sartor",
        makers={"predict": "PredictingPictures"},
    ),
    "lightning": Contender(title="Lightning", module="with_lightning", makers=ALL),
    "fastai": Contender(title="fastai", module="with_fastai", makers=ALL),
    "skorch": Contender(title="skorch", module="with_skorch", makers=ALL),
    "keras-torch": Contender(
        title="Keras on torch",
        module="with_keras",
        makers=ALL,
        environment={"KERAS_BACKEND": "torch"},
    ),
    "keras-jax": Contender(
        title="Keras on JAX",
        module="with_keras",
        makers=ALL,
        environment={"KERAS_BACKEND": "jax"},
    ),
}
