"""What follows a training: the calibration and the report."""

from __future__ import annotations

from contextlib import suppress

from ..data.splits.split import Split
from ..errors import FileError, SartorError
from ..runs.place import Place
from .calibrating import calibrate
from .opened import OpenedRun


def judge(run: OpenedRun, *, report: bool, split: Split | None = None) -> None:
    """Calibrate, and report if that is wanted, wherever the run is moved to meanwhile.

    Args:
        split: the run's, where it is known already.
    """
    with Place.of(run.folder) as place:
        while True:
            try:
                with run.kept_at_hand(split):
                    calibrate(run)
                    if report:
                        make_report(run)
            except SartorError:
                if place.now() == run.folder:
                    raise
            moved = place.now()
            if moved == run.folder:
                return
            # What was written just now may lie nowhere.
            run.folder = moved
            run.calibrations.clear()


def make_report(run: OpenedRun) -> None:
    """The report of the validation split, which the run then owes no more."""
    from .reporting import report_of_training

    if report_of_training(run):
        with suppress(FileError):  # the training and its report are there
            run.folder.write_report_is_made()
