"""The verbs, for Python and for the command line: the only place that sees everything."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from . import assembly
from .data.catalogue import NAMES
from .data.dataset import Dataset
from .data.preprocess import Preprocess, find_pictures, read_picture
from .data.sources import open_source
from .data.split import Split, make_split
from .errors import (
    CheckpointError,
    DataError,
    FileError,
    Interrupted,
    PictureError,
    RunError,
    SartorError,
    SartorWarning,
    TrainingError,
    UsageError,
)
from .evaluation.metrics import Evaluation
from .evaluation.metrics import evaluate as judge
from .evaluation.predictions import Predictions, probabilities_of
from .events import Ended, Event, Note, Started
from .files import make_folder, write_bytes, write_json, write_json_lines, write_text
from .interrupts import stop_requests
from .models.custom import is_custom, reason_of, source_of
from .models.summary import Summary, summarize
from .recipe import Recipe, load_recipe
from .runs.environment import describe_environment
from .runs.folder import RunFolder, create_run
from .runs.sinks import Recorder
from .runs.store import RUNS, find_run
from .training import engine
from .training.loop import Job, logits_of, precision, train
from .training.objective import untrained_loss
from .training.overfit import OverfitResult
from .training.overfit import overfit_batch as learn_by_heart
from .training.preflight import check_model, count_parameters
from .training.state import Checkpoint, Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Sink = Callable[[Event], None]
Picture = str | Path | Image.Image
"""A file, a folder, a pattern, or a picture in memory."""
_PICTURES_AT_ONCE = 256


def load(source: str | Path, *, on_event: Sink | None = None) -> Dataset:
    """A named set, fetched if it is not on disk yet, or a folder of IDX files.

    Raises:
        UsageError: an unknown name. DataError: it cannot be had, or cannot be read.
    """
    return open_source(str(source), note=_noting(on_event))


def fit(
    data: str | Path | Dataset | None = None,
    *,
    model: str | nn.Module | None = None,
    recipe: str | Path | Recipe | None = None,
    out: str | Path | None = None,
    on_event: Sink | None = None,
    **settings: Any,
) -> Run:
    """Train a classifier and keep all that comes of it in a run's folder.

    Args:
        data: a named set, a folder of IDX files or a `Dataset`; by default that of the recipe.
        model: a registered name, "path/file.py:Name", or any network (B, C, H, W) -> (B, classes).
        recipe: a shipped recipe's name, a TOML file or a `Recipe` to start from.
        out: the run's folder; by default the next free runs/NAME.
        on_event: called with every event of the training.
        settings: anything that `sartor fit --help` lists, such as epochs=5, lr=0.01, seed=1.

    Raises:
        RecipeError: every problem of the settings at once. Interrupted: by a signal, after saving.
        DataError, ModelError, TrainingError, FileError: as their sentences say.
    """
    wanted = compose_recipe(recipe, model, settings)
    dataset, wanted = _dataset(data, wanted, on_event)
    ready = time.perf_counter()
    job, resolved, material = _assemble(wanted, dataset, model)
    loss, warned = _checked(job, resolved)
    _warn(warned)
    folder = create_run(
        None if out is None else Path(out), f"{dataset.name}-{_short_name(resolved)}", RUNS
    )
    with folder.locked():
        # Another process may have come first since the folder was made.
        folder.refuse_unless_empty()
        _write_beginnings(folder, resolved, material.split)
        sink = _sink(folder, on_event)
        progress = Progress(seconds=time.perf_counter() - ready)
        sink(_started(folder, job, resolved, material, progress, loss))
        _train(folder, job, progress, sink)
    return Run(folder, dataset=dataset, network=model if isinstance(model, nn.Module) else None)


def resume(
    run: str | Path | Run,
    *,
    epochs: int | None = None,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    on_event: Sink | None = None,
) -> Run:
    """Go on where a run stopped, or train a finished one for more epochs.

    On the processor the weights end bit for bit as if nothing had happened. `data` and `model` are
    needed only by runs that were given these as Python objects.

    Raises:
        RunError: no such run, broken, in use, or from another version. Others as `fit`.
    """
    before = _as_run(run, data, model)
    with before.folder.locked():
        before.folder.settle()
        checkpoint = _checkpoint_or_none(before.folder)
        progress = checkpoint.progress if checkpoint else Progress()
        recipe = _extended(before, progress, epochs)
        if progress.epoch >= recipe.training.epochs or progress.stopped_early:
            _close(before, recipe, progress)
            _tell(on_event, f"{before.path} is finished; train it longer with --epochs N.")
            return before
        _continue(before, recipe, checkpoint, progress, on_event)
    return before


def evaluate(
    run: str | Path | Run,
    split: str = "test",
    *,
    checkpoint: str = "best",
    data: Dataset | None = None,
    model: nn.Module | None = None,
) -> Evaluation:
    """Judge a run's weights on one split; the predictions are saved in the run.

    Args:
        split: "test", "val" or "train".
        checkpoint: "best" by the validation split (where there is none, the last), or "last".

    Raises:
        UsageError: an unknown split, or one without images. RunError: a broken run.
    """
    return judge(predictions_of(_as_run(run, data, model), split, checkpoint=checkpoint))


def predict(
    run: str | Path | Run,
    pictures: Picture | Sequence[Picture],
    *,
    invert: bool = False,
    checkpoint: str = "best",
) -> list[Prediction]:
    """Classify pictures of any size and mode, prepared exactly as in training.

    Args:
        pictures: files, folders, patterns or pictures in memory; one or many.
        invert: for dark on light, where training had light on dark.

    Raises:
        PictureError: naming every file that cannot be read. RunError: a broken run.
    """
    several = [pictures] if isinstance(pictures, str | Path | Image.Image) else list(pictures)
    predictions, faults = predict_readable(
        _as_run(run), several, invert=invert, checkpoint=checkpoint
    )
    if faults:
        raise PictureError("\n".join(fault.message for fault in faults), faults[0].hint)
    return predictions


def overfit_batch(
    data: str | Path | Dataset | None = None,
    *,
    model: str | nn.Module | None = None,
    recipe: str | Path | Recipe | None = None,
    said: Callable[[int, float, float], None] = lambda _step, _loss, _accuracy: None,
    **settings: Any,
) -> OverfitResult:
    """Train on the first batch alone until it is learnt by heart; makes no run.

    A network that cannot do this has a mistake in it, or a learning rate that is far off.
    """
    wanted = compose_recipe(recipe, model, settings)
    dataset, wanted = _dataset(data, wanted, None)
    job, resolved, _ = _assemble(wanted, dataset, model)
    _, warned = _checked(job, resolved)
    _warn(warned)
    with engine.tuned(resolved.training):
        return learn_by_heart(job, job.batches.batch(0, 0), resolved.training.lr, said)


def summary(
    model: str | nn.Module | Run, data: str | Path | Dataset = "digits", **model_kwargs: Any
) -> Summary:
    """A table of a network's layers: shapes, parameters, multiply-adds, memory.

    Args:
        model: a name, "path/file.py:Name", any network, or a run, whose data and settings it uses.
        data: whose images decide the shapes.
    """
    if isinstance(model, Run):
        shape = Preprocess.from_settings(model.recipe.preprocess).input_shape
        return summarize(model.network("last"), shape)
    dataset, _ = _dataset(data, Recipe(), None)
    if isinstance(model, str):
        recipe = Recipe().with_settings(
            {
                "model": model,
                "model_kwargs": model_kwargs,
                "image_size": dataset.shape[1:],
                "channels": dataset.shape[0],
            }
        )
        model = assembly.build_network(recipe, len(dataset.classes))
    return summarize(model, dataset.shape)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a run says of one picture."""

    file: str
    label: str
    probability: float
    """Of the label, in 0..1."""
    probabilities: dict[str, float]
    """Of every class, in 0..1; they sum to 1."""

    def to_json(self, topk: int | None = None) -> dict[str, Any]:
        """The keys of `predict --json`; with `topk`, the most probable classes alone."""
        chosen = self.top(topk) if topk else list(self.probabilities.items())
        return {
            "file": self.file,
            "label": self.label,
            "probability": self.probability,
            "probabilities": dict(chosen),
        }

    def top(self, count: int) -> list[tuple[str, float]]:
        """The most probable classes, the first first."""
        return sorted(self.probabilities.items(), key=lambda pair: -pair[1])[:count]


