"""A network of timm from the first fit to the last prediction, its weights from a hub's cache."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save, save_file
from torch import Tensor

import sartor
from sartor.api.opened import OpenedRun, load_checkpoint
from sartor.cli import main
from sartor.errors import Interrupted, ModelError, UnavailableError, UsageError
from sartor.events import Event, StepDone
from sartor.recipe import load_recipe

from ..models.hub import put_into_hub_cache

REASON = "needs timm and torchvision, and a torch that fits them: make test-timm"
timm = pytest.importorskip("timm", reason=REASON)

MODEL = "timm:mobilenetv4_conv_small"
REPOSITORY = "timm/mobilenetv4_conv_small.e2400_r224_in1k"
QUICK: dict[str, Any] = {"threads": 1, "check": False, "report": False, "progress": False}
STEPS: dict[str, Any] = {
    **QUICK,
    "epochs": 2,
    "batch_size": 8,
    "drop_last": True,
    "engine": "plain",
}


def weights() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(MODEL.partition(":")[2], pretrained=False)
        return {name: one.clone() for name, one in network.state_dict().items()}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub's cache with the weights of one network, drawn at random."""
    folder = tmp_path_factory.mktemp("hub")
    put_into_hub_cache(folder, REPOSITORY, save(weights()))
    return folder


