"""`sartor report`: a run as one page. Its flags, its call, its printing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from . import tables
from .arguments import CheckpointName, DeviceName, JudgedSplitName, MapName
from .output import print_json


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a run's report: report.html, report.json and mistakes.csv."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    split: JudgedSplitName | None = None
    """Images to evaluate on: test or val; by default test where there are any. A test figure is
    final: do not choose anything by it."""
    checkpoint: CheckpointName = "best"
    """Weights to use: best (best epoch on the validation split, or the last without one) or
    last."""
    out: Path | None = None
    """File of the page (.html), if not in the run's folder. The other files are written next to
    it."""
    data: Path | None = None
    """Where the run's data is now, if it moved."""
    device: DeviceName | None = None
    """Device to compute on; by default the one used in training if available, else the best one."""
    trust: bool = False
    """Run the run's own Python file, whoever wrote it, and accept a recipe edited by hand."""
    map: MapName = "pca"
    """How to lay out the images by what the network sees: pca, tsne or umap. umap needs the extra
    maps."""
    json: bool = False
    """Print the content of report.json as one line."""


def report(given: Report) -> int:
    """Write a run's report."""
    from .. import api

    made = api.report(
        given.run,
        given.split,
        out=given.out,
        checkpoint=given.checkpoint,
        map=given.map,
        data=given.data,
        device=given.device,
        trust=given.trust,
    )
    if given.json:
        print_json(made.to_json())
    else:
        tables.print_report(made)
    return 0
