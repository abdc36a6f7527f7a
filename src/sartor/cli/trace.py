"""`sartor trace`: an image through a network, and back. Its flags, its call, its printing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import Positional

from ..errors import UsageError
from ..models.settings import Setting
from .arguments import CheckpointName, DeviceName, SplitName
from .output import note, print_json
from .parsing import check_depth


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
    """For a network: a set or a path, by default digits. For a run: where its data is now, if it
    moved."""
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
    device: DeviceName | None = None
    """Device to compute on; by default the one used in training if available, else the best one."""
    trust: bool = False
    """Run the run's own Python file, whoever wrote it, and accept a recipe edited by hand."""
    depth: int | None = None
    """Show all layers below this level of names as one: at 2, stages.stage3 stands for all in it.
    0 shows every layer. By default, networks of more than 40 layers are shown by stage."""
    out: Path | None = None
    """Write a page (.html) to step through, forward and back, with pictures."""
    json: bool = False
    """Print one line of JSON: everything but pictures and tensors."""


def trace(given: Trace) -> int:
    """Look into a network at work."""
    from .. import api
    from .trace_table import print_trace

    if given.target is None and given.recipe is None:
        raise UsageError(
            "There is nothing to trace.", "Name a run or a model: sartor trace latest --image 0"
        )
    _check_suffix(given.out)
    check_depth(given.depth)
    names = ("opt", "lr", "loss", "seed", "device")
    settings = {name: value for name in names if (value := getattr(given, name)) is not None}
    if given.model_kwargs:
        settings["model_kwargs"] = given.model_kwargs
    traced = api.trace(
        given.target,
        data=given.data,
        image=given.image,
        batch=given.batch,
        picture=given.picture,
        label=given.label,
        invert=given.invert,
        split=given.split,
        checkpoint=given.checkpoint,
        untrained=given.untrained,
        training_mode=given.training_mode,
        trust=given.trust,
        recipe=given.recipe,
        **settings,
    )
    if given.out:
        note(f"Wrote {traced.save(given.out)}")
    if given.json:
        print_json(traced.to_json())
    else:
        print_trace(traced, page_hint=given.out is None, depth=given.depth)
    return 0


def _check_suffix(page: Path | None) -> None:
    """Before the work, not after it."""
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"Cannot write a page as {page.name}.", "End its name in .html.")
