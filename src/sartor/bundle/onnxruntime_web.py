"""ONNX Runtime for browsers: two files of a package of npm, fetched once and kept in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..data.named.places import Content, NpmPackage, Place
from ..errors import CorruptDataError, UnavailableError
from ..files import make_folder, sha256_of, sha256_of_file, write_bytes
from ..home import Note, cache_home, explain_cache_errors, locked

PACKAGE = NpmPackage("onnxruntime-web", "1.30.0")
FILES: Mapping[str, str] = {
    "ort.wasm.bundle.min.mjs": ("11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90"),
    "ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
}
"""SHA-256 of each. Without WebGPU: for networks of this size the processor is as fast, and its
sums are the same in every browser."""


def onnxruntime_web(*, note: Note = lambda _line: None, place: Place = PACKAGE) -> dict[str, bytes]:
    """The content of the files, by name; from the cache, or fetched into it.

    Raises:
        UnavailableError: they are not in the cache, and npm cannot fetch them. CorruptDataError:
            what came is not what is registered here.
    """
    folder = cache_folder()
    if not _is_whole(folder):
        with explain_cache_errors():
            make_folder(folder)
            with locked(folder / ".lock", what=f"the folder {folder}"):
                if not _is_whole(folder):
                    note(f"fetching ONNX Runtime for browsers (14 MB) from {place} into {folder}")
                    for name, content in _fetched(place, folder).items():
                        write_bytes(folder / name, bytes(content))
    return {name: (folder / name).read_bytes() for name in FILES}


def cache_folder() -> Path:
    """Where the files lie."""
    return cache_home() / "browser" / f"{PACKAGE.name}-{PACKAGE.version}"


def _is_whole(folder: Path) -> bool:
    return all(sha256_of_file(folder / name) == sha256 for name, sha256 in FILES.items())


def _fetched(place: Place, folder: Path) -> dict[str, Content]:
    try:
        contents = place.fetch(list(FILES))
    except UnavailableError as error:
        raise UnavailableError(
            f"Cannot fetch ONNX Runtime for browsers from {place}: {error.message}",
            f"Install npm, or put {' and '.join(FILES)} of that package into {folder}.",
        ) from error
    for name, sha256 in FILES.items():
        found = sha256_of(bytes(contents[name]))
        if found != sha256:
            raise CorruptDataError(
                f"{name} from {place} is not the registered file: SHA-256 {found[:12]}, not "
                f"{sha256[:12]}.",
                "Nothing was kept; look at which registry npm uses: npm config get registry",
            )
    return contents
