"""Archives: what they hold is read in place, and what they should not hold is refused."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sartor
from sartor.data.listing import Listing
from sartor.data.readers.archive import TarTree, ZipTree, open_tar
from sartor.data.settings import DataSettings
from sartor.data.sources import find_source
from sartor.errors import CorruptDataError, DataError, PictureError


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (3, 3), value).save(stream, "PNG")
    return stream.getvalue()


PICTURES = {"a/1.png": png(1), "a/2.png": png(2), "b/1.png": png(3)}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write_zip(path: Path, members: Mapping[str, bytes] = PICTURES) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, members: Mapping[str, bytes] = PICTURES, mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def read(path: Path, **given: Any) -> Listing:
    found = find_source(DataSettings(source=str(path), **given))
    assert isinstance(found, Listing)
    return found


@pytest.mark.parametrize("write", [write_zip, write_tar])
class TestBoth:
    def test_members_are_read_in_place(self, write: Callable[..., Path], tmp_path: Path) -> None:
        listing = read(write(tmp_path / "set"))
        assert listing.pictures.names == tuple(PICTURES)
        assert [listing.pictures.read(k) for k in range(3)] == list(PICTURES.values())
        assert len({listing.pictures.stamp(k) for k in range(3)}) == 3
        assert not (tmp_path / "home").exists()

    def test_several_threads_read_at_once(self, write: Callable[..., Path], tmp_path: Path) -> None:
        many = {f"{k % 2}/{k}.png": os.urandom(1_000) + bytes([k]) for k in range(200)}
        listing = read(write(tmp_path / "set", many))
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(listing.pictures.read, list(range(200)) * 5))
        names = listing.pictures.names * 5
        assert all(many[name] == content for name, content in zip(names, found, strict=True))

    @pytest.mark.parametrize(
        "name",
        ["../evil.png", "a/../../evil.png", "/etc/evil.png", "C:\\evil.png", "c:/evil.png"],
    )
    def test_a_member_that_leads_outside_is_refused(
        self, write: Callable[..., Path], tmp_path: Path, name: str
    ) -> None:
        path = write(tmp_path / "set", {**PICTURES, name: b"x"})
        with pytest.raises(DataError, match=r"evil\.png, which points outside of it"):
            read(path)

    def test_a_list_cannot_lead_outside(self, write: Callable[..., Path], tmp_path: Path) -> None:
        (tmp_path / "secret.png").write_bytes(png(9))
        rows = f"x/1.png,a\n../secret.png,b\n{tmp_path}/secret.png,c\n"
        path = write(tmp_path / "set", {"x/1.png": png(1), "list.csv": rows.encode()})
        with pytest.raises(DataError, match=r"Missing are 2 of the 3 files .*secret\.png"):
            read(path)

    def test_a_member_twice_is_refused(self, write: Callable[..., Path], tmp_path: Path) -> None:
        path = write(tmp_path / "set", {"a/1.png": png(1), "./a//1.png": png(2), "b/1.png": png(3)})
        with pytest.raises(CorruptDataError, match=r"a/1\.png twice"):
            read(path)

    def test_what_belongs_to_the_system_is_passed_over(
        self, write: Callable[..., Path], tmp_path: Path
    ) -> None:
        hidden = {"__MACOSX/a/._1.png": b"x", ".git/1.png": b"x", "a/.DS_Store": b"x"}
        listing = read(write(tmp_path / "set", {**hidden, **PICTURES}))
        assert listing.pictures.names == tuple(PICTURES)

    def test_archives_in_archives_are_named(
        self, write: Callable[..., Path], tmp_path: Path
    ) -> None:
        with pytest.raises(DataError, match=r"no picture in .*, but inner\.zip"):
            read(write(tmp_path / "set", {"inner.zip": b"PK"}))


class TestZip:
    def test_an_empty_archive(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="There is no picture in"):
            read(write_zip(tmp_path / "set", {}))

    def test_paths_of_windows(self, tmp_path: Path) -> None:
        renamed = {name.replace("/", "\\"): content for name, content in PICTURES.items()}
        assert read(write_zip(tmp_path / "set", renamed)).pictures.names == tuple(PICTURES)

    def test_a_link_is_refused(self, tmp_path: Path) -> None:
        path = write_zip(tmp_path / "set")
        with zipfile.ZipFile(path, "a") as archive:
            info = zipfile.ZipInfo("a/link.png")
            info.create_system = 3
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
        with pytest.raises(DataError, match=r"a/link\.png, which is a link or a device"):
            read(path)

    def test_encryption_is_named(self, tmp_path: Path) -> None:
        path = write_zip(tmp_path / "set")
        content = bytearray(path.read_bytes())
        entry = content.rindex(b"PK\1\2")
        content[entry + 8] |= 1
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"encrypted: b/1\.png needs a password"):
            read(path)

    def test_one_member_that_inflates_far_is_refused_unread(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sartor.data.readers.archive._HARMLESS_BYTES", 1 << 20)
        path = write_zip(tmp_path / "set", {**PICTURES, "b/bomb.png": bytes(2 << 20)})
        with pytest.raises(DataError, match=r"b/bomb\.png inflates to 2,097,152 bytes"):
            read(path)

    def test_members_that_share_their_bytes_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A bomb whose members overlap: each inflates moderately, all together without end."""
        monkeypatch.setattr("sartor.data.readers.archive._HARMLESS_TOTAL", 4 << 20)
        path = write_zip(tmp_path / "set", {"a/0.png": bytes(1 << 20)})
        content = path.read_bytes()
        start = content.rindex(b"PK\1\2")
        end = content.rindex(b"PK\5\6")
        entry = content[start:end]
        name = entry.index(b"a/0.png")
        entries = b"".join(
            entry[:name] + b"%c/%c.png" % (97 + k // 20, 65 + k % 20) + entry[name + 7 :]
            for k in range(100)
        )
        counts = struct.pack("<HH", 100, 100)
        sizes = struct.pack("<II", len(entries), start)
        tail = content[end : end + 8] + counts + sizes + b"\0\0"
        path.write_bytes(content[:start] + entries + tail)
        with pytest.raises(DataError, match=r"all in all inflates to 104,857,600 bytes"):
            read(path)

    def test_lost_members_are_noticed(self, tmp_path: Path) -> None:
        """A directory that ends early leaves members out, which zipfile does not mind."""
        path = write_zip(tmp_path / "set")
        content = bytearray(path.read_bytes())
        end = content.rindex(b"PK\5\6")
        first = content.index(b"PK\1\2")
        second = content.index(b"PK\1\2", first + 4)
        size, offset = struct.unpack_from("<II", content, end + 12)
        struct.pack_into("<II", content, end + 12, size - (second - first), offset)
        path.write_bytes(content)
        with pytest.raises(CorruptDataError, match="claims 3 members where there are 2"):
            read(path)

    def test_a_damaged_picture_is_named_and_the_others_read(self, tmp_path: Path) -> None:
        path = tmp_path / "set"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in PICTURES.items():
                archive.writestr(name, content)
        content = bytearray(path.read_bytes())
        content[content.index(PICTURES["a/2.png"]) + 20] ^= 1
        path.write_bytes(content)
        listing = read(path)
        assert listing.pictures.read(0) == PICTURES["a/1.png"]
        with pytest.raises(PictureError, match=r"set/a/2\.png is damaged: Bad CRC-32"):
            listing.pictures.read(1)
        assert listing.pictures.read(2) == PICTURES["b/1.png"]

    @pytest.mark.parametrize("content", [b"PK", b"PK\3\4" + bytes(60), b"PK\5\6" + bytes(10)])
    def test_what_is_no_zip_file(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "set"
        path.write_bytes(content)
        with pytest.raises(CorruptDataError, match="set is damaged"):
            ZipTree(path)


class TestTar:
    def test_a_hard_link_is_the_same_picture(self, tmp_path: Path) -> None:
        path = write_tar(tmp_path / "set")
        with tarfile.open(path, "a") as archive:
            info = tarfile.TarInfo("b/again.png")
            info.type, info.linkname = tarfile.LNKTYPE, "a/2.png"
            archive.addfile(info)
        listing = read(path)
        assert listing.pictures.names == ("a/1.png", "a/2.png", "b/1.png", "b/again.png")
        assert listing.pictures.read(3) == PICTURES["a/2.png"]

    @pytest.mark.parametrize(
        ("kind", "target"),
        [
            (tarfile.SYMTYPE, "1.png"),
            (tarfile.SYMTYPE, "/etc/passwd"),
            (tarfile.LNKTYPE, "nowhere.png"),
            (tarfile.FIFOTYPE, ""),
            (tarfile.CHRTYPE, ""),
        ],
    )
    def test_links_and_devices_are_refused(self, tmp_path: Path, kind: bytes, target: str) -> None:
        path = write_tar(tmp_path / "set")
        with tarfile.open(path, "a") as archive:
            info = tarfile.TarInfo("a/odd.png")
            info.type, info.linkname = kind, target
            archive.addfile(info)
        with pytest.raises(DataError, match=r"a/odd\.png, which is a link or a device"):
            read(path)

    def test_a_hard_link_cannot_lead_outside(self, tmp_path: Path) -> None:
        path = write_tar(tmp_path / "set")
        with tarfile.open(path, "a") as archive:
            info = tarfile.TarInfo("a/odd.png")
            info.type, info.linkname = tarfile.LNKTYPE, "../../etc/passwd"
            archive.addfile(info)
        with pytest.raises(DataError, match="points outside of it"):
            read(path)

    def test_a_damaged_header_does_not_end_the_archive_in_silence(self, tmp_path: Path) -> None:
        path = write_tar(tmp_path / "set")
        content = bytearray(path.read_bytes())
        content[1024 + 10] ^= 1  # the second member's header: tarfile stops there without a word
        path.write_bytes(content)
        with tarfile.open(path) as archive:
            assert len(archive.getnames()) == 1
        with pytest.raises(CorruptDataError, match="no header at byte 1,024"):
            read(path)

    def test_every_truncation_is_noticed(self, tmp_path: Path) -> None:
        path = write_tar(tmp_path / "set")
        content = path.read_bytes()
        for length in range(512, 3_073, 256):
            path.write_bytes(content[:length])
            with pytest.raises(CorruptDataError, match="damaged"):
                TarTree(path)
        path.write_bytes(content[: 3_072 + 512])  # one block of zeros is end enough
        assert len(TarTree(path).files) == 3

    def test_what_follows_the_end_is_noticed(self, tmp_path: Path) -> None:
        path = write_tar(tmp_path / "set")
        path.write_bytes(path.read_bytes() + write_tar(tmp_path / "other").read_bytes())
        with pytest.raises(CorruptDataError, match="no header"):
            read(path)

    def test_a_member_of_negative_size_does_not_hang(self, tmp_path: Path) -> None:
        path = write_tar(tmp_path / "set")
        content = bytearray(path.read_bytes())
        header = content[1024:1536]
        header[124:136] = (-1024).to_bytes(12, "big", signed=True)  # base 256
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        content[1024:1536] = header
        path.write_bytes(content)
        with pytest.raises(CorruptDataError, match="damaged"):
            read(path)


class TestCompressedTar:
    @pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
    def test_it_is_unpacked_once_into_the_cache(
        self, tmp_path: Path, home: Path, kind: str
    ) -> None:
        path = write_tar(tmp_path / f"set.tar.{kind}", mode=f"w:{kind}")
        said: list[str] = []
        first = open_tar(path, note=said.append)
        assert len(said) == 1
        assert str(home) in said[0]
        assert [first.read(name) for name in first.files] == list(PICTURES.values())
        assert first.name == str(path)
        open_tar(path, note=said.append)
        assert len(said) == 1
        assert len(list((home / "unpacked").iterdir())) == 1

    def test_another_version_replaces_it(self, tmp_path: Path, home: Path) -> None:
        path = write_tar(tmp_path / "set.tgz", mode="w:gz")
        open_tar(path)
        write_tar(path, {"c/1.png": png(9)}, mode="w:gz")
        os.utime(path, (time.time() + 5, time.time() + 5))
        assert open_tar(path).files == ("c/1.png",)
        assert len(list((home / "unpacked").iterdir())) == 1

    @pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
    def test_damage_leaves_nothing_behind(self, tmp_path: Path, home: Path, kind: str) -> None:
        path = write_tar(tmp_path / f"set.tar.{kind}", mode=f"w:{kind}")
        whole = path.read_bytes()
        path.write_bytes(whole[:-9])
        with pytest.raises(CorruptDataError, match=r"set.* is damaged"):
            read(path)
        assert not list(home.rglob("*.*"))

    def test_a_bomb_is_not_unpacked(
        self, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sartor.data.readers.archive._HARMLESS_TOTAL", 4 << 20)
        path = write_tar(tmp_path / "set.tgz", {"a/1.png": bytes(20 << 20)}, mode="w:gz")
        with pytest.raises(DataError, match="inflates to more than"):
            read(path)
        assert not list(home.rglob("*.*"))

    def test_it_trains_as_the_folder_does(self, tmp_path: Path) -> None:
        path = write_tar(tmp_path / "set.tgz", mode="w:gz")
        data = sartor.load(path)
        assert data.name == "set"
        assert data.images[:, 0, 0, 0].tolist() == [1, 2, 3]
