"""Folders of pictures: ROOT/CLASS/picture, or ROOT/{train,val,test}/CLASS/picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError, PictureError
from .listing import Listing
from .preprocess import natural_key

PICTURE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
)


@dataclass(frozen=True, kw_only=True)
class PictureFiles:
    """Pictures as files below one folder."""

    root: Path
    names: tuple[str, ...]

    def read(self, index: int) -> bytes:
        path = self.root / self.names[index]
        try:
            return path.read_bytes()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise PictureError(f"Cannot read {path}: {reason}.", "Check the path.") from None

    def stamp(self, index: int) -> str:
        status = (self.root / self.names[index]).stat()
        return f"{status.st_size} {status.st_mtime_ns}"


def list_folder(root: Path) -> Listing:
    """The pictures of ROOT/CLASS/picture.

    Raises:
        DataError: there are no pictures in it.
    """
    folders = sorted(
        (entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."),
        key=natural_key,
    )
    classes = tuple(folder.name for folder in folders)
    names, labels = [], []
    for label, folder in enumerate(folders):
        found = sorted((path for path in folder.rglob("*") if _is_picture(path)), key=natural_key)
        names += [str(path.relative_to(root)) for path in found]
        labels += [label] * len(found)
    if not names:
        raise DataError(
            f"There is no picture in {root}.", "Give each class a folder of its own: ROOT/CLASS/*."
        )
    return Listing(
        name=root.name,
        shape="a folder for each class",
        pictures=PictureFiles(root=root, names=tuple(names)),
        labels=np.array(labels, dtype=np.int64),
        classes=classes,
    )


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and path.name[0] != "." and path.is_file()
