"""Networks of timm and torchvision against these libraries themselves."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn

from sartor.errors import ModelError, UnavailableError, UsageError
from sartor.models import hub_fetching
from sartor.models.backbones import BACKBONES, backbone_of, check_file, weights_path
from sartor.models.fetching import fetch
from sartor.models.libraries import RECOMMENDED, LibraryBackbone
from sartor.models.registry import build_model
from sartor.models.starting import StartingWeights, take_weights
from sartor.models.summary import summarize
from sartor.models.weight_files import read_weights

from .hub import REVISION, put_into_hub_cache, server, silent_server

REASON = "needs timm and torchvision, and a torch that fits them: make test-timm"
timm = pytest.importorskip("timm", reason=REASON)
torchvision = pytest.importorskip("torchvision", reason=REASON)
hub = pytest.importorskip("huggingface_hub", reason=REASON)

CLASSES = ["a", "b", "c"]
MOBILENET = "timm:mobilenetv4_conv_small"


def built(name: str, size: int = 64, channels: int = 3, **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, input_shape=(channels, size, size), num_classes=3, kwargs=kwargs)


def of_library(name: str) -> nn.Module:
    """The whole network as its library builds it, its weights drawn at random."""
    torch.manual_seed(1)
    library, _, plain = name.partition(":")
    if library == "timm":
        network: nn.Module = timm.create_model(plain, pretrained=False)
        return network.eval()
    network = torchvision.models.get_model(plain, weights=None)
    return network.eval()


def features_of(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What the network's own last linear layer is given."""
    last = [one for one in network.modules() if list(one.parameters(recurse=False))][-1]
    seen: list[torch.Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(images)
    handle.remove()
    return seen[0]


def start(network: nn.Module, tensors: Any, **more: Any) -> list[str]:
    weights = StartingWeights(tensors=tensors, sha256="", origin="file", **more)
    return take_weights(network, weights, CLASSES)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (MOBILENET, 64),
        ("timm:repvit_m0_9", 64),
        ("timm:tiny_vit_5m_224", 64),
        ("timm:test_vit", 160),
        ("timm:convnextv2_atto", 64),
        ("torchvision:mobilenet_v3_small", 64),
        ("torchvision:shufflenet_v2_x0_5", 64),
    ],
)
def test_features_are_what_the_librarys_own_head_is_given(name: str, size: int) -> None:
    source, target = of_library(name), built(name, size).eval()
    said = start(target, source.state_dict(), whole=True)
    assert said[0].startswith("starts from file: all ")
    images = torch.rand(2, 3, size, size)
    if name == "timm:repvit_m0_9":  # two heads, on the same features
        with torch.no_grad():
            expected = source.forward_head(source.forward_features(images), pre_logits=True)
    else:
        expected = features_of(source, images)
    with torch.no_grad():
        torch.testing.assert_close(target.features(images), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", sorted(RECOMMENDED))
def test_the_registrys_facts_are_the_librarys(name: str) -> None:
    known, own = RECOMMENDED[name], timm.get_pretrained_cfg(name.partition(":")[2])
    assert known.licence is not None
    assert known.licence.lower() == own.license
    assert (known.mean, known.std, known.crop) == (own.mean, own.std, own.crop_pct)
    assert (known.resampling, known.repository) == (own.interpolation, own.hf_hub_id)
    assert known.fixed_size == own.fixed_input_size
    assert known.image_size <= own.input_size[-1]
    network = built(name, known.image_size)
    summary = summarize(network, (3, known.image_size, known.image_size))
    head = network.head
    assert head.in_features == known.features
    assert summary.parameters - 3 * (head.in_features + 1) == known.parameters
    assert summary.multiply_adds - 3 * head.in_features == known.multiply_adds


def test_a_name_without_its_tag_is_the_recommended_one() -> None:
    found = backbone_of(MOBILENET)
    assert found is not None
    assert (found.name, found.parameters) == (MOBILENET, 2_493_024)


def test_position_embeddings_are_resampled_as_timm_does() -> None:
    name = "timm:test_vit"
    source, target = of_library(name), built(name, 96).eval()
    assert "converted by timm" in start(target, source.state_dict(), whole=True)[0]
    expected = timm.create_model(
        "test_vit",
        pretrained=True,
        pretrained_cfg_overlay={"state_dict": source.state_dict()},
        img_size=96,
        num_classes=0,
    ).eval()
    images = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(target.features(images), expected(images), rtol=0, atol=0)


class TestMapping:
    def test_efficientnet_lite_of_another_origin_gives_equal_logits(self) -> None:
        """Through its order of layers, into timm's network with TensorFlow's padding."""
        reference = pytest.importorskip("efficientnet_lite_pytorch", reason=REASON)
        path = weights_path(BACKBONES["efficientnet-lite0"])
        assert path is not None
        tensors = read_weights(path)
        network = built("timm:tf_efficientnet_lite0", 96).eval()
        assert "by the order of the layers" in start(network, tensors, in_order=True)[0]
        expected = reference.EfficientNet.from_name("efficientnet-lite0").eval()
        expected.load_state_dict(tensors)
        images = torch.rand(2, 3, 96, 96)
        head = tensors["_fc.weight"], tensors["_fc.bias"]
        with torch.no_grad():
            logits = nn.functional.linear(network.features(images), *head)
            torch.testing.assert_close(logits, expected(images), rtol=1e-4, atol=1e-4)

    def test_torchvisions_weights_fit_timms_network_and_the_other_way(self) -> None:
        images = torch.rand(1, 3, 64, 64)
        for source, target in (("timm", "torchvision"), ("torchvision", "timm")):
            own = of_library(f"{source}:efficientnet_b0")
            network = built(f"{target}:efficientnet_b0").eval()
            assert "by the order" in start(network, own.state_dict(), in_order=True)[0]
            with torch.no_grad():
                torch.testing.assert_close(network.features(images), features_of(own, images))
        same = of_library("torchvision:resnet18").state_dict()
        assert "all 100 tensors taken" in start(built("timm:resnet18"), same)[0]

    def test_another_architecture_is_refused_with_counts(self) -> None:
        tensors = of_library("torchvision:resnet18").state_dict()
        with pytest.raises(ModelError, match="of 230 tensors") as caught:
            start(built(MOBILENET), tensors, in_order=True)
        assert "missing body.conv_stem.weight" in caught.value.message

    def test_gray_from_colour_is_as_gray_in_three_channels(self) -> None:
        source = of_library(MOBILENET).state_dict()
        one, three = built(MOBILENET, channels=1).eval(), built(MOBILENET).eval()
        assert any("added up for gray (body.conv_stem.weight)" in s for s in start(one, source))
        start(three, source)
        images = torch.rand(2, 1, 64, 64)
        with torch.no_grad():
            gray, colour = one.features(images), three.features(images.expand(-1, 3, -1, -1))
        torch.testing.assert_close(gray, colour, rtol=1e-3, atol=1e-5)
        assert built("torchvision:resnet18", channels=1)(images).shape == (2, 3)


class TestBadNames:
    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("timm:mobilenetv4_conv_smal", "mobilenetv4_conv_small"),
            ("torchvision:resnet19", "resnet18"),
            ("timm:resnet18.a1_in2k", "resnet18.a1_in1k"),
            ("torchvision:resnet18.IMAGENET1K_V9", "resnet18.IMAGENET1K_V1"),
            ("timm:hf-hub:org/name", "its names"),
            ("timm:", "its names"),
        ],
    )
    def test_a_typo_names_what_is_near(self, name: str, near: str) -> None:
        with pytest.raises(UsageError) as caught:
            backbone_of(name)
        with pytest.raises(UsageError):
            built(name)
        assert near.lower() in str(caught.value).lower()

    def test_a_size_that_the_network_cannot_take(self) -> None:
        with pytest.raises(ModelError, match="cannot take images of 3x64x64") as caught:
            built("torchvision:vit_b_16")
        assert "--image-size" in caught.value.hint

    def test_a_network_without_a_linear_head(self) -> None:
        with pytest.raises(ModelError, match="is a Conv2d, not a linear one"):
            built("torchvision:squeezenet1_1")


