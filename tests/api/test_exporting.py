"""A bundle of a run: it says what the run says, by itself, and tells nothing of this machine."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import sartor
from sartor.api.looks import looks_of
from sartor.bundle.format import Bundle
from sartor.data.dataset import Dataset
from sartor.errors import (
    BundleError,
    DataError,
    ExportError,
    MissingExtraError,
    UsageError,
)

QUICK: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 50,
    "threads": 1,
    "engine": "plain",
    "check": False,
    "report": False,
    "progress": False,
}

_OF_EPOCHS = ("epochs", "batch_size", "engine")


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> sartor.Exported:
    """`trained` as a bundle with all parts."""
    return sartor.export(trained, tmp_path_factory.mktemp("exported") / "bundle", program=True)


@pytest.fixture(scope="module")
def few(digits: Dataset) -> Dataset:
    return Dataset(digits.images[:300], digits.labels[:300], digits.classes, name="few")


def images_of(digits: Dataset) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return digits.images[100:170]


class TestWhatItSays:
    @pytest.mark.parametrize("runtime", ["onnx", "torch", "program"])
    def test_the_same_as_the_run(
        self, runtime: str, exported: sartor.Exported, trained: Path, digits: Dataset
    ) -> None:
        of_run = sartor.Predictor(trained, calibrated=True)
        of_bundle = sartor.Predictor(exported.path, runtime=runtime)
        images = images_of(digits)
        expected, found = of_run.outputs(images), of_bundle.outputs(images)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
        np.testing.assert_allclose(found.novelty, expected.novelty, rtol=1e-3, atol=1e-3)  # type: ignore[arg-type]
        assert of_bundle.labels(images) == of_run.labels(images)
        assert of_bundle.classes == of_run.classes
        assert of_bundle.calibration.to_json() == of_run.calibration.to_json()
        assert of_bundle.runtime == runtime

    def test_it_needs_neither_the_run_nor_pytorch(
        self, exported: sartor.Exported, tmp_path: Path
    ) -> None:
        """In a process of its own, which then tells what it has imported."""
        import subprocess

        copy = shutil.copytree(exported.path, tmp_path / "elsewhere")
        lines = (
            "import sys, numpy as np, sartor",
            f"predictor = sartor.Predictor({str(copy)!r})",
            "print(predictor.labels(np.zeros((2, 8, 8), np.uint8)), 'torch' in sys.modules)",
        )
        answer = subprocess.run(
            [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
        )
        assert answer.stdout.endswith("] False\n")

    def test_pictures_and_arrays_of_every_order(self, exported: sartor.Exported) -> None:
        predictor = sartor.Predictor(exported.path)
        pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
        expected = predictor.probabilities(pixels)
        for images in (pixels[:, None], pixels[..., None]):
            np.testing.assert_array_equal(predictor.probabilities(images), expected)
        assert predictor.probabilities(pixels[:0]).shape == (0, 10)
        np.testing.assert_array_equal(predictor.probabilities(pixels / 255), expected)
        with pytest.raises(DataError, match="neither bytes nor floats"):
            predictor.probabilities(pixels * 1.5)
        many = np.repeat(pixels, 400, axis=0)
        np.testing.assert_allclose(predictor.probabilities(many)[::400], expected, atol=1e-6)

    def test_what_it_was_made_from(self, exported: sartor.Exported, trained: Path) -> None:
        run, record = sartor.Run.open(trained), Bundle.open(exported.path).record
        assert record["data"]["fingerprint"] == run.recipe.data.fingerprint
        assert record["split"]["sha256"] == run.split_sha256
        assert record["weights_sha256"] == run.weights_sha256 or record["epoch"] < 3
        assert record["recipe"]["training"]["epochs"] == 3
        figures = record["figures"]
        assert figures["count"] == len(run.split().part(figures["split"]))
        assert record["licence"] == {"model": "not stated", "data": "not stated"}
        assert record["onnx"]["images"] == len(run.split().test)
        assert record["onnx"]["largest_difference"] < 1e-5

    def test_an_export_is_no_look_at_the_test_images(
        self, trained: Path, digits: Dataset, tmp_path: Path
    ) -> None:
        run = sartor.Run.open(trained)
        before = looks_of(run.folder, digits, run.split().test)
        sartor.export(trained, tmp_path / "bundle", onnx=False)
        assert looks_of(run.folder, digits, run.split().test) == before

    def test_figures_of_the_test_images_once_they_were_judged(
        self, run_copy: Path, tmp_path: Path
    ) -> None:
        accuracy = sartor.evaluate(run_copy).accuracy
        made = sartor.export(run_copy, tmp_path / "bundle", onnx=False)
        figures = Bundle.open(made.path).record["figures"]
        assert (figures["split"], figures["accuracy"]) == ("test", accuracy)


class TestWriting:
    def test_equal_runs_give_equal_bytes(self, exported: sartor.Exported, trained: Path) -> None:
        again = sartor.export(trained, "again", program=True)
        archive = sartor.export(trained, "again.zip", program=True)
        twice = sartor.export(trained, "twice.zip", program=True)
        assert again.sha256 == archive.sha256
        assert twice.path.read_bytes() == archive.path.read_bytes()
        assert Bundle.open(archive.path).faults() == {}
        one, other = Bundle.open(exported.path), Bundle.open(again.path)
        for name in ("model.onnx", "program.pt2", "model.safetensors", "golden/golden.json"):
            assert one.read(name) == other.read(name), name

    def test_nothing_is_overwritten_unasked(self, exported: sartor.Exported, trained: Path) -> None:
        with pytest.raises(UsageError, match="already exists"):
            sartor.export(trained, exported.path)

    def test_licences_that_are_stated(self, trained: Path) -> None:
        made = sartor.export(
            trained, "bundle", onnx=False, licence_model="Apache-2.0", licence_data="CC-BY-4.0"
        )
        bundle = Bundle.open(made.path)
        assert bundle.record["licence"] == {"model": "Apache-2.0", "data": "CC-BY-4.0"}
        assert b"license: apache-2.0" in bundle.read("README.md")

    def test_no_path_of_this_machine_leaves_it(self, tmp_path: Path) -> None:
        chance = np.random.default_rng(0)
        for number in range(60):
            folder = tmp_path / "secret-home" / "pets" / ("cat", "dog")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = chance.integers(0, 256, (9, 12, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
        run = sartor.fit(
            tmp_path / "secret-home" / "pets", model="linear", out=tmp_path / "run", **QUICK
        )
        made = run.export("pets.zip", program=True)
        content = made.path.read_bytes()
        assert b"pets" in content
        assert b"secret-home" not in content
        assert str(Path(sartor.__file__).parent).encode() not in content
        answer = sartor.predict(made.path, tmp_path / "secret-home" / "pets" / "cat" / "0.png")[0]
        of_run = run.predict(tmp_path / "secret-home" / "pets" / "cat" / "0.png")[0]
        assert answer.to_json()["probability"] == pytest.approx(of_run.probability, abs=1e-5)

    def test_a_run_from_before_there_was_a_calibration(self, run_copy: Path) -> None:
        shutil.rmtree(run_copy / "calibration", ignore_errors=True)
        made = sartor.export(run_copy, "bundle", onnx=False)
        assert Bundle.open(made.path).calibration.set_threshold is not None


class TestWithoutOnnx:
    def test_it_answers_in_pytorch(self, trained: Path, digits: Dataset) -> None:
        made = sartor.export(trained, "bundle", onnx=False)
        assert "model.onnx" not in made.files
        predictor = sartor.Predictor(made.path)
        assert predictor.runtime == "torch"
        assert predictor.labels(images_of(digits)) == sartor.Predictor(trained).labels(
            images_of(digits)
        )
        with pytest.raises(BundleError, match=r"has no model\.onnx"):
            sartor.Predictor(made.path, runtime="onnx")

    @pytest.mark.parametrize("library", ["onnx", "onnxscript"])
    def test_the_extra_is_named(
        self, library: str, trained: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(MissingExtraError, match=f"needs {library}") as error:
            sartor.export(trained, "bundle")
        assert "sartor[export]" in error.value.hint
        assert not Path("bundle").exists()

    def test_a_bundle_answers_without_onnxruntime(
        self, exported: sartor.Exported, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        assert sartor.Predictor(exported.path).runtime == "torch"
        with pytest.raises(MissingExtraError, match="onnxruntime"):
            sartor.Predictor(exported.path, runtime="onnx")

    def test_there_is_no_such_runtime(self, exported: sartor.Exported, trained: Path) -> None:
        with pytest.raises(UsageError, match='did you mean "torch"'):
            sartor.Predictor(exported.path, runtime="troch")
        with pytest.raises(UsageError, match="A run answers in PyTorch"):
            sartor.Predictor(trained, runtime="onnx")


OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width: int = 7):
        super().__init__()
        self.first = nn.LazyLinear(width)
        self.last = nn.LazyLinear(10)

    def forward(self, images):
        return self.last(torch.relu(self.first(images.flatten(1))))
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> sartor.Run:
    """A run of a network in a file."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine.py").write_text(OWN)
    settings = {"model_kwargs": {"width": 9}, "limit_per_class": 20}
    return sartor.fit(
        "digits", model=f"{folder / 'mine.py'}:Net", out=folder / "run", **settings, **QUICK
    )


