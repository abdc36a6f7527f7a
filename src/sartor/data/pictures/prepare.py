"""From a listing to a dataset: every picture decoded once, into the cache."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import warnings
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import features

from ...arrays import Int64Array, UInt8Array
from ...errors import DataError, FileError, PictureError, SartorWarning
from ...events import Event, Note
from ...files import atomic_write, make_folder, write_json, write_text
from ...home import cache_home, explain_cache_errors
from ...machine import total_memory
from ..dataset import Dataset
from ..listing import Listing
from ..origin import Origin, geometry_of
from ..roster import Changes, Roster
from ..settings import PreprocessSettings
from ..tolerance import flag_for, percent, tolerable
from .cache import PictureCache
from .decoding import Pace, Sink, filled
from .exclude import combined, exclusion_list, kept_indices, match, relabelled, renumbered
from .facts import PictureFacts
from .geometry import complete
from .preprocess import Preprocess

Better = Callable[[PreprocessSettings], PreprocessSettings]
"""From settings with nothing left open to those that pictures are prepared with."""

VERSION = 2
"""Changes when the same picture would give other pixels."""
_FILLED_IN = ("image_size", "channels", "background", "value_range")
"""Settings that may be left open."""
_ROWS_AT_ONCE = 64
_FAULTS_SHOWN = 10
_MEMORY_SHARE = 0.25
"""Up to so much of the memory is used for a copy without what is excluded."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared:
    """Every picture of a listing as bytes of one size, and what was seen of it.

    A picture that cannot be read has its row all the same, so that indices are those of the
    listing; what stands in it means nothing, and `facts.faults` says why. A dataset leaves it out.
    """

    listing: Listing
    settings: PreprocessSettings
    """As given, with what was left open filled in."""
    images: UInt8Array
    """uint8 (N, C, H, W), a row for each picture of the listing; mapped from the cache."""
    facts: PictureFacts
    folder: Path
    """Where it lies in the cache."""

    @property
    def geometry(self) -> Preprocess:
        """Size, channels and way of resizing of the images."""
        return Preprocess.from_settings(self.settings)

    def dataset(
        self,
        excluded: Mapping[int, str] | None = None,
        fixes: Changes | None = None,
        *,
        max_unreadable: float = 0.0,
    ) -> Dataset:
        """The pictures that are not excluded and can be read, with corrected labels.

        Args:
            excluded: reasons by the index of the picture in the listing.
            fixes: what fixes say, by that index too.
            max_unreadable: share of the others that may be unreadable, and are left out.

        Raises:
            DataError: more of them cannot be read; the sentence names them.
        """
        listing, fixes = self.listing, fixes or Changes()
        asked = {**fixes.excluded, **(excluded or {})}
        names = listing.pictures.names
        unread = self.unreadable(asked)
        if unread and not tolerable(len(unread), len(names) - len(asked), max_unreadable):
            self._refuse(unread, asked)
        reasons = {index: why.removeprefix(names[index]).strip() for index, why in unread.items()}
        by_list = dict(sorted({**(excluded or {}), **reasons}.items()))
        left_out = dict(sorted({**asked, **reasons}.items()))
        kept = kept_indices(len(listing), left_out)
        if not len(kept):
            raise DataError("Every picture is excluded.", "Shorten the list of --exclude.")
        return Dataset(
            self._rows(kept),
            relabelled(listing.labels, fixes)[kept],
            listing.classes,
            test=renumbered(listing.test, kept),
            val=renumbered(listing.val, kept),
            groups=None if listing.groups is None else tuple(listing.groups[i] for i in kept),
            files=names if len(kept) == len(names) else tuple(names[index] for index in kept),
            name=listing.name,
            excluded={names[index]: why for index, why in left_out.items()},
            pixels_sha256=hashlib.sha256(self.facts.pixels_sha256[kept].data).hexdigest(),
            origin=Origin(
                listing=listing,
                settings=geometry_of(self.settings),
                excluded=by_list,
                fixes=fixes,
                file_sha256=self.facts.file_sha256[kept],
                pixels_sha256=self.facts.pixels_sha256[kept],
            ),
            roster=self._roster(kept, by_list, fixes),
        )

    def _roster(self, kept: Int64Array, by_list: Mapping[int, str], fixes: Changes) -> Roster:
        listing, hashes = self.listing, np.ascontiguousarray(self.facts.file_sha256)
        return Roster(
            images=self.images,
            labels=listing.labels,
            names=listing.pictures.names,
            from_files=True,
            usable=np.flatnonzero(self.facts.readable),
            kept=kept,
            val=listing.val,
            test=listing.test,
            groups=listing.groups,
            identities=hashes[:, :8].copy().view(">u8")[:, 0].astype(np.uint64),
            pixel_hashes=self.facts.pixels_sha256,
            by_list=by_list,
            by_fixes=fixes,
        )

    def unreadable(self, excluded: Container[int]) -> dict[int, str]:
        """Why pictures cannot be read that are not excluded, by their index."""
        return {i: why for i, why in self.facts.faults.items() if i not in excluded}

    def _refuse(self, unread: Mapping[int, str], excluded: Mapping[int, str]) -> None:
        """Name every unreadable picture, and list them with those that are excluded."""
        names = self.listing.pictures.names
        path = self.folder / "unreadable.txt"
        reasons = {names[i]: why.removeprefix(names[i]) for i, why in unread.items()}
        before = {names[index]: why for index, why in excluded.items()}
        ways = []
        with suppress(FileError):
            write_text(path, exclusion_list(before | reasons))
            ways.append(f"--exclude {shlex.quote(str(path))}")
        if len(unread) < len(names) - len(excluded):
            ways.insert(0, flag_for(len(unread), len(names) - len(excluded)))
        raise DataError(
            f"{len(unread):,} of {len(names):,} pictures cannot be read:{_lines(unread)}",
            f"Replace them{', or go on without what is listed: ' if ways else '.'}"
            f"{', or '.join(ways)}",
        )

    def _rows(self, kept: Int64Array) -> UInt8Array:
        """The images that are kept: mapped as they lie there, or where some are missing, copied."""
        if len(kept) == len(self.images):
            return self.images
        size = len(kept) * self.images[0].size
        if size <= _MEMORY_SHARE * (total_memory() or 8 << 30):
            return self.images[kept]
        return self._rows_on_disk(kept)

    def _rows_on_disk(self, kept: Int64Array) -> UInt8Array:
        key = hashlib.sha256(self.facts.pixels_sha256[kept].data).hexdigest()[:16]
        path = self.folder / f"without-{key}.npy"
        if not path.exists():
            with atomic_write(path) as stream:
                described = {"descr": "|u1", "fortran_order": False}
                shape = (len(kept), *self.images.shape[1:])
                np.lib.format.write_array_header_1_0(stream, {**described, "shape": shape})
                for start in range(0, len(kept), _ROWS_AT_ONCE):
                    stream.write(self.images[kept[start : start + _ROWS_AT_ONCE]].data)
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _lines(faults: Mapping[int, str]) -> str:
    """A line for each of the first faults, and one for the others."""
    shown = [f"\n  {why}" for why in list(faults.values())[:_FAULTS_SHOWN]]
    if len(faults) > len(shown):
        shown.append(f"\n  and {len(faults) - len(shown):,} more")
    return "".join(shown)


