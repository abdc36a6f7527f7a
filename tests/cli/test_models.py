"""`sartor models`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sartor.cli.main import run
from sartor.cli.models import revision_line
from sartor.models.backbones import BACKBONES, backbone_of
from sartor.models.libraries import RECOMMENDED, LibraryBackbone
from sartor.models.registry import MODELS

from ..models.hub import REVISION, put_into_hub_cache


def test_lists_every_network_and_where_weights_lie(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in (*MODELS, *RECOMMENDED))
    assert "ImageNet accuracy 75.1%" in out
    assert "384 million multiply-adds" in out


def test_json_has_what_the_registry_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert found.keys() == MODELS.keys() | RECOMMENDED.keys()
    dino = found["timm:vit_small_patch14_dinov2.lvd142m"]
    assert (dino["extra"], dino["licence"], dino["accuracy"]) == ("timm", "Apache-2.0", None)
    assert found["lenet"]["pretrained"] is False
    lite0, backbone = found["efficientnet-lite0"], BACKBONES["efficientnet-lite0"]
    assert lite0["licence"] == "Apache-2.0"
    assert lite0["file_sha256"] == backbone.file_sha256
    assert lite0["available"] is True
    assert lite0["path"].endswith(".pth")


@pytest.mark.parametrize("words", [["fetch"], ["get", "efficientnet-lite0"]])
def test_other_words_are_a_wrong_usage(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", *words]) == 2
    assert "sartor models fetch NAME" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Timm:resnet18", "timm:resnet18"),
        ("TorchVision:resnet18", "torchvision:resnet18"),
        ("Efficientnet-lite0", "efficientnet-lite0"),
        ("efficientnet_lite1", "efficientnet-lite1"),
    ],
)
def test_a_misspelt_name_is_refused_with_a_suggestion_before_any_picture_is_read(
    name: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["models", name], ["fit", "no-such-folder", "--model", name]):
        assert run(command) == 2
        assert f'did you mean "{meant}"?' in capsys.readouterr().err


def test_lists_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    # The names of timm are as long as they are, and to be copied in one piece.
    assert all(len(line) <= 80 for line in lines if "sartor models fetch" not in line)


def test_one_name_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    name = "timm:repvit_m0_9.dist_300e_in1k"
    assert run(["models", name, "lenet"]) == 0
    out = capsys.readouterr().out
    assert "817 million multiply-adds" in out
    assert "accuracy not stated" in out
    assert f"sartor models fetch {name}" in out
    assert "lenet" in out


def test_fetch_says_what_lies_there_already(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "fetch", "efficientnet-lite0", "--json"]) == 0
    answer = capsys.readouterr()
    assert json.loads(answer.out)[0]["name"] == "efficientnet-lite0"
    assert "already" in answer.err


def test_a_revision_that_is_not_pinned_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "timm:repvit_m0_9.dist_300e_in1k"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert run(["models", name]) == 0
    assert "revision not pinned: the newest of the hub" in capsys.readouterr().out
    backbone = backbone_of(name)
    assert isinstance(backbone, LibraryBackbone)
    assert backbone.repository
    put_into_hub_cache(tmp_path, backbone.repository, b"weights")
    assert run(["models", name]) == 0
    assert f"revision not pinned: {REVISION}, which is here" in capsys.readouterr().out
    assert revision_line(replace(backbone, revision="b" * 40)) == f"revision {'b' * 40}"
