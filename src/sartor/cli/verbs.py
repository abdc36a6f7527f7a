"""The verbs: call the API, print the result."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, RunError, UsageError
from . import arguments, tables
from .progress import PlainProgress, progress_for_stderr

if TYPE_CHECKING:
    from ..api import Run
    from ..data.dataset import Dataset


def fit(given: arguments.Fit) -> int:
    """Train."""
    from .. import api
    from .parsing import changed_settings

    recipe = given.recipe
    changes = changed_settings(given)
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
    with _progress(given.quiet) as progress:
        run = api.fit(
            given.target,
            recipe=recipe,
            model=model,
            out=given.out,
            check=not given.no_check,
            report=not given.no_report,
            on_event=progress,
            **changes,
        )
    return _say_result(run, given.json)


def resume(given: arguments.Resume) -> int:
    """Go on."""
    from .. import api

    with _progress(given.quiet) as progress:
        run = api.resume(given.run, epochs=given.epochs, on_event=progress)
    return _say_result(run, given.json)


def data(given: arguments.Data) -> int:
    """Look at a set."""
    from ..api.describing import describe, open_unprepared

    _check_count("--samples", given.samples)
    if given.augment and given.pixels:
        raise UsageError(
            "--pixels shows one image unchanged; --augment changes it.", "Leave one of them out."
        )
    settings = {name: value for name, value in vars(given.data).items() if name != "source"}
    with _progress(quiet=False) as progress:
        dataset = open_unprepared(given.target, on_event=progress, **settings)
    wants_picture = (
        given.samples or given.out or given.pixels or given.augment or given.image is not None
    )
    if wants_picture:
        path = _draw(given, dataset)
        _note(f"Wrote {path}")
    description = describe(dataset)
    if given.json:
        _print_json(description)
    else:
        tables.print_dataset(description)
    return 0


def check(given: arguments.Check) -> int:
    """Find the faults of a set."""
    from .. import api
    from ..data.pictures.exclude import exclusion_list
    from ..files import write_text
    from .findings import print_report
    from .parsing import changed_settings

    with _progress(given.quiet) as progress:
        report = api.check(
            given.target,
            only=given.only,
            skip=given.skip,
            fast=given.fast,
            on_event=progress,
            seed=given.seed,
            **changed_settings(given),
        )
    if given.html:
        from ..inspection.check.page import check_page

        write_text(given.html, check_page(report))
        _note(f"Wrote {given.html}")
    if given.quarantine:
        listed = report.quarantine(labels=given.quarantine_labels)
        write_text(given.quarantine, exclusion_list(listed))
        _note(f"Wrote {given.quarantine}: {len(listed):,} pictures")
    if given.json:
        _print_json(report.to_json())
    else:
        print_report(report)
    return report.exit_code(strict=given.strict)


def runs(given: arguments.Runs) -> int:
    """List runs."""
    from ..runs.store import run_folders, summarize_run

    summaries = [summarize_run(folder) for folder in run_folders(given.folder)]
    if given.json:
        _print_json([asdict(summary) for summary in summaries])
    elif summaries:
        tables.print_runs(summaries)
    else:
        print(f"No runs in {given.folder}. Make one: sartor fit fashion-mnist")
    return 0


def show(given: arguments.Show) -> int:
    """Show a run."""
    from .. import api
    from ..runs.store import summarize_run

    run = api.Run.open(given.run)
    weights = _hash_or_none(lambda: run.weights_sha256)
    if given.plot:
        from ..reports.figures import save_figure

        save_figure(run.plot(), given.plot)
        _note(f"Wrote {given.plot}")
    description = {
        "run": str(run.path),
        "recipe": run.recipe.to_tables(),
        "status": run.status["state"],
        "history": run.history,
        "weights_sha256": weights,
        "split_sha256": _hash_or_none(lambda: run.split_sha256),
        "engine": run.folder.engine(),
    }
    if given.json:
        _print_json(description)
    else:
        recipe = run.recipe.to_toml() if given.recipe else None
        tables.print_run(description, summarize_run(run.folder), recipe)
    return 0


def evaluate(given: arguments.Evaluate) -> int:
    """Judge a run."""
    from .. import api
    from ..evaluation.metrics import evaluate as judge

    run = api.Run.open(given.run)
    with _progress(quiet=False) as progress:
        run.dataset(on_event=progress)
    predictions = api.predictions_of(run, given.split, checkpoint=given.checkpoint)
    evaluation = judge(predictions)
    if given.mistakes and evaluation.accuracy == 1:
        _note("There are no mistakes to draw.")
    elif given.mistakes:
        from ..reports.figures import save_figure

        save_figure(api.mistakes_figure(run, predictions), given.mistakes)
        _note(f"Wrote {given.mistakes}")
    if given.json:
        _print_json(evaluation.to_json())
    else:
        tables.print_evaluation(evaluation, str(run.path))
    return 0


def compare(given: arguments.Compare) -> int:
    """Compare runs; without torch where their predictions are saved."""
    from .. import api
    from .comparing import print_comparison

    comparison = api.compare(*given.runs, split=given.split, on_event=PlainProgress())
    if given.flips and not any(pair.only_first or pair.only_second for pair in comparison.pairs):
        _note("The runs agree on every image: there is nothing to draw.")
    elif given.flips:
        from ..reports.figures import save_figure

        save_figure(comparison.figure(), given.flips)
        _note(f"Wrote {given.flips}")
    if given.json:
        _print_json(comparison.to_json())
    else:
        print_comparison(comparison)
    return 0


def report(given: arguments.Report) -> int:
    """Write a run's report."""
    from .. import api

    made = api.report(
        given.run, given.split, out=given.out, checkpoint=given.checkpoint, map=given.map
    )
    if given.json:
        _print_json(made.to_json())
    else:
        tables.print_report(made)
    return 0


