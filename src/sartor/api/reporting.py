"""Report: all that can be predicted_class of a run, as one page and as plain values."""

from __future__ import annotations

import csv
import functools
import io
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from ..data.dataset import Dataset
from ..data.pictures.preprocess import Preprocess
from ..data.splits.split import Split
from ..errors import FileError, SartorError, UsageError
from ..evaluation.judgement import ScoredPredictions, judge
from ..evaluation.overfitting import overfitting
from ..evaluation.predictions import NO_PREDICTION, Predictions
from ..files import make_folder, write_text
from ..inspection.attribution import METHODS as ATTRIBUTION_METHODS
from ..models.summary import Summary, summarize
from ..reports.contents import Document, Evidence, Explained, describe, mistakes_table
from ..reports.run_page import render_notebook, render_report
from ..training.state import Checkpoint
from ..wording import cell, one_line
from .as_given import as_given
from .baselining import beside
from .calibrating import calibrate
from .explaining import explain_images
from .judging import choices_of
from .kept_calibration import calibration_in_use
from .looks import looks_of
from .mapping import Embedding, embedded
from .network_predictor import NetworkPredictor
from .notes import warn
from .opened import OpenedRun, described_weights, load_checkpoint, open_run
from .other_data import run_with
from .promises import with_promises
from .repeating import commands_to_repeat
from .split_predictions import predictions_of, validation_predictions

SPLITS = ("test", "val")
"""What a report may judge: a network knows its training images too well."""
_POINTS = 1_000
_EXPLAINED = 8


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Report:
    """A run, judged: `document` is what report.json holds, `path` the page for people."""

    document: Document
    path: Path | None
    """report.html; report.json and mistakes.csv lie beside it. None where the run is read-only."""

    @property
    def split(self) -> str | None:
        """The split that it judges; None where the run has none for it."""
        judged = self.document["judged"]
        return judged and str(judged["split"])

    def to_json(self) -> Document:
        """Plain values for strict JSON, under the keys that `reports/contents.py` lists."""
        return self.document

    def __repr__(self) -> str:
        evaluation, place = self.document["evaluation"], self.path or "(not saved)"
        if not evaluation:
            return f"<Report {place}: nothing judged>"
        low, high = evaluation["accuracy_interval"]
        return (
            f"<Report {place}: {self.split} accuracy {evaluation['accuracy']:.2%} "
            f"({low:.2%} to {high:.2%})>"
        )

    def _repr_html_(self) -> str:
        """The figures for notebooks."""
        return render_notebook(self.document, str(self.path or self.document["run"]["path"]))


def report(
    run: str | Path | OpenedRun,
    split: str | None = None,
    *,
    out: str | Path | None = None,
    checkpoint: str = "best",
    map: str = "pca",
    data: Dataset | str | Path | None = None,
    model: nn.Module | None = None,
    device: str | None = None,
    trust: bool = False,
) -> Report:
    """Judge a run and write report.html, report.json and mistakes.csv.

    Args:
        split: "test" or "val"; by default the test images where the run has some. Judging on them
            is final: choose nothing by what they say.
        out: the page's file, if not in the run's folder; the other two are written beside it.
        checkpoint: "best" by the validation split (where there is none, the last), or "last".
        map: how the images are laid out in two dimensions: pca, tsne or umap (extra `maps`).
        data: the run's own, as a program gave it or where it lies now.
        device, trust: as for `evaluate`.

    The temperature of the calibration is fitted on the validation split, whatever is judged.

    Raises:
        UsageError: an unknown split, or one without images. RunError: a broken run.
    """
    opened = run_with(open_run(run, None, model, device=device, trust=trust), data)
    page = opened.folder.report_path if out is None else _checked_page(Path(out))
    parts = opened.split()
    chosen = _chosen_split(parts, split)
    calibrate(opened, checkpoint)
    predictions = (
        predictions_of(opened, chosen, checkpoint=checkpoint, verb="report") if chosen else None
    )
    insights = _insights(opened, predictions, checkpoint, map) if predictions else (None, ())
    must_save = out is not None
    return _write(opened, parts, predictions, page, checkpoint, *insights, must_save=must_save)


def report_of_training(run: OpenedRun) -> Report | None:
    """The report that `fit` makes: it judges the validation split and leaves the test images alone.

    A run is worth more than its report: where that cannot be made, a warning says why.
    """
    try:
        parts = run.split()
        predictions = validation_predictions(run) if len(parts.val) else None
        return _write(run, parts, predictions, run.folder.report_path, "best")
    except Exception as error:
        reason = error.message if isinstance(error, SartorError) else _reason(error)
        again = f"sartor resume {shlex.quote(str(run.path))}"
        warn([f"The report could not be made: {reason} Try again: {again}"])
        return None


def _insights(
    run: OpenedRun, predictions: Predictions, checkpoint: str, method: str
) -> tuple[Embedding | None, tuple[Explained, ...]]:
    """A map of the split and reasons for the worst mistakes, where the network allows it."""
    try:
        embedding = embedded(
            run, predictions.split, method=method, limit=_POINTS, checkpoint=checkpoint
        )
    except UsageError:
        raise
    except Exception as error:  # a network of the user's own may do anything
        warn([f"The report has no map: {_reason(error)}"])
        embedding = None
    try:
        explained = _explained(run, predictions, checkpoint)
    except Exception as error:
        warn([f"The report does not explain the mistakes: {_reason(error)}"])
        explained = ()
    return embedding, explained


