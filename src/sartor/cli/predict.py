"""`sartor predict`: classify pictures. Its flags, its call, its printing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from ..errors import Interrupted, UsageError
from ..files import json_line
from ..interrupts import stop_requests
from ..wording import one_line, plural
from .arguments import AbstainName, CheckpointName, DeviceName, InkName, MethodName, RuntimeName
from .output import check_count, note, progress_shown, refuse_for_bundle
from .picture_list import LIST, Named

if TYPE_CHECKING:
    import numpy as np

    from ..api import Predictor
    from ..api.predicting import Answered
    from ..api.predicting_many import Tally
    from ..inference.answers import Prediction, Row
    from .prediction_table import PredictionTable

_NAMED = 5
_DRAWN = 60


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Classify pictures, prepared exactly as in training."""

    run: Positional[str]
    """A run (folder, name in runs/, or latest), or a bundle (folder or .zip)."""
    pictures: Positional[tuple[str, ...]]
    """Picture files, folders (searched recursively), patterns such as 'in/*.png', archives (zip,
    tar) or parquet files. - reads a list from stdin, one per line or from `find -print0`."""
    out: Path | None = None
    """Write the predictions to this file: .csv, .jsonl, .json or .parquet."""
    resume: bool = False
    """Continue an interrupted --out where it stopped, with the same pictures and flags."""
    overwrite: bool = False
    """Replace an existing file."""
    topk: int | None = None
    """Show the N most probable classes; by default those in the set, or 3; in a file, all."""
    invert: bool = False
    """Invert the pictures: they are dark on light, but training had light on dark."""
    ink: InkName | None = None
    """Prepare handwriting differently than the run does; off takes pictures as they are."""
    image_column: str | None = None
    """Column of a parquet file with the pictures, if several columns have some."""
    show_input: Path | None = None
    """Draw each picture as the network sees it into this file (.png, .svg or .pdf)."""
    explain: Path | None = None
    """Draw which pixels support each prediction into this file (.png, .svg or .pdf)."""
    method: MethodName = "occlusion"
    """How to find those pixels; grad-cam needs a network with convolutions."""
    checkpoint: CheckpointName = "best"
    """Weights to use: best or last epoch."""
    calibrated: bool = True
    """Divide the logits by the temperature that was fitted on the validation images."""
    abstain: AbstainName = "off"
    """Withhold doubtful labels. novelty: those of unknown pictures; set: unless the set has exactly
    one class; off: none."""
    runtime: RuntimeName | None = None
    """Runtime for a bundle: onnx, torch, or int8 if the bundle has it; by default onnx if it is
    installed, else torch."""
    device: DeviceName | None = None
    """Device to compute on; by default the one used in training if available, else the best one."""
    trust: bool = False
    """Run the run's own Python file, whoever wrote it, and accept a recipe edited by hand."""
    json: bool = False
    """Print the result as one line of JSON."""


def predict(given: Predict) -> int:
    """Classify pictures; those that cannot be read are named, and make the exit code 1."""
    from .. import api
    from ..api.prediction_files import refuse_out
    from ..bundle.format import is_bundle

    if not given.pictures:
        raise UsageError("No picture is named.", "Name files, folders or a pattern such as 'in/*'.")
    check_count("--topk", given.topk)
    if given.out is None and (given.resume or given.overwrite):
        flag = "--resume" if given.resume else "--overwrite"
        raise UsageError(f"{flag} means nothing without --out.", "Name a file, or leave it out.")
    if given.out is not None and (given.show_input or given.explain or given.json):
        raise UsageError(
            "With --out the result is a file; --json, --show-input and --explain are for few "
            "pictures.",
            "Leave --out out, or draw the pictures in a second command.",
        )
    if given.out is not None:
        refuse_out(given.out, resume=given.resume, overwrite=given.overwrite)
    if is_bundle(given.run):
        run_only = {
            "--checkpoint": given.checkpoint != "best",
            "--no-calibrated": not given.calibrated,
            "--device": given.device is not None,
        }
        refuse_for_bundle(given.run, run_only)
    predictor = api.Predictor(
        given.run,
        checkpoint=given.checkpoint,
        calibrated=given.calibrated,
        # Whoever wants to see inside needs the network itself.
        runtime=given.runtime or ("torch" if given.explain and is_bundle(given.run) else None),
        device=given.device,
        trust=given.trust,
    )
    with stop_requests() as request:
        work = _into_file if given.out is not None else _onto_stdout
        tally = work(given, predictor, request.asked)
    _note_faults(tally)
    if request.asked():
        raise _interrupted(given, request.signal_number)
    _note_what_is_unlike(tally)
    if LIST in given.pictures and not (tally.predicted or tally.without or given.resume):
        note("The list on stdin is empty, so nothing was predicted.")
    return 1 if tally.without else 0


def _into_file(given: Predict, predictor: Predictor, stopped: Callable[[], bool]) -> Tally:
    from .. import api

    assert given.out is not None
    _note_what_probabilities_are(given, predictor)
    named = Named(given.pictures, stopped)
    with progress_shown(quiet=False) as progress:
        done = api.predict_to_file(
            predictor,
            named.pictures,
            given.out,
            resume=given.resume,
            overwrite=given.overwrite,
            topk=given.topk,
            invert=given.invert,
            ink=given.ink,
            image_column=given.image_column,
            abstain=given.abstain,
            on_event=progress,
            stopped=stopped,
            idle=named.idle,
        )
    if not done.stopped:
        kept = f", {done.kept:,} of them from before" if done.kept else ""
        print(f"{done.path}: {done.rows:,} {'row' if done.rows == 1 else 'rows'}{kept}")
    return done.tally


