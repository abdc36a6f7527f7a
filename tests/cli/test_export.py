"""`sartor export` as somebody types it: what is printed, what a script gets, what goes wrong."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sartor.bundle.format import Bundle


@pytest.fixture(scope="module")
def answered(
    trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Any], tuple[Any, Path]]:
    """One export with ONNX, as JSON, made when the first test asks for it."""
    kept: list[tuple[Any, Path]] = []

    def ask(command: Any) -> tuple[Any, Path]:
        if not kept:
            out = tmp_path_factory.mktemp("cli") / "digits.zip"
            kept.append((command("export", trained, "--out", out, "--json"), out))
        return kept[0]

    return ask


def test_what_a_script_gets(command: Any, answered: Any) -> None:
    answer, out = answered(command)
    assert answer.exit_code == 0
    document = answer.document
    assert document.keys() == {"bundle", "sha256", "files", "onnx", "quantized", "remarks"}
    assert document["bundle"] == str(out)
    bundle = Bundle.open(out)
    assert document["sha256"] == bundle.sha256
    assert document["files"] == {name: len(bundle.read(name)) for name in bundle.names}
    assert document["onnx"].keys() == {
        *("split", "images", "batches", "largest_difference", "disagreeing", "ties"),
        "novelty_difference",
    }
    assert document["onnx"]["split"] == "test"
    assert document["onnx"]["disagreeing"] == 0


def test_the_bundle_is_taken_where_a_run_is(command: Any, answered: Any) -> None:
    _, out = answered(command)
    picture = next(name for name in Bundle.open(out).names if name.endswith(".png"))
    Path("picture.png").write_bytes(Bundle.open(out).read(picture))
    (prediction,) = command("predict", out, "picture.png", "--json").document
    assert prediction["label"] in Bundle.open(out).classes
    assert command("verify", out, "--json").document["ok"] is True


def test_what_a_person_sees(command: Any, trained: Path) -> None:
    answer = command("export", trained, "--out", "my bundle", "--no-onnx")
    assert answer.exit_code == 0
    assert "model.safetensors" in answer.out
    assert "next: sartor verify 'my bundle'" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    again = command("export", trained, "--out", "my bundle", "--no-onnx")
    assert again.exit_code == 2
    assert "already exists" in again.err
    assert "--overwrite" in again.err
    replaced = command("export", trained, "--out", "my bundle", "--no-onnx", "--overwrite")
    assert replaced.exit_code == 0


def test_where_to_write_is_asked_first(command: Any, trained: Path) -> None:
    answer = command("export", trained)
    assert answer.exit_code == 2
    assert "--out NAME.zip" in answer.err


@pytest.mark.parametrize("place", ["taken", "taken/below"])
def test_a_file_in_the_way(place: str, command: Any, trained: Path) -> None:
    Path("taken").write_text("mine")
    answer = command("export", trained, "--out", place, "--no-onnx")
    assert answer.exit_code != 0
    assert Path("taken").read_text() == "mine"


@pytest.mark.parametrize("flag", ["--out", "--web"])
@pytest.mark.parametrize("name", ["b", "b.zip", "new/b"])
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    flag: str, name: str, command: Any, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("theirs").mkdir()
    # As for root every folder is writable, who may run the tests.
    monkeypatch.setattr("os.access", lambda path, _mode: Path(path).name != "theirs")
    answer = command("export", trained, flag, f"theirs/{name}")
    assert answer.exit_code == 1
    assert f"Cannot write theirs/{name}: permission denied." in answer.err
    assert "comparing" not in answer.err


def test_what_is_no_run(command: Any) -> None:
    answer = command("export", "nowhere", "--out", "bundle")
    assert answer.exit_code != 0
    assert "nowhere" in answer.err
    assert not Path("bundle").exists()


def test_without_the_extra(command: Any, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    answer = command("export", trained, "--out", "bundle")
    assert answer.exit_code == 1
    assert "pip install 'sartor[export]'" in answer.err
    assert "--no-onnx" in answer.err


def test_a_truncated_bundle_is_refused_in_a_sentence(command: Any, answered: Any) -> None:
    _, out = answered(command)
    Path("half.zip").write_bytes(out.read_bytes()[:-1000])
    for words in (["predict", "half.zip", "x.png"], ["verify", "half.zip"]):
        answer = command(*words)
        assert answer.exit_code != 0
        assert "half.zip" in answer.err + answer.out


def test_data_that_is_gone(command: Any, tmp_path: Path, trained: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    recipe = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(recipe.replace('"digits"', f'"{tmp_path}/gone"'))
    answer = command("export", run, "--out", "bundle", "--no-onnx")
    assert answer.exit_code != 0
    assert "gone" in answer.err
    assert not Path("bundle").exists()