class TestHub:
    @pytest.fixture
    def cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        return tmp_path / "hub"

    @pytest.fixture
    def content(self) -> bytes:
        return save({"a": torch.ones(3)})

    def backbone(self) -> LibraryBackbone:
        found = backbone_of(MOBILENET)
        assert isinstance(found, LibraryBackbone)
        return found

    def test_a_cache_made_by_hand_is_read_as_the_hub_reads_it(
        self, cache: Path, content: bytes
    ) -> None:
        repository = self.backbone().repository
        assert repository is not None
        path = put_into_hub_cache(cache, repository, content)
        found = hub.try_to_load_from_cache(repository, "model.safetensors", cache_dir=cache)
        assert Path(str(found)) == path == weights_path(self.backbone())

    def test_what_was_fetched_is_not_asked_for_again(
        self, cache: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repository = self.backbone().repository
        sha256 = hashlib.sha256(content).hexdigest()
        place = f"/{repository}/resolve/main/model.safetensors"
        headers = {
            "X-Repo-Commit": REVISION,
            "ETag": f'"{sha256}"',
            "X-Linked-ETag": f'"{sha256}"',
            "X-Linked-Size": str(len(content)),
        }
        said: list[str] = []
        files: dict[str, Any] = {place: (content, headers)}
        files[place.replace("main", REVISION)] = (content, headers)
        with server(files) as (url, asked):
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
            monkeypatch.setattr(
                "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
                url + "/{repo_id}/resolve/{revision}/{filename}",
            )
            path = fetch(MOBILENET, note=said.append)
            assert asked
            before = len(asked)
            assert fetch(MOBILENET, note=said.append) == path
            assert len(asked) == before
        check_file(self.backbone(), path)
        assert path.read_bytes() == content
        assert path.is_relative_to(cache)
        assert str(repository) in said[0]
        assert REVISION[:12] in said[0]
        assert "no revision is pinned" in said[0]
        assert "already" in said[1]

    def test_a_hub_that_says_nothing_is_given_up(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usual = hub_fetching._SILENCE_SECONDS
        monkeypatch.setattr(hub_fetching, "_SILENCE_SECONDS", 0.3)
        began = time.monotonic()
        with silent_server() as url:
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
            monkeypatch.setattr(
                "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
                url + "/{repo_id}/resolve/{revision}/{filename}",
            )
            with pytest.raises(UnavailableError, match="timed out") as caught:
                fetch(MOBILENET, note=lambda _: None)
        assert time.monotonic() - began < usual
        ways = ("HF_ENDPOINT", str(cache / "models--timm--mobilenetv4"), "--weights FILE")
        assert all(way in caught.value.hint for way in ways)

    def test_a_hub_that_is_switched_off_is_not_asked(self, tmp_path: Path) -> None:
        program = f"from sartor.models.fetching import fetch; fetch('{MOBILENET}', note=print)"
        with server({}) as (url, asked):
            environment = {
                **os.environ,
                "HF_HUB_OFFLINE": "1",
                "HF_ENDPOINT": url,
                "HF_HUB_CACHE": str(tmp_path / "hub"),
            }
            ended = subprocess.run(
                [sys.executable, "-c", program], env=environment, capture_output=True, text=True
            )
            assert not asked
        assert "UnavailableError: Cannot fetch" in ended.stderr
        assert "(HF_HUB_OFFLINE is set)" in ended.stderr


def test_licences_that_restrict_are_found_in_timms_metadata() -> None:
    for name, licence in (
        ("timm:convnextv2_atto", "cc-by-nc-4.0"),
        ("timm:fastvit_mci0.apple_mclip", "apple-amlr"),
        ("timm:vit_small_patch16_dinov3", "dinov3-license"),
        ("torchvision:regnet_y_16gf.IMAGENET1K_SWAG_E2E_V1", "facebookresearch/SWAG"),
    ):
        with pytest.raises(UsageError, match="under the licence") as caught:
            fetch(name, note=lambda _: None)
        assert f"--accept-licence {licence}" in caught.value.hint
