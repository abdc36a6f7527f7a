"""The results of all shards as one file, in the order of the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ..files import atomic_write, json_line, sha256_of_file
from .folder import WorkFolder, layout_of
from .manifest import arrow

_EVERY_SECONDS = 1.0


def merged(folder: WorkFolder, name: str, stopped: Callable[[], bool]) -> dict[str, Any] | None:
    """Join the results into a file of that name; what is to be said of it, None if `stopped`.

    It does not depend on who computed which shard, nor when.

    Raises:
        LostResultError: a result is missing or damaged. FileError: the disk is full.
    """
    path = folder.path / name
    faults = 0
    with parquet_file(folder, name) as add:
        for _, table in folder.results(folder.manifest()):
            if stopped():
                return None
            faults += faults_in(table)
            add(table)
    return {
        "pictures": folder.plan.pictures,
        "without": faults,
        "file": name,
        "file_sha256": sha256_of_file(path),
    }


@contextmanager
def parquet_file(folder: WorkFolder, name: str) -> Iterator[Callable[[Any], None]]:
    """A function that adds a table to a parquet file, one row group for each."""
    pyarrow = arrow()
    about = {"plan": folder.plan_sha256, "task": folder.plan.task, **folder.plan.identity}
    with atomic_write(folder.path / name) as stream, ExitStack() as stack:
        writer: Any = None

        def add(table: Any) -> None:
            nonlocal writer
            table = table.replace_schema_metadata({b"sartor": json_line(about).encode()})
            if writer is None:
                writer = stack.enter_context(
                    pyarrow.parquet.ParquetWriter(stream, table.schema, **layout_of(table.schema))
                )
            writer.write_table(table, row_group_size=max(len(table), 1))

        yield add


def faults_in(table: Any) -> int:
    """Rows that have an error instead of a result."""
    return len(table) - int(table.column("error").null_count)