def predict(given: arguments.Predict) -> int:
    """Classify pictures; those that cannot be read are named, and make the exit code 1."""
    from .. import api

    if not given.pictures:
        raise UsageError("No picture is named.", "Name files, folders or a pattern such as 'in/*'.")
    _check_count("--topk", given.topk)
    predictions, faults = api.predict_readable(
        api.Run.open(given.run), given.pictures, invert=given.invert, checkpoint=given.checkpoint
    )
    for fault in faults:
        _note(f"sartor: {fault.message} {fault.hint}")
    if given.explain and predictions:
        _explain(given, [prediction.file for prediction in predictions])
    if given.json:
        _print_json([prediction.to_json(given.topk) for prediction in predictions])
    elif predictions:
        tables.print_predictions(predictions, given.topk or 3)
    return 1 if faults else 0


def _explain(given: arguments.Predict, files: list[str]) -> None:
    from .. import api
    from ..reports.figures import save_figure

    assert given.explain
    explanations = api.explain(
        given.run,
        files,
        method=given.method,
        invert=given.invert,
        checkpoint=given.checkpoint,
    )
    save_figure(api.explanations_figure(explanations), given.explain)
    _note(f"Wrote {given.explain}")


def summary(given: arguments.Summary) -> int:
    """Show a network's layers."""
    from .. import api
    from ..models.registry import MODELS

    is_run = given.model not in MODELS and (
        Path(given.model).is_dir() or (Path("runs") / given.model).is_dir()
    )
    model: Any = api.Run.open(given.model) if is_run else given.model
    table = api.summary(model, given.data, **given.model_kwargs)
    if given.json:
        _print_json(table.to_json())
    else:
        print(table)
    return 0


def trace(given: arguments.Trace) -> int:
    """Look into a network at work."""
    from .. import api
    from .trace_table import print_trace

    if given.target is None and given.recipe is None:
        raise UsageError(
            "There is nothing to trace.", "Name a run or a model: sartor trace latest --image 0"
        )
    _check_suffix(given.out)
    names = ("opt", "lr", "loss", "seed")
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
        recipe=given.recipe,
        **settings,
    )
    if given.out:
        _note(f"Wrote {traced.save(given.out)}")
    if given.json:
        _print_json(traced.to_json())
    else:
        print_trace(traced, page_hint=given.out is None)
    return 0


