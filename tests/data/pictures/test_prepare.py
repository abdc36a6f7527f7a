"""Decode once: the cache of prepared pictures, and what stands in it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import sartor
from sartor.api.predicting import prepared_pictures
from sartor.data.listing import Listing
from sartor.data.pictures import cache as cache_room
from sartor.data.pictures import decoding, prepare
from sartor.data.pictures.decode import decode_picture
from sartor.data.pictures.prepare import Prepared, prepared
from sartor.data.settings import DataSettings, PreprocessSettings
from sartor.data.sources import find_source
from sartor.errors import DataError, FileError
from sartor.events import Event, Note, PreparationDone, Preparing
from sartor.files import free_bytes

PHOTOGRAPH = Image.fromarray(load_sample_images().images[0]).resize((120, 90))
RNG = np.random.default_rng(0)


def list_folder(root: Path) -> Listing:
    """The pictures of a folder in class folders, as `sartor.load` finds them."""
    listing = find_source(DataSettings(source=str(root)))
    assert isinstance(listing, Listing)
    return listing


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures of noise in two classes."""
    root = tmp_path / "noise"
    for number in range(12):
        write(root / f"class-{number % 2}" / f"{number}.png", seed=number)
    return root


def write(path: Path, *, seed: int, size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def found_in(folder: Path, events: list[Event] | None = None, **settings: Any) -> Prepared:
    sink = None if events is None else events.append
    return prepared(list_folder(folder), PreprocessSettings(**settings), on_event=sink)


def decoded_in(events: list[Event]) -> int:
    """How many pictures were decoded."""
    return sum(event.decoded for event in events if isinstance(event, PreparationDone))


class TestSamePixels:
    """What stands in the cache is what a prediction feeds, bit for bit."""

    @pytest.fixture(scope="class")
    @classmethod
    def zoo(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Every mode, every format, every orientation, larger than the images made of them."""
        root = tmp_path_factory.mktemp("zoo")
        keyed = PHOTOGRAPH.convert("P")
        deep = RNG.integers(0, 65_536, (90, 120)).astype(np.uint16)
        kinds: dict[str, tuple[Image.Image, dict[str, Any]]] = {
            "rgb.jpg": (PHOTOGRAPH, {}),
            "progressive.jpg": (PHOTOGRAPH, {"progressive": True}),
            "gray.jpg": (PHOTOGRAPH.convert("L"), {}),
            "inks.jpg": (PHOTOGRAPH.convert("CMYK"), {}),
            "bits.png": (PHOTOGRAPH.convert("1"), {}),
            "gray.png": (PHOTOGRAPH.convert("L"), {}),
            "palette.png": (keyed, {}),
            "keyed.png": (keyed, {"transparency": 3}),
            "alpha.png": (with_alpha(), {}),
            "gray-alpha.png": (with_alpha().convert("LA"), {}),
            "deep.png": (Image.fromarray(deep), {}),
            "deep.tiff": (Image.fromarray(deep), {}),
            "floats.tiff": (Image.fromarray(deep.astype(np.float32) / 65_535), {}),
            "inks.tiff": (PHOTOGRAPH.convert("CMYK"), {"compression": "tiff_lzw"}),
            "rgb.bmp": (PHOTOGRAPH, {}),
            "rgb.ppm": (PHOTOGRAPH, {}),
            "lossy.webp": (PHOTOGRAPH, {}),
            "alpha.webp": (with_alpha(), {"lossless": True}),
            "named-wrongly.png": (PHOTOGRAPH, {"format": "JPEG"}),
            "moving.gif": (keyed, {"save_all": True, "append_images": [keyed.rotate(90)]}),
        }
        for form in ("jpg", "png", "webp", "tiff"):
            for orientation in range(1, 9):
                exif = Image.Exif()
                exif[0x0112] = orientation
                kinds[f"turned-{orientation}.{form}"] = (PHOTOGRAPH, {"exif": exif})
        for number, (name, (picture, options)) in enumerate(kinds.items()):
            path = root / f"class-{number % 2}" / name
            path.parent.mkdir(exist_ok=True)
            picture.save(path, **options)
        return root

    @pytest.mark.parametrize("resize", ["letterbox", "crop", "stretch"])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("size", [(16, 16), (20, 34), (90, 120)])
    def test_for_every_kind(
        self, zoo: Path, resize: str, channels: int, size: tuple[int, int]
    ) -> None:
        found = found_in(zoo, resize=resize, channels=channels, image_size=size)
        names = found.listing.pictures.names
        assert not found.facts.faults
        _, fed = prepared_pictures([str(zoo / name) for name in names], found.geometry, False)
        assert [n for n, a, b in zip(names, found.images, fed, strict=True) if (a != b).any()] == []
        assert (fed.reshape(len(fed), -1).max(axis=1) > 0).all(), "no black square"

    def test_facts_of_every_kind(self, zoo: Path) -> None:
        found = found_in(zoo, image_size=(16, 16))
        facts, names = found.facts, found.listing.pictures.names
        for index, name in enumerate(names):
            content = (zoo / name).read_bytes()
            with Image.open(io.BytesIO(content)) as picture:
                assert facts.formats[index] == picture.format
                assert facts.modes[index] == picture.mode
                assert (facts.widths[index], facts.heights[index]) == picture.size
                assert facts.frames[index] == getattr(picture, "n_frames", 1)
                assert facts.orientations[index] == picture.getexif().get(0x0112, 1)
            assert facts.file_bytes[index] == len(content)
            assert facts.file_sha256[index].tobytes() == hashlib.sha256(content).digest()
            pixels = found.images[index].tobytes()
            assert facts.pixels_sha256[index].tobytes() == hashlib.sha256(pixels).digest()
            gray = Path(name).name.startswith(("gray", "bits", "deep", "floats"))
            assert facts.grays[index] == gray
            assert facts.bits[index] == (
                16 if "deep" in name else 32 if "floats" in name else 1 if "bits" in name else 8
            )


def with_alpha() -> Image.Image:
    layered = PHOTOGRAPH.convert("RGBA")
    layered.putalpha(Image.linear_gradient("L").resize(PHOTOGRAPH.size))
    return layered


class TestGeometry:
    def shape(self, root: Path, **settings: Any) -> tuple[int, ...]:
        return found_in(root, **settings).images.shape[1:]

    def save(self, root: Path, *pictures: Image.Image) -> Path:
        for number, picture in enumerate(pictures):
            path = root / f"class-{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
        return root

    def test_small_pictures_of_one_size_keep_it(self, tmp_path: Path) -> None:
        root = self.save(tmp_path / "a", *[Image.new("L", (20, 96), 7)] * 4)
        assert self.shape(root) == (1, 96, 20)

    def test_of_several_sizes_or_large_ones_64(self, tmp_path: Path) -> None:
        several = self.save(tmp_path / "a", Image.new("L", (20, 20)), Image.new("L", (20, 21)))
        large = self.save(tmp_path / "b", *[Image.new("RGB", (97, 97))] * 2)
        assert self.shape(several) == (1, 64, 64)
        assert self.shape(large) == (3, 64, 64)

    def test_one_picture_of_colour_makes_all_of_colour(self, tmp_path: Path) -> None:
        gray = [Image.new(mode, (9, 9)) for mode in ("L", "1", "LA", "I;16")]
        assert self.shape(self.save(tmp_path / "a", *gray)) == (1, 9, 9)
        assert self.shape(self.save(tmp_path / "b", *gray, Image.new("RGBA", (9, 9)))) == (3, 9, 9)

    def test_a_palette_of_grays_is_gray(self, tmp_path: Path) -> None:
        gray = Image.linear_gradient("L").resize((9, 9)).convert("P")
        gray.putpalette([value for value in range(256) for _ in range(3)])
        assert self.shape(self.save(tmp_path / "a", gray, gray)) == (1, 9, 9)

    def test_what_is_said_counts(self, tmp_path: Path) -> None:
        root = self.save(tmp_path / "a", *[Image.new("L", (20, 20))] * 2)
        assert self.shape(root, image_size=(5,)) == (1, 5, 5)
        assert self.shape(root, image_size=(5, 7), channels=3) == (3, 5, 7)

    def test_what_is_excluded_or_unreadable_has_no_say(self, tmp_path: Path) -> None:
        root = self.save(tmp_path / "a", *[Image.new("L", (20, 20))] * 3, PHOTOGRAPH)
        (root / "class-0" / "broken.png").write_bytes(b"")
        listing = list_folder(root)
        index = listing.pictures.names.index("class-1/3.png")
        found = prepared(listing, PreprocessSettings(), excluded={index: ""})
        assert found.images.shape[1:] == (1, 20, 20)

    def test_is_remembered(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = found_in(folder).images.shape
        monkeypatch.setattr(prepare, "complete", lambda *_, **__: pytest.fail("looked again"))
        assert found_in(folder).images.shape == before


class TestFaults:
    @pytest.fixture
    def broken(self, folder: Path) -> Path:
        """Of the twelve, two."""
        whole = (folder / "class-1/3.png").read_bytes()
        (folder / "class-0/4.png").write_bytes(b"")
        (folder / "class-1/3.png").write_bytes(whole[:-30])
        return folder

    def test_all_are_named_at_once(self, broken: Path) -> None:
        with pytest.raises(DataError, match="2 of 12 pictures cannot be read") as caught:
            sartor.load(broken)
        assert "class-0/4.png is empty" in caught.value.message
        assert "class-1/3.png is damaged" in caught.value.message

    def test_the_hint_is_a_way_on(self, broken: Path) -> None:
        with pytest.raises(DataError) as caught:
            sartor.load(broken)
        listed = caught.value.hint.partition("--exclude ")[2]
        data = sartor.load(broken, exclude=listed)
        assert len(data) == 10
        assert set(data.excluded) == {"class-0/4.png", "class-1/3.png"}
        assert data.excluded["class-0/4.png"] == "is empty."
        assert data.files is not None
        assert not set(data.files) & set(data.excluded)

    def test_ten_are_shown_and_all_are_listed(self, tmp_path: Path) -> None:
        for number in range(15):
            write(tmp_path / f"set/{number % 2}/{number}.png", seed=number)
            if number:
                (tmp_path / f"set/{number % 2}/{number}.png").write_bytes(b"nothing")
        with pytest.raises(DataError, match="and 4 more") as caught:
            sartor.load(tmp_path / "set")
        assert caught.value.message.count("is not a picture") == 10
        listed = Path(caught.value.hint.partition("--exclude ")[2]).read_text()
        assert len(listed.splitlines()) == 14

    def test_the_list_holds_what_was_excluded_before_too(
        self, broken: Path, tmp_path: Path
    ) -> None:
        mine = tmp_path / "mine.txt"
        mine.write_text("class-0/0.png\tugly\n")
        with pytest.raises(DataError) as caught:
            sartor.load(broken, exclude=str(mine))
        listed = caught.value.hint.partition("--exclude ")[2]
        assert len(sartor.load(broken, exclude=listed)) == 9

    def test_no_row_of_an_unreadable_picture_is_in_the_dataset(self, broken: Path) -> None:
        found = found_in(broken)
        names = found.listing.pictures.names
        excluded = dict.fromkeys(found.facts.faults, "")
        data = found.dataset(excluded)
        assert data.files == tuple(name for i, name in enumerate(names) if i not in excluded)
        for name, image in zip(data.files, data.images, strict=True):
            with Image.open(broken / name) as picture:
                assert np.array_equal(image.transpose(1, 2, 0), np.asarray(picture))

    def test_what_can_be_read_again_is_read(
        self, broken: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A disk that was away for a moment must not be remembered for ever."""
        listing = list_folder(broken)
        found = prepared(listing, PreprocessSettings())
        assert len(found.facts.faults) == 2
        good = (broken / "class-0/0.png").read_bytes()
        monkeypatch.setattr(type(listing.pictures), "read", lambda *_: good)
        events: list[Event] = []
        found = prepared(listing, PreprocessSettings(), on_event=events.append)
        assert not found.facts.faults
        assert decoded_in(events) == 2

    def test_unchanged_faults_are_not_written_again(self, broken: Path) -> None:
        found = found_in(broken)
        before = {path: path.stat().st_mtime_ns for path in found.folder.glob("*.n*")}
        events: list[Event] = []
        found_in(broken, events)
        assert events == []
        assert before == {path: path.stat().st_mtime_ns for path in found.folder.glob("*.n*")}


class TestCache:
    def test_the_second_time_nothing_is_decoded(self, folder: Path) -> None:
        events: list[Event] = []
        first = found_in(folder, events)
        assert decoded_in(events) == 12
        again = found_in(folder, events)
        assert decoded_in(events) == 12
        assert np.array_equal(first.images, again.images)
        assert (first.facts.rows == again.facts.rows).all()

    def test_nothing_is_written_beside_the_pictures(self, folder: Path) -> None:
        before = sorted(folder.rglob("*"))
        sartor.load(folder)
        assert sorted(folder.rglob("*")) == before

    def test_the_array_is_mapped_and_read_only(self, folder: Path) -> None:
        images = found_in(folder).images
        assert isinstance(images.base, np.memmap)
        assert not images.flags.writeable

    @pytest.mark.parametrize("setting", [{"image_size": (5, 5)}, {"channels": 1}])
    def test_other_settings_are_another_cache(self, folder: Path, setting: Any) -> None:
        assert found_in(folder).folder != found_in(folder, **setting).folder

    def test_another_decoder_is_another_cache(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = found_in(folder).folder
        monkeypatch.setattr(prepare.features, "version", lambda _name: "another")
        assert found_in(folder).folder.parent != before.parent

    def test_what_was_known_is_taken_over_when_the_folder_changes(self, folder: Path) -> None:
        events: list[Event] = []
        found_in(folder, events)
        write(folder / "class-0/new.png", seed=99)
        (folder / "class-0/0.png").rename(folder / "class-1/moved.png")
        os.utime(folder / "class-0/2.png", (1, 1))
        (folder / "class-0/4.png").unlink()
        events.clear()
        found = found_in(folder, events)
        assert decoded_in(events) == 1
        for name, image in zip(found.listing.pictures.names, found.images, strict=True):
            expected = decode_picture((folder / name).read_bytes(), name)
            assert np.array_equal(image.transpose(1, 2, 0), np.asarray(expected)), name

    def test_a_picture_with_other_content_is_decoded(self, folder: Path) -> None:
        found_in(folder)
        write(folder / "class-0/2.png", seed=50)
        events: list[Event] = []
        found = found_in(folder, events)
        assert decoded_in(events) == 1
        index = found.listing.pictures.names.index("class-0/2.png")
        with Image.open(folder / "class-0/2.png") as picture:
            assert np.array_equal(found.images[index].transpose(1, 2, 0), np.asarray(picture))

    @pytest.mark.parametrize(
        "harm",
        [
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            lambda path: path.write_bytes(path.read_bytes()[:500]),
            lambda path: path.write_bytes(flipped(path.read_bytes(), 700)),
            lambda path: path.write_bytes(flipped(path.read_bytes(), 30)),
            lambda path: path.write_bytes(b""),
            lambda path: path.unlink(),
        ],
        ids=["one byte short", "short", "flipped", "flipped header", "empty", "gone"],
    )
    @pytest.mark.parametrize("file", ["images.npy", "facts.npz", "seal.json"])
    @pytest.mark.parametrize("time", ["another time", "the same time"])
    def test_damage_is_found_and_mended(
        self, folder: Path, harm: Callable[[Path], Any], file: str, time: str
    ) -> None:
        before = found_in(folder)
        images, rows = np.array(before.images), before.facts.rows
        path = before.folder / file
        stamp = path.stat()
        harm(path)
        if time == "the same time" and path.exists():
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        after = found_in(folder)
        assert np.array_equal(after.images, images)
        assert (after.facts.rows == rows).all()
        events: list[Event] = []
        found_in(folder, events)
        assert decoded_in(events) == 0

    @pytest.mark.parametrize("place", range(128, 128 + 12 * 192, 83))
    def test_only_what_is_damaged_is_made_anew(self, folder: Path, place: int) -> None:
        path = found_in(folder).folder / "images.npy"
        stamp = path.stat()
        path.write_bytes(flipped(path.read_bytes(), place))
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        events: list[Event] = []
        found_in(folder, events)
        assert decoded_in(events) == 1
        assert any("damaged" in event.text for event in events if isinstance(event, Note))

    def test_a_damaged_size_is_measured_again(self, folder: Path, home: Path) -> None:
        before = found_in(folder)
        (path,) = (home / "pictures" / "sizes").glob("*.json")
        path.write_text(path.read_text().replace("8", "9"))
        assert found_in(folder).settings == before.settings

    def test_too_little_room_is_said_before_anything_is_decoded(
        self, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache_room.files, "free_bytes", lambda _folder: 1000)
        monkeypatch.setattr(decoding._Decoder, "chunk", lambda *_: pytest.fail("decoded"))
        with pytest.raises(FileError, match=r"12 pictures at 3x8x8 need .* MB in .* are free") as e:
            found_in(folder)
        assert str(home) in e.value.message
        assert "SARTOR_HOME" in e.value.hint

    def test_a_home_that_cannot_be_written(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "file"))
        with pytest.raises(FileError, match="create the folder") as error:
            found_in(folder)
        assert "SARTOR_HOME names the folder to use" in error.value.hint

    def test_a_home_that_can_only_be_read_will_do_for_what_is_prepared(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = found_in(folder)
        for_good = sartor.load(folder).fingerprint

        def refused(path: Path, *_: Any, **__: Any) -> Any:
            raise FileError(f"Cannot write {path}: read-only file system.", "Choose another.")

        monkeypatch.setattr("sartor.files.make_folder", refused)
        monkeypatch.setattr("sartor.files.atomic_write", refused)
        monkeypatch.setattr("sartor.data.pictures.cache.locked", refused)
        assert np.array_equal(found_in(folder).images, before.images)
        assert sartor.load(folder).fingerprint == for_good
        write(folder / "class-0/another.png", seed=77)
        with pytest.raises(FileError, match="read-only") as error:
            found_in(folder)
        assert "SARTOR_HOME" in error.value.hint

    def test_damage_is_named_where_the_list_of_it_cannot_be_written(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "class-0/2.png").write_bytes(b"nothing")
        with pytest.raises(DataError, match="--exclude"):
            sartor.load(folder)

        def refused(path: Path, *_: Any) -> Any:
            raise FileError(f"Cannot write {path}: read-only file system.", "Choose another.")

        monkeypatch.setattr("sartor.data.pictures.prepare.write_text", refused)
        with pytest.raises(DataError, match=r"2\.png is not a picture") as error:
            sartor.load(folder)
        assert "--exclude" not in error.value.hint
        assert "--max-unreadable" in error.value.hint

    def test_free_room_is_that_of_the_disk(self, tmp_path: Path) -> None:
        assert free_bytes(tmp_path) > 0

    def test_two_at_once_decode_once(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        chunk, events, mine = decoding._Decoder.chunk, list[Event](), list[Event]()
        begun, waits = threading.Event(), threading.Event()

        def slow(*arguments: Any) -> Any:
            begun.set()
            assert waits.wait(60)
            return chunk(*arguments)

        def listen(event: Event) -> None:
            mine.append(event)
            waits.set()

        monkeypatch.setattr(decoding._Decoder, "chunk", slow)
        other = threading.Thread(target=found_in, args=(folder, events))
        other.start()
        assert begun.wait(60)
        found = prepared(list_folder(folder), PreprocessSettings(), on_event=listen)
        other.join()
        assert decoded_in(events) == 12
        assert [type(event) for event in mine] == [Note]
        assert "waiting for another process" in str(mine[0])
        assert not found.facts.faults


def flipped(content: bytes, place: int) -> bytes:
    place = min(place, len(content) - 1)
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


SLOW = """
import itertools, sys, time
from sartor.data.pictures import decoding
from sartor.data.sources import find_source
from sartor.data.pictures.prepare import prepared
from sartor.data.settings import DataSettings, PreprocessSettings

decoding._CHUNK_PICTURES, decoding.available_cores = 4, lambda: 1
chunk, chunks = decoding._Decoder.chunk, itertools.count(1)

def slow(*arguments):
    time.sleep(0.05 if next(chunks) < 12 else 600)
    return chunk(*arguments)

decoding._Decoder.chunk = slow
prepared(find_source(DataSettings(source=sys.argv[1])), PreprocessSettings())
"""


class TestKilled:
    @pytest.fixture
    def many(self, tmp_path: Path) -> Path:
        """Eighty pictures, one of them broken: the first chunks hold no fault."""
        for number in range(80):
            write(tmp_path / f"many/class-{number % 2}/{number}.png", seed=number)
        (tmp_path / "many/class-1/79.png").write_bytes(b"broken")
        return tmp_path / "many"

    def test_goes_on_and_ends_as_if_nothing_had_happened(
        self, many: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with subprocess.Popen([sys.executable, "-c", SLOW, str(many)]) as process:
            give_up = time.monotonic() + 120
            while lines_in(home) < 4:
                assert process.poll() is None, "ended too early"
                assert time.monotonic() < give_up
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        kept = 4 * lines_in(home)
        assert not list(home.rglob("seal.json"))
        events: list[Event] = []
        found = found_in(many, events)
        assert 0 < decoded_in(events) <= 80 - kept + 4
        monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "undisturbed"))
        undisturbed = found_in(many)
        assert np.array_equal(found.images, undisturbed.images)
        assert (found.facts.rows == undisturbed.facts.rows).all()
        assert found.facts.faults == undisturbed.facts.faults

    @pytest.mark.parametrize("torn", [b'{"indices": [1, 2', b"\0\0\0\0", b'{"indices": "x"}\n'])
    def test_a_torn_record_costs_its_chunk_alone(self, many: Path, torn: bytes) -> None:
        prepare_until_stopped(many, chunks=3)
        (progress,) = (prepare._pictures_home()).rglob("progress.jsonl")
        with progress.open("ab") as stream:
            stream.write(torn)
        prepare_until_stopped(many, chunks=3)
        events: list[Event] = []
        assert list(found_in(many, events).facts.faults) == [79]
        assert decoded_in(events) == 80 - 2 * 3 * 4

    def test_a_record_without_its_pixels_does_not_count(self, many: Path) -> None:
        """After a power cut the record may be on the disk and the pixels not."""
        prepare_until_stopped(many, chunks=3)
        (images,) = (prepare._pictures_home()).rglob("images.npy")
        os.truncate(images, 128 + 192)
        events: list[Event] = []
        found = found_in(many, events)
        assert decoded_in(events) == 79
        assert found.images[1:79].any(axis=(1, 2, 3)).all()


def lines_in(home: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in home.rglob("progress.jsonl"))


def prepare_until_stopped(folder: Path, *, chunks: int) -> None:
    """The user presses Ctrl-C when so many chunks of four are kept."""
    add, done = decoding.Pace.add, 0

    def watched(self: Any, count: int) -> None:
        nonlocal done
        done += 1
        if done == chunks:
            raise KeyboardInterrupt
        add(self, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "_CHUNK_PICTURES", 4)
        patch.setattr(decoding.Pace, "add", watched)
        with pytest.raises(KeyboardInterrupt):
            found_in(folder)


class TestDataset:
    def test_fingerprint_depends_on_pixels_and_not_on_files(
        self, folder: Path, tmp_path: Path
    ) -> None:
        before = sartor.load(folder)
        moved = folder.rename(tmp_path / "moved")
        os.utime(moved / "class-0/0.png", (5, 5))
        assert sartor.load(moved).fingerprint == before.fingerprint
        write(moved / "class-0/0.png", seed=77)
        assert sartor.load(moved).fingerprint != before.fingerprint

    def test_excluding_is_as_if_it_were_not_there(self, folder: Path, tmp_path: Path) -> None:
        listed = tmp_path / "list.txt"
        listed.write_text("class-0/0.png\nclass-1/5.png\n")
        without = sartor.load(folder, exclude=str(listed))
        for name in ("class-0/0.png", "class-1/5.png"):
            (folder / name).unlink()
        rest = sartor.load(folder)
        assert rest.fingerprint == without.fingerprint
        assert rest.files == without.files
        assert np.array_equal(rest.images, without.images)

    def test_what_the_source_sets_aside_is_numbered_anew(self, folder: Path) -> None:
        listing = dataclasses.replace(
            list_folder(folder),
            test=np.array([0, 5, 11]),
            val=np.array([2, 10]),
            groups=tuple(f"g{number}" for number in range(12)),
        )
        whole = prepared(listing, PreprocessSettings()).dataset()
        some = prepared(listing, PreprocessSettings()).dataset({1: "", 5: "", 10: ""})
        assert some.test is not None
        assert some.val is not None
        assert some.files is not None
        assert whole.files is not None
        assert [some.files[index] for index in some.test] == [whole.files[0], whole.files[11]]
        assert [some.files[index] for index in some.val] == [whole.files[2]]
        assert some.groups == tuple(f"g{n}" for n in range(12) if n not in (1, 5, 10))

    def test_a_copy_too_large_for_memory_lies_on_the_disk(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = found_in(folder)
        expected = found.dataset({3: ""}).images
        monkeypatch.setattr(prepare, "total_memory", lambda: 10)
        monkeypatch.setattr(prepare, "_ROWS_AT_ONCE", 5)
        for _ in range(2):
            images = found.dataset({3: ""}).images
            assert isinstance(images.base, np.memmap)
            assert np.array_equal(images, expected)

    def test_excluding_everything_is_refused(self, folder: Path) -> None:
        found = found_in(folder)
        with pytest.raises(DataError, match="Every picture is excluded"):
            found.dataset(dict.fromkeys(range(12), ""))


class TestEvents:
    def test_say_how_far_it_is(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoding, "_EVENT_SECONDS", 0.0)
        monkeypatch.setattr(decoding, "_CHUNK_PICTURES", 5)
        events: list[Event] = []
        found_in(folder, events, channels=3)
        steps = [e for e in events if isinstance(e, Preparing) and e.activity == "decoding"]
        assert [step.done for step in steps] == [5, 10, 12]
        assert all(step.total == 12 and step.pictures_per_second > 0 for step in steps)
        assert steps[-1].seconds_left == 0
        done = events[-1]
        assert isinstance(done, PreparationDone)
        assert (done.decoded, done.copied, done.unreadable) == (12, 0, 0)

    def test_are_plain_values(self, folder: Path) -> None:
        events: list[Event] = []
        found_in(folder, events)
        assert json.dumps([dataclasses.asdict(event) for event in events])


def test_a_listing_whose_pictures_are_gone_names_them_all(folder: Path) -> None:
    listing: Listing = list_folder(folder)
    for path in folder.rglob("*.png"):
        path.unlink()
    found = prepared(listing, PreprocessSettings(image_size=(4, 4), channels=1))
    assert len(found.facts.faults) == 12
    with pytest.raises(DataError, match="12 of 12"):
        found.dataset()
