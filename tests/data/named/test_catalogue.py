"""The named sets: what they hold, and a cache that neither damage nor a second process upsets."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import os
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from sartor.data.dataset import Dataset
from sartor.data.named import catalogue
from sartor.data.named.catalogue import NAMES, SETS, load_named
from sartor.data.named.places import LocalFolder, Place, WebMirror
from sartor.errors import FileError, UnavailableError, UsageError
from sartor.home import cache_home

UInt8Array = npt.NDArray[np.uint8]

GENERATOR = np.random.default_rng(0)
TRAIN_IMAGES = GENERATOR.integers(0, 256, (30, 28, 28), np.uint8)
TRAIN_LABELS = np.arange(30, dtype=np.uint8) % 10
TEST_IMAGES = GENERATOR.integers(0, 256, (20, 28, 28), np.uint8)
TEST_LABELS = np.arange(20, dtype=np.uint8) % 10


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def to_idx(array: UInt8Array) -> bytes:
    return struct.pack(f">2xBB{array.ndim}I", 8, array.ndim, *array.shape) + array.tobytes()


IDX_FILES = {
    "train-images-idx3-ubyte": to_idx(TRAIN_IMAGES),
    "train-labels-idx1-ubyte": to_idx(TRAIN_LABELS),
    "t10k-images-idx3-ubyte": to_idx(TEST_IMAGES),
    "t10k-labels-idx1-ubyte": to_idx(TEST_LABELS),
}
COMPRESSED = {f"{name}.gz": gzip.compress(content) for name, content in IDX_FILES.items()}


class TestReal:
    """The sets themselves, fetched for real."""

    def test_mnist(self, mnist: Dataset) -> None:
        assert repr(mnist).startswith("<Dataset mnist: 70,000 images of 1x28x28, 10,000 of them")
        assert mnist.classes == tuple("0123456789")
        assert mnist.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
        assert mnist.labels[60000:60010].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
        # As its authors count them: 5,923 zeros to train with, 980 to test with.
        assert np.bincount(mnist.labels[:60000])[[0, 1]].tolist() == [5923, 6742]
        assert np.bincount(mnist.labels[60000:])[[0, 1]].tolist() == [980, 1135]
        # The mean and deviation of the training images that everybody normalizes with.
        assert mnist.images[:60000].mean() / 255 == pytest.approx(0.1307, abs=1e-4)
        assert mnist.images[:60000].std() / 255 == pytest.approx(0.3081, abs=1e-4)

    def test_fashion_mnist(self, fashion_mnist: Dataset) -> None:
        assert fashion_mnist.shape == (1, 28, 28)
        assert fashion_mnist.test is not None
        np.testing.assert_array_equal(fashion_mnist.test, np.arange(60000, 70000))
        assert np.bincount(fashion_mnist.labels[:60000]).tolist() == [6000] * 10
        assert np.bincount(fashion_mnist.labels[60000:]).tolist() == [1000] * 10
        assert fashion_mnist[0].class_name == "Ankle boot"
        assert fashion_mnist.images[:60000].mean() / 255 == pytest.approx(0.2860, abs=1e-4)
        assert fashion_mnist.images.flags.writeable  # else PyTorch warns

    def test_a_first_fetch(self, tmp_path: Path, mnist: Dataset) -> None:
        notes: list[str] = []
        fetched = load_named("mnist", home=tmp_path, note=notes.append)
        assert fetched.fingerprint == mnist.fingerprint
        assert all(note.startswith("fetching mnist from ") for note in notes)
        assert load_named("mnist", home=tmp_path, note=pytest.fail).fingerprint == mnist.fingerprint

    def test_a_first_fetch_of_the_other(self, tmp_path: Path, fashion_mnist: Dataset) -> None:
        fetched = load_named("fashion-mnist", home=tmp_path)
        assert fetched.fingerprint == fashion_mnist.fingerprint

    @pytest.mark.usefixtures("fashion_mnist")
    @pytest.mark.parametrize("name", ["digits", "fashion-mnist"])
    def test_loading_imports_nothing_heavy(self, name: str) -> None:
        script = (
            "import sys; from sartor.data.named.catalogue import load_named; "
            f"load_named({name!r}); print(*sys.modules)"
        )
        modules = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout.split()
        assert "numpy" in modules
        assert not {"torch", "sklearn", "scipy", "urllib.request"} & set(modules)


class TestDigits:
    def test_are_those_of_scikit_learn(self) -> None:
        from sklearn.datasets import load_digits

        bunch, digits = load_digits(), load_named("digits")
        np.testing.assert_array_equal(digits.images[:, 0], np.rint(bunch.images / 16 * 255))
        np.testing.assert_array_equal(digits.labels, bunch.target)
        assert digits.images.max() == 255
        assert digits.test is None
        assert digits.name == "digits"

    def test_do_without_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = load_named("digits").fingerprint
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        assert load_named("digits").fingerprint == expected

    def test_touch_no_cache(self, tmp_path: Path) -> None:
        load_named("digits", home=tmp_path / "none")
        assert not (tmp_path / "none").exists()


class TestTable:
    def test_class_names(self) -> None:
        counts = {name: len(named.classes) for name, named in SETS.items()}
        assert counts == {
            "mnist": 10,
            "fashion-mnist": 10,
            "kmnist": 10,
            "emnist": 47,
            "cifar10": 10,
            "cifar100": 100,
        }
        for named in SETS.values():
            assert len(set(named.classes)) == len(named.classes)
        assert list(SETS["cifar100"].classes) == sorted(SETS["cifar100"].classes)

    def test_every_set_has_places_and_sums(self) -> None:
        assert set(NAMES) == {"digits", *SETS}
        for name, named in SETS.items():
            assert named.name == name
            assert named.places
            assert all(len(bytes.fromhex(digest)) == 32 for digest in named.published.values())

    def test_an_unknown_name(self) -> None:
        with pytest.raises(UsageError, match='did you mean "fashion-mnist"') as caught:
            load_named("fashion_mnsit")
        assert caught.value.exit_code == 2


class TestHome:
    def test_is_told_by_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SARTOR_HOME", str(tmp_path))
        assert cache_home() == tmp_path
        monkeypatch.setenv("SARTOR_HOME", "~/sets")
        assert cache_home() == Path.home() / "sets"

    @pytest.mark.parametrize("value", [None, ""])
    def test_is_else_the_user_cache(
        self, monkeypatch: pytest.MonkeyPatch, value: str | None
    ) -> None:
        monkeypatch.delenv("SARTOR_HOME", raising=False)
        if value is not None:
            monkeypatch.setenv("SARTOR_HOME", value)
        assert cache_home().name in ("sartor", "Cache")
        assert cache_home().is_absolute()


@dataclass
class Shelf:
    """A small set of our own in the place of a published one, and the folder it comes from."""

    monkeypatch: pytest.MonkeyPatch
    source: Path
    home: Path
    notes: list[str] = field(default_factory=list)

    def publish(self, name: str, files: Mapping[str, bytes], *places: Place) -> None:
        self.source.mkdir()
        for file, content in files.items():
            (self.source / file).write_bytes(content)
        sums = {file: sha256(content) for file, content in files.items()}
        named = replace(SETS[name], published=sums, places=places or (LocalFolder(self.source),))
        self.monkeypatch.setitem(catalogue.SETS, name, named)

    def load(self, name: str) -> Dataset:
        return load_named(name, home=self.home, note=self.notes.append)

    def cached(self, name: str, file: str) -> Path:
        return self.home / "sets" / name / file

    def refusal(self, name: str) -> UnavailableError:
        with pytest.raises(UnavailableError) as caught:
            self.load(name)
        return caught.value


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf(monkeypatch, tmp_path / "source", tmp_path / "home")


class Mirror(SimpleHTTPRequestHandler):
    """Serves a folder, and remembers what it was asked for."""

    asked: ClassVar[Counter[str]] = Counter()
    open = threading.Event()

    def do_GET(self) -> None:
        Mirror.asked[self.path] += 1
        Mirror.open.wait(300)
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebMirror]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("urllib.request._opener", None)  # it remembers the proxies
    monkeypatch.setattr(Mirror, "asked", Counter())
    monkeypatch.setattr(Mirror, "open", threading.Event())
    Mirror.open.set()
    handler = partial(Mirror, directory=str(shelf.source))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield WebMirror(f"http://127.0.0.1:{server.server_port}")
        Mirror.open.set()
        server.shutdown()
        thread.join()


def check_small_set(dataset: Dataset) -> None:
    assert dataset.labels.tolist() == [*TRAIN_LABELS, *TEST_LABELS]
    np.testing.assert_array_equal(dataset.images[:30, 0], TRAIN_IMAGES)
    np.testing.assert_array_equal(dataset.images[30:, 0], TEST_IMAGES)
    assert dataset.test is not None
    assert dataset.test.tolist() == list(range(30, 50))


def cifar_records(
    count: int, label_bytes: int, classes: int
) -> tuple[bytes, UInt8Array, list[int]]:
    images = GENERATOR.integers(0, 256, (count, 3, 32, 32), np.uint8)
    labels = [number % classes for number in range(count)]
    coarse = b"\xff" * (label_bytes - 1)  # no fine label, so that mixing them up shows
    records = (
        coarse + bytes([label]) + image.tobytes()
        for image, label in zip(images, labels, strict=True)
    )
    return b"".join(records), images, labels


def tar_gz(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class TestFormats:
    """Small sets in the formats of the large ones, from a web server."""

    def load_twice(self, shelf: Shelf, name: str) -> Dataset:
        """Fetched, then from the cache."""
        fetched = shelf.load(name)
        asked = Mirror.asked.total()
        assert asked > 0
        cached = shelf.load(name)
        assert Mirror.asked.total() == asked
        assert cached.fingerprint == fetched.fingerprint
        assert cached.name == name
        assert cached.classes == SETS[name].classes
        return cached

    def test_kmnist(self, shelf: Shelf, mirror: WebMirror) -> None:
        shelf.publish("kmnist", COMPRESSED, mirror)
        dataset = self.load_twice(shelf, "kmnist")
        check_small_set(dataset)
        assert dataset[0].class_name == "o"

    def test_mnist_compressed_on_the_way(self, shelf: Shelf, mirror: WebMirror) -> None:
        shelf.publish("mnist", IDX_FILES, replace(mirror, suffix=".gz"))
        for name, content in COMPRESSED.items():
            (shelf.source / name).write_bytes(content)
        check_small_set(self.load_twice(shelf, "mnist"))

    def test_emnist(self, shelf: Shelf, mirror: WebMirror) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("gzip/emnist-letters-train-images-idx3-ubyte.gz", b"another part")
            for name, content in COMPRESSED.items():
                member = name.replace("t10k", "test")
                archive.writestr(f"gzip/emnist-balanced-{member}", content)
        shelf.publish("emnist", {"gzip.zip": buffer.getvalue()}, mirror)
        dataset = self.load_twice(shelf, "emnist")
        # It is published lying on its side.
        np.testing.assert_array_equal(dataset.images[0, 0], TRAIN_IMAGES[0].T)
        np.testing.assert_array_equal(dataset.images[49, 0], TEST_IMAGES[19].T)
        assert dataset.classes[10] == "A"
        assert dataset.classes[36:] == tuple("abdefghnqrt")

    def test_cifar10(self, shelf: Shelf, mirror: WebMirror) -> None:
        folder = "cifar-10-batches-bin"
        batches = {
            f"{folder}/{name}.bin": cifar_records(12, 1, 10)
            for name in ("test_batch", *(f"data_batch_{number}" for number in (2, 1, 3, 4, 5)))
        }
        files = {name: content for name, (content, _, _) in batches.items()}
        archive = tar_gz({f"{folder}/readme.html": b"<html>"} | files)
        shelf.publish("cifar10", {"cifar-10-binary.tar.gz": archive}, mirror)
        dataset = self.load_twice(shelf, "cifar10")
        assert dataset.images.shape == (72, 3, 32, 32)
        first, second, test = (
            batches[f"{folder}/{name}.bin"][1]
            for name in ("data_batch_1", "data_batch_2", "test_batch")
        )
        np.testing.assert_array_equal(dataset.images[:12], first)
        np.testing.assert_array_equal(dataset.images[12:24], second)
        np.testing.assert_array_equal(dataset.images[60:], test)
        assert dataset.labels[60:].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
        assert dataset.test is not None
        assert dataset.test.tolist() == list(range(60, 72))
        assert dataset[3].class_name == "cat"

    def test_cifar100(self, shelf: Shelf, mirror: WebMirror) -> None:
        train, images, labels = cifar_records(110, 2, 100)
        test, test_images, _ = cifar_records(5, 2, 100)
        files = {"cifar-100-binary/train.bin": train, "cifar-100-binary/test.bin": test}
        shelf.publish("cifar100", {"cifar-100-binary.tar.gz": tar_gz(files)}, mirror)
        dataset = self.load_twice(shelf, "cifar100")
        np.testing.assert_array_equal(dataset.images, np.concatenate([images, test_images]))
        assert dataset.labels[:110].tolist() == labels
        assert dataset[99].class_name == "worm"


class TestPlacesInTurn:
    def test_wrong_content_is_passed_over(self, shelf: Shelf, tmp_path: Path) -> None:
        forged = tmp_path / "forged"
        forged.mkdir()
        for name in IDX_FILES:
            (forged / name).write_bytes(to_idx(TEST_LABELS))
        shelf.publish("mnist", IDX_FILES, LocalFolder(forged), LocalFolder(shelf.source))
        check_small_set(shelf.load("mnist"))

    def test_every_place_and_reason_is_listed(self, shelf: Shelf, tmp_path: Path) -> None:
        forged = tmp_path / "forged"
        forged.mkdir()
        bent = bytearray(IDX_FILES["t10k-labels-idx1-ubyte"])
        bent[-1] ^= 1
        for name, content in IDX_FILES.items():
            (forged / name).write_bytes(bent if name.startswith("t10k-labels") else content)
        shelf.publish("mnist", IDX_FILES, LocalFolder(tmp_path / "none"), LocalFolder(forged))
        refusal = shelf.refusal("mnist")
        found, expected = sha256(bytes(bent)), sha256(IDX_FILES["t10k-labels-idx1-ubyte"])
        assert refusal.message.splitlines() == [
            "No place could deliver mnist:",
            f"  - the folder {shelf.home}/sets/mnist: it holds no train-images-idx3-ubyte.",
            f"  - the folder {tmp_path}/none: there is no such folder.",
            f"  - the folder {forged}: t10k-labels-idx1-ubyte is not the published file: "
            f"its SHA-256 begins with {found[:12]}, not {expected[:12]}.",
        ]
        assert "network" in refusal.hint
        assert str(shelf.home / "sets" / "mnist") in refusal.hint
        assert "train-labels-idx1-ubyte" in refusal.hint

    def test_damaged_gzip_is_a_reason(self, shelf: Shelf) -> None:
        shelf.publish("mnist", IDX_FILES)
        (shelf.source / "t10k-images-idx3-ubyte").write_bytes(
            COMPRESSED["t10k-images-idx3-ubyte.gz"][:-9]
        )
        assert "cut short" in shelf.refusal("mnist").message

    def test_a_full_disk_for_temporary_files_is_a_reason(self, shelf: Shelf) -> None:
        class Full:
            def __str__(self) -> str:
                return "a full place"

            def fetch(self, names: object) -> dict[str, bytes | bytearray]:
                raise OSError(28, f"No space left on device for {names}")

        shelf.publish("mnist", IDX_FILES, Full(), LocalFolder(shelf.source))
        check_small_set(shelf.load("mnist"))

    @pytest.mark.parametrize("files", [IDX_FILES, COMPRESSED])
    def test_files_put_into_the_cache_by_hand_are_found(
        self, shelf: Shelf, files: Mapping[str, bytes]
    ) -> None:
        shelf.publish("mnist", IDX_FILES, LocalFolder(Path("/none")))
        shelf.cached("mnist", "x").parent.mkdir(parents=True)
        for name, content in files.items():
            shelf.cached("mnist", name).write_bytes(content)
        check_small_set(shelf.load("mnist"))

    def test_so_is_an_archive(self, shelf: Shelf) -> None:
        files = {f"{name}.bin": cifar_records(10, 2, 100)[0] for name in ("train", "test")}
        archive = tar_gz(files)
        shelf.publish("cifar100", {"cifar-100-binary.tar.gz": archive}, LocalFolder(Path("/none")))
        path = shelf.cached("cifar100", "cifar-100-binary.tar.gz")
        path.parent.mkdir(parents=True)
        path.write_bytes(archive)
        assert len(shelf.load("cifar100")) == 20


class TestCache:
    @pytest.mark.parametrize("name", ["mnist", "kmnist"])
    @pytest.mark.parametrize("damage", ["flip", "cut", "grow", "empty", "delete"])
    def test_damage_is_noted_and_fetched_anew(self, shelf: Shelf, name: str, damage: str) -> None:
        shelf.publish(name, IDX_FILES if name == "mnist" else COMPRESSED)
        check_small_set(shelf.load(name))
        path = shelf.cached(name, "train-images-idx3-ubyte")
        content = bytearray(path.read_bytes())
        content[5000] ^= 4
        damaged: dict[str, bytes | bytearray] = {
            "flip": content,
            "cut": content[:-1],
            "grow": content + b"x",
            "empty": b"",
        }
        if damage == "delete":
            path.unlink()
        else:
            path.write_bytes(damaged[damage])
        check_small_set(shelf.load(name))
        assert path.read_bytes() == IDX_FILES["train-images-idx3-ubyte"]
        if damage != "delete":
            assert len(shelf.notes) == 1
            assert f"{path} is damaged: its SHA-256 begins with" in shelf.notes[0]

    def test_damage_without_a_place_is_never_used(self, shelf: Shelf) -> None:
        shelf.publish("mnist", IDX_FILES)
        shelf.load("mnist")
        path = shelf.cached("mnist", "t10k-labels-idx1-ubyte")
        path.write_bytes(to_idx(TEST_LABELS[::-1]))
        for name in IDX_FILES:
            (shelf.source / name).unlink()
        assert "t10k-labels-idx1-ubyte is not the published file" in shelf.refusal("mnist").message

    @pytest.mark.parametrize("sums", [None, b"", b"\xff\n", b"0  train-images-idx3-ubyte\n"])
    def test_files_that_nothing_vouches_for_are_fetched_anew(
        self, shelf: Shelf, sums: bytes | None
    ) -> None:
        shelf.publish("kmnist", COMPRESSED)
        shelf.load("kmnist")
        path = shelf.cached("kmnist", "SHA256SUMS")
        before = path.read_bytes()
        if sums is None:
            path.unlink()
        else:
            path.write_bytes(sums)
        check_small_set(shelf.load("kmnist"))
        assert path.read_bytes() == before

    def test_sums_are_those_of_sha256sum(self, shelf: Shelf) -> None:
        shelf.publish("kmnist", COMPRESSED)
        shelf.load("kmnist")
        lines = shelf.cached("kmnist", "SHA256SUMS").read_text().splitlines()
        assert lines == [f"{sha256(content)}  {name}" for name, content in IDX_FILES.items()]

    def test_a_disk_that_does_not_keep_what_is_written(
        self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shelf.publish("mnist", IDX_FILES)
        monkeypatch.setattr(catalogue, "_store", lambda *_: None)
        with pytest.raises(FileError, match="reads differently"):
            shelf.load("mnist")

    def test_a_folder_that_cannot_be_made(self, shelf: Shelf) -> None:
        shelf.publish("mnist", IDX_FILES)
        shelf.home.write_text("a file in the way")
        with pytest.raises(FileError, match="Cannot create the folder") as caught:
            shelf.load("mnist")
        assert "SARTOR_HOME" in caught.value.hint

    def test_a_folder_that_cannot_be_written(self, shelf: Shelf) -> None:
        shelf.publish("mnist", IDX_FILES)
        folder = shelf.cached("mnist", "x").parent
        folder.mkdir(parents=True)
        folder.chmod(0o500)
        if os.access(folder, os.W_OK):
            pytest.skip("needs another user: nothing is forbidden to root")
        with pytest.raises(FileError) as caught:
            shelf.load("mnist")
        assert "SARTOR_HOME" in caught.value.hint

    def test_a_name_that_is_taken_by_a_folder(self, shelf: Shelf) -> None:
        shelf.publish("mnist", IDX_FILES)
        shelf.cached("mnist", "t10k-images-idx3-ubyte").mkdir(parents=True)
        with pytest.raises(FileError) as caught:
            shelf.load("mnist")
        assert "SARTOR_HOME" in caught.value.hint

    def test_the_lock_says_nothing(self, shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        shelf.publish("mnist", IDX_FILES)
        shelf.load("mnist")
        assert not [record for record in caplog.records if record.name.startswith("filelock")]


RACER = """
import json, sys
from dataclasses import replace
from pathlib import Path
from sartor.data.named.catalogue import SETS, load_named
from sartor.data.named.places import WebMirror

