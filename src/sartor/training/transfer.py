"""Transfer: a head fitted to the features of a frozen backbone, and fine-tuning from there on.

`loop.train` makes the steps; this says what is before them, and which network is taken after them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from ..arrays import Float32Array, Int64Array
from ..errors import TrainingError
from ..events import CheckpointDue, Ended, EpochDone, Event, Note, RungChosen
from ..inference.features import Features, backbone_in
from ..inference.forward import Forward
from .head import Head, fit_head
from .job import Job
from .loop import judged, predicted, train
from .state import Checkpoint, Progress, copied, snapshot


class Part(NamedTuple):
    """Some of a dataset's images."""

    indices: Int64Array
    labels: Int64Array


class Known(NamedTuple):
    """What a head is fitted to."""

    views: tuple[Features, ...]
    """Features of the images, and of their mirrored views where training uses these."""
    train: Part
    val: Part
    units: Int64Array | None
    """Training images of one unit share a fold, int64 (N,); None where each stands alone."""


class Choice(NamedTuple):
    """Between the head on features and the fine-tuned network."""

    is_tuned: bool
    sentence: str
    document: Mapping[str, Any]


Choose = Callable[[str, str], Choice]
"""Which of two networks to take, from the validation images that each classifies correctly, as
`Progress.head_correct` says it: first the head on features, then the fine-tuned network."""


def train_on_features(
    job: Job, known: Callable[[], Known], progress: Progress, stop_asked: Callable[[], bool]
) -> Iterator[Event]:
    """Fit the head of the job's network, and yield events as `loop.train` does: one epoch.

    Raises:
        TrainingError: a feature is not finite. DataError: the training images are of one class.
    """
    if (yield from _fit_head(job, known(), progress, stop_asked, epoch=1)):
        yield Ended(reason="finished")
    else:
        yield Ended(reason="interrupted")


def climb(
    job: Job,
    known: Callable[[], Known],
    progress: Progress,
    stop_asked: Callable[[], bool],
    pause_asked: Callable[[], bool],
    choose: Choose | None,
) -> Iterator[Event]:
    """Fit a head on features, which is epoch 0, and train the network from there on.

    Args:
        choose: between the last epoch and the head; None where the best epoch counts, as always.

    Raises:
        As `train_on_features` and `loop.train`.
    """
    if not progress.history:
        fitted = yield from _fit_head(job, known(), progress, stop_asked, epoch=0)
        if not fitted:
            yield Ended(reason="interrupted")
            return
    for event in train(job, progress, stop_asked, pause_asked):
        is_over = isinstance(event, CheckpointDue) and progress.epoch >= job.settings.epochs
        # Kept only once it is decided: a run whose last epoch is kept counts as finished.
        yield from _decided(job, progress, choose) if is_over and choose else (event,)


def _fit_head(
    job: Job, known: Known, progress: Progress, stop_asked: Callable[[], bool], *, epoch: int
) -> Generator[Event, None, bool]:
    """Compute features and fit the head to them; whether it was not stopped before."""
    views, train, val, _ = known
    began = time.perf_counter() - progress.seconds
    notes: list[Event] = []
    yield _checkpoint(job, progress, best=False)
    for features in views:
        for event in features.computed(lambda text: notes.append(Note(text))):
            yield from notes
            notes.clear()
            yield event
            if stop_asked():
                yield _checkpoint(job, progress, best=False)
                return False
    fitting = time.perf_counter()
    rows = _finite(np.concatenate([features.of(train.indices) for features in views]))
    units = _units(known.units, train, len(views))
    head = _head(job, rows, np.tile(train.labels, len(views)), units)
    _put_into(job, head)
    seconds = time.perf_counter() - fitting
    figures = judged([_logits(job, head, rows[: len(train.labels)], train.labels)], job)
    on_val = None
    if len(val.labels):
        logits, labels = _logits(job, head, _finite(views[0].of(val.indices)), val.labels)
        on_val = judged([(logits, labels)], job)
        progress.head_correct = _correct([(logits, labels)])
    progress.step = progress.epoch = epoch
    progress.seconds = time.perf_counter() - began
    row = {
        "epoch": epoch,
        "step": epoch,
        "seconds": round(progress.seconds, 4),
        "learning_rate": 0.0,
        "train_loss": figures.loss,
        "train_accuracy": figures.accuracy,
        "val_loss": on_val.loss if on_val else None,
        "val_accuracy": on_val.accuracy if on_val else None,
        "images_per_second": round(len(train.labels) / max(seconds, 1e-9), 1),
        "val_balanced_accuracy": on_val.balanced_accuracy if on_val else None,
        "val_macro_f1": on_val.macro_f1 if on_val else None,
        "strength": head.strength,
    }
    progress.history.append(row)
    if on_val:
        progress.best_epoch, progress.best_value = epoch, row[job.settings.monitor]
    yield EpochDone(row=row, best=on_val is not None)
    yield _checkpoint(job, progress, best=on_val is not None)
    return True


