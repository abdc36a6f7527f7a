"""Where training stands, and how it is kept in one file that proves itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ..errors import CheckpointError
from ..models.custom import reason_of
from ..models.weights import weights_sha256
from .optim import Optimizer

FORMAT = 1


@dataclass(kw_only=True)
class Sums:
    """What an epoch has added up so far; every figure of the epoch follows from these."""

    loss: float = 0.0
    weight: float = 0.0
    correct: int = 0
    count: int = 0
    seconds: float = 0.0
    """Time spent on training steps."""


@dataclass(kw_only=True)
class Progress:
    """Where training stands. The only thing that the loop changes besides the weights."""

    step: int = 0
    """Updates done."""
    epoch: int = 0
    """Epochs finished, validation included."""
    position: int = 0
    """Updates done in the present epoch."""
    sums: Sums = field(default_factory=Sums)
    seconds: float = 0.0
    """Time since the data lay ready, over all sessions."""
    best_epoch: int = 0
    """Epoch with the best validation figure, counted from 1; 0 before there is one, or where a head
    on features is the best."""
    best_value: float | None = None
    """Its figure."""
    patience_from: int = 0
    """Epoch after which patience counts: the best one, or the one at which a run was extended."""
    stopped_early: bool = False
    head_correct: str = ""
    """Of the head that was fitted to features before the first step: which validation images it
    classifies correctly, in order, as "1" and "0"; empty where there is no such head yet."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row an epoch."""

    def copy(self) -> Progress:
        """A copy that later steps do not touch."""
        return replace(self, sums=replace(self.sums), history=list(self.history))


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything that continues a training: weights, the optimizer's state, progress."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    progress: Progress
    classes: tuple[str, ...]
    """What each output of the model means; it travels with the weights."""
    sealed: Mapping[str, str] = field(default_factory=dict)
    """What it says of other files, which lie beside it, under its own checksum."""

    @cached_property
    def weights_sha256(self) -> str:
        """Equal weights give equal hashes."""
        return weights_sha256(self.weights)

    def to_bytes(self, sealed: Mapping[str, str] | None = None) -> bytes:
        """A safetensors file whose metadata holds the progress and a checksum over everything.

        Args:
            sealed: replaces the checkpoint's own, where it is given.
        """
        tensors = _named(self.weights, self.optimizer)
        kept_of_others = dict(self.sealed if sealed is None else sealed)
        state = json.dumps(
            {"format": FORMAT, "progress": asdict(self.progress), "classes": self.classes}
            | ({"sealed": kept_of_others} if kept_of_others else {}),
            sort_keys=True,
        )
        # Under one key, for the order of several is not the same from file to file.
        kept = {"state": state, "sha256": _checksum(tensors, state)}
        return save(tensors, {"sartor": json.dumps(kept, separators=(",", ":"))})

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> Checkpoint:
        """The checkpoint in a file of that content.

        Raises:
            CheckpointError: truncated, damaged by as little as a bit, or of another format.
        """
        try:
            tensors = load(content)
            metadata = _metadata(content)
            state = metadata["state"]
            intact = metadata["sha256"] == _checksum(tensors, state)
            kept = json.loads(state)
        except (*_DAMAGE, SafetensorError) as error:
            raise _damaged(name, reason_of(error)) from error
        if not intact:
            raise _damaged(name, "its checksum does not match")
        if not isinstance(kept, Mapping):
            raise _damaged(name, "what it says of the training is not a table")
        if kept.get("format") != FORMAT:
            raise CheckpointError(
                f"{name} has the format {kept.get('format')}; this version of sartor reads "
                f"{FORMAT}.",
                "Use the version named in the run's environment.json.",
            )
        try:
            return cls(
                weights=_without_prefix(tensors, "model."),
                optimizer=_without_prefix(tensors, "optimizer."),
                progress=_progress(kept["progress"], name),
                classes=tuple(_checked(kept["classes"], "classes", _is_list_of_text)),
                sealed=_checked(kept.get("sealed", {}), "sealed", _is_table_of_text),
            )
        except _DAMAGE as error:
            reason = f"what it says of the training cannot be read ({reason_of(error)})"
            raise _damaged(name, reason) from None


def snapshot(
    model: nn.Module, optimizer: Optimizer, progress: Progress, classes: tuple[str, ...]
) -> Checkpoint:
    """A copy of the present state that later steps do not touch."""
    return Checkpoint(
        weights=copied(model.state_dict()),
        optimizer=copied(optimizer.tensors),
        progress=progress.copy(),
        classes=classes,
    )


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors copied to the processor's memory, contiguous."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def _named(weights: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = {f"model.{name}": tensor for name, tensor in weights.items()}
    return named | {f"optimizer.{name}": tensor for name, tensor in optimizer.items()}


def _progress(kept: Mapping[str, Any], name: str) -> Progress:
    """The progress that a checkpoint holds, of this version of sartor or an older one.

    Raises:
        CheckpointError: it has something that this version does not know.
    """
    for part, kind in ((kept, Progress), (kept["sums"], Sums)):
        _checked(part, "progress", lambda value: isinstance(value, Mapping))
        known = {field.name for field in fields(kind)}
        more = sorted(set(part) - known)
        if more:
            raise CheckpointError(
                f"{name} comes from a newer version of sartor: it holds {', '.join(more)}, which "
                "this version does not know.",
                "Use the version named in the run's environment.json.",
            )
        for one, value in part.items():
            _checked(value, one, _WHAT_IT_MUST_BE.get(one, lambda _: True))
    return Progress(**{**kept, "sums": Sums(**kept["sums"])})


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) < _LARGEST)


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_table_of_text(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


_LARGEST = 1 << 63
_DAMAGE = (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)
"""What JSON and its use leave with where it says something else than was written."""
_WHAT_IT_MUST_BE: Mapping[str, Callable[[object], bool]] = {
    **dict.fromkeys(("step", "epoch", "position", "best_epoch", "patience_from"), _is_count),
    **dict.fromkeys(("correct", "count"), _is_count),
    **dict.fromkeys(("seconds", "loss", "weight"), _is_number),
    "best_value": lambda value: value is None or _is_number(value),
    "stopped_early": lambda value: isinstance(value, bool),
    "head_correct": lambda value: isinstance(value, str) and set(value) <= {"0", "1"},
    "history": lambda value: isinstance(value, list) and all(isinstance(r, dict) for r in value),
}


def _checked(value: Any, name: str, fits: Callable[[object], bool]) -> Any:
    """The value of a checkpoint's JSON, if it is what was written under that name."""
    if not fits(value):
        raise ValueError(f"{name} is not what it should be")
    return value


def _without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    # In the order of names: safetensors gives them in one that changes with every process.
    named = sorted(tensors.items())
    return {name.removeprefix(prefix): t for name, t in named if name.startswith(prefix)}


def _checksum(tensors: Mapping[str, Tensor], state: str) -> str:
    return hashlib.sha256(f"{weights_sha256(tensors)}{state}".encode()).hexdigest()


def _metadata(content: bytes) -> dict[str, Any]:
    # The layout of safetensors: eight bytes with the length of a JSON header, the header, the data.
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    return dict(json.loads(metadata["sartor"]))


def _damaged(name: str, reason: str) -> CheckpointError:
    return CheckpointError(f"{name} is damaged: {reason}.", "An older checkpoint may be whole.")
