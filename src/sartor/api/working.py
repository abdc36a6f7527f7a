"""Work: follow a plan for very many pictures, as one of any number of workers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import CorruptDataError, FileError
from ..files import explain_os_errors, read_regular, sha256_of_file
from ..shards.folder import MANIFEST, WorkFolder
from ..shards.lease import Worker
from ..shards.working import MOST_DEATHS
from ..shards.working import Worked as Worked
from ..shards.working import work as work_on
from .notes import Sink
from .shard_tasks import task_of


def follow(
    folder: str | Path,
    *,
    threads: int | None = None,
    wait: bool = True,
    root: str | Path | None = None,
    retry: bool = False,
    other_versions: bool = False,
    trust: bool = False,
    on_event: Sink | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Worked:
    """Follow a plan, as one of any number of workers; until everything is done.

    Args:
        threads: that decode and compute; by default as many as this process may use.
        wait: stay until the shards of others are done, too, in case one of them dies.
        root: where the folder of the pictures lies on this machine, if elsewhere than for the plan.
        retry: try shards again at which worker after worker ended.
        other_versions: accept libraries of other versions than the plan was made with.
        trust: as for `predict`.
        stopped: asked now and then; return True to stop early.

    Raises:
        UsageError: no plan; or this machine would make other results. FileError: the pictures are
            not here; the disk is full. DataError: shards that end every worker.
    """
    opened = WorkFolder.open(Path(folder))
    summary = opened.summary()
    if summary is not None:
        return Worked(worker="", complete=True, summary=summary)
    here = None if root is None else Path(root).absolute()
    _refuse_missing(opened, here)
    _refuse_other_manifest(opened)
    opened.plan.refuse_versions(other_versions=other_versions)
    task, identity = task_of(opened, threads=threads, trust=trust, on_event=on_event)
    opened.plan.refuse_others(identity)
    if retry:
        opened.leases(Worker.here()).forgive(MOST_DEATHS)
    manifest = opened.manifest(here)
    return work_on(opened, manifest, task, wait=wait, stopped=stopped, on_event=on_event)


def _refuse_other_manifest(folder: WorkFolder) -> None:
    """
    Raises:
        CorruptDataError: it is not the one of the plan. FileError: it cannot be read.
    """
    path = folder.path / MANIFEST
    with explain_os_errors(f"read {path}"):
        read_regular(path, 0)
    if sha256_of_file(path) != folder.plan.manifest_sha256:
        raise CorruptDataError(
            f"{path} is not the list of pictures that the plan was made with.",
            "Bring it back, or plan again in a new folder.",
        )


def _refuse_missing(folder: WorkFolder, here: Path | None) -> None:
    """A machine on which the pictures are not mounted must not make errors of all of them.

    Raises:
        FileError: they are not there.
    """
    root = here or (Path(folder.plan.root) if folder.plan.root else None)
    if root is None:
        return
    with suppress(OSError):
        if any(root.iterdir()):
            return
    raise FileError(
        f"The folder of the pictures, {root}, is not on this machine, or is empty.",
        "Mount it, or say where it lies here: --root DIR",
    )
