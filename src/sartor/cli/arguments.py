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
    """Train a classifier. The result is a run: a folder that holds everything."""

    target: Positional[str | None] = None
    """A path or a named set. A path is a folder of pictures, a list of them, .parquet, .npz, IDX
    files, .zip or .tar. By default that of the recipe."""
    recipe: str | None = None
    """A .toml file or a recipe. Other flags replace its values. By default
    pictures (a residual network and more epochs) for colour or larger images, else plain, whose
    values are shown here."""
    out: Path | None = None
    """Folder of the run; by default the next free runs/NAME."""
    seeds: int | None = None
    """Train with N consecutive seeds, starting at --seed. Makes one run per seed and reports mean
    and standard deviation."""
    overfit_batch: bool = False
    """Test the network: train on a single batch until it is learned by heart. No augmentation, no
    run."""
    lr_find: bool = False
    """Learning-rate finder: suggest a rate from a short range test. Trains a copy for at most 100
    steps at rising rates; makes no run; --out FILE draws the curve (.png, .svg or .pdf)."""
    no_check: bool = False
    """Skip the quick check of the data before training. sartor check looks closer."""
    no_report: bool = False
    """Do not write a report at the end. The report uses the validation split; test images are not
    touched."""
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
    """Resume a run where it stopped, as if nothing had happened, or train it longer."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    epochs: int | None = None
    """Train until the run has N epochs in total."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the result as one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Look at a set: counts, shape, classes, mean and standard deviation; draw samples."""

    target: Positional[str] = "digits"
    """A path or a named set. A path is a folder of pictures, a list of them, .parquet, .npz, IDX
    files, .zip or .tar."""
    samples: int | None = None
    """Draw N random samples, 8 per row."""
    image: int | None = None
    """Draw image number N, counted from 0."""
    pixels: bool = False
    """Write the value of every pixel on that image."""
    augment: tuple[str, ...] = ()
    """Draw that image and what training with this augmentation makes of it in each epoch. For
    example: flip crop=4; sartor fit --help augment lists the words."""
    out: Path | None = None
    """File for the drawing (.png, .svg or .pdf); by default in the current folder."""
    seed: int = 0
    """Decides which samples are drawn."""
    json: bool = False
    """Print the result as one line of JSON."""
    data: OmitArgPrefixes[SourceFlags] = field(default_factory=SourceFlags)