def _decided(job: Job, progress: Progress, choose: Choose) -> Iterator[Event]:
    """Take the last epoch or the head, and keep what is taken as the best."""
    assert job.val is not None, "there is nothing to choose by"
    choice = choose(
        progress.head_correct, _correct(Forward.of(job.model, job.settings).over(job.val))
    )
    if choice.is_tuned:
        progress.best_epoch = progress.epoch
        progress.best_value = progress.history[-1][job.settings.monitor]
    yield RungChosen(
        sentence=choice.sentence, document={"epoch": progress.best_epoch, **choice.document}
    )
    yield _checkpoint(job, progress, best=choice.is_tuned)


def _correct(outputs: Iterable[tuple[Tensor, Tensor]]) -> str:
    """Which images are classified correctly, "1" or "0" for each."""
    found = [(predicted(logits) == labels).tolist() for logits, labels in outputs]
    return "".join("1" if one else "0" for part in found for one in part)


def _head(job: Job, rows: Float32Array, labels: Int64Array, units: Int64Array | None) -> Head:
    weights = job.objective.class_weights
    # Products of this size gain little from more threads, and lose much where cores are busy.
    with threadpool_limits(1):
        return fit_head(
            rows,
            labels,
            job.num_classes,
            units=units,
            weights=None if weights is None else weights.cpu().double().numpy()[labels],
            seed=job.settings.seed,
        )


def _units(units: Int64Array | None, train: Part, views: int) -> Int64Array | None:
    """Units of the rows; the views of an image are of one unit."""
    if units is None and views == 1:
        return None
    own = np.arange(len(train.labels)) if units is None else units
    return np.tile(own, views)


@torch.no_grad()
def _put_into(job: Job, head: Head) -> None:
    backbone = backbone_in(job.model)
    assert backbone is not None
    backbone.head.weight.copy_(torch.from_numpy(head.weight))
    if backbone.head.bias is not None:
        backbone.head.bias.copy_(torch.from_numpy(head.bias))


def _logits(job: Job, head: Head, rows: Float32Array, labels: Int64Array) -> tuple[Tensor, Tensor]:
    device = job.settings.device
    logits = torch.from_numpy(np.ascontiguousarray(head.logits(rows)))
    return logits.to(device), torch.from_numpy(labels).to(device)


def _finite(rows: Float32Array) -> Float32Array:
    if not np.isfinite(rows).all():
        raise TrainingError(
            "The backbone's features are not finite.",
            "Choose --amp-dtype float32, or other weights.",
        )
    return rows


def _checkpoint(job: Job, progress: Progress, *, best: bool) -> CheckpointDue:
    if job.settings.transfer == "features":
        # No step will be made, and its optimizer remembers nothing.
        weights = copied(job.model.state_dict())
        kept = Checkpoint(
            weights=weights, optimizer={}, progress=progress.copy(), classes=job.classes
        )
    else:
        kept = snapshot(job.model, job.optimizer, progress, job.classes)
    return CheckpointDue(last=kept, best=kept if best else None)
