"""A run's folder, and what can be done with it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from .. import assembly
from ..data.dataset import Dataset
from ..data.sources import as_asked, open_source
from ..data.splits.split import Split
from ..errors import CheckpointError, DataError, RunError, UsageError
from ..evaluation.metrics import Evaluation
from ..recipe import Recipe
from ..runs.folder import RunFolder
from ..runs.store import find_run
from ..training.state import Checkpoint
from .notes import Sink, warn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .predicting import Picture, Prediction
    from .predictor import Predictor
    from .reporting import Report
    from .tracing import Trace


class Run:
    """A run's folder and what can be done with it.

    The verbs at its end are imported when they are used, for they take a run themselves.
    """

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

    def dataset(self, *, on_event: Sink | None = None) -> Dataset:
        """The dataset that it was trained on, without what was left out then.

        Raises:
            DataError: it is not the same any more, or was a Python object that is not at hand.
        """
        recipe = self.recipe
        if self._dataset is None:
            self._dataset = _reopened(recipe, self.folder, on_event)
        elif self._dataset.origin is not None:
            # At the size of the run, where it was loaded at another.
            data = replace(recipe.data, exclude=None)
            self._dataset = as_asked(self._dataset, data, recipe.preprocess, on_event=on_event)
        if self._dataset.fingerprint != recipe.data.fingerprint:
            raise DataError(
                f"The data {recipe.data.source} is not what {self.path} was trained on"
                f"{self._other_classes(self._dataset)}.",
                "Give the original data, or train anew.",
            )
        return self._dataset

    def _other_classes(self, dataset: Dataset) -> str:
        """How the classes of a dataset differ from those that were learnt, if they do."""
        try:
            learnt = self.classes
        except RunError:
            return ""
        gone = [name for name in learnt if name not in dataset.classes]
        new = [name for name in dataset.classes if name not in learnt]
        parts = [
            f"{what}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            for what, names in (("classes that are gone", gone), ("new classes", new))
            if names
        ]
        return f" ({'; '.join(parts)})" if parts else ""

    def split(self) -> Split:
        """The split that it was trained with.

        Raises:
            RunError: it is missing, damaged, or not the one that the recipe names.
        """
        content = self.folder.read_bytes(self.folder.split_path, "split.npz")
        split, data = Split.from_bytes(content), self.recipe.data
        # Runs from before there was such a hash have none.
        if data.split_hash not in ("", split.sha256(data.fingerprint)):
            raise RunError(
                f"The split.npz of {self.path} is not the one that it was trained with.",
                "Put the original file back, or train again from the run's recipe.toml.",
            )
        return split

    @property
    def split_sha256(self) -> str:
        """Of the dataset's fingerprint and the indices of each part; equal splits, equal hashes."""
        return self.split().sha256(self.recipe.data.fingerprint)

    def network(self, checkpoint: str = "best") -> nn.Module:
        """The trained network, on its device, in evaluation mode."""
        kept = load_checkpoint(self.folder, checkpoint)
        return with_weights(self._bare_network(len(kept.classes)), kept, self.path).eval()

    def _bare_network(self, num_classes: int) -> nn.Module:
        source = self.folder.model_source_path
        recipe = self.recipe
        if self._network is not None:
            # The user's own object stays as training left it.
            network = copy.deepcopy(self._network)
        else:
            network = assembly.build_network(
                recipe, num_classes, source if source.is_file() else None
            )
        return assembly.place_network(network, recipe)[0]

    def plot(self) -> Figure:
        """Loss and accuracy over epochs."""
        from ..reports.figures import learning_curves

        return learning_curves(self.history)

    def evaluate(self, split: str = "test", *, checkpoint: str = "best") -> Evaluation:
        """As `sartor.evaluate`."""
        from .judging import evaluate

        return evaluate(self, split, checkpoint=checkpoint)

    def report(
        self, split: str | None = None, *, out: str | Path | None = None, checkpoint: str = "best"
    ) -> Report:
        """As `sartor.report`."""
        from .reporting import report

        return report(self, split, out=out, checkpoint=checkpoint)

    def predict(
        self,
        pictures: Picture | Sequence[Picture],
        *,
        invert: bool = False,
        checkpoint: str = "best",
    ) -> list[Prediction]:
        """As `sartor.predict`."""
        from .predicting import predict

        return predict(self, pictures, invert=invert, checkpoint=checkpoint)

    def predictor(self, *, checkpoint: str = "best") -> Predictor:
        """The trained network, ready to classify arrays again and again."""
        from .predictor import Predictor

        return Predictor(self, checkpoint=checkpoint)

    def trace(self, **choices: Any) -> Trace:
        """As `sartor.trace`, such as `run.trace(image=5)`."""
        from .tracing import trace

        return trace(self, **choices)

    def resume(self, *, epochs: int | None = None, on_event: Sink | None = None) -> Run:
        """As `sartor.resume`."""
        from .fitting import resume

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


def as_run(
    run: str | Path | Run, data: Dataset | None = None, model: nn.Module | None = None
) -> Run:
    opened = run if isinstance(run, Run) else Run.open(run)
    if data is None and model is None:
        return opened
    return Run(opened.folder, dataset=data or opened._dataset, network=model or opened._network)


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
        warn(f"{fault} {path.name} is used instead." for fault in faults)
        return kept
    if faults:
        raise CheckpointError(" ".join(faults), "No older checkpoint is whole: train anew.")
    raise RunError(
        f"{folder.path} has no checkpoint yet.", f"Train it: sartor resume {folder.path}"
    )


def with_weights(model: nn.Module, checkpoint: Checkpoint, run: Path) -> nn.Module:
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


def _reopened(recipe: Recipe, folder: RunFolder, on_event: Sink | None) -> Dataset:
    try:
        data = recipe.data.with_list_at(folder.excluded_path)
        return open_source(data, recipe.preprocess, on_event=on_event)
    except UsageError as error:
        raise DataError(
            f"The run's data {recipe.data.source} is not at hand.",
            "Give it again with data=..., or put it back where it was.",
        ) from error
