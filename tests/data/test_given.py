"""Arrays and names as a program gives them: nothing is misread in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sartor
from sartor.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
LABELS = np.arange(40) % 2


class TestMasked:
    def test_masked_images_are_refused(self) -> None:
        masked = np.ma.masked_less(IMAGES, 10)
        with pytest.raises(DataError, match="images are a masked array with") as error:
            sartor.Dataset(masked, LABELS)
        assert ".filled(VALUE)" in error.value.hint
        assert sartor.Dataset(masked.filled(0), LABELS).images.min() == 0

    def test_so_are_single_ones_in_a_list(self) -> None:
        several: Any = [*IMAGES[1:], np.ma.masked_all((8, 8), np.uint8)]
        with pytest.raises(DataError, match="masked array with 64 masked values"):
            sartor.Dataset(several, LABELS)

    def test_so_are_masked_labels_and_parts(self) -> None:
        labels = np.ma.array(LABELS, mask=LABELS == 1)
        with pytest.raises(DataError, match="labels are a masked array with 20 masked"):
            sartor.Dataset(IMAGES, labels)
        part = np.ma.array([1, 2], mask=[False, True])
        with pytest.raises(DataError, match="`test` are a masked array with 1 masked"):
            sartor.Dataset(IMAGES, LABELS, test=part)

    def test_where_nothing_is_masked_it_is_an_array(self) -> None:
        dataset = sartor.Dataset(np.ma.array(IMAGES), np.ma.array(LABELS))
        assert dataset.fingerprint == sartor.Dataset(IMAGES, LABELS).fingerprint
        assert type(dataset.images) is np.ndarray


class TestOrder:
    @pytest.mark.parametrize(
        ("classes", "words"),
        [
            ({"cat", "dog"}, "is a set, which has no order"),
            (frozenset(("cat", "dog")), "is a set, which has no order"),
            ({0: "cat", 1: "dog"}, "is a mapping"),
            ("ab", "is one text"),
        ],
    )
    def test_classes_stand_in_order(self, classes: Any, words: str) -> None:
        with pytest.raises(DataError, match=f"`classes` {words}"):
            sartor.Dataset(IMAGES, LABELS, classes)

    @pytest.mark.parametrize("classes", [["cat", "dog"], {"cat": 0, "dog": 1}.keys()])
    def test_what_has_an_order_is_taken(self, classes: Any) -> None:
        assert sartor.Dataset(IMAGES, LABELS, classes).classes == ("cat", "dog")

    def test_so_do_groups(self) -> None:
        groups: Any = set(map(str, range(40)))
        with pytest.raises(DataError, match="`groups` is a set"):
            sartor.Dataset(IMAGES, LABELS, groups=groups)


@pytest.mark.filterwarnings("ignore::sartor.errors.SartorWarning")
class TestChangedInPlace:
    def fitted(self, dataset: sartor.Dataset, out: Path) -> sartor.Run:
        return sartor.fit(dataset, model="linear", epochs=1, threads=1, report=False, out=out)

    @pytest.mark.parametrize(
        "change",
        [
            lambda images, _labels: np.copyto(images, 255 - images),
            lambda images, _labels: images.__setitem__((0, 0, 0), images[0, 0, 0] ^ 1),
            lambda _images, labels: np.copyto(labels, 1 - labels),
        ],
        ids=["all pixels", "one pixel", "labels"],
    )
    def test_judging_notices(self, tmp_path: Path, change: Callable[[Any, Any], None]) -> None:
        images, labels = IMAGES.copy(), LABELS.copy()
        run = self.fitted(sartor.Dataset(images, labels, ("a", "b")), tmp_path / "run")
        assert run.evaluate("val").count
        change(images, labels)
        with pytest.raises(DataError, match=r"is not what .* was trained on"):
            run.evaluate("val")

    def test_training_again_records_what_is_there(self, tmp_path: Path) -> None:
        images = IMAGES.copy()
        dataset = sartor.Dataset(images, LABELS, ("a", "b"))
        first = self.fitted(dataset, tmp_path / "one").recipe.data.fingerprint
        images[:] = 255 - images
        second = self.fitted(dataset, tmp_path / "two").recipe.data.fingerprint
        assert first != second
        assert second == sartor.Dataset(images, LABELS, ("a", "b")).fingerprint