def _fit_seeds(
    given: arguments.Fit, seeds: int, recipe: str | None, model: str | None, changes: dict[str, Any]
) -> int:
    from .. import api
    from .comparing import print_seeds, seed_line

    def said(seed: int, result: dict[str, Any]) -> None:
        print(seed_line(seed, result), file=sys.stderr if given.json else None, flush=True)

    with _progress(given.quiet) as progress:
        trained = api.fit_seeds(
            given.target,
            seeds=seeds,
            recipe=recipe,
            model=model,
            out=given.out,
            check=not given.no_check,
            report=not given.no_report,
            on_event=progress,
            on_run=None if given.json and given.quiet else said,
            **changes,
        )
    if given.json:
        _print_json(trained.to_json())
    else:
        print_seeds(trained)
    return 0


def _overfit(
    given: arguments.Fit, recipe: str | None, model: str | None, changes: dict[str, Any]
) -> int:
    from .. import api

    def said(step: int, loss: float, accuracy: float) -> None:
        # Powers of two show the beginning closely and the end sparsely.
        if not given.quiet and step & (step - 1) == 0:
            _note(f"step {step:>5}  loss {loss:.4f}  accuracy {accuracy:.2%}")

    result = api.overfit_batch(given.target, recipe=recipe, model=model, said=said, **changes)
    if given.json:
        _print_json(asdict(result))
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
    given: arguments.Fit, recipe: str | None, model: str | None, changes: dict[str, Any]
) -> int:
    from .. import api

    test = api.find_learning_rate(given.target, recipe=recipe, model=model, **changes)
    if given.out:
        from ..reports.figures import range_test_figure, save_figure

        save_figure(range_test_figure(test), given.out)
        _note(f"Wrote {given.out}")
    if given.json:
        _print_json(asdict(test))
    else:
        tables.print_range_test(test)
    return 0


@contextmanager
def _progress(quiet: bool) -> Iterator[PlainProgress | None]:
    progress = None if quiet else progress_for_stderr()
    try:
        yield progress
    finally:
        if progress:
            progress.close()


def _say_result(run: Run, as_json: bool) -> int:
    if as_json:
        _print_json(run.result())
    else:
        page = run.folder.report_path
        tables.print_result(run.result(), page if page.is_file() else None)
    return 0


def _draw(given: arguments.Data, dataset: Dataset) -> Path:
    from ..api.describing import augmentation_figure, image_figure, samples_figure
    from ..reports.figures import save_figure

    number, count = given.image or 0, given.samples or 32
    if given.augment:
        figure = augmentation_figure(dataset, given.augment, number, count=count, seed=given.seed)
        name = f"{dataset.name}-{number}-augmented.png"
    elif given.image is not None or given.pixels:
        figure = image_figure(dataset, number, pixels=given.pixels)
        name = f"{dataset.name}-{number}{'-pixels' if given.pixels else ''}.png"
    else:
        figure = samples_figure(dataset, count, seed=given.seed)
        name = f"{dataset.name}-samples.png"
    path = given.out or Path(name)
    save_figure(figure, path)
    return path


def _hash_or_none(read: Callable[[], str]) -> str | None:
    """A hash of something in a run; of a broken run the rest is shown all the same."""
    try:
        return read()
    except RunError as error:
        _note(f"warning: {error}")
        return None


def _check_count(flag: str, count: int | None) -> None:
    if count is not None and count < 1:
        raise UsageError(f"{flag} must be at least 1, not {count}.", "Give a larger number.")


def _check_suffix(page: Path | None) -> None:
    """Before the work, not after it."""
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"Cannot write a page as {page.name}.", "End its name in .html.")


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(_strict(value), allow_nan=False), flush=True)


def _strict(value: Any) -> Any:
    """The same with null for infinities and NaN, which JSON cannot express."""
    if isinstance(value, dict):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