def _dataset(
    found: Prepared,
    excluded: Mapping[int, str],
    fixes: Changes,
    max_unreadable: float,
    on_event: Sink | None,
) -> Dataset:
    """The dataset; what is left out since it cannot be read is said."""
    dataset = found.dataset(excluded, fixes, max_unreadable=max_unreadable)
    unread = found.unreadable({**fixes.excluded, **excluded})
    if unread:
        sentence = (
            f"{len(unread):,} of {len(found.listing):,} pictures cannot be read and are left out "
            f"(more than {percent(max_unreadable)} would stop):{_lines(unread)}"
        )
        if on_event is None:
            warnings.warn(sentence, SartorWarning, stacklevel=3)
        else:
            on_event(Note(sentence))
    return dataset


def prepare(
    listing: Listing,
    settings: PreprocessSettings,
    *,
    entries: Mapping[str, str] | None = None,
    fixes: Changes | None = None,
    root: str = "",
    max_unreadable: float = 0.0,
    better: Better | None = None,
    on_event: Sink | None = None,
) -> Dataset:
    """The dataset of all pictures, at the size and with the channels that the settings say.

    Args:
        better: asked before anything is decoded.
        entries: names to leave out, each with its reason.
        fixes: what fixes say, by the index in the listing.
        root: folder in which the names of the pictures lie, where there is one.
        max_unreadable: share of the pictures that may be unreadable, and are left out.

    Raises:
        DataError: pictures cannot be read; the sentence names them.
    """
    excluded = match(entries or {}, listing.pictures.names, root=root, known={})
    fixes = fixes or Changes()
    left_out = {**fixes.excluded, **excluded}
    key = _listing_key(listing)
    if better is not None:
        settings = better(_completed(listing, settings, key, left_out, on_event or _ignore))
    found = prepared(listing, settings, excluded=left_out, on_event=on_event, key=key)
    return _dataset(found, excluded, fixes, max_unreadable, on_event)


