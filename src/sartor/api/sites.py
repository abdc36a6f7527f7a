"""Export for browsers: a run or a bundle as a static site."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..bundle.format import ONNX, Bundle, is_bundle
from ..bundle.site import site
from ..errors import UsageError
from ..files import refuse_unwritable, write_folder
from .exporting import export
from .notes import Sink, note


@dataclass(frozen=True, kw_only=True)
class Site:
    """A static site that was written."""

    path: Path
    files: dict[str, int]
    """Bytes of each file."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"site": str(self.path), "files": self.files}


def export_site(
    source: str | Path,
    out: str | Path,
    *,
    overwrite: bool = False,
    on_event: Sink | None = None,
    **choices: Any,
) -> Site:
    """Write the page of a run or a bundle as a static site, which needs no server of its own.

    Args:
        source: a bundle, or a run, of which a bundle is made first.
        out: the folder of the site.
        overwrite: replace a folder that is there.
        choices: as for `export`, where `source` is a run.

    Raises:
        UsageError: there is something at `out`. BundleError: the bundle has no model.onnx.
        UnavailableError: ONNX Runtime for browsers cannot be fetched.
    """
    out = Path(out)
    _refuse_existing(out, overwrite=overwrite)
    tell = partial(note, on_event)
    if is_bundle(source):
        files = site(Bundle.open(source), _name(source), note=tell)
    else:
        with tempfile.TemporaryDirectory(prefix="sartor-") as scratch:
            made = export(source, Path(scratch) / "bundle", on_event=on_event, **choices)
            name = getattr(source, "path", source)
            files = site(Bundle.open(made.path), _name(name), note=tell)
    write_folder(out, files)
    return Site(path=out, files={name: len(content) for name, content in sorted(files.items())})


def _refuse_existing(out: Path, *, overwrite: bool) -> None:
    if not (out.exists() or out.is_symlink()):
        refuse_unwritable(out)
        return
    if out.is_symlink() or not (out / "model" / ONNX).is_file():
        raise UsageError(
            f"{out} already exists, and is not a site that was exported.",
            "Choose another folder with --web.",
        )
    if not overwrite:
        raise UsageError(
            f"{out} already exists.", "Choose another folder, or replace it with --overwrite."
        )


def _name(source: str | Path) -> str:
    path = Path(source)
    return path.stem if path.suffix.lower() == ".zip" else path.name