class Run:
    """A run's folder and what can be done with it."""

    def __init__(
        self, folder: RunFolder, *, dataset: Dataset | None = None, network: nn.Module | None = None
    ) -> None:
        self.folder = folder
        self._dataset = dataset
        self._network = network

    @classmethod
    def open(cls, name_or_path: str | Path) -> Run:
        """A run by its path, its name in runs/, or "latest".

        Raises:
            RunError: there is none, or it is broken or from another version.
        """
        folder = find_run(name_or_path)
        folder.read_recipe_text()
        folder.status()
        return cls(folder)

    def __repr__(self) -> str:
        status, rows = self.status["state"], self.history
        figures = ""
        if rows:
            part = "train" if rows[-1]["val_accuracy"] is None else "val"
            figures = f", {part} accuracy {rows[-1][f'{part}_accuracy']:.2%}"
        return f"<Run {self.path}: {status}, {len(rows)} epochs{figures}>"

    def _repr_html_(self) -> str:
        import base64
        import html
        import io

        stream = io.BytesIO()
        if self.history:
            self.plot().savefig(stream, format="png", dpi=80)
        picture = base64.b64encode(stream.getvalue()).decode()
        image = (
            f'<br><img alt="loss and accuracy over epochs" src="data:image/png;base64,{picture}">'
        )
        return f"<code>{html.escape(repr(self))}</code>" + (image if picture else "")

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe: the same run can be made from it again."""
        return _read_recipe(self.folder)

    @property
    def history(self) -> list[dict[str, Any]]:
        """One row an epoch."""
        return self.folder.history()

    @property
    def status(self) -> dict[str, Any]:
        """`state`, and what goes with it."""
        return self.folder.status()

    @property
    def weights_sha256(self) -> str:
        """Of the newest weights; equal weights give equal hashes."""
        return load_checkpoint(self.folder, "last").weights_sha256

    @property
    def classes(self) -> tuple[str, ...]:
        """What each output of the network means."""
        return load_checkpoint(self.folder, "last").classes

    def dataset(self) -> Dataset:
        """The dataset that it was trained on.

        Raises:
            DataError: it is not the same any more, or was a Python object that is not at hand.
        """
        recipe = self.recipe
        if self._dataset is None:
            self._dataset = _reopened(recipe)
        if self._dataset.fingerprint != recipe.data.fingerprint:
            raise DataError(
                f"The data {recipe.data.source} is not what {self.path} was trained on.",
                "Give the original data, or train anew.",
            )
        return self._dataset

    def split(self) -> Split:
        """The split that it was trained with."""
        content = self.folder.read_bytes(self.folder.split_path, "split.npz")
        return Split.from_bytes(content)

    def network(self, checkpoint: str = "best") -> nn.Module:
        """The trained network, on its device, in evaluation mode."""
        kept = load_checkpoint(self.folder, checkpoint)
        return _with_weights(self._bare_network(len(kept.classes)), kept, self.path).eval()

    def _bare_network(self, num_classes: int) -> nn.Module:
        source = self.folder.model_source_path
        recipe = self.recipe
        network = self._network or assembly.build_network(
            recipe, num_classes, source if source.is_file() else None
        )
        return assembly.place_network(network, recipe)[0]

    def plot(self) -> Figure:
        """Loss and accuracy over epochs."""
        from .report.figures import learning_curves

        return learning_curves(self.history)

    def evaluate(self, split: str = "test", *, checkpoint: str = "best") -> Evaluation:
        """As `sartor.evaluate`."""
        return evaluate(self, split, checkpoint=checkpoint)

    def predict(
        self,
        pictures: Picture | Sequence[Picture],
        *,
        invert: bool = False,
        checkpoint: str = "best",
    ) -> list[Prediction]:
        """As `sartor.predict`."""
        return predict(self, pictures, invert=invert, checkpoint=checkpoint)

    def resume(self, *, epochs: int | None = None, on_event: Sink | None = None) -> Run:
        """As `sartor.resume`."""
        return resume(self, epochs=epochs, on_event=on_event)

    def result(self) -> dict[str, Any]:
        """The figures of the last epoch and the hash of its weights, as `fit --json` gives them."""
        kept = load_checkpoint(self.folder, "last")
        rows = kept.progress.history
        last = rows[-1] if rows else {}
        speed = len(rows) / sum(1 / row["images_per_second"] for row in rows) if rows else None
        names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        return {
            "run": str(self.path),
            "epochs": kept.progress.epoch,
            "steps": kept.progress.step,
            "seconds": round(kept.progress.seconds, 4),
            "images_per_second": speed and round(speed, 1),
            **{name: last.get(name) for name in names},
            "weights_sha256": kept.weights_sha256,
        }


def compose_recipe(
    recipe: str | Path | Recipe | None,
    model: str | nn.Module | None,
    settings: Mapping[str, Any],
) -> Recipe:
    """The recipe to start from with all that was said besides."""
    base = recipe if isinstance(recipe, Recipe) else load_recipe(recipe) if recipe else Recipe()
    changes = dict(settings)
    if isinstance(model, nn.Module):
        changes |= {"model": assembly.IN_MEMORY + type(model).__name__, "model_kwargs": {}}
    elif model is not None:
        changes["model"] = model
        if model != base.model.model:
            # Another network has other settings.
            changes.setdefault("model_kwargs", {})
    return base.with_settings(changes)


def predictions_of(run: Run, split: str, *, checkpoint: str = "best") -> Predictions:
    """Predict every image of a split and save the logits in the run."""
    recipe, dataset, parts = run.recipe, run.dataset(), run.split()
    if split not in ("train", "val", "test"):
        raise UsageError(f'There is no split "{split}".', "Choose train, val or test.")
    indices = parts.part(split)
    if not len(indices):
        raise UsageError(
            f"The {split} split of {run.path} has no images.", "Choose another with --split."
        )
    kept = load_checkpoint(run.folder, checkpoint)
    network = _with_weights(run._bare_network(len(kept.classes)), kept, run.path)
    material, _ = assembly.prepare_material(recipe, dataset, parts)
    feed = material.feed(indices, recipe.training)
    with engine.tuned(recipe.training):
        logits = torch.cat([logits for logits, _ in logits_of(network, feed, recipe.training)])
    predictions = Predictions(
        logits=logits.cpu().numpy(),
        labels=dataset.labels[indices],
        indices=indices,
        classes=kept.classes,
        split=split,
        loss=recipe.training.loss,  # type: ignore[arg-type]
        weights_sha256=kept.weights_sha256,
        dataset_fingerprint=dataset.fingerprint,
    )
    predictions.save(_made_parent(run.folder.predictions_path(split)))
    return predictions


def predict_readable(
    run: Run,
    pictures: Sequence[Picture],
    *,
    invert: bool = False,
    checkpoint: str = "best",
) -> tuple[list[Prediction], list[PictureError]]:
    """Predictions for the pictures that can be read, and the reasons for the others."""
    recipe = run.recipe
    preprocess = Preprocess.from_settings(recipe.preprocess)
    kept = load_checkpoint(run.folder, checkpoint)
    network = _with_weights(run._bare_network(len(kept.classes)), kept, run.path).eval()
    normalize = preprocess.normalizer(recipe.training.device)
    predictions: list[Prediction] = []
    faults: list[PictureError] = []
    for names, images in _prepared(pictures, preprocess, invert, faults):
        batch = normalize(torch.from_numpy(images).to(recipe.training.device))
        with torch.inference_mode(), precision(recipe.training):
            logits = network(batch).float().cpu().numpy()
        probabilities = probabilities_of(logits, recipe.training.loss)
        predictions += [
            _prediction(name, row, kept.classes)
            for name, row in zip(names, probabilities, strict=True)
        ]
    return predictions, faults


def mistakes_figure(run: Run, predictions: Predictions, count: int = 32) -> Figure:
    """The wrong answers with the largest loss, each titled with true and predicted class."""
    from .report.figures import sample_grid

    predicted = predictions.predicted()
    wrong = np.flatnonzero(predicted != predictions.labels)
    if not len(wrong):
        raise UsageError(
            f"There is no mistake on the {predictions.split} split.", "Leave --mistakes out."
        )
    worst = wrong[np.argsort(-predictions.example_losses()[wrong], kind="stable")][:count]
    classes = predictions.classes
    captions = [
        f"true: {classes[predictions.labels[row]]}\npredicted: {classes[predicted[row]]}"
        for row in worst
    ]
    return sample_grid(run.dataset(), predictions.indices[worst].tolist(), captions=captions)


def load_checkpoint(folder: RunFolder, which: str) -> Checkpoint:
    """The "last" or "best" checkpoint; where its file is damaged an older one, with a warning.

    Raises:
        CheckpointError: none is whole. RunError: there is none.
    """
    if which not in ("best", "last"):
        raise UsageError(f'There is no checkpoint "{which}".', "Choose best or last.")
    faults: list[str] = []
    for path in folder.checkpoints(which):
        try:
            kept = Checkpoint.from_bytes(folder.read_bytes(path, path.name), str(path))
        except RunError as error:
            # Damaged, or gone: a training that goes on replaces it just now.
            faults.append(error.message)
            continue
        if which == "best" and kept.progress.best_epoch and not path.name.startswith(which):
            faults = faults or [f"The best checkpoint of {folder.path} is missing."]
        _warn(f"{fault} {path.name} is used instead." for fault in faults)
        return kept
    if faults:
        raise CheckpointError(" ".join(faults), "No older checkpoint is whole: train anew.")
    raise RunError(
        f"{folder.path} has no checkpoint yet.", f"Train it: sartor resume {folder.path}"
    )


def _dataset(
    data: str | Path | Dataset | None, recipe: Recipe, on_event: Sink | None
) -> tuple[Dataset, Recipe]:
    """The dataset, and the recipe that says where it can be had again."""
    if isinstance(data, Dataset):
        return data, recipe.with_settings({"source": data.name})
    source = recipe.data.source if data is None else str(data)
    dataset = load(source, on_event=on_event)
    if data is None and recipe.data.fingerprint not in ("", dataset.fingerprint):
        raise DataError(
            f"The data {source} is not what this recipe was made for: its fingerprint differs.",
            "Name the data explicitly to train on it all the same.",
        )
    # A folder by its whole path, so that the run can go on from anywhere.
    again = source if source in NAMES else str(Path(source).absolute())
    return dataset, recipe.with_settings({"source": again})


def _assemble(
    recipe: Recipe,
    dataset: Dataset,
    model: str | nn.Module | None,
    split: Split | None = None,
    model_file: Path | None = None,
) -> tuple[Job, Recipe, assembly.Material]:
    parts = split or make_split(
        dataset,
        val_fraction=recipe.data.val_fraction,
        test_fraction=recipe.data.test_fraction,
        seed=recipe.training.seed,
    )
    resolved = assembly.resolve(recipe, dataset, parts, model_file)
    material, resolved = assembly.prepare_material(resolved, dataset, parts)
    network = (
        model
        if isinstance(model, nn.Module)
        else assembly.build_network(resolved, len(dataset.classes), model_file)
    )
    network, resolved = assembly.place_network(network, resolved)
    return assembly.make_job(resolved, material, network), resolved, material


def _checked(job: Job, recipe: Recipe) -> tuple[float, list[str]]:
    with engine.tuned(recipe.training):
        return check_model(job, job.batches.batch(0, 0))


def _continue(
    run: Run,
    recipe: Recipe,
    checkpoint: Checkpoint | None,
    progress: Progress,
    on_event: Sink | None,
) -> None:
    dataset = run.dataset()
    ready = time.perf_counter()
    source = run.folder.model_source_path
    job, resolved, material = _assemble(
        recipe, dataset, run._network, run.split(), source if source.is_file() else None
    )
    if checkpoint:
        _with_weights(job.model, checkpoint, run.path)
        job.optimizer.load(checkpoint.optimizer)
    _keep_recipe(run, recipe)
    write_json_lines(run.folder.history_path, progress.history)
    progress.seconds += time.perf_counter() - ready
    sink = _sink(run.folder, on_event)
    sink(_started(run.folder, job, resolved, material, progress, None))
    _train(run.folder, job, progress, sink)


def _train(folder: RunFolder, job: Job, progress: Progress, sink: Sink) -> None:
    """Run the loop, keep what it says, and leave the run's status true however it ends."""
    reason = "failed"
    folder.write_status("running")
    try:
        with stop_requests() as request, engine.tuned(job.settings):
            for event in _explained(train(job, progress, request.asked), progress):
                sink(event)
                if isinstance(event, Ended):
                    reason = event.reason
    except BaseException as error:
        state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        with suppress(FileError):
            folder.write_status(state, reason=str(error) or type(error).__name__)
        raise
    folder.write_status(reason)
    if reason == "interrupted":
        raise Interrupted(
            request.signal_number,
            f"Stopped after step {progress.step}, in epoch {progress.epoch + 1}; all is saved.",
            f"Go on with: sartor resume {folder.path}",
        )


