"""`sartor check`: find the faults of a set. Its flags, its call, its printing."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import OmitArgPrefixes, Positional

from ..data.settings import PreprocessSettings
from ..errors import UsageError
from ..recipe import Recipe
from .arguments import (
    CheckDataFlags,
)
from .output import note, print_json, progress_shown
from .parsing import changed_settings

if TYPE_CHECKING:
    from ..data.fixes import Fix


@dataclass(frozen=True, kw_only=True)
class Check:
    """Find the faults of a set. It only reads: nothing is deleted, moved or replaced."""

    target: Positional[str] = "digits"
    """A path or a named set. A path is a folder of pictures, a list of them, .parquet, .npz, IDX
    files, .zip or .tar."""
    only: tuple[str, ...] = ()
    """Run only these checks. Fast ones, which fit runs too: files, formats, geometry, classes,
    groups, duplicates. Others: near-duplicates, appearance, outliers, shortcuts, labels,
    baselines."""
    skip: tuple[str, ...] = ()
    """Run all but these checks."""
    fast: bool = False
    """Run only the fast checks."""
    features: str = "auto"
    """What labels and outliers are judged by: the features of a pretrained backbone,
    by its name; off, small pixels; auto, the backbone that fit would take, for pictures from files
    where it is installed."""
    html: Path | None = None
    """Write the report with pictures to this file."""
    quarantine: Path | None = None
    """Write a list of pictures to leave out to this file, for fit --exclude."""
    quarantine_labels: bool = False
    """Also list pictures whose label is probably wrong."""
    fixes: Path | None = None
    """Write a table of suggested corrections to this file: pictures to leave out, labels that are
    probably wrong. Edit it, then use it with fit --fixes."""
    strict: bool = False
    """Exit with code 1 for warnings too, not only for errors."""
    seed: int = 0
    """Decides the split, as in fit, and all randomness."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the result as one line of JSON."""
    data: OmitArgPrefixes[CheckDataFlags] = field(default_factory=CheckDataFlags)
    preprocess: OmitArgPrefixes[PreprocessSettings] = field(default_factory=PreprocessSettings)


def check(given: Check) -> int:
    """Find the faults of a set."""
    from .. import api

    _refuse_to_overwrite(given.fixes)
    from ..data.pictures.exclude import exclusion_list
    from ..files import write_text
    from .findings import print_report

    with progress_shown(given.quiet) as progress:
        report = api.check(
            given.target,
            only=given.only,
            skip=given.skip,
            fast=given.fast,
            features=given.features,
            on_event=progress,
            seed=given.seed,
            **changed_settings((given.data, given.preprocess), Recipe()),
        )
    if given.html:
        from ..inspection.check.page import check_page

        write_text(given.html, check_page(report))
        note(f"Wrote {given.html}")
    if given.quarantine:
        listed = report.quarantine(labels=given.quarantine_labels)
        write_text(given.quarantine, exclusion_list(listed))
        note(f"Wrote {given.quarantine}: {len(listed):,} pictures")
    if given.fixes:
        _write_fixes(given.fixes, report.fixes())
    if given.json:
        print_json(report.to_json())
    else:
        print_report(report)
    return report.exit_code(strict=given.strict)


def _write_fixes(path: Path, fixes: Sequence[Fix]) -> None:
    from ..data.fixes import EXCLUDE, fixes_table
    from ..files import write_text

    left_out = sum(fix.suggested == EXCLUDE for fix in fixes)
    write_text(path, fixes_table(fixes))
    note(
        f"Wrote {path}: {left_out:,} to leave out, {len(fixes) - left_out:,} labels to look at. "
        "Delete or edit rows, then: sartor fit ... --fixes " + shlex.quote(str(path))
    )


def _refuse_to_overwrite(path: Path | None) -> None:
    """Before the work: a table that a person has edited is not to be lost."""
    if path is not None and path.exists():
        raise UsageError(
            f"{path} exists already, perhaps with your corrections.",
            "Name another file, or delete it first.",
        )
