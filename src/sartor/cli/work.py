"""`sartor work`: very many pictures, in shards. Its flags, its call, its printing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import OmitArgPrefixes, Positional

from ..console.progress import duration
from ..data.settings import PreprocessSettings
from ..errors import Interrupted, SartorError, UsageError
from ..interrupts import stop_requests
from ..recipe import Recipe
from ..wording import one_line, plural
from .arguments import AbstainName, CheckDataFlags, CheckpointName, RuntimeName
from .output import check_count, note, print_json, progress_shown
from .parsing import changed_settings
from .picture_list import Named

if TYPE_CHECKING:
    from ..api import Worked, WorkStatus

TaskName = Literal["predict", "check", "features", "decode"]
EngineName = Literal["local", "ray"]
ReadingName = Literal["pictures", "data"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Predict, check or decode millions of pictures, by any number of workers on any machines."""

    folder: Positional[Path]
    """Folder of the plan, its leases and its results; on a disk that all workers share."""
    pictures: Positional[tuple[str, ...]] = ()
    """What --plan is about: for predict and features as in sartor predict, - for a list on stdin;
    for check and decode one labelled source, as in sartor fit."""
    plan: TaskName | None = None
    """Make the plan, and do nothing else yet. predict; check, of pictures of 32x32 unless
    --image-size says otherwise; features of a pretrained backbone; or decode, each picture as a PNG
    of 64x64 or --image-size."""
    status: bool = False
    """Show how far it is, whoever works."""
    processes: int = 1
    """Workers to start on this machine, which share its cores; with --engine ray, in the
    cluster."""
    threads: int | None = None
    """Threads of a worker, which decode and compute; by default one for each core it may use."""
    engine: EngineName = "local"
    """How workers are started: local, on this machine; or ray, in the Ray cluster."""
    wait: bool = True
    """Stay until the shards of others are done, too, in case one of them dies."""
    root: Path | None = None
    """Where the folder of the pictures lies on this machine, if elsewhere than for the plan."""
    retry: bool = False
    """Try shards again at which worker after worker ended."""
    other_versions: bool = False
    """Accept libraries of other versions than the plan was made with: results may differ."""
    model: str | None = None
    """With --plan predict: a bundle or a run; with features: a backbone, efficientnet-lite0."""
    reading: ReadingName | None = None
    """With --plan: read PICTURES as pictures without labels, or as labelled data."""
    shard_size: int | None = None
    """With --plan: pictures of a shard; by default about 2,000, or 512 for features and decode.
    Rounded up to whole batches."""
    lease: float = 60.0
    """With --plan: seconds without a sign of life after which a worker counts as dead."""
    topk: int | None = None
    """With --plan predict: keep only the probabilities of the N most probable classes."""
    invert: bool = False
    """With --plan predict: invert the pictures, which are dark on light."""
    abstain: AbstainName = "off"
    """With --plan predict: withhold doubtful labels, as in sartor predict."""
    checkpoint: CheckpointName = "best"
    """With --plan predict and a run: best or last epoch."""
    calibrated: bool = True
    """With --plan predict and a run: divide the logits by the fitted temperature."""
    runtime: RuntimeName | None = None
    """With --plan predict: runtime of the bundle. With features: onnx or torch."""
    only: tuple[str, ...] = ()
    """With --plan check: run only these checks; by default the fast ones, and near-duplicates."""
    skip: tuple[str, ...] = ()
    """With --plan check: run all but these checks."""
    fast: bool = False
    """With --plan check: run only the fast checks."""
    trust: bool = False
    """Run the model's own Python file, whoever wrote it, and accept a recipe edited by hand."""
    seed: int = 0
    """With --plan check: decides the split, as in fit."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the result as one line of JSON."""
    data: OmitArgPrefixes[CheckDataFlags] = field(default_factory=CheckDataFlags)
    preprocess: OmitArgPrefixes[PreprocessSettings] = field(default_factory=PreprocessSettings)


_OF_PLANS = {
    "model",
    "reading",
    "shard_size",
    "lease",
    "topk",
    "invert",
    "abstain",
    "checkpoint",
    "calibrated",
    "runtime",
    "only",
    "skip",
    "fast",
    "seed",
}
_OF_WORKERS = {"processes", "threads", "engine", "wait", "root", "retry", "other_versions"}


def work(given: Work) -> int:
    """Plan, work, or say how far it is."""
    check_count("--processes", given.processes)
    check_count("--threads", given.threads)
    check_count("--topk", given.topk)
    if given.plan is not None:
        return _plan(given)
    _refuse_of_plans(given)
    return _status(given) if given.status else _work(given)


def _changed(given: Work, names: set[str]) -> list[str]:
    plain = Work(folder=given.folder)
    return [name for name in sorted(names) if getattr(given, name) != getattr(plain, name)]