def _explained(events: Iterator[Event], progress: Progress) -> Iterator[Event]:
    """The same events; what a network of the user's own raises becomes an error with its step."""
    try:
        yield from events
    except (SartorError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise TrainingError(
            f"{type(error).__name__} after step {progress.step}, in epoch {progress.epoch + 1}: "
            f"{reason_of(error)}.",
            "Correct the model and train anew; SARTOR_DEBUG=1 shows where it happened.",
        ) from error


def _extended(run: Run, progress: Progress, epochs: int | None) -> Recipe:
    """The run's recipe, with the epochs that are asked for."""
    recipe = run.recipe
    if epochs is None:
        return recipe
    begun = progress.epoch + (progress.position > 0)
    if 1 <= epochs < begun:
        raise UsageError(
            f"{run.path} is in epoch {begun} already, beyond --epochs {epochs}."
            if progress.position
            else f"{run.path} has {begun} epochs already, more than --epochs {epochs}.",
            "Name the number of epochs that it shall have in the end.",
        )
    extended = recipe.with_settings({"epochs": epochs})
    if progress.stopped_early and epochs > progress.epoch:
        progress.stopped_early, progress.patience_from = False, progress.epoch
    return extended


def _keep_recipe(run: Run, recipe: Recipe) -> None:
    """Make it the run's recipe; where it differs from the one before, that one is kept too."""
    before = run.recipe
    if recipe == before:
        return
    number = len(list(run.path.glob("recipe-before-*.toml"))) + 1
    write_text(run.path / f"recipe-before-{number}.toml", before.to_toml())
    write_text(run.folder.recipe_path, recipe.to_toml())


def _close(run: Run, recipe: Recipe, progress: Progress) -> None:
    """Say that a run is over which was killed before it could say so itself."""
    _keep_recipe(run, recipe)
    state = "stopped early" if progress.stopped_early else "finished"
    if run.status["state"] != state:
        write_json_lines(run.folder.history_path, progress.history)
        run.folder.write_status(state)


def _write_beginnings(folder: RunFolder, recipe: Recipe, split: Split) -> None:
    """Everything from which the run could be made again, before its first step."""
    if is_custom(recipe.model.model):
        write_bytes(folder.model_source_path, source_of(recipe.model.model))
    write_bytes(folder.split_path, split.to_bytes())
    write_json(folder.path / "environment.json", describe_environment())
    folder.write_status("running")
    # Last, for it makes the folder a run.
    write_text(folder.recipe_path, recipe.to_toml())


def _started(
    folder: RunFolder,
    job: Job,
    recipe: Recipe,
    material: assembly.Material,
    progress: Progress,
    loss: float | None,
) -> Started:
    training, split = recipe.training, material.split
    return Started(
        run=str(folder.path),
        source=recipe.data.source,
        train_images=len(split.train),
        val_images=len(split.val),
        test_images=len(split.test),
        num_classes=job.num_classes,
        model=recipe.model.model,
        parameters=count_parameters(job.model),
        epochs=training.epochs,
        steps_per_epoch=len(job.batches),
        device=training.device,
        threads=training.threads or 1,
        memory_format=training.memory_format,
        amp_dtype=training.amp_dtype,
        step=progress.step,
        untrained_loss=loss,
        expected_loss=untrained_loss(training.loss, job.num_classes),
    )


def _checkpoint_or_none(folder: RunFolder) -> Checkpoint | None:
    """The newest whole checkpoint; None for a run that was killed before its first."""
    if not folder.checkpoints("last"):
        return None
    return load_checkpoint(folder, "last")


def _with_weights(model: nn.Module, checkpoint: Checkpoint, run: Path) -> nn.Module:
    try:
        model.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise RunError(
            f"The weights in {run} do not fit its model: {str(error).splitlines()[-1].strip()}",
            "Was the model's source changed? Give the one that was trained.",
        ) from error
    return model


def _read_recipe(folder: RunFolder) -> Recipe:
    try:
        return Recipe.from_toml(folder.read_recipe_text())
    except UsageError as error:
        raise RunError(
            f"The recipe of {folder.path} cannot be used: {error.message}",
            "It may come from another version of sartor; its environment.json says which.",
        ) from error


def _reopened(recipe: Recipe) -> Dataset:
    try:
        return open_source(recipe.data.source)
    except UsageError as error:
        raise DataError(
            f"The run's data {recipe.data.source} is not at hand.",
            "Give it again with data=..., or put it back where it was.",
        ) from error


def _as_run(
    run: str | Path | Run, data: Dataset | None = None, model: nn.Module | None = None
) -> Run:
    opened = run if isinstance(run, Run) else Run.open(run)
    if data is None and model is None:
        return opened
    return Run(opened.folder, dataset=data or opened._dataset, network=model or opened._network)


def _prepared(
    pictures: Iterable[Picture], preprocess: Preprocess, invert: bool, faults: list[PictureError]
) -> Iterable[tuple[list[str], np.ndarray[Any, np.dtype[np.uint8]]]]:
    """Names and uint8 images (B, C, H, W), a few at a time so that any number fits into memory."""
    names, images = [], []
    for name, open_picture in _opened(pictures, faults):
        try:
            images.append(preprocess.picture(open_picture(), invert=invert))
        except PictureError as error:
            faults.append(error)
            continue
        names.append(name)
        if len(images) == _PICTURES_AT_ONCE:
            yield names, np.stack(images)
            names, images = [], []
    if images:
        yield names, np.stack(images)


def _opened(
    pictures: Iterable[Picture], faults: list[PictureError]
) -> Iterable[tuple[str, Callable[[], Image.Image]]]:
    for picture in pictures:
        if isinstance(picture, Image.Image):
            yield getattr(picture, "filename", "") or "picture", partial(_same, picture)
            continue
        try:
            paths = find_pictures([str(picture)])
        except PictureError as error:
            faults.append(error)
            continue
        for path in paths:
            yield str(path), partial(read_picture, path)


def _same(picture: Image.Image) -> Image.Image:
    return picture


def _prediction(
    name: str, row: np.ndarray[Any, np.dtype[np.float64]], classes: Sequence[str]
) -> Prediction:
    best = int(row.argmax())
    return Prediction(
        file=name,
        label=classes[best],
        probability=float(row[best]),
        probabilities={one: float(p) for one, p in zip(classes, row, strict=True)},
    )


def _sink(folder: RunFolder, on_event: Sink | None) -> Sink:
    recorder = Recorder(folder)

    def both(event: Event) -> None:
        recorder(event)
        if on_event is not None:
            on_event(event)

    return both


def _noting(on_event: Sink | None) -> Callable[[str], None]:
    return lambda text: _tell(on_event, text)


def _tell(on_event: Sink | None, text: str) -> None:
    if on_event is not None:
        on_event(Note(text))


def _warn(texts: Iterable[str]) -> None:
    for text in texts:
        warnings.warn(text, SartorWarning, stacklevel=3)


def _short_name(recipe: Recipe) -> str:
    """The model's name as a part of a folder's name."""
    name = recipe.model.model.removeprefix(assembly.IN_MEMORY)
    return name.rpartition(":")[2].lower() if is_custom(name) else name.lower()


def _made_parent(path: Path) -> Path:
    make_folder(path.parent)
    return path
