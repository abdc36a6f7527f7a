"""A run's folder read back: recipe, dataset, split, checkpoints, network; all verbs stand on it."""

from __future__ import annotations

import shlex
import statistics
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from torch import nn

from .. import assembly
from ..data.dataset import Dataset
from ..data.sources import as_asked, open_source
from ..data.splits.split import Split
from ..errors import CheckpointError, DataError, RunError, SartorError, SartorWarning, UsageError
from ..events import is_history_row
from ..files import sha256_of_file
from ..inference.calibration import Calibration
from ..models.copying import copied_network
from ..models.custom import is_custom
from ..models.lazy import materialise
from ..models.registry import refuse_larger
from ..recipe import ResolvedRecipe
from ..runs.folder import RunFolder
from ..runs.history import best_row
from ..runs.seals import Differences, differences
from ..runs.store import find_run
from ..runs.trust import is_ours
from ..training.engines.hardware import changes_to_run_here
from ..training.progress import row_of
from ..training.settings import RETIRED_ENGINES
from ..training.state import Checkpoint
from .kept_checkpoints import checkpoint_at
from .notes import Sink, warn


class OpenedRun:
    """What a run's folder holds, read when it is asked for."""

    def __init__(
        self,
        folder: RunFolder,
        *,
        dataset: Dataset | None = None,
        network: nn.Module | None = None,
        device: str | None = None,
        trust: bool = False,
    ) -> None:
        self.folder = folder
        self.given_dataset = dataset
        """As the program had it, or as it was read back once."""
        self.given_network = network
        """The program's own object, for a run that trained one."""
        self.device = device
        """Where to compute; None for the device of the training, if it is here."""
        self.trust = trust
        """Whether the user vouches for what is in the folder, Python code included."""
        self.calibrations: dict[str, Calibration] = {}
        """What was fitted for which weights, by their SHA-256, as far as it was asked for."""
        self._said: set[str] = set()
        self._compared = False
        self._at_hand: _AtHand | None = None

    @classmethod
    def open(
        cls, name_or_path: str | Path, *, device: str | None = None, trust: bool = False
    ) -> Self:
        """A run by its path, its name in runs/, or "latest".

        Args:
            device: auto, cpu, cuda or mps; by default that of the training, if it is here.
            trust: let the run's own Python file run, whoever wrote it, and take its recipe as it
                is, even if it was changed since.

        Raises:
            RunError: there is none, or it is broken or from another version.
        """
        folder = find_run(name_or_path)
        folder.read_recipe_text()
        folder.status()
        return cls(folder, device=device, trust=trust)

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    @property
    def recipe(self) -> ResolvedRecipe:
        """The resolved recipe: the same run can be made from it again."""
        return _read_recipe(self.folder)

    @property
    def recipe_here(self) -> ResolvedRecipe:
        """The recipe as `here` makes it."""
        return self.here(self.recipe)

    def here(self, recipe: ResolvedRecipe) -> ResolvedRecipe:
        """A recipe of this run as this machine can carry it out; a difference is said once.

        Raises:
            UsageError: this machine does not have the device that was asked for.
        """
        changes = changes_to_run_here(recipe.training, self.device)
        # That an engine was retired matters only where training goes on: see `fitting`.
        retired = {"engine"} if recipe.training.engine in RETIRED_ENGINES else set()
        told = {name: value for name, value in changes.items() if name not in retired}
        if told and self.device is None:
            differences = [f"{name} {value}" for name, value in told.items()]
            was = [f"{name} {getattr(recipe.training, name)}" for name in told]
            self.say_once(
                f"{self.path} was trained with {', '.join(was)}, which this machine does not have: "
                f"using {', '.join(differences)}. Figures may differ in their last digits."
            )
        return recipe.to_run_here(changes)

    @property
    def differences(self) -> Differences:
        """What was changed in the run's files since they were written."""
        return differences(self.folder)

    def refuse_changes(self) -> None:
        """Name what was changed in the run's files, once.

        Raises:
            RunError: the recipe was, and nobody vouches for it.
        """
        if self._compared:
            return
        found = self.differences
        if found.recipe and not self.trust:
            raise RunError(
                found.recipe_sentence(self.folder.recipe_path),
                "Put it back, or use the changed one with --trust (in Python: trust=True).",
            )
        self._compared = True
        for sentence in found.sentences(self.folder.recipe_path):
            self.say_once(sentence)

    def say_once(self, text: str) -> None:
        """Warn of something about the run, the first time only."""
        if text not in self._said:
            self._said.add(text)
            warn([text])

    @property
    def history(self) -> list[dict[str, Any]]:
        """One row an epoch."""
        return self.folder.history()

    @property
    def best_row(self) -> Mapping[str, Any] | None:
        """The row of the best epoch; None without a validation split."""
        return best_row(self.history, self.recipe.training.monitor)

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
        if self._at_hand is None:
            return self._compared_dataset(on_event)
        if self._at_hand.dataset is None:
            self._at_hand.dataset = self._compared_dataset(on_event)
        return self._at_hand.dataset

    @contextmanager
    def kept_at_hand(self, split: Split | None = None) -> Iterator[None]:
        """Read and compare dataset and split once, however often they are asked for meanwhile.

        For work of one piece, during which nobody else has the program's arrays.

        Args:
            split: the run's, where it is known already.
        """
        before, self._at_hand = self._at_hand, _AtHand(split=split)
        try:
            yield
        finally:
            self._at_hand = before

    def _compared_dataset(self, on_event: Sink | None) -> Dataset:
        recipe = self.recipe
        self.refuse_changes()
        whose = recipe.data.source if self.given_dataset is None else self.given_dataset.name
        if self.given_dataset is None:
            self.given_dataset = _reopened(recipe, self.folder, on_event)
        elif self.given_dataset.origin is not None:
            # At the size of the run, where it was loaded at another.
            data = replace(recipe.data, exclude=None, fixes=None)
            self.given_dataset = as_asked(
                self.given_dataset, data, recipe.preprocess, on_event=on_event
            )
        found = self.given_dataset.fingerprint_now()
        if found != recipe.data.fingerprint:
            self.given_dataset = with_lists(self.given_dataset, recipe, self.folder, on_event)
            found = self.given_dataset.fingerprint_now()
        if found != recipe.data.fingerprint:
            raise DataError(
                f"The data {whose} is not what {self.path} was trained on"
                f"{self._other_classes(self.given_dataset)}.",
                "Give the original data, or train again.",
            )
        return self.given_dataset

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
        if self._at_hand is None:
            return self._read_split()
        if self._at_hand.split is None:
            self._at_hand.split = self._read_split()
        return self._at_hand.split

    def _read_split(self) -> Split:
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
        return with_weights(self.untrained_network(len(kept.classes)), kept, self.path).eval()

    def untrained_network(self, num_classes: int) -> nn.Module:
        """The network as its recipe builds it, on its device, without the trained weights."""
        recipe = self.recipe_here
        self.refuse_changes()
        if self.given_network is not None:
            # The user's own object stays as training left it.
            network = copied_network(self.given_network)
            materialise(network, assembly.input_shape_of(recipe))
        else:
            sizes = [path.stat().st_size for path in self.folder.checkpoints("best")]
            if sizes:
                refuse_larger(
                    recipe.model.model,
                    input_shape=assembly.input_shape_of(recipe),
                    num_classes=num_classes,
                    kwargs=recipe.model.model_kwargs,
                    most=max(sizes),
                    where=str(self.path),
                )
            network = assembly.build_network(recipe, num_classes, self.model_file())
        return assembly.place_network(network, recipe)

    def model_file(self) -> Path | None:
        """The run's own Python file, which using its network executes; None if it has none.

        Raises:
            RunError: the file is missing, or nobody vouches for it.
        """
        recipe, path = self.recipe, self.folder.model_source_path
        if self.given_network is not None or not is_custom(recipe.model.model):
            return None
        sha256 = sha256_of_file(path)
        if sha256 is None:
            raise RunError(
                f"The model of {self.path} is a Python file, and {path} cannot be read.",
                "Put the file back, or give the network in Python with model=...",
            )
        if not (self.trust or is_ours(self.folder, recipe.to_tables()["model"])):
            raise RunError(
                f"{self.path} comes with Python code, which using its network would run: {path} "
                f"(SHA-256 {sha256}). No fit of yours wrote it there.",
                "Read the file; if you trust it, add --trust (in Python: trust=True).",
            )
        return path

    def result(self) -> dict[str, Any]:
        """The figures of the last epoch and the hash of its weights, as `fit --json` gives them.

        `best` has those of the epoch whose weights are judged; None without a validation split.
        """
        kept = load_checkpoint(self.folder, "last")
        rows = kept.progress.history
        last = rows[-1] if rows else {}
        best = None
        if kept.progress.best_value is not None:
            best = row_of(rows, kept.progress.best_epoch)
        timed = [row for row in rows if row["step"]] or rows
        speeds = [row["images_per_second"] for row in timed]
        speed = statistics.harmonic_mean(speeds) if speeds and min(speeds) > 0 else None
        names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        return {
            "run": str(self.path),
            "epochs": kept.progress.epoch,
            "steps": kept.progress.step,
            "seconds": round(kept.progress.seconds, 4),
            "images_per_second": speed and round(speed, 1),
            **{name: last.get(name) for name in names},
            "weights_sha256": kept.weights_sha256,
            "best": best and {name: best[name] for name in ("epoch", *names)},
        }

    def judged_weights(self, checkpoint: str = "best") -> dict[str, Any]:
        """As `described_weights` of that checkpoint; of a damaged one nothing more is said here."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SartorWarning)
            return described_weights(load_checkpoint(self.folder, checkpoint), checkpoint)


@dataclass
class _AtHand:
    """What of a run need not be read again."""

    dataset: Dataset | None = None
    split: Split | None = None


def open_run(
    run: str | Path | OpenedRun,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    *,
    device: str | None = None,
    trust: bool = False,
) -> OpenedRun:
    """A run by its path or name; with `data` and `model` where a program gave it these.

    `device` and `trust` are as for `OpenedRun.open`; what an opened run was told before holds on.

    Raises:
        RunError: there is none, or it is broken or from another version.
    """
    opened = run if isinstance(run, OpenedRun) else OpenedRun.open(run)
    if data is None and model is None and device is None and not trust:
        return opened
    return OpenedRun(
        opened.folder,
        dataset=data or opened.given_dataset,
        network=model or opened.given_network,
        device=device or opened.device,
        trust=trust or opened.trust,
    )


def load_checkpoint(folder: RunFolder, which: str) -> Checkpoint:
    """The "last" or "best" checkpoint; where its file is damaged an older one, with a warning.

    Whoever trains on copies its progress first, since others may be given the same checkpoint.

    Raises:
        CheckpointError: none is whole. RunError: there is none.
    """
    return find_checkpoint(folder, which)[0]


def find_checkpoint(folder: RunFolder, which: str) -> tuple[Checkpoint, Path]:
    """As `load_checkpoint`, and its file."""
    if which not in ("best", "last"):
        raise UsageError(f'There is no checkpoint "{which}".', "Choose best or last.")
    faults: list[str] = []
    for path in folder.checkpoints(which):
        try:
            kept = checkpoint_at(folder, path)
            _refuse_odd_history(kept, path)
        except RunError as error:
            # Damaged, or gone: a training that goes on replaces it just now.
            faults.append(error.message)
            continue
        has_best = kept.progress.best_value is not None
        if which == "best" and has_best and not path.name.startswith(which):
            faults = faults or [f"The best checkpoint of {folder.path} is missing."]
        warn(f"{fault} {path.name} is used instead." for fault in faults)
        return kept, path
    if faults:
        raise CheckpointError(" ".join(faults), "No older checkpoint is whole: train again.")
    raise RunError(
        f"{folder.path} has no checkpoint yet.",
        f"Train it: sartor resume {shlex.quote(str(folder.path))}",
    )


def _refuse_odd_history(kept: Checkpoint, path: Path) -> None:
    """Raise where a checkpoint, whoever wrote it, does not hold the rows that verbs show.

    Raises:
        CheckpointError: it does not.
    """
    rows = kept.progress.history
    epochs = {row["epoch"] for row in rows if is_history_row(row)}
    has_best = kept.progress.best_value is None or kept.progress.best_epoch in epochs
    if not (has_best and all(map(is_history_row, rows))):
        raise CheckpointError(
            f"{path} is damaged: its history has not the figures of each epoch.",
            "An older checkpoint may be whole.",
        )


def described_weights(kept: Checkpoint, checkpoint: str) -> dict[str, Any]:
    """Which weights answer: `checkpoint`, `epoch`, and whether it was chosen on validation."""
    progress = kept.progress
    has_best = progress.best_value is not None
    chosen = checkpoint == "best" and has_best and progress.epoch == progress.best_epoch
    # Where there is no best, or it is damaged, the last answers.
    return {
        "checkpoint": "best" if chosen else "last",
        "epoch": progress.epoch,
        "chosen_on_validation": chosen,
    }


def with_weights(model: nn.Module, checkpoint: Checkpoint, run: Path) -> nn.Module:
    try:
        model.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise RunError(
            f"The weights in {run} do not fit its model: {str(error).splitlines()[-1].strip()}",
            "Was the model's source changed? Give the one that was trained.",
        ) from error
    return model


def _read_recipe(folder: RunFolder) -> ResolvedRecipe:
    try:
        return _parsed_recipe(folder.read_recipe_text())
    except UsageError as error:
        raise RunError(
            f"The recipe of {folder.path} cannot be used: {error.message}",
            "It may come from another version of sartor; its environment.json says which.",
        ) from error


@lru_cache(maxsize=4)
def _parsed_recipe(text: str) -> ResolvedRecipe:
    """One run is asked for its recipe many times."""
    return ResolvedRecipe.from_toml(text)


def with_lists(
    dataset: Dataset, recipe: ResolvedRecipe, folder: RunFolder, on_event: Sink | None
) -> Dataset:
    """A program's dataset as the run's exclusions and fixes leave it; itself where they do not fit
    it, or where there are none."""
    data = recipe.data.with_lists_at(folder.excluded_path, folder.fixes_path)
    if not (data.exclude or data.fixes) or (dataset.roster is not None and dataset.excluded):
        return dataset
    try:
        return as_asked(dataset, data, recipe.preprocess, on_event=on_event)
    except SartorError:
        return dataset


def _reopened(recipe: ResolvedRecipe, folder: RunFolder, on_event: Sink | None) -> Dataset:
    try:
        data = recipe.data.with_lists_at(folder.excluded_path, folder.fixes_path)
        return open_source(data, recipe.preprocess, on_event=on_event)
    except UsageError as error:
        raise DataError(
            f"The run's data {recipe.data.source} is not at hand.",
            "Say where it is now with --data PATH (in Python data=...), or put it back.",
        ) from error
