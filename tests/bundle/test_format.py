"""A bundle's files: equal bytes for equal content, and nothing that was changed goes unnoticed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sartor
from sartor.bundle.format import RECORD, WEIGHTS, Bundle, is_bundle, write_bundle
from sartor.errors import BundleError, UsageError
from sartor.files import sha256_of

from .made import PARTS, PREPROCESS, record, written

FORMS = ["bundle", "bundle.zip"]


@pytest.fixture(params=FORMS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return written(tmp_path / request.param)


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Change the files of a bundle, whichever form it has, as another program would."""
    if path.is_dir():
        parts = {
            one.relative_to(path).as_posix(): one.read_bytes()
            for one in path.rglob("*")
            if one.is_file()
        }
        before = set(parts)
        change(parts)
        for name in before - set(parts):
            (path / name).unlink()
        for name, content in parts.items():
            (path / name).write_bytes(content)
        return
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def with_record(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what bundle.json says, and seal it again as its author could."""

    def edit(parts: dict[str, bytes]) -> None:
        found = json.loads(parts[RECORD])
        change(found)
        found["sha256"] = "0" * 64
        text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
        parts[RECORD] = text.replace("0" * 64, sha256_of(text.encode())).encode()

    rewritten(path, edit)


class TestWriting:
    def test_what_was_written_is_read_back(self, path: Path) -> None:
        bundle = Bundle.open(path)
        assert is_bundle(path)
        assert bundle.classes == ("ä", "b", "c")
        assert bundle.preprocess == PREPROCESS
        assert bundle.calibration.temperature == 1.5
        assert bundle.architecture.input_shape == (3, 4, 5)
        assert {name: bundle.read(name) for name in bundle.names} == PARTS
        assert bundle.faults() == {}

    def test_equal_content_gives_equal_bytes(self, tmp_path: Path) -> None:
        folders = [written(tmp_path / name) for name in ("one", "two")]
        archives = [written(tmp_path / name) for name in ("one.zip", "two.zip")]
        backwards = tmp_path / "three.zip"
        write_bundle(backwards, record(), dict(reversed(PARTS.items())))
        assert len({one.read_bytes() for one in (*archives, backwards)}) == 1
        assert len({(one / RECORD).read_bytes() for one in folders}) == 1
        assert len({Bundle.open(one).sha256 for one in (*folders, *archives)}) == 1

    def test_other_content_is_another_bundle(self, tmp_path: Path) -> None:
        one = Bundle.open(written(tmp_path / "one"))
        other = Bundle.open(written(tmp_path / "two", licence={"data": "CC0"}))
        assert one.sha256 != other.sha256

    def test_an_archive_is_stored_and_every_program_can_read_it(self, tmp_path: Path) -> None:
        path = written(tmp_path / "bundle.zip")
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == [RECORD, *sorted(PARTS)]
            assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}

    def test_nothing_is_overwritten_unasked(self, path: Path, tmp_path: Path) -> None:
        before = Bundle.open(path).sha256
        with pytest.raises(UsageError, match="already exists") as error:
            written(path)
        assert "--overwrite" in error.value.hint
        write_bundle(path, record(classes=["x", "y", "z"]), PARTS, overwrite=True)
        assert Bundle.open(path).sha256 != before
        assert Bundle.open(path).faults() == {}
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("name", FORMS)
    def test_only_a_bundle_is_ever_replaced(self, name: str, tmp_path: Path) -> None:
        mine = tmp_path / name
        mine.mkdir()
        (mine / "thesis.txt").write_text("years of work")
        with pytest.raises(UsageError, match="is not a bundle"):
            write_bundle(mine, record(), PARTS, overwrite=True)
        assert (mine / "thesis.txt").read_text() == "years of work"

    def test_a_link_to_a_bundle_is_not_replaced(self, path: Path, tmp_path: Path) -> None:
        link = tmp_path / f"link{path.suffix}"
        link.symlink_to(path)
        with pytest.raises(UsageError, match="is not a bundle"):
            write_bundle(link, record(), PARTS, overwrite=True)
        assert Bundle.open(link).faults() == {}

    @pytest.mark.parametrize("name", FORMS)
    def test_a_fault_while_writing_leaves_nothing(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(28, os.strerror(28))

        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(Exception, match="no space left"):
            written(tmp_path / name)
        assert list(tmp_path.iterdir()) == []


class TestDamage:
    def test_a_changed_byte_of_any_file_is_found(self, path: Path) -> None:
        bundle, chance = Bundle.open(path), random.Random(0)
        for name in (RECORD, *bundle.names):
            original = {}

            def keep(parts: dict[str, bytes], kept: dict[str, bytes] = original) -> None:
                kept.update(parts)

            rewritten(path, keep)
            size = len(original[name])
            for place in {0, size - 1, *(chance.randrange(size) for _ in range(12))}:
                content = bytearray(original[name])
                content[place] ^= 1 << chance.randrange(8)
                rewritten(
                    path, lambda parts, name=name, new=content: parts.update({name: bytes(new)})
                )
                with pytest.raises(BundleError, match=r"checksum|damaged|format"):
                    Bundle.open(path).read(name)
            rewritten(path, lambda parts, old=original: parts.update(old))

    def test_a_changed_byte_anywhere_in_an_archive_is_found(self, tmp_path: Path) -> None:
        path = written(tmp_path / "bundle.zip")
        content = path.read_bytes()
        for place in range(0, len(content), 7):
            changed = bytearray(content)
            changed[place] ^= 0x20
            path.write_bytes(bytes(changed))
            with contextlib.suppress(BundleError):
                assert Bundle.open(path).faults(), place

    @pytest.mark.parametrize("more", [b"behind", b"PK\5\6" + bytes(18)])
    def test_bytes_around_an_archive_are_found(self, more: bytes, tmp_path: Path) -> None:
        path = written(tmp_path / "bundle.zip")
        content = path.read_bytes()
        for changed in (more + content, content + more):
            path.write_bytes(changed)
            with contextlib.suppress(BundleError):
                assert Bundle.open(path).faults()

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
    def test_a_truncated_archive(self, share: float, tmp_path: Path) -> None:
        path = written(tmp_path / "bundle.zip")
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(BundleError, match=r"not a whole \.zip"):
            Bundle.open(path)

    def test_a_truncated_file_in_a_folder(self, tmp_path: Path) -> None:
        path = written(tmp_path / "bundle")
        (path / "model.safetensors").write_bytes(bytes(100))
        with pytest.raises(BundleError, match="has 100 of 256 bytes"):
            Bundle.open(path).read("model.safetensors")
        (path / "model.safetensors").write_bytes(bytes(1000))
        with pytest.raises(BundleError, match="has more than 256 bytes"):
            Bundle.open(path).read("model.safetensors")

    def test_missing_and_unknown_parts_are_named(self, path: Path) -> None:
        def swap(parts: dict[str, bytes]) -> None:
            parts["notes.txt"] = parts.pop("README.md")

        rewritten(path, swap)
        bundle = Bundle.open(path)
        assert set(bundle.faults()) == {"README.md", "notes.txt"}
        with pytest.raises(BundleError, match=r"README.md .* is missing"):
            bundle.read("README.md")
        with pytest.raises(BundleError, match=r"has no notes\.txt"):
            bundle.read("notes.txt")

    def test_a_pipe_in_the_place_of_a_file_does_not_block(self, tmp_path: Path) -> None:
        path = written(tmp_path / "bundle")
        (path / "README.md").unlink()
        os.mkfifo(path / "README.md")
        with pytest.raises(BundleError, match=r"not a regular file|invalid"):
            Bundle.open(path).read("README.md")


class TestWhatItSays:
    def test_a_newer_format_says_what_to_do(self, path: Path) -> None:
        with_record(path, lambda found: found.update(format=2))
        with pytest.raises(
            BundleError, match="has the format 2; this version of sartor reads 1"
        ) as e:
            Bundle.open(path)
        assert "pip install -U sartor" in e.value.hint

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda found: found["classes"].pop(), "2 classes, and its network has 3 outputs"),
            (lambda found: found.update(classes=["a", "a", "b"]), "different names"),
            (lambda found: found.update(classes=[1, 2, 3]), "different names"),
            (lambda found: found.pop("architecture"), "lacks 'architecture'"),
            (lambda found: found["preprocess"].update(height=9), "another shape"),
            (lambda found: found["preprocess"].update(resize="nearest"), "resize 'nearest'"),
            (lambda found: found["preprocess"].update(mean=[0.5]), "one mean and one std"),
            (lambda found: found["architecture"].update(loss="hinge"), "'hinge'"),
            (lambda found: found["architecture"].update(num_classes=-3), "whole numbers"),
            (lambda found: found["architecture"].update(input_shape=[1e9, 2, 3]), "whole numbers"),
            (lambda found: found["calibration"].update(temperature=0), "temperature"),
            (lambda found: found.update(calibration=None), "calibration"),
            (lambda found: found.update(files=[1, 2]), "cannot be used"),
            (lambda found: found["files"].update(x={"sha256": "f" * 63, "size": 1}), "not a hash"),
            (lambda found: found["files"].update(x={"sha256": "f" * 64, "size": -1}), "not a hash"),
        ],
    )
    def test_a_record_that_does_not_fit(
        self, change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
    ) -> None:
        path = written(tmp_path / "bundle")
        with_record(path, change)
        with pytest.raises(BundleError, match=message) as error:
            Bundle.open(path)
        assert error.value.hint

    @pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "c:\\x", "a//b", ""])
    def test_a_listed_path_that_escapes(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"x")
        path = written(tmp_path / "bundle")
        entry = {"sha256": sha256_of(b"x"), "size": 1}
        with_record(path, lambda found: found["files"].update({name: entry}))
        with pytest.raises(BundleError, match="may lead out of the bundle"):
            Bundle.open(path)

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b'{"format": NaN}', b"[" * 100_000, b'{"format": 1}\n']
    )
    def test_a_record_that_is_no_json_of_ours(self, content: bytes, path: Path) -> None:
        rewritten(path, lambda parts: parts.update({RECORD: content}))
        with pytest.raises(BundleError, match="damaged"):
            Bundle.open(path)

    def test_a_part_of_a_bundle_is_one_that_is_not_whole(self, path: Path) -> None:
        """Who copied it without its record is not told of runs."""
        rewritten(path, lambda parts: parts.update({WEIGHTS: parts.pop(RECORD)}))
        assert is_bundle(path)
        with pytest.raises(BundleError, match=r"only a part of one: it holds no bundle\.json"):
            sartor.Predictor(path)
        if path.is_dir():
            (path / "recipe.toml").touch()
            assert not is_bundle(path), "a run may hold whatever it likes"

    def test_what_is_not_a_bundle(self, tmp_path: Path) -> None:
        for name in ("nothing", "nothing.zip"):
            with pytest.raises(BundleError, match=r"no bundle|not a bundle"):
                Bundle.open(tmp_path / name)
            assert not is_bundle(tmp_path / name)
        (tmp_path / "folder").mkdir()
        with pytest.raises(BundleError, match=r"holds no bundle\.json"):
            Bundle.open(tmp_path / "folder")
        (tmp_path / "text.zip").write_text("not a zip")
        with pytest.raises(BundleError, match=r"not a whole \.zip"):
            Bundle.open(tmp_path / "text.zip")
        assert not is_bundle(tmp_path / "text.zip")


class TestHostileArchives:
    """Made by hand, since no export makes them; bundle.json is whole in each."""

    def hostile(self, path: Path, name: str, content: bytes = b"x", **how: Any) -> Path:
        written(path)
        with zipfile.ZipFile(path) as archive:
            parts = {one: archive.read(one) for one in archive.namelist()}
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for one, kept in parts.items():
                archive.writestr(one, kept)
            entry = zipfile.ZipInfo(name)
            entry.external_attr = how.get("mode", 0o644) << 16
            archive.writestr(entry, content, how.get("compress", zipfile.ZIP_STORED))
        path.write_bytes(stream.getvalue())
        return path

    @pytest.mark.parametrize(
        ("name", "how", "message"),
        [
            ("../../evil", {}, "may lead out of it"),
            ("/evil", {}, "may lead out of it"),
            ("golden/", {"content": b""}, "entry for the folder golden/"),
            ("link", {"mode": stat.S_IFLNK | 0o777}, "as a link or a device"),
            ("zeros", {"compress": zipfile.ZIP_DEFLATED, "content": bytes(10**7)}, "compressed"),
        ],
    )
    def test_entries_that_no_bundle_has(
        self, name: str, how: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        path = self.hostile(tmp_path / "bundle.zip", name, **how)
        with pytest.raises(BundleError, match=message):
            Bundle.open(path)

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_a_name_that_comes_twice(self, tmp_path: Path) -> None:
        path = self.hostile(tmp_path / "bundle.zip", "README.md")
        with pytest.raises(BundleError, match=r"has README\.md twice"):
            Bundle.open(path)

    def test_a_folder_of_links_still_has_the_right_content(self, tmp_path: Path) -> None:
        """As the caches of model hubs lay them out."""
        path = written(tmp_path / "blobs")
        links = tmp_path / "links"
        (links / "golden" / "pictures").mkdir(parents=True)
        for name in (RECORD, *PARTS):
            (links / name).symlink_to(path / name)
        assert Bundle.open(links).faults() == {}


def test_a_damaged_entry_is_not_quoted(tmp_path: Path) -> None:
    """A changed bit in the length of a name makes most of the file part of it."""
    path = written(tmp_path / "bundle.zip")
    content = bytearray(path.read_bytes())
    content[27] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(BundleError, match="is damaged") as caught:
        Bundle.open(path)
    assert len(caught.value.message) < 1_000