@pytest.fixture(autouse=True)
def _caches(hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "sartor"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of 96x64, brighter in the channel of the class."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for index in range(45):
        name = ("red", "green", "blue")[index % 3]
        pixels = generator.integers(0, 150, (64, 96, 3), dtype=np.uint8)
        pixels[:, :, index % 3] += 100
        (folder / name).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def last(run: OpenedRun) -> dict[str, Tensor]:
    return load_checkpoint(run.folder, "last").weights


def test_features_of_cached_weights_and_every_verb_after(pictures: Path, tmp_path: Path) -> None:
    said: list[str] = []
    run = sartor.fit(
        pictures,
        model=MODEL,
        image_size=64,
        out=tmp_path / "run",
        on_event=lambda event: said.append(str(getattr(event, "text", ""))),
        **{**QUICK, "report": True},
    )
    recipe = run.recipe
    assert (recipe.training.transfer, recipe.model.weights_licence) == ("features", "Apache-2.0")
    assert recipe.preprocess.mean == (0.485, 0.456, 0.406)
    assert any("at revision aaaaaaaaaaaa: all 230 tensors" in line for line in said)
    assert not any("not used" in line for line in said)
    first = weights()
    for name, tensor in last(run).items():
        if name.startswith("body."):
            assert torch.equal(tensor, first[name.removeprefix("body.")])
    judged = sartor.evaluate(run)
    assert judged.accuracy > 0.8
    (answer,) = run.predict(next((pictures / "red").iterdir()))
    assert answer.label == "red"
    assert main.run(["summary", str(run.path)]) == 0
    assert (run.path / "report.html").is_file()
    again = sartor.fit(pictures, model=str(run.path), out=tmp_path / "more", **STEPS)
    assert again.recipe.model.model == MODEL
    assert again.recipe.model.weights_licence == "Apache-2.0"


def test_an_interrupted_run_ends_bit_for_bit(pictures: Path, tmp_path: Path) -> None:
    settings = {**STEPS, "image_size": 64, "model_kwargs": {"dropout": 0.2, "drop_path": 0.1}}
    whole = sartor.fit(pictures, model=MODEL, out=tmp_path / "whole", **settings)
    assert whole.recipe.training.transfer == "finetune"
    stopped: list[int] = []

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and not stopped:
            stopped.append(event.step)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        sartor.fit(pictures, model=MODEL, out=tmp_path / "cut", on_event=stop, **settings)
    resumed = sartor.resume(tmp_path / "cut", report=False)
    assert resumed.weights_sha256 == whole.weights_sha256


def test_a_frozen_body_keeps_every_bit(pictures: Path, tmp_path: Path) -> None:
    settings = {**STEPS, "image_size": 64, "model_kwargs": {"trained": "head"}}
    run = sartor.fit(pictures, model=MODEL, out=tmp_path / "run", **settings)
    first, after = weights(), last(run)
    for name, tensor in first.items():
        if not name.startswith("classifier."):
            assert torch.equal(after[f"body.{name}"], tensor), name


class TestBroughtWeights:
    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_a_file_is_taken_under_timms_names(
        self, pictures: Path, tmp_path: Path, suffix: str
    ) -> None:
        path = tmp_path / f"weights{suffix}"
        if suffix == ".pth":
            wrapped = {f"module.{name}": one for name, one in weights().items()}
            torch.save({"state_dict": wrapped, "epoch": 3}, path)
        else:
            save_file(weights(), path)
        said: list[str] = []
        run = sartor.fit(
            pictures,
            model=MODEL,
            weights=str(path),
            transfer="features",
            image_size=64,
            out=tmp_path / "run",
            on_event=lambda event: said.append(str(getattr(event, "text", ""))),
            **QUICK,
        )
        assert any("all 230 tensors taken" in line for line in said)
        assert any("not used: " in line and "classifier.weight" in line for line in said)
        assert run.recipe.model.weights_licence is None
        assert torch.equal(last(run)["body.conv_stem.weight"], weights()["conv_stem.weight"])

    def test_those_of_another_network_are_refused(self, pictures: Path, tmp_path: Path) -> None:
        path = tmp_path / "weights.safetensors"
        save_file(weights(), path)
        with pytest.raises(ModelError, match="are those of another network: of 100 tensors"):
            sartor.fit(pictures, model="timm:resnet18", weights=str(path), image_size=64, **STEPS)


class TestRefused:
    def test_a_closed_network_is_told_three_ways_at_once(self, pictures: Path) -> None:
        with pytest.raises(UnavailableError, match="Cannot fetch the weights of timm:resnet18"):
            sartor.fit(pictures, model="timm:resnet18", out="no", **QUICK)
        assert not Path("no").exists()

    def test_a_licence_that_forbids_is_accepted_by_name_and_kept(
        self, pictures: Path, tmp_path: Path, hub: Path
    ) -> None:
        with torch.random.fork_rng():
            network = timm.create_model("convnextv2_atto", pretrained=False)
        content = save({name: one.clone() for name, one in network.state_dict().items()})
        put_into_hub_cache(hub, "timm/convnextv2_atto.fcmae_ft_in1k", content)
        settings = {**QUICK, "image_size": 32}
        for accepted in (None, "apache-2.0"):
            with pytest.raises(UsageError, match="which forbids commercial use"):
                sartor.fit(
                    pictures, model="timm:convnextv2_atto", accept_licence=accepted, **settings
                )
        run = sartor.fit(
            pictures,
            model="timm:convnextv2_atto",
            accept_licence="cc-by-nc-4.0",
            out=tmp_path / "run",
            **settings,
        )
        kept = load_recipe(run.folder.recipe_path).model
        assert (kept.accept_licence, kept.weights_licence) == ("cc-by-nc-4.0", "cc-by-nc-4.0")
        for start in ({"model": str(run.path)}, {"weights": str(run.path), "model": kept.model}):
            later = sartor.fit(pictures, out=tmp_path / next(iter(start)), **start, **STEPS)
            assert later.recipe.model.weights_licence == "cc-by-nc-4.0"
        with pytest.raises(UsageError, match="forbids commercial use"):
            sartor.fit(
                pictures, model=str(run.path), accept_licence="mit", out=tmp_path / "no", **STEPS
            )
        # From random weights, there is nothing that a licence could forbid.
        free = sartor.fit(
            pictures,
            model="timm:convnextv2_atto",
            model_kwargs={"pretrained": False},
            out=tmp_path / "free",
            image_size=32,
            **STEPS,
        )
        assert free.recipe.model.weights_licence is None
