"""Files of pictures: each fault planted in a folder of digits, and none in the folder itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import sartor
from sartor.data.splits.duplicates import first_equals
from sartor.inspection.check.geometry import cost, upright_sizes
from sartor.inspection.check.table import FAST

from .conftest import Found, subject_of_folder


@pytest.fixture
def folder(digits_folder: Path, tmp_path: Path) -> Path:
    """A copy of the clean folder, to plant faults in."""
    return Path(shutil.copytree(digits_folder, tmp_path / "digits"))


def replaced(path: Path, change: Callable[[Image.Image], Image.Image], **options: object) -> None:
    with Image.open(path) as picture:
        changed = change(picture.convert("L"))
    changed.save(path, **options)


def test_a_clean_folder_has_no_finding(found: Found, digits_folder: Path) -> None:
    names = [name for name in FAST if name != "groups"]
    subject = subject_of_folder(digits_folder)
    assert set(found(subject, *names, "near-duplicates", "appearance")) <= {"small test part"}


class TestFiles:
    def test_what_cannot_be_read_is_named_with_its_reason(self, found: Found, folder: Path) -> None:
        content = (folder / "one/0.png").read_bytes()
        (folder / "one/cut.png").write_bytes(content[: len(content) // 2])
        (folder / "two/empty.png").write_bytes(b"")
        (folder / "zero/page.jpg").write_text("<html>")
        finding = found(subject_of_folder(folder), "files")["unreadable"]
        assert finding.severity == "error"
        about = {item.file: item.about for item in finding.items}
        assert about.keys() == {"one/cut.png", "two/empty.png", "zero/page.jpg"}
        assert about["two/empty.png"] == "is empty"
        assert "not a picture" in about["zero/page.jpg"]
        assert [item.label for item in finding.items] == [
            item.file.partition("/")[0] for item in finding.items
        ]

    def test_endings_that_do_not_fit(self, found: Found, folder: Path) -> None:
        shutil.copy(folder / "one/0.png", folder / "one/really.jpg")
        replaced(folder / "one/1.png", lambda picture: picture, format="TIFF")
        findings = found(subject_of_folder(folder), "files")
        about = {item.file: item.about for item in findings["wrong ending"].items}
        assert about == {"one/really.jpg": "is PNG", "one/1.png": "is TIFF"}

    def test_an_ending_in_capitals_fits(self, found: Found, folder: Path) -> None:
        (folder / "one/0.png").rename(folder / "one/0.PNG")
        replaced(folder / "one/1.png", lambda picture: picture)
        (folder / "one/1.png").rename(folder / "one/1.Png")
        assert not found(subject_of_folder(folder), "files")

    def test_a_folder_without_a_readable_picture(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "empty.png").touch()
        report = sartor.check(tmp_path)
        assert [finding.kind for finding in report.findings] == ["unreadable", "no dataset"]
        assert report.exit_code() == 1
        assert list(report.quarantine()) == ["a/empty.png", "b/empty.png"]


class TestFormats:
    def files(self, found: Found, folder: Path, kind: str) -> list[str]:
        findings = found(subject_of_folder(folder), "formats")
        return [item.file for item in findings[kind].items]

    def test_turned(self, found: Found, folder: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        replaced(folder / "one/3.png", ImageOps.mirror, exif=exif)
        assert self.files(found, folder, "turned") == ["one/3.png"]

    def test_deep(self, found: Found, folder: Path) -> None:
        deep = np.arange(576, dtype=np.uint16).reshape(24, 24) * 100
        Image.fromarray(deep).save(folder / "two/3.png")
        findings = found(subject_of_folder(folder), "formats")
        assert [item.file for item in findings["deep"].items] == ["two/3.png"]
        assert findings["deep"].severity == "warning"
        assert "16 bits" in findings["deep"].items[0].about

    @pytest.mark.parametrize(
        ("mode", "kind"), [("LA", "transparent"), ("RGBA", "transparent"), ("P", "palette")]
    )
    def test_modes(self, found: Found, folder: Path, mode: str, kind: str) -> None:
        replaced(folder / "two/3.png", lambda picture: picture.convert(mode))
        assert self.files(found, folder, kind) == ["two/3.png"]

    def test_ink(self, found: Found, folder: Path) -> None:
        with Image.open(folder / "two/3.png") as picture:
            picture.convert("CMYK").save(folder / "two/ink.jpg")
        assert self.files(found, folder, "ink colours") == ["two/ink.jpg"]

    def test_several_frames(self, found: Found, folder: Path) -> None:
        frames = [Image.new("L", (24, 24), level) for level in (0, 100, 200)]
        frames[0].save(folder / "two/moves.gif", save_all=True, append_images=frames[1:])
        assert self.files(found, folder, "several frames") == ["two/moves.gif"]

    def test_a_coloured_picture_among_gray_ones(self, found: Found, folder: Path) -> None:
        Image.new("RGB", (24, 24), (200, 30, 30)).save(folder / "two/red.png")
        assert self.files(found, folder, "gray and colour") == ["two/red.png"]

    def test_gray_pictures_in_three_channels(self, found: Found, folder: Path) -> None:
        assert list(found(subject_of_folder(folder, channels=3), "formats")) == ["all gray"]


class TestGeometry:
    @pytest.mark.parametrize(("width", "height"), [(100, 50), (50, 100), (64, 64), (333, 77)])
    @pytest.mark.parametrize("size", [(64, 64), (32, 96)])
    def test_costs_are_those_of_pillow(
        self, width: int, height: int, size: tuple[int, int]
    ) -> None:
        white = Image.new("L", (width * 8, height * 8), 255)
        bars = 1 - np.asarray(ImageOps.pad(white, size)).mean() / 255
        widths, heights = np.array([width * 8.0]), np.array([height * 8.0])
        assert cost(widths, heights, *size, "letterbox")[0] == pytest.approx(bars, abs=0.03)
        scale = max(size[0] / widths[0], size[1] / heights[0])
        cut = 1 - size[0] * size[1] / (scale**2 * widths[0] * heights[0])
        assert cost(widths, heights, *size, "crop")[0] == pytest.approx(cut)
        assert cost(widths, heights, *size, "stretch")[0] == 0

    def test_bars_and_cuts(self, found: Found, folder: Path) -> None:
        for number in range(9):
            Image.effect_noise((24, 100), 80).save(folder / f"two/tall {number}.png")
        padded = found(subject_of_folder(folder, image_size=(24, 24)), "geometry")["padded"]
        assert padded.count == 9
        assert padded.items[0].about == "24 x 100, 76% bars"
        assert padded.severity == "note"
        cropped = subject_of_folder(folder, image_size=(24, 24), resize="crop")
        assert found(cropped, "geometry")["cut"].severity == "warning"

    def test_pictures_that_are_too_small(self, found: Found, folder: Path) -> None:
        replaced(folder / "two/3.png", lambda picture: picture.resize((12, 12)))
        findings = found(subject_of_folder(folder, image_size=(24, 24)), "geometry")
        assert [item.file for item in findings["enlarged"].items] == ["two/3.png"]
        assert findings["enlarged"].figures["most"] == 2
        assert "many sizes" in findings

    def test_a_long_strip(self, found: Found, folder: Path) -> None:
        Image.effect_noise((400, 24), 80).save(folder / "two/strip.png")
        findings = found(subject_of_folder(folder, image_size=(24, 24)), "geometry")
        assert [item.file for item in findings["elongated"].items] == ["two/strip.png"]

    def test_pictures_that_lose_most_of_their_pixels(self, found: Found, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            for number in range(4):
                picture = Image.effect_noise((300, 300), 80 + number)
                picture.save(tmp_path / name / f"{number}.png")
        findings = found(subject_of_folder(tmp_path, image_size=(30, 30)), "geometry")
        assert findings["shrunk"].figures["shrink"] == pytest.approx(10)

    def test_sizes_are_those_of_the_upright_picture(self, folder: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.effect_noise((40, 20), 80).save(folder / "two/turned.jpg", exif=exif)
        subject = subject_of_folder(folder)
        widths, heights = upright_sizes(subject)
        index = subject.dataset.files.index("two/turned.jpg")
        assert (widths[index], heights[index]) == (20, 40)


class TestDuplicates:
    def test_copies_are_those_of_equal_pixels(self, folder: Path) -> None:
        shutil.copy(folder / "one/5.png", folder / "two/5 again.png")
        with Image.open(folder / "two/7.png") as picture:
            picture.save(folder / "two/7.bmp")
        subject = subject_of_folder(folder)
        assert np.array_equal(subject.firsts, first_equals(subject.dataset.images))
        assert len(np.unique(subject.firsts)) == len(subject.dataset) - 2


class TestAppearance:
    def test_bars_do_not_hide_a_blank_picture(self, found: Found, folder: Path) -> None:
        Image.new("L", (24, 90), 120).save(folder / "two/blank.png")
        findings = found(subject_of_folder(folder, image_size=(24, 24)), "appearance")
        assert [item.file for item in findings["blank"].items] == ["two/blank.png"]


class TestShortcuts:
    def test_sizes_that_give_the_class_away(self, found: Found, folder: Path) -> None:
        for path in (folder / "three").iterdir():
            replaced(path, lambda picture: picture.resize((30, 24)))
        findings = found(subject_of_folder(folder), "shortcuts")
        assert findings["stored size tells the class"].figures["accuracy"] == pytest.approx(
            0.5, abs=0.15
        )
        assert "file format tells the class" not in findings

    def test_formats_that_give_the_class_away(self, found: Found, folder: Path) -> None:
        for path in (folder / "three").iterdir():
            with Image.open(path) as picture:
                picture.save(path.with_suffix(".bmp"))
            path.unlink()
        findings = found(subject_of_folder(folder), "shortcuts")
        assert "file format tells the class" in findings


class TestLeavingOut:
    def test_the_list_makes_a_folder_fit_for_training(
        self, folder: Path, tmp_path: Path, command: Callable[..., object]
    ) -> None:
        (folder / "two/empty.png").touch()
        shutil.copy(folder / "one/5.png", folder / "one/5 again.png")
        listed = tmp_path / "leave out.txt"
        before = sorted(path.stat().st_mtime_ns for path in folder.rglob("*"))
        answer = command("check", folder, "--fast", "--quarantine", listed, "--json")
        assert answer.exit_code == 1
        first, second = listed.read_text().splitlines()
        assert first == "two/empty.png\tis empty"
        assert second.split("\t")[0] in ("one/5.png", "one/5 again.png")
        assert before == sorted(path.stat().st_mtime_ns for path in folder.rglob("*"))
        again = command("check", folder, "--fast", "--exclude", listed, "--json")
        kinds = {finding["kind"] for finding in again.document["findings"]}
        assert (again.exit_code, kinds) == (0, {"small test part"})
        words = ["--model", "linear", "--epochs", 1, "--threads", 1, "--no-report"]
        fitted = command("fit", folder, "--exclude", listed, *words, "--out", tmp_path / "run")
        assert fitted.exit_code == 0
        assert not [line for line in fitted.err.splitlines() if line.startswith("error")]

    def test_a_dataset_at_hand_knows_its_files(self, folder: Path) -> None:
        replaced(folder / "two/3.png", lambda picture: picture.convert("LA"))
        dataset = sartor.load(folder)
        report = sartor.check(dataset, only=["formats"])
        assert [finding.kind for finding in report.findings] == ["transparent"]
        assert report.findings[0].items[0].file == "two/3.png"
