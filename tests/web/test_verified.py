"""`sartor verify --url` and a real server, from the golden pictures to its answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sartor
from sartor.api import export
from sartor.bundle.format import Bundle, write_bundle

from .conftest import Address, serving


@pytest.fixture(scope="module")
def bundle(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(trained, tmp_path_factory.mktemp("verified") / "bundle.zip").path


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Address]:
    """A server of the bundle that wants a token."""
    with serving(bundle, {}, "secret") as found:
        yield found


def of_server(found: Any) -> Any:
    (check,) = (check for check in found["checks"] if check["name"] == "server")
    return check


def test_a_server_of_the_bundle_passes(
    bundle: Path, server: Address, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SARTOR_TOKEN", "secret")
    answer = command("verify", bundle, "--url", server.url, "--json")
    assert answer.exit_code == 0, answer.out
    assert answer.document.keys() == {"bundle", "ok", "checks"}
    names = [check["name"] for check in answer.document["checks"]]
    assert names == ["files", "pixels", "torch", "onnx", "server"]
    for check in answer.document["checks"]:
        assert list(check) == ["name", "ok", "largest_difference", "detail"]
    check = of_server(answer.document)
    assert 0 <= check["largest_difference"] <= 1e-5
    named = sartor.verify(
        bundle, url=f"{server.url}/v1/models/digits/predict", token="secret"
    ).to_json()
    assert of_server(named)["ok"], named


def test_without_the_token_nothing_is_proven(
    bundle: Path, server: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SARTOR_TOKEN", raising=False)
    check = of_server(sartor.verify(bundle, url=server.url).to_json())
    assert not check["ok"]
    assert "401" in check["detail"]


def test_other_thresholds_than_the_servers_are_found(
    bundle: Path, server: Address, tmp_path: Path
) -> None:
    opened = Bundle.open(bundle)
    said = {k: v for k, v in opened.record.items() if k not in ("format", "files", "sha256")}
    said["calibration"] = {**said["calibration"], "set_threshold": 0.999}
    write_bundle(tmp_path / "other", said, {name: opened.read(name) for name in opened.names})
    check = of_server(sartor.verify(tmp_path / "other", url=server.url, token="secret").to_json())
    assert not check["ok"]
    assert "set is" in check["detail"]
