"""Networks of timm and torchvision by name, without these libraries."""

from __future__ import annotations

import ast
import hashlib
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sartor
from sartor.api.exporting import _licence_of_weights
from sartor.errors import CorruptDataError, MissingExtraError, UnavailableError, UsageError
from sartor.models import fetching, hub_cache, hub_fetching
from sartor.models.backbones import check_file, is_available, names_backbone, weights_path
from sartor.models.libraries import RECOMMENDED, LibraryBackbone, imported
from sartor.models.licences import normalised, refuse_unless_accepted, restriction
from sartor.models.registry import resolve_kwargs
from sartor.recipe import Recipe

from .hub import put_into_hub_cache, server, silent_server

SOURCE = Path(sartor.__file__).parent
MOBILENET = RECOMMENDED["timm:mobilenetv4_conv_small.e2400_r224_in1k"]
OPTIONAL = ("timm", "torchvision", "huggingface_hub")


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of each hub."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def by_url(url: str, content: bytes = b"weights", digits: int = 8) -> LibraryBackbone:
    """A network whose file's name ends with the first digits of its SHA-256."""
    sha256 = hashlib.sha256(content).hexdigest()
    return replace(MOBILENET, repository=None, url=f"{url}/net-{sha256[:digits]}.pth")


class TestImports:
    def test_no_library_is_imported_before_it_is_named(self) -> None:
        found = 0
        for path in SOURCE.rglob("*.py"):
            text = path.read_text("utf-8")
            if not any(one in text for one in OPTIONAL):
                continue
            tree = ast.parse(text)
            late = {
                node
                for function in ast.walk(tree)
                if isinstance(function, ast.FunctionDef)
                for node in ast.walk(function)
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    modules = [one.name for one in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    modules = [str(node.module)]
                else:
                    continue
                if {one.partition(".")[0] for one in modules} & set(OPTIONAL):
                    found += 1
                    assert node in late, f"{path}:{node.lineno}"
        assert found >= 4

    @pytest.mark.parametrize("model", ["timm:resnet18", "torchvision:resnet18"])
    def test_without_the_library_an_error_names_the_extra(
        self, model: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in OPTIONAL:
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError, match=r"pip install 'sartor\[timm\]'"):
            imported(model.partition(":")[0])
        data = sartor.load("digits")
        with pytest.raises(MissingExtraError, match="which is not installed"):
            sartor.fit(data, model=model, out="no", progress=False)
        assert not Path("no").exists()

    def test_settings_and_names_need_no_library(self) -> None:
        settings, problems = resolve_kwargs("timm:anything", {"drop_path": 0.1})
        assert not problems
        assert settings == {"pretrained": True, "trained": "all", "dropout": 0.0, "drop_path": 0.1}
        assert resolve_kwargs("torchvision:anything", {"drop_path": 0.1})[1]
        assert names_backbone("timm:anything")
        assert not names_backbone("resnet8")


class TestCaches:
    def test_a_file_is_found_by_its_branch_else_by_any_revision(self, caches: Path) -> None:
        assert weights_path(MOBILENET) is None
        assert MOBILENET.repository is not None
        old = put_into_hub_cache(
            caches / "hub", MOBILENET.repository, b"old", revision="b" * 40, main=False
        )
        assert weights_path(MOBILENET) == old
        new = put_into_hub_cache(caches / "hub", MOBILENET.repository, b"new")
        assert weights_path(MOBILENET) == new
        assert hub_cache.revision_of(new) == "a" * 40
        pinned = replace(MOBILENET, revision="b" * 40)
        assert weights_path(pinned) == old
        assert weights_path(replace(MOBILENET, revision="c" * 40)) is None

    @pytest.mark.parametrize(
        ("variables", "place"),
        [
            ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
            ({"HF_HOME": "/b"}, "/b/hub"),
            ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
            ({}, "/home/me/.cache/huggingface/hub"),
        ],
    )
    def test_the_hubs_own_variables_say_where(
        self, variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", "/home/me")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert hub_cache.hub_folder() == Path(place)

    @pytest.mark.usefixtures("caches")
    def test_torchs_own_variable_says_where(self) -> None:
        import torch

        assert hub_cache.torch_folder() == Path(torch.hub.get_dir()) / "checkpoints"

    def test_half_a_file_is_not_what_its_place_names(self, caches: Path) -> None:
        assert MOBILENET.repository is not None
        path = put_into_hub_cache(caches / "hub", MOBILENET.repository, b"whole")
        check_file(MOBILENET, path)
        path.resolve().write_bytes(b"wh")
        with pytest.raises(CorruptDataError, match="not the registered ones") as caught:
            check_file(MOBILENET, path)
        assert f"sartor models fetch {MOBILENET.name}" in caught.value.hint


class TestFetching:
    """From the server that a weights' address names; the hub of models: test_library_networks."""

    def test_a_file_is_fetched_once_and_verified(self, caches: Path) -> None:
        said: list[str] = []
        name = Path(str(by_url("").url)).name
        files: dict[str, tuple[bytes, dict[str, str]]] = {f"/{name}": (b"weights", {})}
        with server(files) as (url, asked):
            backbone = by_url(url)
            path = hub_fetching.from_hub(backbone, None, said.append)
            assert asked == [f"GET /{name}"]
        assert path == caches / "torch" / "hub" / "checkpoints" / name == weights_path(backbone)
        assert str(path.parent) in said[0]
        check_file(backbone, path)

    @pytest.mark.usefixtures("caches")
    def test_another_file_is_not_kept(self) -> None:
        with server({}) as (url, _), pytest.raises(UnavailableError, match="404"):
            hub_fetching.from_hub(by_url(url), None, lambda _: None)
        name = Path(str(by_url("").url)).name
        with (
            server({f"/{name}": (b"other weights", {})}) as (url, _),
            pytest.raises(UnavailableError, match="not the file that its name says"),
        ):
            hub_fetching.from_hub(by_url(url), None, lambda _: None)
        assert not is_available(by_url(""))

    def test_a_hub_that_says_nothing_is_given_up(
        self, caches: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usual = hub_fetching._SILENCE_SECONDS
        monkeypatch.setattr(hub_fetching, "_SILENCE_SECONDS", 0.3)
        began = time.monotonic()
        with silent_server() as url, pytest.raises(UnavailableError, match="timed out") as caught:
            hub_fetching.from_hub(by_url(url), None, lambda _: None)
        assert time.monotonic() - began < usual
        ways = ("HTTPS_PROXY", f"copy {caches / 'torch'}", "--weights FILE.safetensors")
        assert all(way in caught.value.hint for way in ways)


class TestLicences:
    @pytest.mark.parametrize("name", ["apache-2.0", "Apache-2.0", "mit", "bsd-3-clause", None, ""])
    def test_free_and_unstated_ones_are_taken(self, name: str | None) -> None:
        licence = normalised(name)
        assert restriction(licence) is None
        refuse_unless_accepted("x", licence, None)

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("cc-by-nc-4.0", "forbids commercial use"),
            ("apple-amlr", "allows only research"),
            ("dinov3-license", "has terms of its own"),
            ("anything-new", "has terms of its own"),
        ],
    )
    def test_others_only_where_they_are_named(self, name: str, words: str) -> None:
        with pytest.raises(UsageError, match=words) as caught:
            refuse_unless_accepted("timm:x", normalised(name), None)
        assert f"--accept-licence {name}" in caught.value.hint
        refuse_unless_accepted("timm:x", normalised(name), name)
        with pytest.raises(UsageError, match="not mit"):
            refuse_unless_accepted("timm:x", normalised(name), "mit")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "timm:x", "weights_licence": "cc-by-nc-4.0"}, "timm:x, cc-by-nc-4.0"),
        ({"model": "lenet", "weights_licence": "gemma"}, "lenet, gemma"),
        ({"model": "timm:x"}, "not stated"),
        ({"model": "efficientnet-lite0"}, "Apache-2.0"),
        ({"model": "efficientnet-lite0", "model_kwargs": {"pretrained": False}}, "not stated"),
        ({"model": "efficientnet-lite0", "weights": "/my/file.pth"}, "not stated"),
    ],
)
def test_a_bundle_says_the_licence_of_the_weights(settings: dict[str, Any], words: str) -> None:
    found = _licence_of_weights(Recipe().with_settings(settings))
    assert found.endswith(words)


def test_a_typo_in_the_librarys_name_is_an_unknown_model() -> None:
    with pytest.raises(UsageError, match="timm:NAME"):
        sartor.fit(sartor.load("digits"), model="tim:resnet18", out="no", progress=False)
    with pytest.raises(UsageError, match="pretrained network"):
        fetching.fetch("tim:resnet18", note=lambda _: None)
