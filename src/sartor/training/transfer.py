"""Training on features: a frozen backbone, computed once, and a head fitted to it in one step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from ..arrays import Float32Array, Int64Array
from ..errors import TrainingError
from ..events import CheckpointDue, Ended, EpochDone, Event, Note
from ..inference.features import Features, backbone_in
from .head import Head, fit_head
from .job import Job
from .loop import judged
from .state import Checkpoint, Progress, copied


class Part(NamedTuple):
    """Some of a dataset's images."""

    indices: Int64Array
    labels: Int64Array


def train_on_features(
    job: Job,
    views: tuple[Features, ...],
    train: Part,
    val: Part,
    units: Int64Array | None,
    progress: Progress,
    stop_asked: Callable[[], bool],
) -> Iterator[Event]:
    """Fit the head of the job's network, and yield events as `loop.train` does: one epoch.

    Args:
        views: features of the images, and of their mirrored views where training uses these.
        units: training images of one unit share a fold, int64 (N,); None where each stands alone.

    Raises:
        TrainingError: a feature is not finite. DataError: the training images are of one class.
    """
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
                yield Ended(reason="interrupted")
                return
    fitting = time.perf_counter()
    rows = _finite(np.concatenate([features.of(train.indices) for features in views]))
    head = _head(job, rows, np.tile(train.labels, len(views)), _units(units, train, len(views)))
    _put_into(job, head)
    seconds = time.perf_counter() - fitting
    known = rows[: len(train.labels)]
    figures = judged([_logits(job, head, known, train.labels)], job)
    on_val = None
    if len(val.labels):
        unseen = _finite(views[0].of(val.indices))
        on_val = judged([_logits(job, head, unseen, val.labels)], job)
    progress.step = progress.epoch = 1
    progress.seconds = time.perf_counter() - began
    row = {
        "epoch": 1,
        "step": 1,
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
        progress.best_epoch, progress.best_value = 1, row[job.settings.monitor]
    yield EpochDone(row=row, best=on_val is not None)
    yield _checkpoint(job, progress, best=on_val is not None)
    yield Ended(reason="finished")


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
    kept = Checkpoint(
        weights=copied(job.model.state_dict()),
        optimizer={},
        progress=progress.copy(),
        classes=job.classes,
    )
    return CheckpointDue(last=kept, best=kept if best else None)