class TestOwnNetworks:
    def test_onnx_runs_it_without_its_source(self, own: sartor.Run, digits: Dataset) -> None:
        made = own.export("bundle")
        bundle = Bundle.open(made.path)
        assert "model.py" not in bundle.names
        assert bundle.architecture.model == "Net"
        assert bundle.architecture.model_kwargs == {"width": 9}
        assert sartor.Predictor(bundle).labels(images_of(digits)) == own.predictor().labels(
            images_of(digits)
        )
        with pytest.raises(BundleError, match=r"no program\.pt2.*none of sartor's") as error:
            sartor.Predictor(bundle, runtime="torch")
        assert "--program" in error.value.hint

    @pytest.mark.parametrize(
        ("how", "part"),
        [({"program": True}, r"program\.pt2"), ({"with_source": True}, r"model\.py")],
    )
    def test_what_it_brings_to_pytorch_runs_for_its_maker_and_who_trusts_it(
        self,
        how: dict[str, bool],
        part: str,
        own: sartor.Run,
        digits: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        made = own.export("bundle.zip", onnx=False, **how)
        expected = own.predictor().labels(images_of(digits))
        assert sartor.Predictor(made.path).labels(images_of(digits)) == expected
        monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "somebody else's"))
        with pytest.raises(UsageError, match=f"Reading {part} .* can run code") as error:
            sartor.Predictor(made.path)
        assert "--trust" in error.value.hint
        trusting = sartor.Predictor(made.path, trust=True)
        assert trusting.labels(images_of(digits)) == expected

    def test_a_changed_bundle_is_not_its_makers_any_more(self, own: sartor.Run) -> None:
        made = own.export("bundle", onnx=False, with_source=True)
        path = made.path / "model.py"
        path.write_text(path.read_text() + "\nraise SystemExit('ran')\n")
        with pytest.raises(BundleError, match=r"bytes|checksum"):
            sartor.Predictor(made.path)

    def test_that_nothing_runs_it_is_told(self, own: sartor.Run) -> None:
        made = own.export("bundle", onnx=False)
        assert any("--with-source" in remark for remark in made.remarks)

    def test_source_of_a_registered_network(self, trained: Path) -> None:
        with pytest.raises(UsageError, match="does not come from a Python file"):
            sartor.export(trained, "bundle", with_source=True)

    def test_an_object_of_a_program(self, few: Dataset) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
        run = sartor.fit(few, model=network, out="run", **QUICK)
        made = run.export("bundle")
        assert made.agreement is not None
        images = few.images[:50]
        np.testing.assert_allclose(
            sartor.Predictor(made.path).probabilities(images),
            run.predictor(calibrated=True).probabilities(images),
            atol=1e-5,
        )


