"""Predictions of many pictures as a file that grows, and from which an interrupted work goes on.

A row a line, in the order of the pictures. Beside an unfinished file lies FILE.unfinished, which
says which model and which settings it was begun with. Parquet, which cannot grow, is made at the
end from a file of JSON lines.
"""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any, Protocol

from ..errors import FileError, MissingExtraError, UsageError
from ..files import append_to, atomic_write, explain_os_errors, json_line, remove, write_json
from ..inference.answers import Row
from ..wording import cell

FORMATS = (".csv", ".jsonl", ".json", ".parquet")
_RECORD_VERSION = 1
_GROUP_ROWS = 10_000
_LINE_BREAKS = str.maketrans({"\n": "\\n", "\r": "\\r"})


class Layout(Protocol):
    """How rows become lines."""

    @property
    def head(self) -> bytes:
        """What stands before the first row: whole lines, or nothing."""

    @property
    def tail(self) -> bytes:
        """What stands after the last row, if there is any."""

    def line(self, row: Row, number: int) -> bytes:
        """A row as one line; they are numbered from 0."""

    def name(self, line: bytes) -> str:
        """The file that a line is about, as `written` gives it; ValueError for a torn line."""

    def written(self, file: str) -> str:
        """How the name of a file is written."""


@dataclass(frozen=True, kw_only=True)
class JsonLines:
    """A JSON document a line, the same as in `predict --json`; with `as_list` those of one list."""

    topk: int | None
    as_list: bool = False

    @property
    def head(self) -> bytes:
        """See `Layout`, as the rest."""
        return b""

    @property
    def tail(self) -> bytes:
        return b"]\n" if self.as_list else b""

    def line(self, row: Row, number: int) -> bytes:
        # The comma first, so that every line is whole when it is written.
        sign = ("," if number else "[") if self.as_list else ""
        return f"{sign}{json_line(row.to_json(self.topk))}\n".encode()

    def name(self, line: bytes) -> str:
        return str(json.loads(line[1:] if self.as_list else line)["file"])

    def written(self, file: str) -> str:
        return file


@dataclass(frozen=True, kw_only=True)
class Csv:
    """Comma-separated values; line breaks in names are written \\n, so that a row is a line."""

    classes: tuple[str, ...]
    topk: int | None

    _FIRST = ("file", "label", "probability", "set", "novelty", "novelty_percentile", "unknown")
    _LAST = ("unlike_training", "error")

    @property
    def head(self) -> bytes:
        """See `Layout`, as the rest."""
        return _csv_line(self._columns)

    @cached_property
    def _columns(self) -> list[str]:
        if self.topk is None:
            more = [f"p:{name}" for name in self.classes]
        else:
            shown = range(2, min(self.topk, len(self.classes)) + 1)
            more = [f"{what}_{place}" for place in shown for what in ("label", "probability")]
        return [*self._FIRST, *self._LAST, *more]

    @property
    def tail(self) -> bytes:
        return b""

    def line(self, row: Row, number: int) -> bytes:  # noqa: ARG002
        document = row.to_json(self.topk)
        cells = [document.get(name) for name in (*self._FIRST, *self._LAST)]
        probabilities = document.get("probabilities", {})
        if self.topk is None:
            return _csv_line([*cells, *(probabilities.get(name) for name in self.classes)])
        cells += [part for pair in list(probabilities.items())[1:] for part in pair]
        return _csv_line([*cells, *[None] * (len(self._columns) - len(cells))])

    def name(self, line: bytes) -> str:
        (cells,) = csv.reader([line.decode()], strict=True)
        if not line.endswith(b"\n") or len(cells) != len(self._columns):
            raise ValueError("not a whole row")
        return cells[0]

    def written(self, file: str) -> str:
        return _cell(file)


