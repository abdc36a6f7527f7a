"""Predict into a file: any number of pictures, from where an earlier process was interrupted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..data.pictures.stream import Undecoded
from ..data.unlabelled import Unlabelled
from ..errors import SartorError, UsageError
from ..events import Predicting
from ..inference.answers import Prediction, Row, Unreadable
from .notes import Sink, noting
from .predicting import Classifier, Picture, Source, named_pictures, predictor_of
from .prediction_files import Results, opened_results, refuse_out

_EVENT_SECONDS = 0.2
_NAMED = 10


@dataclass(kw_only=True)
class Tally:
    """What came of the pictures of a stream: counts, and the first few that need a word."""

    predicted: int = 0
    without: int = 0
    """Pictures without prediction."""
    unreadable: list[Unreadable] = field(default_factory=list)
    """The first of them."""
    unlike: int = 0
    """Pictures that are unlike the training images in some figure."""
    unknown: int = 0
    """Pictures that are more novel than the threshold allows."""
    unlike_training: list[Prediction] = field(default_factory=list)
    """The first of them."""

    def add(self, rows: Iterable[Row]) -> None:
        """Count some more."""
        for row in rows:
            if isinstance(row, Unreadable):
                self.without += 1
                if len(self.unreadable) < _NAMED:
                    self.unreadable.append(row)
                continue
            self.predicted += 1
            self.unknown += bool(row.unknown)
            if row.unlike_training:
                self.unlike += 1
                if len(self.unlike_training) < _NAMED:
                    self.unlike_training.append(row)


@dataclass(frozen=True, kw_only=True)
class PredictedFile:
    """What `predict_to_file` wrote."""

    path: Path
    rows: int
    """Number of rows in the file."""
    kept: int
    """Rows among them that an earlier process had written."""
    tally: Tally
    """Counts over the rows that were added."""
    stopped: bool = False
    """Whether it was asked to stop before the last picture."""


def predict_to_file(
    source: Source,
    pictures: Picture | Iterable[Picture],
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    topk: int | None = None,
    invert: bool = False,
    ink: str | None = None,
    image_column: str | None = None,
    checkpoint: str = "best",
    calibrated: bool = True,
    abstain: str = "off",
    runtime: str | None = None,
    device: str | None = None,
    trust: bool = False,
    on_event: Sink | None = None,
    stopped: Callable[[], bool] = lambda: False,
    idle: Callable[[], bool] = lambda: False,
) -> PredictedFile:
    """Classify any number of pictures into a file, one row per picture, in order.

    After an interruption, even a kill or a full disk, the same call with `resume=True` continues
    where it stopped; the file ends up as if nothing had happened.

    Args:
        out: a file that ends in .csv, .jsonl, .json or .parquet.
        resume: continue an unfinished file, or start one if there is none.
        overwrite: replace an existing file.
        topk: keep only the probabilities of that many classes.
        on_event: called with events of the progress.
        stopped: called now and then; return True to stop early.
        idle: whether the next name would have to be waited for; then rows that are ready are
            written.
        the others: as for `predict_stream`.

    Raises:
        UsageError: the file exists, or was begun with another model, other settings or other
            pictures. FileError: it cannot be written. Others as `predict_stream`.
    """
    out = Path(out)
    refuse_out(out, resume=resume, overwrite=overwrite)
    predictor = predictor_of(
        source,
        checkpoint=checkpoint,
        calibrated=calibrated,
        runtime=runtime,
        device=device,
        trust=trust,
    )
    classifier = Classifier(predictor, ink=ink, abstain=abstain)
    given = named_pictures(pictures)
    named = Unlabelled(given, image_column=image_column, note=noting(on_event), idle=idle)
    record = {
        **classifier.identity,
        "topk": topk,
        "invert": invert,
        "image_column": image_column,
    }
    tally = Tally()
    with (
        opened_results(
            out,
            classes=predictor.classes,
            topk=topk,
            record=record,
            unit=classifier.pictures_at_once,
            resume=resume,
            overwrite=overwrite,
        ) as results,
        _counted(named, on_event) as total,
    ):
        pace = _Pace(results.kept, total, on_event)
        rest = _after(results, iter(named), out)
        with closing(classifier.answered(rest, invert=invert, idle=named.idle)) as answered:
            for chunk in answered:
                if stopped():
                    break
                results.add(chunk.rows)
                tally.add(chunk.rows)
                pace.at(results.count, tally.without)
        asked = stopped()
        if not asked:
            results.end()
            pace.end(results.count, tally.without)
    return PredictedFile(
        path=out, rows=results.count, kept=results.kept, tally=tally, stopped=asked
    )


def _after(results: Results, pictures: Iterator[Undecoded], out: Path) -> Iterator[Undecoded]:
    """The pictures that have no row yet.

    Raises:
        UsageError: those that have one are not the first of them.
    """
    for number, written in enumerate(results.kept_names(), 1):
        picture = next(pictures, None)
        name = None if picture is None else picture.name
        if name is None or results.written(name) != written:
            raise UsageError(
                f"The pictures are not those that {out} was begun with: row {number:,} was about "
                f"{written}, and there is {name or 'no picture'} now.",
                "Name the same pictures, or begin again with --overwrite.",
            )
    return pictures


@contextmanager
def _counted(named: Unlabelled, on_event: Sink | None) -> Iterator[Callable[[], int | None]]:
    """A function that gives the number of pictures as soon as another thread has counted them."""
    found: list[int | None] = []
    over = threading.Event()

    def count() -> None:
        try:
            found.append(named.count(over.is_set))
        except SartorError:
            return

    if on_event is not None:
        threading.Thread(target=count, name="sartor-count", daemon=True).start()
    try:
        yield lambda: found[0] if found else None
    finally:
        over.set()


class _Pace:
    """Says how far it is a few times a second."""

    def __init__(self, kept: int, total: Callable[[], int | None], on_event: Sink | None) -> None:
        self._kept, self._total, self._on_event = kept, total, on_event
        self._begun = self._said = time.perf_counter()

    def at(self, done: int, unreadable: int) -> None:
        """So many are done."""
        if time.perf_counter() - self._said >= _EVENT_SECONDS:
            self._say(done, unreadable, ended=False)

    def end(self, done: int, unreadable: int) -> None:
        """All are done."""
        self._say(done, unreadable, ended=True)

    def _say(self, done: int, unreadable: int, *, ended: bool) -> None:
        if self._on_event is None:
            return
        self._said = now = time.perf_counter()
        pace = (done - self._kept) / max(now - self._begun, 1e-9)
        total = self._total()
        left = None if ended or total is None or not pace else max(total - done, 0) / pace
        self._on_event(
            Predicting(
                done=done,
                total=total,
                unreadable=unreadable,
                pictures_per_second=pace,
                seconds_left=left,
                ended=ended,
            )
        )
