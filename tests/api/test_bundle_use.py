"""A bundle where a run is taken: the same answers and figures, or a sentence on why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor import api
from sartor.data.dataset import Dataset
from sartor.data.pictures.preprocess import as_picture
from sartor.errors import DataError, RunError, SartorError, UsageError

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def bundle(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run as a bundle; not to be changed."""
    out = tmp_path_factory.mktemp("bundle") / "shipped.zip"
    api.export(trained, out)
    return out


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    """Other pictures: some classes of the run, one that it does not know."""
    root = tmp_path_factory.mktemp("labelled")
    for index in range(200):
        name = digits.classes[digits.labels[index]]
        if name not in "012345":
            continue
        folder = root / {"5": "letter S"}.get(name, name)
        folder.mkdir(exist_ok=True)
        as_picture(digits.images[index]).save(folder / f"{index}.png")
    return root


class TestPredicting:
    @pytest.mark.parametrize("runtime", [None, "onnx", "torch"])
    def test_as_the_run_does(
        self, runtime: str | None, bundle: Path, trained: Path, labelled: Path
    ) -> None:
        of_run = sartor.predict(trained, labelled)
        of_bundle = sartor.predict(bundle, labelled, runtime=runtime)
        assert [one.file for one in of_bundle] == [one.file for one in of_run]
        for one, other in zip(of_bundle, of_run, strict=True):
            assert one.label == other.label
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
            assert one.set == other.set
            assert one.unknown == other.unknown
            assert one.unlike_training == other.unlike_training

    def test_a_predictor_is_opened_once(self, bundle: Path, labelled: Path) -> None:
        predictor = sartor.Predictor(bundle)
        one, two = (sartor.predict(predictor, labelled / "0") for _ in range(2))
        assert one == two == sartor.predict(str(bundle), labelled / "0")

    def test_into_a_file_and_resumed(
        self, bundle: Path, trained: Path, labelled: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "a.jsonl"
        given = [labelled] * 4
        left = iter([False, True, True])
        sartor.predict_to_file(bundle, given, out, stopped=lambda: next(left))
        with pytest.raises(UsageError, match="begun with other settings"):
            sartor.predict_to_file(trained, given, out, resume=True)
        done = sartor.predict_to_file(bundle, given, out, resume=True)
        assert done.kept == 256
        whole = tmp_path / "b.jsonl"
        sartor.predict_to_file(bundle, given, whole)
        assert out.read_bytes() == whole.read_bytes()

    def test_on_the_command_line(self, bundle: Path, labelled: Path, command: Any) -> None:
        answer = command("predict", bundle, labelled / "0", "--json")
        assert answer.exit_code == 0, answer.err
        expected = [one.to_json() for one in sartor.predict(bundle, labelled / "0")]
        assert answer.document == json.loads(json.dumps(expected))
        table = command("predict", bundle, labelled / "0")
        assert max(map(len, table.out.splitlines())) <= 80

    @pytest.mark.parametrize(
        "flag", [("--checkpoint", "last"), ("--no-calibrated",), ("--device", "cpu")]
    )
    def test_what_is_meant_for_runs_is_refused(
        self, flag: tuple[str, ...], bundle: Path, labelled: Path, command: Any
    ) -> None:
        answer = command("predict", bundle, labelled, *flag)
        assert answer.exit_code == 2
        assert f"{flag[0]} means nothing for the bundle" in answer.err


class TestExplaining:
    def test_as_the_run_does(self, bundle: Path, trained: Path, labelled: Path) -> None:
        picture = sorted((labelled / "3").iterdir())[0]
        (one,) = sartor.explain(bundle, picture)
        (other,) = sartor.explain(trained, picture)
        np.testing.assert_allclose(one.map, other.map, atol=1e-4)
        assert one.label == other.label

    def test_images_have_no_number(self, bundle: Path) -> None:
        with pytest.raises(UsageError, match="brings no dataset"):
            sartor.explain(bundle, 3)

    def test_drawn_by_predict(
        self, bundle: Path, labelled: Path, tmp_path: Path, command: Any
    ) -> None:
        out = tmp_path / "why.png"
        answer = command("predict", bundle, labelled / "3", "--explain", out, "--method=occlusion")
        assert answer.exit_code == 0, answer.err
        with Image.open(out) as drawn:
            assert min(drawn.size) > 100


class TestEvaluating:
    def test_its_own_test_images_as_the_run(self, tmp_path: Path) -> None:
        """Of arrays that name their test part; and the look is counted for the run, too."""
        rng = np.random.default_rng(0)
        labels = np.arange(200) % 2
        images = (labels[:, None, None] * 100 + rng.integers(0, 150, (200, 6, 6))).astype(np.uint8)
        data = Dataset(images[:, None], labels, ("dark", "light"), test=np.arange(150, 200))
        run = sartor.fit(
            data, model="linear", epochs=1, out=tmp_path / "run", threads=1, report=False
        )
        api.export(run, tmp_path / "bundle", data=data)
        expected = sartor.evaluate(run, data=data)
        found = sartor.evaluate(tmp_path / "bundle", data=data)
        assert found.split == "test"
        assert found.confusion.tolist() == expected.confusion.tolist()
        assert found.accuracy_interval == expected.accuracy_interval
        looks = api.looks_of(run.folder, data, data.test)
        assert looks is not None
        assert looks.times == 2
        assert not (tmp_path / "bundle" / "looks.jsonl").exists()

    def test_data_that_it_was_trained_on_without_a_test_part(
        self, bundle: Path, digits: Dataset, command: Any
    ) -> None:
        assert digits.test is None
        answer = command("evaluate", bundle, "digits")
        assert answer.exit_code == 2
        assert "does not tell its test part" in answer.err

    def test_other_pictures_as_the_run(self, bundle: Path, trained: Path, labelled: Path) -> None:
        found, expected = (sartor.evaluate(one, data=labelled) for one in (bundle, trained))
        assert found.confusion.tolist() == expected.confusion.tolist()
        assert found.count == expected.count == len(list(labelled.glob("[0-4]/*.png")))
        assert found.unmatched is not None
        assert found.unmatched == expected.unmatched
        (left_out,) = found.unmatched.left_out
        assert left_out.class_name == "letter S"
        assert left_out.count == len(list(labelled.glob("letter S/*")))
        assert found.unmatched.absent == tuple("56789")
        if expected.sets is not None:
            assert found.sets is not None
            assert found.sets.covered == expected.sets.covered
        if expected.novelty is not None:
            assert found.novelty is not None
            assert found.novelty.unknown == expected.novelty.unknown

    def test_on_the_command_line(self, bundle: Path, labelled: Path, command: Any) -> None:
        answer = command("evaluate", bundle, labelled)
        assert answer.exit_code == 0, answer.err
        words = " ".join(answer.out.split())
        assert "that the network does not know: letter S (" in words
        assert "Without images in the data: 5 classes" in words
        assert max(map(len, answer.out.splitlines()[1:])) <= 80, "all but the paths"
        document = command("evaluate", bundle, labelled, "--json").document
        assert document["unmatched"]["absent"] == list("56789")
        assert document["bundle"] == str(bundle)
        assert command("evaluate", bundle, "--data", labelled, "--json").document == document

    def test_it_needs_data(self, bundle: Path, labelled: Path, command: Any) -> None:
        answer = command("evaluate", bundle)
        assert answer.exit_code == 2
        assert "brings no data" in answer.err
        assert "twice" in command("evaluate", bundle, labelled, "--data", labelled).err

    def test_images_of_another_kind(self, bundle: Path) -> None:
        images = np.zeros((4, 3, 8, 8), np.uint8)
        with pytest.raises(DataError, match="are 3x8x8, and the bundle takes 1x8x8"):
            sartor.evaluate(bundle, data=(images, ["0", "1"] * 2))


@pytest.mark.parametrize(
    "words",
    [
        ("resume", "BUNDLE"),
        ("show", "BUNDLE"),
        ("report", "BUNDLE"),
        ("compare", "BUNDLE", "RUN"),
        ("trace", "BUNDLE"),
        ("export", "BUNDLE", "--out", "x"),
    ],
)
def test_what_needs_a_run_says_so(
    words: tuple[str, ...], bundle: Path, trained: Path, command: Any
) -> None:
    places = {"BUNDLE": bundle, "RUN": trained}
    answer = command(*(places.get(word, word) for word in words))
    assert answer.exit_code in (1, 2)
    assert "not a run" in answer.err or "is a bundle" in answer.err


def test_a_bundles_folder_is_not_a_run_either(bundle: Path, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path / "folder")
    with pytest.raises(RunError, match="is a bundle, not a run"):
        sartor.Run.open(tmp_path / "folder")
    assert sartor.Predictor(tmp_path / "folder").runtime == "onnx"
    with pytest.raises(SartorError):
        sartor.Predictor(tmp_path / "nowhere.zip")


def test_summary_is_that_of_its_network(bundle: Path, trained: Path, command: Any) -> None:
    of_run = sartor.Run.open(trained)
    assert sartor.summary(bundle).rows == sartor.summary(of_run).rows
    document = command("summary", bundle, "--json").document
    assert document["rows"] == command("summary", trained, "--json").document["rows"]
    refused = command("summary", bundle, "--model-kwargs", "dropout=0.1")
    assert refused.exit_code == 2
    assert "--model-kwargs means nothing for the bundle" in refused.err