def _csv_line(cells: Iterable[Any]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(map(_cell, cells))
    return stream.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
    return cell(text.translate(_LINE_BREAKS))


class Results:
    """A file of results, open for more rows."""

    def __init__(self, path: Path, layout: Layout, kept: int, write: Callable[[bytes], None]):
        self._path, self._layout, self._write = path, layout, write
        self.kept = kept
        """Rows of an earlier process that stay."""
        self.count = kept
        """Rows so far."""
        self.whole = False

    def kept_names(self) -> Iterator[str]:
        """The files that the rows are about that stay, as `written` gives them."""
        with self._path.open("rb") as stream:
            stream.seek(len(self._layout.head))
            for line in islice(stream, self.kept):
                yield self._layout.name(line)

    def written(self, file: str) -> str:
        """How the name of a file is written."""
        return self._layout.written(file)

    def add(self, rows: Sequence[Row]) -> None:
        """Write more rows.

        Raises:
            FileError: the disk is full, or will not take them for another reason.
        """
        lines = (self._layout.line(row, self.count + place) for place, row in enumerate(rows))
        try:
            self._write(b"".join(lines))
        except FileError as error:
            hint = f"{error.hint} --resume continues where it stopped."
            raise FileError(error.message, hint) from error
        self.count += len(rows)

    def end(self) -> None:
        """Write what stands after the last row."""
        self._write(self._layout.tail if self.count else _empty(self._layout))
        self.whole = True


def refuse_out(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a file that cannot be written, before any work is done.

    Raises:
        UsageError: its suffix is of no known format, or it is there and nobody said what to do.
        MissingExtraError: parquet, without pyarrow.
    """
    if out.suffix.lower() not in FORMATS:
        raise UsageError(
            f"{out} has no suffix of a known format.", f"Give it one of {', '.join(FORMATS)}."
        )
    if out.suffix.lower() == ".parquet":
        _pyarrow()
    if resume and overwrite:
        raise UsageError("A file is either resumed or overwritten.", "Leave one of the two out.")
    record, rows = _record_path(out), rows_path(out)
    begun = record.exists() and rows.exists()
    there = out.exists() and (not out.is_file() or out.stat().st_size > 0)
    if resume and there and not record.exists():
        raise UsageError(
            f"There is nothing to resume: {out} is finished, or was not made by sartor predict.",
            "Name another file, or replace it with --overwrite.",
        )
    if begun and not (resume or overwrite):
        raise UsageError(
            f"{rows} is unfinished.", "Go on with --resume, or begin again with --overwrite."
        )
    if there and not out.is_file():
        raise UsageError(f"{out} is not a file.", "Name a file that is to be written.")
    if there and not (resume or overwrite):
        raise UsageError(f"{out} exists.", "Name another file, or replace it with --overwrite.")


@contextmanager
def opened_results(
    out: Path,
    *,
    classes: tuple[str, ...],
    topk: int | None,
    record: Mapping[str, Any],
    unit: int,
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[Results]:
    """A file for results; what was there of an unfinished one stays, in whole units of rows.

    Args:
        record: what decides the rows, as JSON; an unfinished file must have been begun with the
            same.
        unit: rows that are computed together, and so must be again to come out alike.

    Raises:
        UsageError: as `refuse_out`; or it was begun with another record. FileError: it cannot be
            written.
    """
    refuse_out(out, resume=resume, overwrite=overwrite)
    layout = _layout(out, classes, topk)
    rows, record_path = rows_path(out), _record_path(out)
    if resume and record_path.exists() and rows.exists():
        _compare(_read_record(record_path), record, out)
        kept, length = _whole_rows(rows, layout, unit)
    else:
        kept, length = 0, 0
    with append_to(rows, keep=length) as write:
        if rows != out:
            remove(out)
        # Only now, so that rows never lie beside a record that they were not begun with.
        write_json(record_path, {"format": _RECORD_VERSION, **record})
        if not length:
            write(layout.head)
        results = Results(rows, layout, kept, write)
        yield results
    if results.whole:
        if rows != out:
            _write_parquet(rows, out, classes, topk, record)
            remove(rows)
        remove(record_path)


def rows_path(out: Path) -> Path:
    """Where the rows lie until the file is finished."""
    return out.with_name(f"{out.name}.rows.jsonl") if out.suffix.lower() == ".parquet" else out


def _record_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.unfinished")


def _layout(out: Path, classes: tuple[str, ...], topk: int | None) -> Layout:
    if out.suffix.lower() == ".csv":
        return Csv(classes=classes, topk=topk)
    return JsonLines(topk=topk, as_list=out.suffix.lower() == ".json")


def _empty(layout: Layout) -> bytes:
    return b"[]\n" if layout.tail else b""


def _read_record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
        if found.pop("format") != _RECORD_VERSION:
            raise ValueError
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise FileError(
            f"{path} cannot be read, so it is not known what the results were begun with.",
            "Begin again with --overwrite.",
        ) from None
    return dict(found)


def _compare(before: Mapping[str, Any], now: Mapping[str, Any], out: Path) -> None:
    """Refuse to go on with something else.

    Raises:
        UsageError: naming what differs.
    """
    # As JSON has it: tuples became lists.
    now = json.loads(json_line(now))
    differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if differing:
        key = differing[0]
        values = [_short(one.get(key)) for one in (before, now)]
        raise UsageError(
            f"{out} was begun with other settings: {key.replace('_', ' ')} was {values[0]}, "
            f"and is {values[1]} now.",
            "Give the same as then, or begin again with --overwrite.",
        )


def _short(value: Any) -> str:
    text = shlex.join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _whole_rows(path: Path, layout: Layout, unit: int) -> tuple[int, int]:
    """How many rows are whole, in whole units, and how many bytes they take with what is before."""
    with explain_os_errors(f"read {path}"), path.open("rb") as stream:
        if stream.read(len(layout.head)) != layout.head:
            return 0, 0
        kept, length, end = 0, len(layout.head), len(layout.head)
        for number in count(1):
            line = stream.readline()
            try:
                if not line.endswith(b"\n"):
                    raise ValueError
                layout.name(line)
            except (ValueError, KeyError, TypeError, StopIteration, csv.Error):
                return kept, length
            end += len(line)
            if number % unit == 0:
                kept, length = number, end
    raise AssertionError("the last line is followed by an empty one")


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("Writing parquet", "pyarrow", "parquet") from error
    return pyarrow


def prediction_schema(classes: Sequence[str], topk: int | None) -> Any:
    """The columns of predictions in parquet.

    Raises:
        MissingExtraError: without pyarrow.
    """
    pyarrow = _pyarrow()
    text, number = pyarrow.string(), pyarrow.float64()
    probabilities = (
        pyarrow.struct([(name, number) for name in classes])
        if topk is None
        else pyarrow.map_(text, number)
    )
    return pyarrow.schema(
        [
            ("file", text),
            ("label", text),
            ("probability", number),
            ("probabilities", probabilities),
            ("set", pyarrow.list_(text)),
            ("novelty", number),
            ("novelty_percentile", number),
            ("unknown", pyarrow.bool_()),
            ("unlike_training", pyarrow.list_(text)),
            ("error", text),
        ]
    )


def prediction_table(documents: Sequence[dict[str, Any]], schema: Any, topk: int | None) -> Any:
    """Rows as `to_json` and JSON have them, as an Arrow table."""
    for row in documents if topk is not None else ():
        row["probabilities"] = list(row.get("probabilities", {}).items())
    return _pyarrow().Table.from_pylist(documents, schema=schema)


def _write_parquet(
    rows: Path, out: Path, classes: tuple[str, ...], topk: int | None, record: Mapping[str, Any]
) -> None:
    pyarrow = _pyarrow()
    schema = prediction_schema(classes, topk).with_metadata({"sartor": json_line(record)})
    with (
        rows.open("rb") as stream,
        atomic_write(out) as target,
        pyarrow.parquet.ParquetWriter(target, schema) as writer,
    ):
        while group := [json.loads(line) for line in islice(stream, _GROUP_ROWS)]:
            writer.write_table(prediction_table(group, schema, topk))