@dataclass(frozen=True, kw_only=True)
class Check:
    """Find the faults of a set. It only reads: nothing is deleted, moved or replaced."""

    target: Positional[str] = "digits"
    """A path or a named set. A path is a folder of pictures, a list of them, .parquet, .npz, IDX
    files, .zip or .tar."""
    only: tuple[str, ...] = ()
    """Run only these checks. Fast ones, which fit runs too: files, formats, geometry, classes,
    groups, duplicates. Others: near-duplicates, appearance, shortcuts, labels."""
    skip: tuple[str, ...] = ()
    """Run all but these checks."""
    fast: bool = False
    """Run only the fast checks."""
    html: Path | None = None
    """Write the report with pictures to this file."""
    quarantine: Path | None = None
    """Write a list of pictures to leave out to this file, for fit --exclude."""
    quarantine_labels: bool = False
    """Also list pictures whose label is probably wrong."""
    strict: bool = False
    """Exit with code 1 for warnings too, not only for errors."""
    seed: int = 0
    """Decides the split, as in fit, and all randomness."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the result as one line of JSON."""
    data: OmitArgPrefixes[DataFlags] = field(default_factory=DataFlags)
    preprocess: OmitArgPrefixes[PreprocessSettings] = field(default_factory=PreprocessSettings)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """List the runs, the newest first."""

    folder: Positional[Path] = Path("runs")
    """Folder with the runs."""
    json: bool = False
    """Print the result as one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class Show:
    """Show one run: state, figures, history; with --recipe also its recipe."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    recipe: bool = False
    """Print the complete recipe, too."""
    plot: Path | None = None
    """Draw loss and accuracy over epochs into this file (.png, .svg or .pdf)."""
    json: bool = False
    """Print the result as one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Evaluate a run: loss, accuracy with 95 % interval, figures per class, confusion matrix."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    split: SplitName = "test"
    """Images to evaluate on."""
    checkpoint: CheckpointName = "best"
    """Weights to use: best (best epoch on the validation split, or the last without one) or
    last."""
    mistakes: Path | None = None
    """Draw the worst mistakes with true and predicted class into this file (.png, .svg or .pdf)."""
    json: bool = False
    """Print the result as one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare runs on the same images: is one better, by how much, and is it significant?"""

    runs: Positional[Annotated[tuple[str, ...], arg(metavar="RUN...")]]
    """Two or more runs; the others are compared with the first."""
    split: JudgedSplitName = "test"
    """Images to compare on."""
    flips: Annotated[Path | None, arg(metavar="FILE")] = None
    """Draw the images that only one of two runs gets right into this file (.png, .svg or .pdf)."""
    json: bool = False
    """Print the result as one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a run's report: report.html, report.json and mistakes.csv."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    split: JudgedSplitName | None = None
    """Images to evaluate on: test or val; by default test where there are any. A test figure is
    final: do not choose anything by it."""
    checkpoint: CheckpointName = "best"
    """Weights to use: best (best epoch on the validation split, or the last without one) or
    last."""
    out: Path | None = None
    """File of the page (.html), if not in the run's folder. The other files are written next to
    it."""
    map: MapName = "pca"
    """How to lay out the images by what the network sees: pca, tsne or umap. umap needs the extra
    maps."""
    json: bool = False
    """Print the content of report.json as one line."""


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Classify pictures, prepared exactly as in training."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    pictures: Positional[tuple[str, ...]]
    """Picture files, folders, or patterns such as 'in/*.png'."""
    topk: int | None = None
    """Show the N most probable classes; by default 3."""
    invert: bool = False
    """Invert the pictures: they are dark on light, but training had light on dark."""
    explain: Path | None = None
    """Draw which pixels support each prediction into this file (.png, .svg or .pdf)."""
    method: MethodName = "occlusion"
    """How to find those pixels; grad-cam needs a network with convolutions."""
    checkpoint: CheckpointName = "best"
    """Weights to use: best or last epoch."""
    json: bool = False
    """Print the result as one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A network's layers: shapes, parameters, multiply-adds, memory."""

    model: Positional[str]
    """A run, path/file.py:Name or a network."""
    data: str = "digits"
    """A set whose images decide the shapes; a run brings its own."""
    model_kwargs: Mapping[str, Setting] = field(default_factory=dict)
    """The network's own settings, such as hidden=512,512 dropout=0.2."""
    json: bool = False
    """Print the result as one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Follow one image or batch through a network, forward and back."""

    target: Positional[str | None] = None
    """A run (folder, name in runs/, or latest), or an untrained network: a name or
    path/file.py:Name."""
    image: int | None = None
    """Number of the image, counted from 0, in the dataset or in --split. By default 0."""
    batch: int | None = None
    """Trace a batch of N images instead of one: the first in training order, or of --split."""
    split: SplitName | None = None
    """Count within one part: test, val or train."""
    picture: Path | None = None
    """Trace a picture file instead of an image of the dataset."""
    label: str | None = None
    """The picture's class, by name or number. Without it only the forward pass is traced."""
    invert: bool = False
    """Invert the picture: it is dark on light, but training had light on dark."""
    checkpoint: CheckpointName = "best"
    """Weights of a run to use: best or last epoch."""
    untrained: bool = False
    """Use a run's network with its first weights."""
    training_mode: bool = False
    """Trace with dropout and batch statistics, as in training."""
    data: str | None = None
    """For a network: a named set or a path, by default digits. A run brings its own."""
    recipe: str | None = None
    """For a network: a .toml file or a shipped recipe."""
    model_kwargs: Mapping[str, Setting] = field(default_factory=dict)
    """The network's own settings, such as hidden=512,512 dropout=0.2."""
    opt: str | None = None
    """Optimizer of the step: sgd, adam, adamw or rmsprop; by default as in training."""
    lr: float | None = None
    """Learning rate of the step; by default as in training."""
    loss: str | None = None
    """Loss: cross-entropy, mse or bce; by default as in training."""
    seed: int | None = None
    """Decides the first weights and the training order."""
    out: Path | None = None
    """Write a page (.html) to step through, forward and back, with pictures."""
    json: bool = False
    """Print one line of JSON: everything but pictures and tensors."""