class Restless(nn.Module):
    """Random when it classifies, too."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Any:
        return self.last(F.dropout(images.flatten(1), 0.2))


class Doubting(nn.Module):
    """No graph holds a way that depends on values."""

    def forward(self, images: Tensor) -> Tensor:
        return images * 2 if images.mean() > 0 else images


def test_answers_that_differ_leave_no_bundle(few: Dataset) -> None:
    run = sartor.fit(few, model=Restless(), out="run", **QUICK)
    with pytest.raises(ExportError, match="does not answer as the network does"):
        run.export("bundle")
    assert not Path("bundle").exists()


def test_a_network_that_no_graph_holds_ships_with_its_source_or_not(few: Dataset) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), Doubting(), nn.Linear(64, 10))
    run = sartor.fit(few, model=network, out="run", **QUICK)
    with pytest.raises(ExportError, match=r"capture its layer 1 \(Doubting\)") as error:
        run.export("bundle")
    assert "--no-onnx" in error.value.hint
    assert not Path("bundle").exists()
    assert "README.md" in run.export("bundle", onnx=False).files


def test_a_backbone_names_the_licence_of_its_weights(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (40, 3, 32, 32), np.uint8)
    labels = np.arange(40) % 2
    images[labels == 1] //= 2
    data = Dataset(images, labels.astype(np.int64), ("light", "dark"), name="shades")
    settings = {name: value for name, value in QUICK.items() if name not in _OF_EPOCHS}
    settings |= {"image_size": 32, "transfer": "features"}
    run = sartor.fit(data, model="efficientnet-lite0", out=tmp_path / "run", **settings)
    made = run.export("bundle", onnx=False)
    licence = Bundle.open(made.path).record["licence"]["model"]
    assert "Apache-2.0" in licence
    assert "ImageNet" in licence
    assert sartor.Predictor(made.path).labels(images) == run.predictor().labels(images)
