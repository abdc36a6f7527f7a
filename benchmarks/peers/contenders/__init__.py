"""The tools, one file each: how its own documentation has one train these networks.

A file has a class for each table, made from the material. Nothing is imported
here, for a process loads one tool alone.
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
        kind = getattr(self.import_tool(), self.makers[material.task.table])
        return cast(Trainee, kind(material))


BOTH: Mapping[Table, str] = {"batches": "OnBatches", "defaults": "ByDefaults"}

CONTENDERS: Mapping[str, Contender] = {
    "bare": Contender(
        title="a bare step on one batch", module="plain", makers={"batches": "BareSteps"}
    ),
    "loop": Contender(title="tutorial loop", module="plain", makers=BOTH),
    "sartor": Contender(title="sartor", module="with_sartor", makers=BOTH, whole=True),
    "sartor-alone": Contender(
        title="sartor, training alone", module="with_sartor", makers={"defaults": "TrainingAlone"}
    ),
    "lightning": Contender(title="Lightning", module="with_lightning", makers=BOTH),
    "fastai": Contender(title="fastai", module="with_fastai", makers=BOTH),
    "skorch": Contender(title="skorch", module="with_skorch", makers=BOTH),
    "keras-torch": Contender(
        title="Keras on torch",
        module="with_keras",
        makers=BOTH,
        environment={"KERAS_BACKEND": "torch"},
    ),
    "keras-jax": Contender(
        title="Keras on JAX",
        module="with_keras",
        makers=BOTH,
        environment={"KERAS_BACKEND": "jax"},
    ),
}
