"""Training from weights that were there before: pretrained ones, a file's, those of a run."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import sartor
from sartor.api.opened import OpenedRun, load_checkpoint
from sartor.api.starting import as_the_weights_want
from sartor.data.dataset import Dataset
from sartor.errors import (
    CheckpointError,
    Interrupted,
    ModelError,
    RecipeError,
    RunError,
    UnavailableError,
    UsageError,
)
from sartor.events import Event, StepDone
from sartor.models import lenet
from sartor.models.backbones import BACKBONES, pretrained_weights
from sartor.models.starting import StartingWeights, take_weights
from sartor.recipe import Recipe

LITE0 = "efficientnet-lite0"
SMALL: dict[str, Any] = {
    "image_size": 32,
    "epochs": 2,
    "batch_size": 8,
    "threads": 1,
    "engine": "plain",
    "check": False,
    "report": False,
    "progress": False,
}


def colours(classes: tuple[str, ...] = ("blue", "green", "red"), count: int = 24) -> Dataset:
    """Noise, brighter in the channel of the class."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % len(classes)
    images = generator.integers(0, 128, (count, 3, 32, 32), dtype=np.uint8)
    channel = {"red": 0, "green": 1, "blue": 2}
    for image, label in zip(images, labels, strict=True):
        image[channel.get(classes[label], 0)] += 127
    return Dataset(images, labels.astype(np.int64), classes, name="colours")


