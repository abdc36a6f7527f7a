"""`sartor export`: a run as a bundle. Its flags, its call, its printing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from ..errors import UsageError
from . import tables
from .arguments import CheckpointName
from .output import note, print_json, progress_shown


@dataclass(frozen=True, kw_only=True)
class Export:
    """Export a run as a bundle, which can prove that it still answers as the run does."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest; with --web also a bundle."""
    out: Path | None = None
    """Where to write the bundle: a folder, or a single file if the name ends in .zip."""
    web: Path | None = None
    """Where to write a static site: a page that classifies in the browser. Can be given with or
    without --out."""
    program: bool = False
    """Also write program.pt2, which runs a network of your own in PyTorch without its source."""
    no_onnx: bool = False
    """Leave out model.onnx; the bundle then runs in PyTorch only."""
    with_source: bool = False
    """Put the Python file of your own network into the bundle; opening it in PyTorch runs it."""
    quantize: Literal["int8"] | None = None
    """Also write model.int8.onnx, the network in 8 bits, if it loses at most half a point of
    accuracy on the validation images and is faster on this machine."""
    checkpoint: CheckpointName = "best"
    """Weights to export: best (best epoch on the validation split, or the last without one) or
    last."""
    licence_model: str | None = None
    """Licence of the weights, such as Apache-2.0; without it, the bundle says "not stated"."""
    licence_data: str | None = None
    """Licence of the training data."""
    overwrite: bool = False
    """Replace what is already there."""
    data: Path | None = None
    """Where the run's data is now, if it moved."""
    trust: bool = False
    """Run the run's own Python file, whoever wrote it, and accept a recipe edited by hand."""
    json: bool = False
    """Print the result as one line of JSON."""


def export(given: Export) -> int:
    """Write a bundle."""
    from .. import api
    from ..bundle.format import is_bundle

    if given.out is None and given.web is None:
        raise UsageError(
            "Nothing says where to write the bundle.",
            "Add --out NAME for a folder, --out NAME.zip for a file, or --web NAME for a site.",
        )
    with progress_shown(quiet=False) as progress:
        made, site = None, None
        common: dict[str, Any] = {"overwrite": given.overwrite, "on_event": progress}
        if given.out:
            made = api.export(given.run, given.out, **common, **_choices(given))
        if given.web:
            source = made.path if made else given.run
            choices = {} if is_bundle(source) else _choices(given)
            site = api.export_site(source, given.web, **common, **choices)
    for remark in made.remarks if made else ():
        note(f"Note: {remark}.")
    if given.json:
        print_json({**(made.to_json() if made else {}), **(site.to_json() if site else {})})
        return 0
    if made:
        tables.print_exported(made)
    if site:
        tables.print_site(site)
    return 0


def _choices(given: Export) -> dict[str, Any]:
    """What is asked of the bundle."""
    return {
        "program": given.program,
        "onnx": not given.no_onnx,
        "with_source": given.with_source,
        "quantize": given.quantize,
        "checkpoint": given.checkpoint,
        "licence_model": given.licence_model,
        "licence_data": given.licence_data,
        "data": given.data,
        "trust": given.trust,
    }