def _explained(run: OpenedRun, predictions: Predictions, checkpoint: str) -> tuple[Explained, ...]:
    classes, predicted = predictions.classes, predictions.predicted()
    mistakes = ScoredPredictions.of(predictions).mistakes()
    worst = mistakes[predicted[mistakes] != NO_PREDICTION][:_EXPLAINED]
    if not len(worst):
        return ()
    indices = predictions.indices[worst].tolist()
    predictor = NetworkPredictor(run, checkpoint=checkpoint)
    images = predictor.preprocess.images(run.dataset().images[indices])
    names = [str(index) for index in indices]
    found = []
    for row, index, name, image in zip(worst, indices, names, images, strict=True):
        true, predicted_class = classes[predictions.labels[row]], classes[predicted[row]]
        with predictor.at_work():
            for_true, for_predicted = (
                explain_images(
                    predictor, [name], image[None], method=ATTRIBUTION_METHODS[0], target=target
                )[0]
                for target in (true, predicted_class)
            )
        found.append(
            Explained(
                index=index,
                true=true,
                predicted=predicted_class,
                method=for_true.method,
                for_true=for_true.map,
                for_predicted=for_predicted.map,
            )
        )
    return tuple(found)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, SartorError) else f"{type(error).__name__}: {error}"


def _write(
    run: OpenedRun,
    parts: Split,
    predictions: Predictions | None,
    page: Path,
    checkpoint: str,
    embedding: Embedding | None = None,
    explained: Sequence[Explained] = (),
    must_save: bool = True,
) -> Report:
    kept = load_checkpoint(run.folder, checkpoint)
    dataset = run.dataset()
    validation = _validation(run, parts, predictions, checkpoint)
    commands, note = commands_to_repeat(run)
    calibration = calibration_in_use(run, checkpoint)
    judgement = None
    if predictions:
        judgement = judge(
            predictions,
            validation,
            choices=choices_of(run, predictions.split, checkpoint),
            temperature=calibration.temperature,
        )
        promised = with_promises(judgement.evaluation, predictions, calibration)
        judgement = replace(judgement, evaluation=promised)
    evidence = Evidence(
        run=_facts(run, kept, checkpoint),
        dataset=dataset,
        split=parts,
        network=_summary(run, kept),
        history=run.history,
        transfer=run.folder.transfer(),
        recipe=run.recipe.to_tables(),
        environment=run.folder.environment(),
        findings=run.folder.findings(),
        commands=commands,
        note=note,
        predictions=predictions,
        judgement=judgement,
        temperature=calibration.temperature,
        remarks=calibration.remarks,
        embedding=embedding,
        explained=explained,
        looks=looks_of(run.folder, dataset, parts.test),
        as_given=as_given(run, predictions, checkpoint=checkpoint) if predictions else None,
        baselines=beside(dataset, parts, predictions) if predictions else (),
        overfitting=overfitting(
            run.history,
            kept.progress.epoch,
            len(parts.val),
            on_features=run.recipe.training.transfer == "features",
        ),
    )
    text = json.dumps(describe(evidence), allow_nan=False)
    document = json.loads(text)
    mistakes = _mistakes_path(page)
    html = render_report(document, dataset, run.recipe.to_toml(), mistakes.name, explained)
    try:
        if predictions:
            rows = mistakes_table(predictions, dataset.files, calibration.temperature)
            write_text(mistakes, _as_csv(rows))
        write_text(page.with_suffix(".json"), f"{text}\n")
        write_text(page, html)
    except FileError as error:
        if must_save:
            raise
        advice = "Write it elsewhere with --out FILE.html."
        run.say_once(f"The report is not kept in the run. {error.message} {advice}")
        return Report(document=document, path=None)
    return Report(document=document, path=page)


def _facts(run: OpenedRun, judged: Checkpoint, checkpoint: str) -> dict[str, Any]:
    newest = load_checkpoint(run.folder, "last")
    return {
        "path": str(run.path),
        "state": run.status["state"],
        **described_weights(judged, checkpoint),
        "best_epoch": newest.progress.best_epoch or None,
        "judged_weights_sha256": judged.weights_sha256,
        "weights_sha256": newest.weights_sha256,
    }


def _validation(
    run: OpenedRun, parts: Split, predictions: Predictions | None, checkpoint: str
) -> Predictions | None:
    """Predictions of the validation split by the weights that are judged."""
    if predictions is None or not len(parts.val):
        return None
    if predictions.split == "val":
        return predictions
    return validation_predictions(run, checkpoint)


def _summary(run: OpenedRun, kept: Checkpoint) -> Summary:
    shape = Preprocess.from_settings(run.recipe.preprocess).input_shape
    network = run.untrained_network(len(kept.classes))
    return summarize(network, shape, count_multiply_adds=False)


def _chosen_split(parts: Split, split: str | None) -> str | None:
    if split is None:
        return next((name for name in SPLITS if len(parts.part(name))), None)
    if split not in SPLITS:
        raise UsageError(f'A report cannot judge "{split}".', "Choose test or val.")
    return split


def _checked_page(page: Path) -> Path:
    if page.suffix.lower() != ".html":
        raise UsageError(
            f"A report is a page, and {page.name} does not end in .html.",
            "Name it so: --out report.html.",
        )
    make_folder(page.parent)
    return page


def _mistakes_path(page: Path) -> Path:
    return page.with_name("mistakes.csv" if page.stem == "report" else f"{page.stem}-mistakes.csv")


def _as_csv(rows: list[Document]) -> str:
    columns = ("index", "file", "true", "predicted", "confidence", "probability_of_true", "loss")
    shown = functools.cache(lambda text: cell(one_line(text)))  # names of classes come often
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = [row[key] for key in columns]
        writer.writerow([shown(one) if isinstance(one, str) else one for one in values])
    return stream.getvalue()
