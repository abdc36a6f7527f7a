"""What each verb takes: dataclasses that tyro turns into flags and help. No torch in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, Suppress, arg

from ..data.settings import DataSettings, PreprocessSettings, SourceSettings
from ..models.settings import ModelSettings, Setting
from ..training.settings import TrainingSettings

SplitName = Literal["test", "val", "train"]
JudgedSplitName = Literal["test", "val"]
CheckpointName = Literal["best", "last"]
MapName = Literal["pca", "tsne", "umap"]
MethodName = Literal["occlusion", "integrated-gradients", "grad-cam"]


GROUPS = {"data": "data", "preprocess": "data", "model": "model", "training": "training"}
"""Heading of the flags that each nested part brings, as `--help GROUP` names it."""
FIRST_SCREEN = {
    "fit": (
        *("recipe", "out", "seeds", "json"),
        *("val_fraction", "exclude", "image_size", "model", "model_kwargs"),
        *("epochs", "batch_size", "opt", "lr", "sched", "augment", "loss"),
        *("patience", "seed", "device"),
    ),
    "check": (
        *("only", "skip", "fast", "html", "quarantine", "strict", "seed", "quiet", "json"),
        *("format", "label_column", "group_column", "val_fraction", "exclude", "image_size"),
    ),
    "trace": (
        *("image", "batch", "split", "picture", "label", "checkpoint", "untrained"),
        *("data", "model_kwargs", "out", "json"),
    ),
}
"""What most people set: the flags that `--help` shows; `--help-all` shows the others too."""


@dataclass(frozen=True, kw_only=True)
class SourceFlags(SourceSettings):
    """Data"""

    # The source is the verb's target.
    source: Suppress[str] = "digits"


@dataclass(frozen=True, kw_only=True)
class DataFlags(DataSettings):
    """Data"""

    # The source is the verb's target; the fingerprints are measured.
    source: Suppress[str] = "digits"
    fingerprint: Suppress[str] = ""
    split_hash: Suppress[str] = ""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Train a classifier. The result is a run: a folder with all that came of it."""

    target: Positional[str | None] = None
    """A named set ({sets}) or the path of your own: folder of pictures, list (CSV, JSONL, ...),
    .parquet, .npz, IDX, .zip or .tar. Default: the set of the recipe."""
    recipe: str | None = None
    """A shipped recipe or a .toml file to start from; other flags replace its values. Shipped:
    {recipes}. Without this flag the data decide: pictures for colour or larger images, digits
    for images of at most 12 pixels, else plain, whose values are shown here as defaults."""
    out: Path | None = None
    """The run's folder; by default the next free runs/NAME."""
    seeds: int | None = None
    """Train with N consecutive seeds from --seed: one run per seed, mean and standard deviation."""
    overfit_batch: bool = False
    """Check the network by training on a single batch until it is memorised; makes no run."""
    lr_find: bool = False
    """Learning-rate finder: train a copy for at most 100 steps at rising learning rates and suggest
    one; makes no run. --out names a picture of the curve (.png, .svg or .pdf)."""
    no_check: bool = False
    """Skip the fast checks of the data before training; `sartor check` runs them all."""
    no_report: bool = False
    """Skip the report at the end; it judges the validation split and never touches test images."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the result as one line of JSON."""
    data: OmitArgPrefixes[DataFlags] = field(default_factory=DataFlags)
    preprocess: OmitArgPrefixes[PreprocessSettings] = field(default_factory=PreprocessSettings)
    model: OmitArgPrefixes[ModelSettings] = field(default_factory=ModelSettings)
    training: OmitArgPrefixes[TrainingSettings] = field(default_factory=TrainingSettings)
    named: Suppress[tuple[str, ...]] = ()
    """Settings whose flags stand on the command line, if only with the value of the recipe."""


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Continue an interrupted run as if nothing had happened, or train a finished one longer."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    epochs: int | None = None
    """Total number of epochs to train to."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the result as one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Look at a set: counts, shape, classes, mean and standard deviation; samples as a picture."""

    target: Positional[str] = "digits"
    """A named set ({sets}) or the path of your own: folder of pictures, list (CSV, JSONL, ...),
    .parquet, .npz, IDX, .zip or .tar."""
    samples: int | None = None
    """Draw N samples, 8 per row, into a picture."""
    image: int | None = None
    """Draw image number N, counted from 0, into a picture."""
    pixels: bool = False
    """Write the value of every pixel on that image."""
    augment: tuple[str, ...] = ()
    """Draw that image and then, epoch by epoch, what training with this augmentation makes of it,
    such as flip crop=4; see sartor fit --help."""
    out: Path | None = None
    """File of the picture (.png, .svg or .pdf); by default in the current folder."""
    seed: int = 0
    """Decides which samples are drawn."""
    json: bool = False
    """Print one line of JSON."""
    data: OmitArgPrefixes[SourceFlags] = field(default_factory=SourceFlags)