def prepared_as(
    origin: Origin,
    settings: PreprocessSettings,
    entries: Mapping[str, str] | None = None,
    fixes: Changes | None = None,
    on_event: Sink | None = None,
    *,
    max_unreadable: float = 0.0,
) -> Dataset:
    """The pictures of a dataset at another size, without those that `entries` name as well.

    What `fixes` say, by the index in the listing, is added to what it was prepared with.

    Raises:
        DataError: pictures cannot be read; the sentence names them.
    """
    names = origin.listing.pictures.names
    excluded = {**origin.excluded, **match(entries or {}, names, known={})}
    fixes = combined(origin.fixes, fixes or Changes())
    left_out = {**fixes.excluded, **excluded}
    found = prepared(origin.listing, settings, excluded=left_out, on_event=on_event)
    return _dataset(found, excluded, fixes, max_unreadable, on_event)


def prepared(
    listing: Listing,
    settings: PreprocessSettings,
    *,
    excluded: Container[int] = (),
    on_event: Sink | None = None,
    key: str = "",
) -> Prepared:
    """Every picture at the size and with the channels that the settings say, and its facts.

    Decoded in parallel the first time, and then taken from the cache. A picture that cannot be read
    stops nothing here.

    Args:
        excluded: pictures that have no say in size and channels where these are left open.
        key: as `_listing_key` gives it, where it is known already.

    Raises:
        FileError: the cache cannot be written, or is too small.
    """
    sink = on_event or _ignore
    key = key or _listing_key(listing)
    settings = _completed(listing, settings, key, excluded, sink)
    geometry = Preprocess.from_settings(settings)
    cache = PictureCache(
        folder=_pictures_home() / _geometry_name(geometry) / f"{_plain(listing.name)}-{key[:16]}",
        shape=(len(listing), *geometry.input_shape),
    )
    facts = cache.sealed_facts()
    if facts is None or facts.faults:
        try:
            with explain_cache_errors(), cache.locked(lambda text: sink(Note(text))):
                facts = filled(cache, listing, geometry, sink)
        except FileError:
            # Whole, but for what could not be read then: a cache that is only read will do.
            if facts is None:
                raise
    return Prepared(
        listing=listing,
        settings=settings,
        images=cache.images(),
        facts=facts,
        folder=cache.folder,
    )


def _ignore(_event: Event) -> None:
    """A sink that nobody reads."""


def _pictures_home() -> Path:
    return cache_home() / "pictures"


def _listing_key(listing: Listing) -> str:
    """Changes when a picture is added, removed, renamed or touched."""
    digest = hashlib.sha256()
    for index, name in enumerate(listing.pictures.names):
        try:
            stamp = listing.pictures.stamp(index)
        except (OSError, PictureError):
            stamp = "missing"
        digest.update(f"{name}\0{stamp}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _geometry_name(geometry: Preprocess) -> str:
    """The name of a folder; decoders of another version may give other pixels."""
    decoders = {
        name: features.version(name) for name in ("pil", "libjpeg_turbo", "webp", "libtiff")
    }
    key = hashlib.sha256(json.dumps([VERSION, decoders]).encode()).hexdigest()[:8]
    size = "x".join(map(str, geometry.input_shape))
    colour = "-".join((geometry.background, *(f"{value:g}" for value in geometry.value_range)))
    ink = "" if geometry.ink == "off" else f"-ink-{geometry.ink}"
    filter_ = "" if geometry.resampling == "bicubic" else f"-{geometry.resampling}"
    return f"{size}-{geometry.resize}{filter_}-{colour}{ink}-{key}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)[:60].lstrip(".") or "pictures"


def _completed(
    listing: Listing,
    settings: PreprocessSettings,
    key: str,
    excluded: Container[int],
    sink: Sink,
) -> PreprocessSettings:
    """What is left open, remembered by the listing's key: looking takes long."""
    left_out = [index for index in range(len(listing)) if index in excluded] if excluded else []
    given = [getattr(settings, name) for name in _FILLED_IN]
    asked = json.dumps([VERSION, key, given, left_out])
    path = _pictures_home() / "sizes" / f"{hashlib.sha256(asked.encode()).hexdigest()[:32]}.json"
    try:
        remembered = json.loads(path.read_bytes())
        if remembered["sha256"] != _sha256_of(remembered["found"]):
            raise ValueError("damaged")
        size, channels, background, value_range = remembered["found"]
        return replace(
            settings,
            image_size=tuple(size),
            channels=channels,
            background=background,
            value_range=tuple(value_range),
        )
    except (OSError, ValueError, TypeError, KeyError):
        pass
    pace = Pace("sizes", len(listing), sink)
    found = complete(listing, settings, excluded=excluded, looked_at=pace.at)
    values = [getattr(found, name) for name in _FILLED_IN]
    # Where the cache can only be read, they are found again each time.
    with suppress(FileError):
        make_folder(path.parent)
        write_json(path, {"found": values, "sha256": _sha256_of(values)})
    return found


def _sha256_of(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