home, url, sums = sys.argv[1:]
mirror = WebMirror(url)
SETS["mnist"] = replace(SETS["mnist"], published=json.loads(sums), places=(mirror,))
dataset = load_named("mnist", home=Path(home), note=lambda line: print(line, flush=True))
print(dataset.fingerprint)
"""


def test_two_processes_fetch_once(shelf: Shelf, mirror: WebMirror) -> None:
    shelf.publish("mnist", IDX_FILES, mirror)
    sums = json.dumps(SETS["mnist"].published)
    command = [sys.executable, "-c", RACER, str(shelf.home), mirror.url, sums]
    start = partial(subprocess.Popen[str], command, stdout=subprocess.PIPE, text=True)

    Mirror.open.clear()
    with start() as first:
        assert first.stdout is not None
        assert first.stdout.readline() == f"fetching mnist from {mirror.url}\n"
        with start() as second:
            assert second.stdout is not None
            waiting = second.stdout.readline()
            Mirror.open.set()
            fingerprints = {first.stdout.read(), second.stdout.read()}
    assert waiting == "waiting for another process that is fetching mnist\n"
    assert Mirror.asked == Counter([f"/{name}" for name in IDX_FILES])
    assert fingerprints == {shelf.load("mnist").fingerprint + "\n"}
    assert (first.returncode, second.returncode) == (0, 0)