@dataclass(frozen=True, kw_only=True)
class Check:
    """Find the faults of a set. Read-only: nothing is deleted, moved or replaced."""

    target: Positional[str] = "digits"
    """A named set ({sets}), or the path of your own."""
    only: tuple[str, ...] = ()
    """Run only these checks: files, formats, geometry, classes, groups, duplicates (these are the
    fast ones, which fit runs too), near-duplicates, appearance, shortcuts, labels."""
    skip: tuple[str, ...] = ()
    """Run all but these checks."""
    fast: bool = False
    """Run only the fast checks."""
    html: Path | None = None
    """Write a report with pictures to this file (.html)."""
    quarantine: Path | None = None
    """Write the list of pictures to leave out to this file, for fit --exclude."""
    quarantine_labels: bool = False
    """Also list pictures whose label is probably wrong in that file."""
    strict: bool = False
    """Exit with code 1 for warnings too, not only for errors."""
    seed: int = 0
    """Random seed; decides the split, as in fit."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print one line of JSON."""
    data: OmitArgPrefixes[DataFlags] = field(default_factory=DataFlags)
    preprocess: OmitArgPrefixes[PreprocessSettings] = field(default_factory=PreprocessSettings)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """List the runs, the newest first."""

    folder: Positional[Path] = Path("runs")
    """The folder that holds the runs."""
    json: bool = False
    """Print one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class Show:
    """Show one run: its recipe, how it stands, its history."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    plot: Path | None = None
    """Draw loss and accuracy over epochs into this file (.png, .svg or .pdf)."""
    json: bool = False
    """Print one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Judge a run: loss, accuracy with its 95 % interval, class by class, confusions."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    split: SplitName = "test"
    """Which images: test, val or train."""
    checkpoint: CheckpointName = "best"
    """Weights of the best epoch (by the validation split; without one, the last) or the last."""
    mistakes: Path | None = None
    """Draw the worst mistakes, true and predicted class, into this file (.png, .svg or .pdf)."""
    json: bool = False
    """Print one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare runs on the same images: is one better, by how much, and how certain is that?"""

    runs: Positional[Annotated[tuple[str, ...], arg(metavar="RUN...")]]
    """Two runs or more, the one to compare with first."""
    split: JudgedSplitName = "test"
    """Which images: test or val."""
    flips: Annotated[Path | None, arg(metavar="FILE")] = None
    """Draw the images that flip each way into this file (.png, .svg or .pdf)."""
    json: bool = False
    """Print one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a run's report: report.html, report.json and mistakes.csv."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    split: JudgedSplitName | None = None
    """Which images are judged: test or val; by default the test images where there are any. That
    look is final: choose nothing by it."""
    checkpoint: CheckpointName = "best"
    """Weights of the best epoch (by the validation split; without one, the last) or the last."""
    out: Path | None = None
    """The page's file (.html), if not in the run's folder; the others are written beside it."""
    map: MapName = "pca"
    """How the images are laid out by what the network sees; umap needs the extra maps."""
    json: bool = False
    """Print the content of report.json on one line."""


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Classify pictures, prepared exactly as in training."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    pictures: Positional[tuple[str, ...]]
    """Picture files, folders, or patterns such as 'in/*.png'."""
    topk: int | None = None
    """Show the N most probable classes."""
    invert: bool = False
    """The pictures are dark on light, and training had light on dark."""
    explain: Path | None = None
    """Draw which pixels support each prediction into this file (.png, .svg or .pdf)."""
    method: MethodName = "occlusion"
    """Attribution method; grad-cam needs a network with convolutions."""
    checkpoint: CheckpointName = "best"
    """Weights of the best epoch or the last."""
    json: bool = False
    """Print one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A network's layers: shapes, parameters, multiply-adds, memory."""

    model: Positional[str]
    """A registered model ({models}), path/file.py:Name, or a run."""
    data: str = "digits"
    """A set whose images decide the shapes; a run brings its own."""
    model_kwargs: Mapping[str, Setting] = field(default_factory=dict)
    """The model's own settings, such as hidden=512,512 dropout=0.2."""
    json: bool = False
    """Print one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """See one image or one batch go through a network, forward and back."""

    target: Positional[Annotated[str | None, arg(metavar="RUN|MODEL")]] = None
    """A run (folder, name in runs/, or latest), or an untrained model: {models}, or
    path/file.py:Name."""
    image: int | None = None
    """Number of an image, counted from 0, in the dataset or in --split; by default 0."""
    batch: int | None = None
    """Trace N images instead of one: the first in the order of training, or of --split."""
    split: SplitName | None = None
    """Count within this part: test, val or train."""
    picture: Path | None = None
    """A picture file instead of an image of the dataset."""
    label: str | None = None
    """The picture's class, by name or number; without it there is no backward pass."""
    invert: bool = False
    """The picture is dark on light, and training had light on dark."""
    checkpoint: CheckpointName = "best"
    """A run's weights of the best epoch or the last."""
    untrained: bool = False
    """A run's network with its first weights."""
    training_mode: bool = False
    """Use dropout and batch statistics, as in training."""
    data: str | None = None
    """For a model: a named set or a folder, by default digits; a run brings its own."""
    recipe: str | None = None
    """For a model: start from a shipped recipe or a .toml file."""
    model_kwargs: Mapping[str, Setting] = field(default_factory=dict)
    """The model's own settings, such as hidden=512,512 dropout=0.2."""
    opt: str | None = None
    """Step with sgd, adam, adamw or rmsprop; by default as in training."""
    lr: float | None = None
    """Learning rate of the step; by default what it would be in training."""
    loss: str | None = None
    """cross-entropy, mse or bce; by default as in training."""
    seed: int | None = None
    """For the first weights and the order of training."""
    out: Path | None = None
    """Write a page (.html) that steps through the network, forward and back."""
    json: bool = False
    """As one line of JSON: everything but pictures and tensors."""
