"""Several workers at once: as processes of this machine, or as tasks of a Ray cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError, SartorError, UsageError, unknown
from ..events import Working
from ..machine import available_cores
from .notes import Sink, note
from .work_progress import work_status
from .working import Worked, follow

ENGINES = ("local", "ray")
_LOOK_SECONDS = 0.5
_MOST_SECONDS_TO_END = 60.0
_PARENT = "SARTOR_WORK_PARENT"
"""In the environment of a worker: the process that started it, with which it ends."""


def work(
    folder: str | Path,
    *,
    engine: str = "local",
    processes: int = 1,
    threads: int | None = None,
    wait: bool = True,
    root: str | Path | None = None,
    retry: bool = False,
    other_versions: bool = False,
    trust: bool = False,
    on_event: Sink | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Worked:
    """Follow a plan with several workers at once; see `follow` for the other arguments.

    Args:
        engine: "local" for processes of this machine; "ray" for tasks of the Ray cluster that
            RAY_ADDRESS names, or of one that is started here.
        processes: how many workers. Those of this machine share its cores, unless `threads` says
            how many each of them uses.

    Raises:
        UsageError: no such engine. MissingExtraError: Ray is not installed. SartorError: all
            workers ended before the work was done.
    """
    if engine not in ENGINES:
        sentence = unknown("engine", engine, ENGINES)
        raise UsageError(sentence[0].upper() + sentence[1:], "Say local or ray.")
    options: dict[str, Any] = {
        "wait": wait,
        "root": None if root is None else str(Path(root).absolute()),
        "retry": retry,
        "other_versions": other_versions,
        "trust": trust,
    }
    if engine == "local" and processes == 1:
        end = _ended_with_parent(stopped)
        return follow(folder, threads=threads, on_event=on_event, stopped=end, **options)
    # Before anything is started.
    before = work_status(folder)
    if before.complete:
        return follow(folder)
    start = _in_ray if engine == "ray" else _in_processes
    with start(Path(folder), processes, threads, options, on_event) as (ended, stop):
        faults = _watched(folder, before.pictures_done, ended, stop, on_event, stopped)
    now = work_status(folder)
    if faults and not now.complete and not stopped():
        raise SartorError(
            f"{faults} of {processes} workers ended with an error before the work was done.",
            "Their messages stand above. What is done stays: the same command goes on.",
        )
    return Worked(
        worker=f"{processes} workers",
        shards=now.shards_done - before.shards_done,
        pictures=now.pictures_done - before.pictures_done,
        complete=now.complete,
        stopped=stopped() and not now.complete,
        summary=dict(now.summary or {}),
    )


def _ended_with_parent(stopped: Callable[[], bool]) -> Callable[[], bool]:
    """Also asks to stop where the process that started this one is gone."""
    parent = os.environ.get(_PARENT)
    if not parent:
        return stopped
    return lambda: stopped() or str(os.getppid()) != parent


Ended = Callable[[], "tuple[int, int]"]
"""How many workers still work, and how many ended with an error."""
Started = tuple[Ended, Callable[[], None]]


def _watched(
    folder: str | Path,
    pictures_before: int,
    ended: Ended,
    stop: Callable[[], None],
    on_event: Sink | None,
    stopped: Callable[[], bool],
) -> int:
    """Wait until all workers have ended, and say how far they are; how many ended with an error."""
    begun, asked = time.monotonic(), False
    while True:
        working, faults = ended()
        if on_event is not None:
            _say(folder, pictures_before, time.monotonic() - begun, not working, on_event)
        if not working:
            return faults
        if stopped() and not asked:
            asked = True
            stop()
        time.sleep(_LOOK_SECONDS)


def _say(
    folder: str | Path, pictures_before: int, seconds: float, over: bool, on_event: Sink
) -> None:
    status = work_status(folder)
    pace = (status.pictures_done - pictures_before) / max(seconds, 1e-9)
    left = (status.pictures - status.pictures_done) / pace if pace and not over else None
    on_event(
        Working(
            task=status.task,
            done=status.pictures_done,
            total=status.pictures,
            shards_done=status.shards_done,
            shards=status.shards,
            pictures_per_second=pace,
            seconds_left=left,
            ended=over,
        )
    )


@contextmanager
def _in_processes(
    folder: Path,
    count: int,
    threads: int | None,
    options: Mapping[str, Any],
    on_event: Sink | None,  # noqa: ARG001  (they speak for themselves)
) -> Iterator[Started]:
    """Workers as processes, which end with this one."""
    threads = threads or max(1, available_cores() // count)
    words = [sys.executable, "-m", "sartor", "work", str(folder), "--quiet"]
    words += ["--threads", str(threads), *_flags(options)]
    environment = {**os.environ, _PARENT: str(os.getpid()), "OMP_NUM_THREADS": str(threads)}
    workers = [
        subprocess.Popen(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # A signal from the terminal reaches them through this process, and once only.
            start_new_session=True,
        )
        for _ in range(count)
    ]

    def ended() -> tuple[int, int]:
        codes = [one.poll() for one in workers]
        return codes.count(None), sum(code not in (None, 0) for code in codes)

    def stop() -> None:
        for one in workers:
            one.send_signal(signal.SIGTERM)

    try:
        yield ended, stop
    finally:
        stop()
        for one in workers:
            try:
                one.wait(_MOST_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


def _flags(options: Mapping[str, Any]) -> list[str]:
    """The same as flags of the command line."""
    flags = [] if options["wait"] else ["--no-wait"]
    if options["root"] is not None:
        flags += ["--root", options["root"]]
    named = ("retry", "other_versions", "trust")
    return flags + [f"--{name.replace('_', '-')}" for name in named if options[name]]


@contextmanager
def _in_ray(
    folder: Path,
    count: int,
    threads: int | None,
    options: Mapping[str, Any],
    on_event: Sink | None,
) -> Iterator[Started]:
    """Workers as tasks of Ray, which starts those again whose node is lost."""
    # No word about this machine leaves it.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(
            "Working in a Ray cluster",
            "ray",
            "ray",
            or_else="or start workers without it: sartor work FOLDER",
        ) from error
    ours = not ray.is_initialized()
    if ours:
        address = os.environ.get("RAY_ADDRESS")
        here = {} if address else {"include_dashboard": False}
        ray.init(address=address, log_to_driver=False, configure_logging=False, **here)
    threads = threads or 1
    follow = ray.remote(num_cpus=threads, max_retries=-1)(_follow)
    waiting = [follow.remote(str(folder.absolute()), threads, dict(options)) for _ in range(count)]
    faults = 0

    def ended() -> tuple[int, int]:
        nonlocal waiting, faults
        ready, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        for one in ready:
            try:
                ray.get(one)
            except Exception as error:  # what a task raised, or what became of its node
                faults += 1
                first = (str(getattr(error, "cause", error)).splitlines() or [""])[0]
                note(on_event, f"a worker in Ray ended: {first}")
        return len(waiting), faults

    def stop() -> None:
        for one in waiting:
            ray.cancel(one, force=True)

    try:
        yield ended, stop
    finally:
        stop()
        if ours:
            ray.shutdown()


def _follow(folder: str, threads: int, options: dict[str, Any]) -> None:
    """What a task of Ray does; a function of a module, so that a node with sartor has it."""
    follow(folder, threads=threads, **options)
