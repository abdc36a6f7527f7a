"""What the training loop says while it works. Sinks listen; none of them can change training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Kept(Protocol):
    """Something that can be written to a file."""

    def to_bytes(self, sealed: Mapping[str, str] | None = None) -> bytes:
        """The file's content, which vouches for what is `sealed`, too."""
        ...


@dataclass(frozen=True)
class Note:
    """A remark before or beside training, such as where data is fetched from."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """Pictures are being looked at, decoded or run through a backbone, before training; said a few
    times a second."""

    activity: str
    """What is done with them: "sizes", "decoding" or "features"."""
    done: int
    total: int
    pictures_per_second: float
    seconds_left: float


@dataclass(frozen=True, kw_only=True)
class PreparationDone:
    """Pictures were decoded and lie in the cache; not said where all of them lay there before."""

    decoded: int
    copied: int
    """Taken over from an earlier preparation, for their files have the same content."""
    unreadable: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Predicting:
    """Pictures were predicted; said a few times a second, and at the end."""

    done: int
    """Rows so far, those of an earlier process included."""
    total: int | None
    """None until they are counted, and where they cannot be."""
    unreadable: int
    pictures_per_second: float
    seconds_left: float | None
    ended: bool = False


@dataclass(frozen=True, kw_only=True)
class Working:
    """Shards of a plan are done, by this worker and others; said a few times a second, and at the
    end."""

    task: str
    """predict, check, features or decode."""
    done: int
    """Pictures of all shards that are done, and of the one at hand."""
    total: int
    shards_done: int
    shards: int
    pictures_per_second: float
    """Of all workers, since this one began."""
    seconds_left: float | None
    ended: bool = False


@dataclass(frozen=True, kw_only=True)
class Started:
    """Training is about to begin or to resume."""

    run: str
    """Path of the run's folder."""
    source: str
    train_images: int
    val_images: int
    test_images: int
    num_classes: int
    model: str
    parameters: int
    """Trainable numbers."""
    epochs: int
    steps_per_epoch: int
    device: str
    threads: int
    memory_format: str
    amp_dtype: str
    step: int
    """Updates done already; 0 for a new training."""
    untrained_loss: float | None
    """Loss of the first batch before training; None where training resumes."""
    expected_loss: float | None
    """Loss of a network that guesses at chance level: ln(classes) for cross-entropy; None for
    mse, which has no such level."""
    imbalanced: bool = False
    """Whether classes differ so much in size that the accuracy of all images hides small ones."""
    engine: str = ""
    """The engine chosen and what was measured, in one line; empty where nothing was."""
    without_native: str = ""
    """Why the training does not use the engine native, in a clause; empty where it does."""


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """Some steps were made; said a few times a second."""

    step: int
    """Updates done in the whole training."""
    total_steps: int
    epoch: int
    """Counted from 1."""
    epochs: int
    position: int
    """Updates done in this epoch."""
    steps_per_epoch: int
    learning_rate: float
    train_loss: float
    """Mean over the epoch so far."""
    train_accuracy: float
    """Share of the epoch's images so far, in 0..1."""
    images_per_second: float
    seconds_left: float
    """Until the last step, at the pace of this epoch, validation left out."""


_COUNTED = ("epoch", "step")
_MEASURED = ("seconds", "learning_rate", "train_loss", "train_accuracy", "images_per_second")
_VALIDATED = ("val_loss", "val_accuracy")
_LARGEST = 1e15


def is_history_row(row: object) -> bool:
    """Whether somebody's JSON is a row of the history: it has the columns, and numbers in them;
    figures of validation may be missing, the loss also by itself, where it was not finite.

    JSON as Python reads it has NaN, which means that a figure could not be computed.
    """
    if not isinstance(row, Mapping) or not row.keys() >= {*_COUNTED, *_MEASURED, *_VALIDATED}:
        return False
    whole = all(type(row[name]) is int and 0 <= row[name] < _LARGEST for name in _COUNTED)
    others = [name for name in row if name in _MEASURED or name.startswith("val_")]
    return (
        whole
        and (row["val_loss"] is None or row["val_accuracy"] is not None)
        and all(
            isinstance(row[name], float)
            or (type(row[name]) is int and abs(row[name]) < _LARGEST)
            or (row[name] is None and name.startswith("val_"))
            for name in others
        )
    )


@dataclass(frozen=True, kw_only=True)
class EpochDone:
    """An epoch is over and validated."""

    row: dict[str, Any]
    """The row of the history."""
    best: bool
    """Whether its validation figure is the best so far."""


@dataclass(frozen=True, kw_only=True)
class RungChosen:
    """A fine-tuned network was compared with the head on features that it began with."""

    sentence: str
    document: Mapping[str, Any]
    """The figures, for transfer.json."""


@dataclass(frozen=True, kw_only=True)
class CheckpointDue:
    """The state to keep now. The loop goes on when it is written."""

    last: Kept
    best: Kept | None
    """The best epoch's weights, where they are new."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """Training is over; `reason` is "finished", "stopped early" or "interrupted"."""

    reason: str


Event = (
    Note
    | Preparing
    | PreparationDone
    | Predicting
    | Working
    | Started
    | StepDone
    | EpochDone
    | RungChosen
    | CheckpointDue
    | Ended
)
