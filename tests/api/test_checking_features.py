"""`check` by the features of a backbone: when, from which cache, and what is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

import sartor
from sartor.api import checking
from sartor.errors import MissingExtraError, UsageError
from sartor.events import Event, Note, Preparing
from sartor.inspection.check import backbone
from sartor.models import backbones

from .test_transferring import NAME, QUIET, StandIn, colours, folder_of, small_backbone, weights

__all__ = ["small_backbone"]


@pytest.fixture(autouse=True)
def weights_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "pretrained_weights", lambda _: weights())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "pictures", colours())


def never(*_: object) -> Tensor:
    raise AssertionError("the features are known")


def judge_of(report: sartor.CheckReport) -> str:
    (judge,) = {one.figures["judge"] for one in report.findings if one.check == "labels"}
    return str(judge)


def wrong(folder: Path) -> Path:
    """Three pictures in the folder of another class."""
    for number in (0, 3, 6):
        path = folder / "blue" / f"{number:03}.png"
        path.rename(folder / "red" / path.name)
    return folder


def test_pictures_from_files_are_judged_by_the_backbone_of_fit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    report = sartor.check(wrong(folder), only=["labels"], on_event=events.append)
    assert judge_of(report) == f"simple models on features of {NAME}"
    said = [event.text for event in events if isinstance(event, Note)]
    assert any(NAME in text and "--features off" in text for text in said)
    counted = [one for one in events if isinstance(one, Preparing) and one.activity == "features"]
    assert counted[-1].done == counted[-1].total == 60
    named = [item.file for one in report.findings for item in one.items]
    assert {"red/000.png", "red/003.png", "red/006.png"} <= set(named)
    monkeypatch.setattr(StandIn, "features", never)
    assert sartor.check(folder, only=["labels"]).to_json()["findings"]
    run = sartor.fit(folder, out=tmp_path / "run", **QUIET)
    assert run.recipe.training.transfer == "features"


def test_off_is_without(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "features", never)
    events: list[Event] = []
    report = sartor.check(wrong(folder), only=["labels"], features="off", on_event=events.append)
    assert judge_of(report) == "a kernel machine"
    assert not any(isinstance(event, Note) and NAME in event.text for event in events)


@pytest.mark.parametrize("words", [{"only": ["classes", "duplicates"]}, {"fast": True}])
def test_other_checks_do_without(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: dict[str, object]
) -> None:
    monkeypatch.setattr(StandIn, "features", never)
    events: list[Event] = []
    sartor.check(folder, on_event=events.append, **words)
    assert not any(isinstance(event, Note) and NAME in event.text for event in events)


def test_arrays_are_judged_by_it_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = colours()
    labels = data.labels.copy()
    labels[:3] = (labels[:3] + 1) % 3
    data = sartor.Dataset(data.images, labels, data.classes)
    assert judge_of(sartor.check(data, only=["labels"], features=NAME)).endswith(NAME)
    monkeypatch.setattr(StandIn, "features", never)
    assert judge_of(sartor.check(data, only=["labels"])) == "a kernel machine"


def test_small_pictures_are_judged_by_their_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandIn, "features", never)
    folder = folder_of(tmp_path / "small", colours(side=24))
    assert judge_of(sartor.check(wrong(folder), only=["labels"])) == "a kernel machine"


def test_features_are_those_of_the_images_in_their_order(folder: Path) -> None:
    (folder / "blue" / "000.png").write_bytes(b"no picture")
    data = sartor.load(folder, image_size=64, exclude=_excluding(folder, "blue/000.png"))
    one = backbone.BackboneFeatures(
        backbone=backbones.BACKBONES[NAME], dataset=data, on_event=lambda _: None
    )
    order = np.random.default_rng(0).permutation(len(data))
    rows = [int(place) for place in order[:5]]
    side = backbones.BACKBONES[NAME].image_size
    shown = sartor.Dataset(data.images[rows], data.labels[rows], data.classes)
    assert len(one.of_all) == 59
    again = backbone.BackboneFeatures(
        backbone=backbones.BACKBONES[NAME], dataset=shown, on_event=lambda _: None
    )
    # Made larger twice, they are not the same numbers, but nearest to their own.
    distance = np.linalg.norm(again.of_all[:, None] - one.of_all[None], axis=2)
    assert distance.argmin(axis=1).tolist() == rows
    assert side == 224


def _excluding(folder: Path, name: str) -> str:
    path = folder.parent / "exclude.txt"
    path.write_text(f"{name}\n")
    return str(path)


def test_what_is_not_there_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match='did you mean "efficientnet-lite'):
        sartor.check(folder, features="eficientnet-lite0")
    monkeypatch.setattr(backbones, "weights_path", lambda _: None)
    with pytest.raises(MissingExtraError, match="features of efficientnet-lite0"):
        sartor.check(folder, features=NAME)
    events: list[Event] = []
    report = sartor.check(wrong(folder), only=["labels"], on_event=events.append)
    assert judge_of(report) == "a kernel machine"
    said = [event.text for event in events if isinstance(event, Note)]
    assert any("pip install 'sartor[pretrained]'" in text for text in said)


def test_without_cleanlab_both_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "'sartor[pretrained]'" in checking._advice("pretrained")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert "'sartor[check,pretrained]'" in checking._advice("pretrained")
