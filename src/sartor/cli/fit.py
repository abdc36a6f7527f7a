"""`sartor fit`: train. Its flags, its call, its printing."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from tyro.conf import OmitArgPrefixes, Positional, Suppress

from ..console.streams import Unfailing
from ..data.settings import PreprocessSettings
from ..errors import ModelError, UsageError
from . import tables
from .arguments import DataFlags, ModelFlags, TrainingFlags
from .output import note, print_json, print_run, progress_shown
from .parsing import base_recipe, changed_settings, refuse_flags_of_timm, settings_named


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
    """Train with N consecutive seeds, starting at --seed. Makes one run per seed, judges each once
    on the test images, and reports mean, standard deviation and interval."""
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
    trust: bool = False
    """Let a Python file run that only the recipe's file names, whoever wrote it."""
    quiet: bool = False
    """Show no progress."""
    verbose: bool = False
    """Say also why the engine native is not used, where it is not."""
    json: bool = False
    """Print the result as one line of JSON."""
    data: OmitArgPrefixes[DataFlags] = field(default_factory=DataFlags)
    preprocess: OmitArgPrefixes[PreprocessSettings] = field(default_factory=PreprocessSettings)
    model: OmitArgPrefixes[ModelFlags] = field(default_factory=ModelFlags)
    training: OmitArgPrefixes[TrainingFlags] = field(default_factory=TrainingFlags)
    named: Suppress[tuple[str, ...]] = ()
    """Settings whose flags stand on the command line, if only with the value of the recipe."""


def defaults(words: list[str]) -> Fit:
    """The recipe named among the words gives the flags their defaults, so that help shows them."""
    refuse_flags_of_timm(words)
    name = None
    for word, following in pairwise([*words, ""]):
        if word == "--recipe" and following:
            name = following
        elif word.startswith("--recipe="):
            name = word.removeprefix("--recipe=")
    recipe = base_recipe(name)
    flags = DataFlags(**vars(recipe.data))
    return replace(
        Fit(),
        recipe=name,
        data=flags,
        preprocess=recipe.preprocess,
        model=ModelFlags(**vars(recipe.model)),
        training=TrainingFlags(**vars(recipe.training)),
        named=tuple(settings_named(words)),
    )


def fit(given: Fit) -> int:
    """Train."""
    from .. import api

    recipe = given.recipe
    parts = (given.data, given.preprocess, given.model, given.training)
    # A flag that says what the plain default is all the same counts where the data decide.
    changes = changed_settings(parts, base_recipe(recipe), given.named)
    model = changes.pop("model", None)
    if given.seeds is not None and (given.overfit_batch or given.lr_find):
        raise UsageError(
            "--seeds trains runs, but --overfit-batch and --lr-find make none.",
            "Leave one of them out.",
        )
    if given.overfit_batch:
        return _overfit(given, recipe, model, changes)
    if given.lr_find:
        return _find_learning_rate(given, recipe, model, changes)
    if given.seeds is not None:
        return _fit_seeds(given, given.seeds, recipe, model, changes)
    with progress_shown(given.quiet, verbose=given.verbose) as progress:
        run = api.fit(
            given.target,
            progress=False,
            recipe=recipe,
            model=model,
            out=given.out,
            check=not given.no_check,
            report=not given.no_report,
            trust=given.trust,
            on_event=progress,
            **changes,
        )
    return print_run(run, given.json)


def _fit_seeds(
    given: Fit, seeds: int, recipe: str | None, model: str | None, changes: dict[str, Any]
) -> int:
    from .. import api
    from .comparing import print_seeds, seed_line

    def print_seed(seed: int, result: dict[str, Any]) -> None:
        # The seeds that follow are trained, whether or not somebody reads it.
        stream = Unfailing(sys.stderr if given.json else sys.stdout)
        stream.write(f"{seed_line(seed, result)}\n")
        stream.flush()

    with progress_shown(given.quiet) as progress:
        trained = api.fit_seeds(
            given.target,
            seeds=seeds,
            recipe=recipe,
            model=model,
            out=given.out,
            check=not given.no_check,
            report=not given.no_report,
            trust=given.trust,
            on_event=progress,
            on_run=None if given.json and given.quiet else print_seed,
            **changes,
        )
    if given.json:
        print_json(trained.to_json())
    else:
        print_seeds(trained)
    return 0


def _overfit(given: Fit, recipe: str | None, model: str | None, changes: dict[str, Any]) -> int:
    from .. import api

    def print_step(step: int, loss: float, accuracy: float) -> None:
        # Powers of two show the beginning closely and the end sparsely.
        if not given.quiet and step & (step - 1) == 0:
            note(f"step {step:>5}  loss {loss:.4f}  accuracy {accuracy:.2%}")

    result = api.overfit_batch(
        given.target,
        recipe=recipe,
        model=model,
        trust=given.trust,
        on_step=print_step,
        **changes,
    )
    if given.json:
        print_json(asdict(result))
    if not result.learnt:
        raise ModelError(
            f"One batch of {result.images} images was not learned in {result.steps:,} steps: loss "
            f"{result.first_loss:.3f} -> {result.loss:.3f}, accuracy {result.accuracy:.1%}.",
            "Try another --lr; if none works, look for a mistake in the model.",
        )
    if not given.json:
        print(
            f"Learned {result.images} images by heart in {result.steps} steps: "
            f"loss {result.first_loss:.3f} -> {result.loss:.3f}."
        )
    return 0


def _find_learning_rate(
    given: Fit, recipe: str | None, model: str | None, changes: dict[str, Any]
) -> int:
    from .. import api

    test = api.find_learning_rate(
        given.target, recipe=recipe, model=model, trust=given.trust, **changes
    )
    if given.out:
        from ..reports.figures import range_test_figure, save_figure

        save_figure(range_test_figure(test), given.out)
        note(f"Wrote {given.out}")
    if given.json:
        print_json(asdict(test))
    else:
        tables.print_range_test(test)
    return 0
