"""`sartor models`."""

from __future__ import annotations

import json

import pytest

from sartor.cli.main import run
from sartor.models.backbones import BACKBONES
from sartor.models.registry import MODELS


def test_lists_every_network_and_where_weights_lie(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in MODELS)
    assert "75.1% of ImageNet" in out
    assert "384 million multiply-adds" in out


def test_json_has_what_the_registry_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert found.keys() == MODELS.keys()
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


def test_fetch_says_what_lies_there_already(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "fetch", "efficientnet-lite0", "--json"]) == 0
    answer = capsys.readouterr()
    assert json.loads(answer.out)[0]["name"] == "efficientnet-lite0"
    assert "already" in answer.err