def gone(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """The pretrained weights are not on this machine any more."""
    monkeypatch.setenv("SARTOR_HOME", str(home))
    monkeypatch.setattr("sartor.models.backbones._packaged_path", lambda _: None)


def weights_of(run: OpenedRun, which: str = "last") -> dict[str, Tensor]:
    return load_checkpoint(run.folder, which).weights


class TestPretrained:
    def test_preprocess_is_that_of_the_weights_where_nothing_is_said(self) -> None:
        backbone = BACKBONES[LITE0]
        recipe = Recipe().with_settings({"model": LITE0})
        found = as_the_weights_want(recipe, {}).preprocess
        assert (found.image_size, found.channels) == ((224, 224), 3)
        assert (found.mean, found.std) == (backbone.mean, backbone.std)
        given = {"image_size": (96,), "mean": (0.1,), "channels": 1}
        found = as_the_weights_want(recipe.with_settings(given), given).preprocess
        assert (found.image_size, found.channels, found.mean) == ((96,), 1, (0.1,))
        assert found.std == backbone.std[:1]

    def test_random_weights_take_the_images_as_they_are(self) -> None:
        recipe = Recipe().with_settings({"model": LITE0, "model_kwargs": {"pretrained": False}})
        assert as_the_weights_want(recipe, {}) == recipe

    def test_an_interrupted_run_ends_bit_for_bit_without_the_package(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = sartor.fit(colours(), model=LITE0, out=tmp_path / "whole", **SMALL)
        recipe = whole.recipe
        assert recipe.model.weights_sha256 == BACKBONES[LITE0].file_sha256
        assert recipe.training.lr < 0.001
        first = pretrained_weights(BACKBONES[LITE0])["stem.conv.weight"]
        change = (weights_of(whole)["stem.conv.weight"] - first).abs().max()
        assert 0 < change < 0.02

        stopped: list[int] = []

        def stop(event: Event) -> None:
            if isinstance(event, StepDone) and not stopped:
                stopped.append(event.step)
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(Interrupted):
            sartor.fit(colours(), model=LITE0, out=tmp_path / "stopped", on_event=stop, **SMALL)
        gone(monkeypatch, tmp_path / "home")
        resumed = sartor.resume(tmp_path / "stopped", data=colours(), report=False)
        assert resumed.weights_sha256 == whole.weights_sha256
        # Weights that are named are fetched; here from nowhere.
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        with pytest.raises(UnavailableError, match="No matching distribution"):
            sartor.fit(colours(), model=LITE0, out=tmp_path / "more", **SMALL)
        assert not (tmp_path / "more").exists()

    def test_gray_images_through_one_channel_are_as_gray_in_three(self, tmp_path: Path) -> None:
        gray = colours()
        images = np.ascontiguousarray(gray.images[:, :1])
        one, three = (
            sartor.fit(
                Dataset(images, gray.labels, gray.classes, name="gray"),
                model=LITE0,
                channels=channels,
                model_kwargs={"trained": "head"},
                out=tmp_path / str(channels),
                **{**SMALL, "epochs": 1},
            )
            for channels in (1, 3)
        )
        assert weights_of(one)["stem.conv.weight"].shape[1] == 1
        batch = torch.rand(2, 1, 32, 32)
        with torch.no_grad():
            found, expected = (
                one.network("last").features(batch),
                three.network("last").features(batch.expand(-1, 3, -1, -1)),
            )
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)

    def test_too_little_memory_is_said_before_the_first_step(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sartor.inspection.probes.memory.total_memory", lambda: 500 * 2**20)
        settings = {**SMALL, "image_size": 224, "batch_size": 16}
        with pytest.raises(ModelError, match="16 images of 3x224x224 takes at least") as caught:
            sartor.fit(colours(), model=LITE0, out=tmp_path / "no", **settings)
        assert "--batch-size to 8," in caught.value.hint
        assert not (tmp_path / "no").exists()

    def test_a_frozen_backbone_keeps_every_bit(self, tmp_path: Path) -> None:
        run = sartor.fit(
            colours(), model=LITE0, model_kwargs={"trained": "head"}, out=tmp_path / "run", **SMALL
        )
        first, last = pretrained_weights(BACKBONES[LITE0]), weights_of(run)
        assert all(torch.equal(last[name], first[name]) for name in last if "head" not in name)
        assert last["head.weight"].shape == (3, 1280)


class TestFiles:
    @pytest.fixture
    def trained(self, tmp_path: Path) -> OpenedRun:
        return sartor.fit(colours(), model="lenet", out=tmp_path / "before", **SMALL)

    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_a_file_is_taken_and_its_head_is_not(
        self, trained: OpenedRun, tmp_path: Path, suffix: str
    ) -> None:
        weights, path = weights_of(trained), tmp_path / f"weights{suffix}"
        if suffix == ".pth":
            torch.save({"state_dict": {f"module.{k}": v for k, v in weights.items()}}, path)
        else:
            save_file(weights, path)
        said: list[str] = []
        run = sartor.fit(
            colours(),
            model="lenet",
            weights=str(path),
            out=tmp_path / "after",
            on_event=lambda event: said.append(str(getattr(event, "text", ""))),
            **{**SMALL, "lr": 1e-12},
        )
        after = weights_of(run)
        for name, tensor in weights.items():
            near = torch.allclose(after[name], tensor, atol=1e-6)
            assert near == (len(tensor) != 3), name
        assert run.recipe.model.weights == str(path)
        assert any("its head is new" in line for line in said)

    def test_weights_of_another_network_are_refused_with_counts(
        self, trained: OpenedRun, tmp_path: Path
    ) -> None:
        path = tmp_path / "lenet.safetensors"
        save_file(weights_of(trained), path)
        with pytest.raises(ModelError, match="37 tensors 1 have a namesake there and 0 the same"):
            sartor.fit(colours(), model="resnet8", weights=str(path), out=tmp_path / "no", **SMALL)
        assert not (tmp_path / "no").exists()

    def test_weights_that_are_not_finite_are_refused_with_names(
        self, trained: OpenedRun, tmp_path: Path
    ) -> None:
        weights = weights_of(trained)
        assert list(weights) == sorted(weights)
        name = "conv1.weight"
        weights[name][0] = float("nan")
        save_file(weights, tmp_path / "nan.safetensors")
        with pytest.raises(ModelError, match=rf"not finite in 1 of \d+ tensors: {name}"):
            sartor.fit(
                colours(),
                model="lenet",
                weights=str(tmp_path / "nan.safetensors"),
                out=tmp_path / "no",
                **SMALL,
            )
        assert not (tmp_path / "no").exists()

    @pytest.mark.parametrize("classes", [("blue", "green", "red"), ("red", "violet")])
    def test_a_head_that_is_not_finite_is_refused_where_its_rows_are_kept(
        self, classes: tuple[str, ...]
    ) -> None:
        learnt = lenet.build(input_shape=(1, 32, 32), num_classes=3)
        tensors = learnt.state_dict()
        *_, head = (name for name in tensors if name.endswith("bias"))
        tensors[head][2] = float("inf")
        learnt_classes = ("blue", "green", "red")
        weights = StartingWeights(
            tensors=tensors, sha256="", origin="a run", classes=learnt_classes
        )
        network = lenet.build(input_shape=(1, 32, 32), num_classes=len(classes))
        with pytest.raises(ModelError, match=rf"not finite in 1 of \d+ tensors: {head}"):
            take_weights(network, weights, classes)

    def test_a_changed_file_is_not_what_the_recipe_was_made_with(
        self, trained: OpenedRun, tmp_path: Path
    ) -> None:
        path, settings = tmp_path / "w.safetensors", {**SMALL, "model": "lenet"}
        save_file(weights_of(trained), path)
        run = sartor.fit(colours(), weights=str(path), out=tmp_path / "one", **settings)
        save_file({k: v + 1 for k, v in weights_of(trained).items()}, path)
        with pytest.raises(RecipeError, match="not the weights that the recipe was made with"):
            sartor.fit(
                colours(), recipe=run.folder.recipe_path, out=tmp_path / "two", progress=False
            )

    @pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\x80\x04K\x07."])
    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_what_is_no_file_of_weights_is_said_in_a_sentence(
        self, tmp_path: Path, suffix: str, content: bytes
    ) -> None:
        path = tmp_path / f"broken{suffix}"
        with pytest.raises(UsageError, match="no file of weights"):
            sartor.fit(colours(), model="lenet", weights=str(path), **SMALL)
        path.write_bytes(content)
        with pytest.raises(sartor.SartorError) as caught:
            sartor.fit(colours(), model="lenet", weights=str(path), **SMALL)
        assert str(path) in caught.value.message
        assert caught.value.hint


class TestBeforePictures:
    """Weights that will not do are refused before a picture is prepared."""

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr("sartor.data.sources.prepare", None)
        for name in ("a", "b"):
            (tmp_path / "set" / name).mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (50, 50), (number, 0, 0)).save(
                    tmp_path / "set" / name / f"{number}.png"
                )
        return tmp_path / "set"

    @pytest.mark.parametrize(
        "settings",
        [
            {"model": LITE0},
            {"model": "lenet", "image_size": 32, "channels": 3},
            {"model": "resnet8"},
        ],
    )
    def test_those_of_another_network(self, folder: Path, settings: dict[str, Any]) -> None:
        path = folder.parent / "mlp.safetensors"
        save_file({"hidden.weight": torch.zeros(9, 9)}, path)
        with pytest.raises(ModelError, match="those of another network"):
            sartor.fit(folder, weights=path, **settings)

    def test_those_whose_size_is_not_known_yet_get_to_the_pictures(self, folder: Path) -> None:
        """Most of this network's weights depend on the size of its input."""
        run = sartor.fit(colours(), model="mlp", out=folder.parent / "run", **SMALL)
        path = folder.parent / "mlp.safetensors"
        save_file(weights_of(run), path)
        with pytest.raises(TypeError, match="not callable"):
            sartor.fit(folder, model="mlp", weights=path)

    def test_those_of_a_network_that_the_pictures_decide(self, tmp_path: Path) -> None:
        """Colour pictures take a convnet; nothing that is known before says so."""
        run = sartor.fit(colours(), out=tmp_path / "run", **SMALL)
        assert run.recipe.model.model == "convnet"
        save_file(weights_of(run), tmp_path / "convnet.safetensors")
        weights = str(tmp_path / "convnet.safetensors")
        again = sartor.fit(colours(), weights=weights, out=tmp_path / "again", **SMALL)
        assert again.recipe.model.model == "convnet"

    def test_a_damaged_file(self, folder: Path) -> None:
        path = folder.parent / "cut.safetensors"
        save_file({"a": torch.zeros(9, 9)}, path)
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(sartor.SartorError, match=r"cut\.safetensors"):
            sartor.fit(folder, model="lenet", weights=path)

    def test_a_run_without_a_whole_checkpoint(self, folder: Path) -> None:
        run = sartor.fit(colours(), model="lenet", out=folder.parent / "run", **SMALL)
        for path in (run.path / "checkpoints").iterdir():
            path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(CheckpointError):
            sartor.fit(folder, weights=run.path)

    def test_those_that_fit_get_to_the_pictures(self, folder: Path) -> None:
        run = sartor.fit(colours(), model="lenet", out=folder.parent / "run", **SMALL)
        with pytest.raises(TypeError, match="not callable"):
            sartor.fit(folder, weights=run.path)


class TestRuns:
    def test_a_run_is_a_model_and_its_head_is_matched_by_name(self, tmp_path: Path) -> None:
        before = sartor.fit(
            colours(), model="lenet", model_kwargs={"hidden": (20,)}, out=tmp_path / "a", **SMALL
        )
        learnt = load_checkpoint(before.folder, "best")
        run = sartor.fit(
            colours(("red", "yellow", "blue")),
            model=str(tmp_path / "a"),
            out=tmp_path / "b",
            **{**SMALL, "lr": 1e-12},
        )
        after = weights_of(run)
        assert run.recipe.model.model_kwargs == before.recipe.model.model_kwargs
        assert run.recipe.preprocess.mean == before.recipe.preprocess.mean
        assert run.recipe.model.weights == str(tmp_path / "a")
        body = [name for name, tensor in after.items() if len(tensor) != 3]
        (weight,) = [name for name, tensor in after.items() if tensor.shape == (3, 20)]
        assert all(torch.allclose(after[name], learnt.weights[name], atol=1e-6) for name in body)
        rows, old = after[weight], learnt.weights[weight]
        at = run.classes.index
        torch.testing.assert_close(rows[at("red")], old[learnt.classes.index("red")])
        torch.testing.assert_close(rows[at("blue")], old[learnt.classes.index("blue")])
        assert not torch.allclose(rows[at("yellow")], old[learnt.classes.index("green")], atol=1e-4)

    def test_the_weights_of_a_run_bring_its_network(self, tmp_path: Path) -> None:
        """Colour pictures would otherwise get the network of the recipe for these."""
        sartor.fit(
            colours(), model="lenet", model_kwargs={"hidden": (20,)}, out=tmp_path / "a", **SMALL
        )
        named = {"model": str(tmp_path / "a")}, {"weights": str(tmp_path / "a")}
        runs = [
            sartor.fit(colours(), out=tmp_path / f"b{number}", **how, **SMALL)
            for number, how in enumerate(named)
        ]
        assert runs[1].recipe.model.model == "lenet"
        assert runs[0].recipe == runs[1].recipe
        assert runs[0].weights_sha256 == runs[1].weights_sha256
        with pytest.raises(RunError, match="nowhere"):
            sartor.fit(colours(), weights="nowhere", out=tmp_path / "no", **SMALL)

    def test_a_path_that_is_no_run_says_what_a_model_is(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="There is no run at") as caught:
            sartor.fit(colours(), model=f"{tmp_path}/nothing", out=tmp_path / "no", **SMALL)
        assert "sartor models" in caught.value.hint
        with pytest.raises(UsageError, match="does not say of which network"):
            sartor.fit(colours(), model=f"{tmp_path}/w.pth", out=tmp_path / "no", **SMALL)

    def test_a_typo_names_the_nearest_model(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match='did you mean "efficientnet-lite0"'):
            sartor.fit(colours(), model="eficientnet-lite0", out=tmp_path / "no", **SMALL)