def _onto_stdout(given: Predict, predictor: Predictor, stopped: Callable[[], bool]) -> Tally:
    from ..api.predicting import Classifier
    from ..api.predicting_many import Tally
    from ..data.unlabelled import Unlabelled
    from .prediction_table import PredictionTable  # it takes NumPy

    classifier = Classifier(predictor, ink=given.ink, abstain=given.abstain)
    shown = "share of scores" if predictor.loss == "mse" else "probability"
    table = PredictionTable(given.topk, shown, predictor.calibration)
    printed: _JsonList | PredictionTable = _JsonList(given.topk) if given.json else table
    named = Named(given.pictures, stopped)
    pictures = Unlabelled(
        named.pictures, image_column=given.image_column, note=note, idle=named.idle
    )
    tally, drawn = Tally(), _Drawn()
    answers = classifier.answered(pictures, invert=given.invert, idle=pictures.idle, whole=False)
    with closing(answers) as answered:
        for chunk in answered:
            if stopped():
                break
            if not tally.predicted and any(hasattr(row, "label") for row in chunk.rows):
                _note_what_probabilities_are(given, predictor)
            tally.add(chunk.rows)
            if given.show_input or given.explain:
                drawn.add(chunk)
            printed.add(chunk.rows)
            if pictures.idle():
                printed.flush()
    if not stopped():
        printed.end()
    if drawn.rows:
        _draw(given, predictor, drawn, tally.predicted)
    return tally


class _JsonList:
    """One JSON list on one line, printed as its parts come in."""

    def __init__(self, topk: int | None) -> None:
        self._topk = topk
        self._begun = False

    def add(self, rows: list[Row]) -> None:
        """Print some more."""
        for row in rows:
            print(", " if self._begun else "[", end="")
            print(json_line(row.to_json(self._topk)), end="")
            self._begun = True

    def flush(self) -> None:
        """Show what there is, since more will take a while."""
        sys.stdout.flush()

    def end(self) -> None:
        """Close the list."""
        print("]" if self._begun else json.dumps([]), flush=True)


class _Drawn:
    """The first predictions, with what the network was given."""

    def __init__(self) -> None:
        self.rows: list[Prediction] = []
        self.images: list[np.ndarray[Any, Any]] = []

    def add(self, chunk: Answered) -> None:
        """Keep some more, as long as there are few."""
        from ..inference.answers import Prediction

        found = [row for row in chunk.rows if isinstance(row, Prediction)]
        for row, image in zip(found, chunk.images, strict=True):
            if len(self.rows) < _DRAWN:
                self.rows.append(row)
                self.images.append(image)


def _note_faults(tally: Tally) -> None:
    for fault in tally.unreadable:
        note(f"sartor: {one_line(fault.error)} {fault.hint}")
    more = tally.without - len(tally.unreadable)
    if more:
        note(f"sartor: {more:,} more pictures have no prediction; their rows say why.")


def _interrupted(given: Predict, signal_number: int) -> Interrupted:
    if given.out is None:
        return Interrupted(
            signal_number,
            "Stopped before the last picture.",
            "With --out FILE the rows are kept, and --resume goes on from them.",
        )
    return Interrupted(
        signal_number,
        f"Stopped before the last picture; {given.out} holds the rows so far.",
        "Go on with the same command and --resume.",
    )


def _note_what_probabilities_are(given: Predict, predictor: Predictor) -> None:
    """That they are none, or at which temperature they are."""
    if predictor.loss == "mse":
        note(
            "Trained with the loss mse: the numbers are shares of the outputs, clipped to 0..1, "
            "and not probabilities."
        )
        return
    calibration = predictor.calibration
    for remark in calibration.remarks:
        note(remark)
    if not given.calibrated:
        note("Probabilities are the network's own, and there are no sets.")
    elif calibration.temperature != 1:
        note(
            f"Probabilities are scaled by the temperature {calibration.temperature:.3f}, fitted on "
            f"{calibration.images:,} validation images."
        )


def _note_what_is_unlike(tally: Tally) -> None:
    """Count the unknown pictures; name those unlike all training images, and in what."""
    if tally.unknown:
        are, its = ("is", "its") if tally.unknown == 1 else ("are", "their")
        note(
            f"{tally.unknown:,} of {plural(tally.predicted, 'picture')} {are} unknown: too unlike "
            f"the training images for {its} label to mean much."
        )
    for one in tally.unlike_training[:_NAMED]:
        note(
            f"{one_line(one.file)} is unlike the training images: {'; '.join(one.unlike_training)}."
        )
    if tally.unlike > _NAMED:
        note(f"{tally.unlike - _NAMED:,} more pictures are unlike the training images.")
    if tally.unlike:
        note("What the network says of such pictures means little; --show-input FILE draws them.")


def _draw(given: Predict, predictor: Predictor, drawn: _Drawn, predicted: int) -> None:
    import numpy as np

    from .. import api
    from ..api.explaining import explain_images
    from ..reports.figures import save_figure

    images = np.stack(drawn.images)
    fewer = f", the first {len(images)} pictures" if len(images) < predicted else ""
    if given.show_input:
        captions = [
            f"{one.label} {one.probability:.0%}\n{Path(one.file).name}" for one in drawn.rows
        ]
        inputs = [
            api.Input(file=one.file, image=image)
            for one, image in zip(drawn.rows, images, strict=True)
        ]
        save_figure(api.inputs_figure(inputs, captions), given.show_input)
        note(f"Wrote {given.show_input}{fewer}")
    if given.explain:
        names = [one.file for one in drawn.rows]
        with predictor.at_work():
            explanations = explain_images(predictor, names, images, method=given.method)
        save_figure(api.explanations_figure(explanations), given.explain)
        note(f"Wrote {given.explain}{fewer}")
