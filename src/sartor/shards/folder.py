"""The folder of a plan, which all workers share.

plan.json           what is to be done
manifest.parquet    every picture, in order
model/ or model.zip a copy of the bundle that predicts
leases/             who is at which shard
workers/            what each worker says of itself
results/            00000.parquet and so on: what came of each shard
summary.json        what came of all of them; once it is there, the work is done
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import FileError, UsageError
from ..files import (
    explain_os_errors,
    json_line,
    make_folder,
    read_document,
    read_regular,
    remove,
    write_json,
    write_once,
)
from ..runs.containment import refuse_ways_out_at
from .lease import CLOCK, Leases, Worker
from .manifest import Manifest, arrow
from .plan import Plan

PLAN, MANIFEST, SUMMARY, RESULTS = "plan.json", "manifest.parquet", "summary.json", "results"
MERGING = "merge"
"""The lease of whoever joins the results."""
_ENDING = ".parquet"
_ENTRIES = (
    *(PLAN, MANIFEST, SUMMARY, RESULTS, "model", "model.zip", "leases", "workers"),
    *(f"leases/{CLOCK}", f"leases/{MERGING}", "exclude.txt"),
)
"""What workers read and write by name."""
_ABOUT = b"sartor"


@dataclass(frozen=True, eq=False)
class WorkFolder:
    """A folder with a plan in it."""

    path: Path
    plan: Plan

    @classmethod
    def open(cls, path: Path) -> WorkFolder:
        """
        Raises:
            UsageError: there is no plan. FileError: it cannot be read. RunError: something of the
                folder leads out of it.
        """
        where = path / PLAN
        if not where.exists():
            raise UsageError(
                f"{path} holds no plan.",
                f"Make one first: sartor work {path} PICTURES --plan predict --model BUNDLE",
            )
        refuse_ways_out_at(path, _ENTRIES)
        with explain_os_errors(f"read {where}"):
            content = read_document(where)
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            raise FileError(f"{where} is damaged.", "Plan again, in a new folder.") from None
        return cls(path, Plan.from_json(document, str(where)))

    @classmethod
    def begin(cls, path: Path, plan: Plan) -> WorkFolder:
        """Write the plan, as the last of all that workers need."""
        for name in ("leases", "workers", RESULTS):
            make_folder(path / name)
        write_json(path / PLAN, plan.to_json())
        return cls(path, plan)

    def manifest(self, here: Path | None = None) -> Manifest:
        """The pictures.

        Args:
            here: where the folder that holds them all lies on this machine, if elsewhere.
        """
        return Manifest(self.path / MANIFEST, root=self.plan.root, here=here)

    def leases(self, worker: Worker) -> Leases:
        """The leases, as a worker sees them."""
        return Leases(
            folder=self.path / "leases",
            workers=self.path / "workers",
            worker=worker,
            seconds=self.plan.lease_seconds,
        )

    def result_path(self, shard: int) -> Path:
        """Where the result of a shard lies."""
        return self.path / RESULTS / f"{shard:05}{_ENDING}"

    def finished(self) -> set[int]:
        """The shards that have a result."""
        with explain_os_errors(f"read {self.path / RESULTS}"):
            names = [one.name for one in (self.path / RESULTS).iterdir()]
        numbers = (name.removesuffix(_ENDING) for name in names if name.endswith(_ENDING))
        return {int(number) for number in numbers if number.isdecimal()}

    def keep(self, shard: int, table: Any) -> None:
        """Write the result of a shard, unless another worker has done so.

        Raises:
            FileError: the disk is full, or will not take it for another reason.
        """
        about = {**self._about, "shard": shard}
        with write_once(self.result_path(shard)) as stream:
            write_table(stream, table, about)

    @property
    def _about(self) -> dict[str, Any]:
        return {"plan": self.plan_sha256, "task": self.plan.task}

    @cached_property
    def plan_sha256(self) -> str:
        """Computed once."""
        return self.plan.sha256

    def results(self, manifest: Manifest) -> Iterator[tuple[int, Any]]:
        """The result of each shard, in order.

        Raises:
            LostResultError: one is not what it should be.
        """
        for shard in range(self.plan.shards):
            table = self._read(shard, manifest)
            if table is None:
                raise LostResultError(shard)
            yield shard, table

    def without_unsound(self, manifest: Manifest) -> set[int]:
        """Remove results that are not what they should be; their shards are to be done again."""
        removed = set()
        for shard in range(self.plan.shards):
            if self._read(shard, manifest) is None:
                remove(self.result_path(shard))
                removed.add(shard)
        return removed

    def _read(self, shard: int, manifest: Manifest) -> Any:
        """A result; None where it is missing, damaged, of another plan, or about other pictures."""
        pyarrow, path = arrow(), self.result_path(shard)
        names = [one.file for one in manifest.shard(shard)]
        try:
            table = pyarrow.parquet.read_table(
                pyarrow.BufferReader(read_regular(path)), page_checksum_verification=True
            )
            about = json.loads((table.schema.metadata or {})[_ABOUT])
            matches = about == {**self._about, "shard": shard}
            return table if matches and table.column("file").to_pylist() == names else None
        except (OSError, KeyError, ValueError, pyarrow.ArrowException):
            return None

    def summary(self) -> dict[str, Any] | None:
        """What came of all shards; None until then."""
        try:
            found = json.loads(read_document(self.path / SUMMARY))
        except (OSError, ValueError, RecursionError):
            return None
        is_ours = isinstance(found, dict) and found.get("plan") == self.plan_sha256
        return found if is_ours and _is_summary(found) else None

    def end(self, summary: Mapping[str, Any]) -> None:
        """Say what came of it: from now on there is nothing to do."""
        write_json(self.path / SUMMARY, {"plan": self.plan_sha256, **summary})


def _is_summary(found: Mapping[str, Any]) -> bool:
    """Whether somebody's JSON says what a summary says."""
    counted = [found.get(name, 0) for name in ("pictures", "without", "errors", "warnings")]
    return (
        all(type(one) is int and one >= 0 for one in counted)
        and {"pictures", "without"} <= found.keys()
        and isinstance(found.get("file"), str)
        and ("warnings" in found) == ("errors" in found)
    )


class LostResultError(Exception):
    """The result of a shard was missing or damaged."""

    def __init__(self, shard: int) -> None:
        super().__init__(f"shard {shard}")
        self.shard = shard


def write_table(stream: Any, table: Any, about: Mapping[str, Any]) -> None:
    """A table as parquet, with a checksum for each page."""
    pyarrow = arrow()
    described = table.replace_schema_metadata({_ABOUT: json_line(about).encode()})
    pyarrow.parquet.write_table(described, stream, **layout_of(described.schema))


def layout_of(schema: Any) -> dict[str, Any]:
    """How tables are written: words that come again once, what is different each time as it is."""
    text = arrow().string()
    return {
        "write_page_checksum": True,
        "use_dictionary": [field.name for field in schema if field.type == text],
        "write_statistics": False,
    }