def _refuse_of_plans(given: Work) -> None:
    """Nothing that is asked for is ignored in silence.

    Raises:
        UsageError: a flag that only a plan takes.
    """
    settings = changed_settings((given.data, given.preprocess), Recipe())
    names = _changed(given, _OF_PLANS | {"pictures"}) + sorted(settings)
    if given.status:
        names += _changed(given, _OF_WORKERS)
    if names:
        what = "PICTURES" if names[0] == "pictures" else f"--{names[0].replace('_', '-')}"
        raise UsageError(
            f"{what} means nothing without --plan, or with --status.",
            "Say --plan predict, check, features or decode to make a plan; or leave it out.",
        )


def _plan(given: Work) -> int:
    from .. import api

    wrong = _changed(given, _OF_WORKERS) + ["status"] * given.status
    if wrong:
        raise UsageError(
            f"--{wrong[0].replace('_', '-')} means nothing with --plan.",
            "Plan first, then work without --plan.",
        )
    if not given.pictures:
        raise UsageError("No picture is named.", "Name files, folders or a pattern such as 'in/*'.")
    options = {name: getattr(given, name) for name in _OF_PLANS - {"lease", "seed"}}
    settings = changed_settings((given.data, given.preprocess), Recipe())
    if given.seed:
        settings["seed"] = given.seed
    with stop_requests() as request, progress_shown(given.quiet) as progress:
        plan = api.plan_work(
            given.folder,
            given.plan or "",
            Named(given.pictures, request.asked).pictures,
            lease_seconds=given.lease,
            trust=given.trust,
            on_event=progress,
            **options,
            **settings,
        )
    if given.json:
        print_json(
            {
                "folder": str(given.folder),
                "plan": plan.sha256,
                "task": plan.task,
                "pictures": plan.pictures,
                "shards": plan.shards,
                "shard_size": plan.shard_size,
            }
        )
    else:
        print(
            f"{given.folder}: {plan.task}, {plural(plan.pictures, 'picture')} in "
            f"{plural(plan.shards, 'shard')}"
        )
        note(
            "Start workers, on as many machines as you like: "
            f"sartor work {shlex.quote(str(given.folder))}"
        )
    return 0


def _work(given: Work) -> int:
    from .. import api

    with stop_requests() as request, progress_shown(given.quiet) as progress:
        done = api.work(
            given.folder,
            engine=given.engine,
            processes=given.processes,
            threads=given.threads,
            wait=given.wait,
            root=given.root,
            retry=given.retry,
            other_versions=given.other_versions,
            trust=given.trust,
            on_event=progress,
            stopped=request.asked,
        )
        if done.stopped and not request.signal_number:
            raise SartorError(
                "The process that started this worker has ended, and so does this one.",
                f"Go on with: sartor work {shlex.quote(str(given.folder))}",
            )
        if done.stopped:
            raise Interrupted(
                request.signal_number,
                f"Stopped; {given.folder} holds what is done so far.",
                "Go on with the same command.",
            )
    _print_work(given, done)
    return 0


def _print_work(given: Work, done: Worked) -> None:
    if given.json:
        print_json(done.to_json())
    elif done.complete:
        print(_summary_line(given.folder, done.summary))
    else:
        print(
            f"{given.folder}: nothing is free; this worker did {plural(done.shards, 'shard')}, "
            "others are at the rest"
        )


def _summary_line(folder: Path, summary: Mapping[str, Any]) -> str:
    without = f", {summary['without']:,} of them unreadable" if summary["without"] else ""
    found = ""
    if "warnings" in summary:
        found = f"; {plural(summary['errors'], 'error')}, {plural(summary['warnings'], 'warning')}"
    return f"{folder / summary['file']}: {plural(summary['pictures'], 'picture')}{without}{found}"


def _status(given: Work) -> int:
    from .. import api

    status = api.work_status(given.folder)
    if given.json:
        print_json(status.to_json())
        return 0
    print(f"{status.task}: {_how_far(status)}")
    for worker in status.workers:
        pace = worker["pictures_per_second"]
        speed = "" if pace is None else f"  {pace:,.0f}/s"
        state = "" if worker["alive"] else "  no sign of life; another will take it"
        host = one_line(str(worker["host"]))
        print(f"  {worker['shard']}  {host} (process {worker['pid']}){speed}{state}")
    if status.given_up:
        note(
            f"{plural(len(status.given_up), 'shard')} ended worker after worker; --retry tries "
            "again."
        )
    if status.summary is not None:
        print(_summary_line(given.folder, status.summary))
    return 0


def _how_far(status: WorkStatus) -> str:
    left = "" if status.seconds_left is None else f", {duration(status.seconds_left)} left"
    return (
        f"{status.pictures_done:,} of {plural(status.pictures, 'picture')}, "
        f"{status.shards_done:,} of {plural(status.shards, 'shard')} done{left}"
    )
