"""Arrays in an .npz file: MedMNIST's keys, those of Keras, or plain images and labels.

Sizes are checked before anything is loaded, and no object is ever unpickled. What the keys mean,
`keyed_arrays` says.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...arrays import AnyArray
from ...errors import CorruptDataError, DataError, SartorError
from ...machine import available_memory, total_memory
from ..feed.mapped import mapped_file
from ..settings import SourceSettings
from .keyed_arrays import Arrays, dataset_of, found_key, parts_of
from .tree import FileTree, inside, shown

_CLASS_NAME_WORDS = ("class_names", "classes", "label_names")
_FETCH_AGAIN = "Fetch the file again from where it came from."
_CHUNK_BYTES = 64 << 20
_MAPPED_FROM_BYTES = 64 << 20
_MEMORY_SHARE = 0.25
"""Arrays of up to this share of the free memory are read: a file that is only mapped must not
change while it is used."""
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
"""Before each member of a zip file, and before its name and what else is noted there."""


def holds_arrays(path: Path) -> bool:
    """Whether a zip file holds arrays and nothing else, as an .npz does.

    Raises:
        CorruptDataError: it is damaged.
    """
    with _explained(str(path)), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def load_npz(tree: FileTree, path: str, settings: SourceSettings, *, name: str) -> Arrays:
    """The dataset in an .npz file.

    Args:
        tree: where it lies, at `path`.
        name: what the dataset is called.

    Raises:
        CorruptDataError: it is damaged, or claims more than it holds.
        UsageError: unclear which key is which; with the flag.
        DataError: arrays that make no dataset; the sentence says why.
    """
    source = inside(tree, path)
    content = tree.place(path) or io.BytesIO(tree.read(path))
    with _explained(source), zipfile.ZipFile(content) as archive:
        members = {
            info.filename.removesuffix(".npy"): info
            for info in archive.infolist()
            if info.filename.endswith(".npy")
        }
        parts = parts_of(list(members), settings, source)
        names_key = found_key(members, _CLASS_NAME_WORDS)
        wanted = [one for keys in parts.values() for one in (keys.images, keys.labels, keys.groups)]
        # Several splits become one array, which lies in memory; a single one may stay in its file.
        path_of_one = content if isinstance(content, Path) and len(parts) == 1 else None
        loaded = _loaded(
            archive, members, [key for key in (*wanted, names_key) if key], source, path_of_one
        )
    return dataset_of(parts, loaded, names_key, source, name)


def _loaded(
    archive: zipfile.ZipFile,
    members: Mapping[str, zipfile.ZipInfo],
    keys: list[str],
    source: str,
    path: Path | None,
) -> dict[str, AnyArray]:
    """The arrays of these keys; large ones of bytes, stored plainly, mapped where there is a path.

    Raises:
        DataError: the others would fill the memory.
    """
    mapped = {}
    for key in keys if path is not None else ():
        array = _mapped(archive, members[key], path, f"{key} of {source}")
        if array is not None:
            mapped[key] = array
    keys = [key for key in keys if key not in mapped]
    total, memory = sum(members[key].file_size for key in keys), total_memory()
    if memory and total > memory / 2:
        raise DataError(
            f"The arrays of {source} take {total / 2**30:.0f} GiB; "
            f"this machine has {memory / 2**30:.0f} GiB of memory.",
            "Save one split of uint8 images with numpy.savez, uncompressed: such a file is mapped."
            " Or save smaller images, or fewer.",
        )
    return mapped | {key: _read(archive, members[key], f"{key} of {source}") for key in keys}


def _mapped(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path | None, what: str
) -> AnyArray | None:
    """A large array of bytes as it lies in the file; None where it is small or lies otherwise."""
    if path is None or member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        return None
    if member.file_size < max(_MAPPED_FROM_BYTES, _MEMORY_SHARE * available_memory()):
        return None
    header = _header(archive, member, what)
    if header.dtype != np.uint8 or header.fortran_order:
        return None
    with archive.open(member) as stream:
        while stream.read(_CHUNK_BYTES):
            pass  # the end has the checksum compared
    with path.open("rb") as file:
        file.seek(member.header_offset + _LOCAL_HEADER.size - 4)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
    start = member.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    array = np.memmap(path, np.uint8, "r", start + header.length, header.shape)
    mapped_file(array)  # as it is now
    return array


class _Header(NamedTuple):
    """What stands before the values of an array."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    length: int
    """In bytes."""


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo, what: str) -> _Header:
    """The header of an array, once it says what the file really holds."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADER_READERS:
            raise ValueError(f"{what} has a header of the unknown version {version}")
        shape, fortran_order, dtype = _HEADER_READERS[version](stream)
        if dtype.hasobject:
            raise DataError(
                f"{what} holds Python objects, which could run programs: they are not read.",
                "Save it again as an array of one type, such as uint8.",
            )
        if math.prod(shape) * dtype.itemsize != member.file_size - stream.tell():
            raise CorruptDataError(
                f"{what} claims {'x'.join(map(str, shape)) or 'one'} of {dtype}, "
                f"which are not its {member.file_size:,} bytes.",
                _FETCH_AGAIN,
            )
        return _Header(shape, fortran_order, dtype, stream.tell())


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, what: str) -> AnyArray:
    """One array."""
    _header(archive, member, what)
    with archive.open(member) as stream:
        array: AnyArray = np.lib.format.read_array(stream, allow_pickle=False)
        # Reading on to the end has the checksum compared.
        stream.read(1)
    return array


_HEADER_READERS: Mapping[tuple[int, int], Callable[[Any], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """Turn what zipfile and NumPy leave with on damaged bytes into one sentence."""
    try:
        with warnings.catch_warnings():
            # Of headers that an older Python wrote, or that are no Python at all.
            warnings.simplefilter("ignore")
            yield
    except (SartorError, MemoryError):
        raise
    except Exception as error:  # there are a dozen kinds
        reason = shown(str(error) or type(error).__name__).rstrip(".")
        raise CorruptDataError(f"{source} is damaged: {reason}.", _FETCH_AGAIN) from error
