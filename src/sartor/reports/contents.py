"""The contents of a report as plain values: report.json holds them, report.html shows them.

Version 1. Keys are only added within a version; null stands for what is not known, and `files` and
`file` are null where the data has no file names. Intervals hold 95 %.

    version         1
    sartor          version of the program
    run             path, state, checkpoint (best or last: what is judged), epoch of it,
                    chosen_on_validation, best_epoch, judged_weights_sha256, weights_sha256 (the
                    newest, as `fit --json` gives it)
    judged          split (val or test), final (the test split), count; null where nothing was
    untouched       {"split", "count", "command"}: test images that nobody has looked at, or null
    looks           at the test images, {times, by_this_run, weights, single, sentence}; null where
                    there are none
    data            source, fingerprint, shape, classes,
                    splits {train, val, test: {count, per_class}}, samples [{class, indices,
                    files}], changes {left_out, corrected [{file, given, label, reason}]},
                    findings [{check, severity, summary, count, files, remedy}] or null
    network         model, input_shape, output_shape, parameters, trainable_parameters,
                    parameter_bytes, rows [{name, kind, output_shape, parameter_shapes, parameters}]
    transfer        the head on features against the fine-tuned network: {taken (features or
                    finetune), epoch, sentence, count (validation images), groups (of them, or
                    null), correct {features, finetune}, only_features, only_finetune, difference,
                    interval}; null where the two were not compared
    training        epochs, seconds, history (rows as in history.jsonl), extensions [{step,
                    epochs}]: when it was given more epochs, and how many were planned until then
    evaluation      as `sartor evaluate --json`, and loss_interval, macro_f1, balanced_accuracy with
                    theirs, in per_class f1_interval and precision_interval, and probabilities
                    (false for a loss that gives scores); as_given is null where neither
                    exclusions nor fixes touch the split; sets and novelty where they were fitted
                    and the split is not the one that they come from
    confusions      [{true, predicted, count, share, images}], the most frequent first
    pairs           [{classes, there, back, count, share, interval}]: both directions together
    mistakes        {count, images}, the largest loss first; all of them are in mistakes.csv
    most_confident, least_confident                   images
    calibration     definition, temperature, fitted_on, cross_fitted, reason, before, after
    no_calibration  why there is no calibration, or null
    calibrated      {temperature, remarks}: what predictions of the run are made at, the confidences
                    here too, and sentences about what could not be calibrated
    coverage        points, curve, area, area_interval
    map             {method, points [{index, class, x, y}], outliers [{index, file, class,
                    strangeness}]}: the split in feature space; null where not drawn
    explained       {method, images [{index, file, true, predicted}]}: the worst mistakes, of which
                    the page shows the evidence for either class; null where not explained
    baselines       [{name, taught, correct, count, accuracy, accuracy_interval, difference,
                    difference_interval, beaten}]: simple methods on the judged images, and how much
                    better the network is; empty where nothing was judged
    overfitting     a sentence where training accuracy is far above validation, else null
    recipe          as in recipe.toml
    environment     as in environment.json
    again           {commands, note}: reproduces the run, in the shell or where the note says

    an image is     {index, file, true, predicted, confidence, probability_of_true, loss}
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..arrays import Int64Array
from ..data.dataset import Dataset
from ..data.splits.split import PARTS, Split
from ..evaluation.as_given import AsGiven
from ..evaluation.intervals import simultaneous
from ..evaluation.judgement import Judgement, ScoredPredictions
from ..evaluation.predictions import (
    NO_PREDICTION,
    NO_PREDICTION_NAME,
    Predictions,
)
from ..models.summary import Summary
from ..runs.looks import Looks
from ..training.schedule import parsed_extensions

if TYPE_CHECKING:
    from .drawable import Embedding

VERSION = 1
_MISTAKES_SHOWN = 48
_CONFIDENT_SHOWN = 12
_CONFUSIONS_WITH_IMAGES = 1000
_IMAGES_OF_A_CONFUSION = 24
_SAMPLES_OF_A_CLASS = 6
_OUTLIERS_SHOWN = 16

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What a report is made from."""

    run: Mapping[str, Any]
    """As under `run` in the document."""
    dataset: Dataset
    split: Split
    network: Summary
    history: Sequence[Mapping[str, Any]]
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    findings: Sequence[Mapping[str, Any]] | None
    """What a check of the data found; None where it was not checked."""
    commands: Sequence[str]
    note: str
    """What else the commands need."""
    predictions: Predictions | None
    """Of the split to judge; None where there is none to be judged."""
    judgement: Judgement | None
    temperature: float = 1.0
    """What the run's predictions are made at."""
    remarks: Sequence[str] = ()
    """What could not be calibrated and why."""
    embedding: Embedding | None = None
    """A map of the judged split."""
    explained: Sequence[Explained] = ()
    """The worst mistakes."""
    looks: Looks | None = None
    """How often the test images were looked at, this time included; None where there are none."""
    baselines: Sequence[Mapping[str, Any]] = ()
    """As under `baselines` in the document."""
    overfitting: str | None = None
    transfer: Mapping[str, Any] | None = None
    """As under `transfer` in the document."""
    as_given: AsGiven | None = None
    """The figures of the judged split without exclusions and fixes, where these touch it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Explained:
    """A mistake, and which pixels are evidence for either class."""

    index: int
    """Which image of the dataset."""
    true: str
    predicted: str
    method: str
    for_true: npt.NDArray[np.float32]
    """float32 (H, W): above 0 is evidence for the true class."""
    for_predicted: npt.NDArray[np.float32]


def describe(evidence: Evidence) -> Document:
    """The report as plain values for strict JSON."""
    judged = _judged(evidence) if evidence.predictions and evidence.judgement else _nothing_judged()
    return {
        "version": VERSION,
        "sartor": version("sartor"),
        "run": dict(evidence.run),
        "judged": None,
        "untouched": _untouched(evidence),
        "looks": evidence.looks
        and {**evidence.looks.to_json(), "sentence": evidence.looks.sentence},
        "data": _data(evidence),
        "network": _network(evidence.network),
        "transfer": evidence.transfer and dict(evidence.transfer),
        "training": _training(evidence),
        **judged,
        "map": _map(evidence.embedding, evidence.dataset) if evidence.embedding else None,
        "explained": _explained(evidence.explained, evidence.dataset)
        if evidence.explained
        else None,
        "baselines": [dict(one) for one in evidence.baselines],
        "overfitting": evidence.overfitting,
        "recipe": evidence.recipe,
        "environment": evidence.environment,
        "again": {"commands": list(evidence.commands), "note": evidence.note or None},
    }


def _judged(evidence: Evidence) -> Document:
    predictions, judgement = evidence.predictions, evidence.judgement
    assert predictions is not None
    assert judgement is not None
    images = _Images(
        ScoredPredictions.of(predictions, evidence.temperature),
        predictions.classes,
        evidence.dataset.files,
    )
    mistakes = images.scored.mistakes()
    confusion = judgement.evaluation.confusion
    return {
        "judged": {
            "split": predictions.split,
            "final": predictions.split == "test",
            "count": len(predictions),
        },
        "evaluation": {
            **judgement.to_json(),
            "as_given": evidence.as_given and evidence.as_given.to_json(),
        },
        "confusions": _confusions(confusion, mistakes, images),
        "pairs": _pairs(confusion, predictions.classes),
        "mistakes": {
            "count": len(mistakes),
            "images": images.entries(mistakes[:_MISTAKES_SHOWN]),
        },
        "most_confident": images.entries(images.scored.most_confident()[:_CONFIDENT_SHOWN]),
        "least_confident": images.entries(images.scored.least_confident()[:_CONFIDENT_SHOWN]),
        "calibration": judgement.calibration and judgement.calibration.to_json(),
        "no_calibration": judgement.no_calibration or None,
        "calibrated": {
            "temperature": evidence.temperature,
            "remarks": list(evidence.remarks),
        },
        "coverage": judgement.coverage and judgement.coverage.to_json(),
    }


def _nothing_judged() -> Document:
    names = ("evaluation", "confusions", "pairs", "mistakes", "most_confident", "least_confident")
    return dict.fromkeys((*names, "calibration", "no_calibration", "calibrated", "coverage"))


def _map(embedding: Embedding, dataset: Dataset) -> Document:
    rows = zip(
        embedding.indices.tolist(),
        embedding.labels.tolist(),
        embedding.points.tolist(),
        strict=True,
    )
    return {
        "method": embedding.method,
        "points": [
            {"index": index, "class": embedding.classes[label], "x": round(x, 4), "y": round(y, 4)}
            for index, label, (x, y) in rows
        ],
        "outliers": [
            {
                "index": int(embedding.indices[row]),
                "file": dataset.files[embedding.indices[row]] if dataset.files else None,
                "class": embedding.classes[embedding.labels[row]],
                "strangeness": round(float(embedding.outlier_scores[row]), 4),
            }
            for row in embedding.outlier_rows(_OUTLIERS_SHOWN)
        ],
    }


def _explained(explained: Sequence[Explained], dataset: Dataset) -> Document | None:
    if not explained:
        return None
    return {
        "method": explained[0].method,
        "images": [
            {
                "index": one.index,
                "file": dataset.files[one.index] if dataset.files else None,
                "true": one.true,
                "predicted": one.predicted,
            }
            for one in explained
        ],
    }


def _untouched(evidence: Evidence) -> Document | None:
    """The test images, where nobody has looked at them."""
    count, looks = len(evidence.split.test), evidence.looks
    judged = evidence.predictions is not None and evidence.predictions.split == "test"
    if not count or judged or (looks is not None and not looks.untouched):
        return None
    command = f"sartor report {shlex.quote(str(evidence.run['path']))}"
    return {"split": "test", "count": count, "command": command}


def _data(evidence: Evidence) -> Document:
    dataset, split = evidence.dataset, evidence.split
    return {
        "source": dataset.name,
        "fingerprint": dataset.fingerprint,
        "shape": list(dataset.shape),
        "classes": list(dataset.classes),
        "splits": {name: _counts(dataset, split.part(name)) for name in PARTS},
        "samples": [_samples(dataset, split.train, label) for label in range(len(dataset.classes))],
        "changes": _changes(dataset),
        "findings": None if evidence.findings is None else [*map(_finding, evidence.findings)],
    }


def _changes(dataset: Dataset) -> Document:
    """What exclusions and fixes say about single images; none of it changes the source."""
    roster, classes = dataset.everything(), dataset.classes
    left_out = {**roster.by_fixes.excluded, **roster.by_list}
    return {
        "left_out": [
            {
                "file": roster.names[index],
                "given": classes[roster.labels[index]],
                "label": None,
                "reason": left_out[index],
            }
            for index in sorted(left_out)
        ],
        "corrected": [
            {
                "file": roster.names[index],
                "given": classes[roster.labels[index]],
                "label": classes[new.label],
                "reason": new.reason,
            }
            for index, new in sorted(roster.by_fixes.labels.items())
            if index not in left_out
        ],
    }


def _counts(dataset: Dataset, indices: Int64Array) -> Document:
    labels = dataset.labels[indices]
    per_class = np.bincount(labels, minlength=len(dataset.classes)).tolist()
    return {"count": len(indices), "per_class": per_class}


def _samples(dataset: Dataset, train: Int64Array, label: int) -> Document:
    """Some of the training images of a class, spread evenly over them."""
    members = train[dataset.labels[train] == label]
    number = min(_SAMPLES_OF_A_CLASS, len(members))
    chosen = members[np.linspace(0, len(members) - 1, number).astype(int)].tolist()
    return {
        "class": dataset.classes[label],
        "indices": chosen,
        "files": None if dataset.files is None else [dataset.files[index] for index in chosen],
    }


def _finding(found: Mapping[str, Any]) -> Document:
    files, count = found.get("files"), found.get("count")
    return {
        "check": str(found.get("check", "")),
        "severity": str(found.get("severity", "note")),
        "summary": str(found.get("summary", "")),
        "count": count if isinstance(count, int) else None,
        "files": [str(name) for name in files] if isinstance(files, list) else [],
        "remedy": str(found.get("remedy", "")),
    }


def _network(summary: Summary) -> Document:
    document = summary.to_json()
    names = ("model", "input_shape", "output_shape", "parameters", "trainable_parameters")
    row_names = ("name", "kind", "output_shape", "parameter_shapes", "parameters", "repeated")
    return {
        **{name: document[name] for name in (*names, "parameter_bytes")},
        "rows": [{name: row[name] for name in row_names} for row in document["rows"]],
    }


def _training(evidence: Evidence) -> Document:
    history = [{key: _finite(value) for key, value in row.items()} for row in evidence.history]
    extensions = evidence.recipe.get("training", {}).get("extensions", ())
    return {
        # The head that fine-tuning begins with is epoch 0.
        "epochs": history[-1]["epoch"] if history else 0,
        "seconds": history[-1]["seconds"] if history else None,
        "history": history,
        "extensions": [one._asdict() for one in parsed_extensions(tuple(extensions))],
    }


@dataclass(frozen=True, eq=False)
class _Images:
    """Predictions with class and file names."""

    scored: ScoredPredictions
    classes: Sequence[str]
    files: Sequence[str] | None

    def entries(self, rows: Int64Array) -> list[Document]:
        return [self.entry(row) for row in rows.tolist()]

    def name_of(self, predicted: int) -> str:
        """Of a predicted class; or that there is none."""
        return NO_PREDICTION_NAME if predicted == NO_PREDICTION else self.classes[predicted]

    def entry(self, row: int) -> Document:
        scored = self.scored
        index = int(scored.indices[row])
        return {
            "index": index,
            "file": self.files[index] if self.files else None,
            "true": self.classes[scored.labels[row]],
            "predicted": self.name_of(int(scored.predicted[row])),
            "confidence": _finite(float(scored.confidences[row])),
            "probability_of_true": _finite(float(scored.truths[row])),
            "loss": _finite(float(scored.losses[row])),
        }


def mistakes_table(
    predictions: Predictions, files: Sequence[str] | None, temperature: float = 1.0
) -> list[Document]:
    """Every wrong prediction, largest loss first, as rows of mistakes.csv."""
    images = _Images(ScoredPredictions.of(predictions, temperature), predictions.classes, files)
    return images.entries(images.scored.mistakes())


def _confusions(confusion: Int64Array, mistakes: Int64Array, images: _Images) -> list[Document]:
    """Every nonempty cell off the diagonal; the first of them with images, worst first."""
    rows, columns = np.nonzero(confusion * (1 - np.eye(len(confusion), dtype=np.int64)))
    order = np.argsort(-confusion[rows, columns], kind="stable")
    totals = np.bincount(images.scored.labels, minlength=len(confusion))
    found = []
    members = _by_cell(images.scored, mistakes)
    for place, (true, predicted) in enumerate(
        zip(rows[order].tolist(), columns[order].tolist(), strict=True)
    ):
        wanted = _IMAGES_OF_A_CONFUSION if place < _CONFUSIONS_WITH_IMAGES else 0
        found.append(
            {
                "true": images.classes[true],
                "predicted": images.classes[predicted],
                "count": int(confusion[true, predicted]),
                "share": float(confusion[true, predicted] / totals[true]),
                "images": [images.entry(row) for row in members[true, predicted][:wanted]],
            }
        )
    return found


def _by_cell(scored: ScoredPredictions, mistakes: Int64Array) -> dict[tuple[int, int], list[int]]:
    members: dict[tuple[int, int], list[int]] = {}
    for row in mistakes.tolist():
        cell = int(scored.labels[row]), int(scored.predicted[row])
        members.setdefault(cell, []).append(row)
    return members


def _pairs(confusion: Int64Array, classes: Sequence[str]) -> list[Document]:
    """Pairs of classes confused with each other, most frequent first, at most 100.

    Their intervals hold for all pairs together, so also for those that are first.
    """
    both = np.triu(confusion + confusion.T, k=1)
    ones, others = np.nonzero(both)
    order = np.argsort(-both[ones, others], kind="stable")[:100]
    totals = confusion.sum(axis=1)
    present = int((totals > 0).sum())
    number = present * (present - 1) // 2
    found = []
    for one, other in zip(ones[order].tolist(), others[order].tolist(), strict=True):
        count, images = int(both[one, other]), int(totals[one] + totals[other])
        found.append(
            {
                "classes": [classes[one], classes[other]],
                "there": int(confusion[one, other]),
                "back": int(confusion[other, one]),
                "count": count,
                "share": count / images,
                "interval": list(simultaneous(count, images, number)),
            }
        )
    return found


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
