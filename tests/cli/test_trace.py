"""`sartor trace`: the table, the page, the JSON, and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sartor

KEYS = {
    *("network", "images", "indices", "split", "count", "mode", "notes", "layers", "parameters"),
    *("answers", "loss", "step", "warnings"),
}
LAYER = {
    *("name", "operation", "input_shape", "output_shape", "parameters", "mean", "spread"),
    *("lowest", "highest", "zeros", "units", "silent_units", "finite", "gradient_norm"),
}
PARAMETER = {
    *("name", "also", "shape", "trainable", "weight_norm", "gradient_norm", "update_norm"),
    "update_ratio",
}


def test_the_table_of_a_run(command: Any, trained: Path) -> None:
    answer = command("trace", trained, "--image", 5)
    assert (answer.exit_code, answer.err) == (0, "")
    assert max(map(len, answer.out.splitlines())) <= 80
    data = sartor.load("digits")
    lines = answer.out.splitlines()
    assert "image 5 of digits" in " ".join(answer.out.split())
    assert f"class {data[5].class_name}" in " ".join(answer.out.split())
    layers = [line.split()[:2] for line in lines]
    assert ["conv1", "Conv2d"] in layers
    assert ["linear5", "Linear"] in layers
    assert "loss of this batch" in answer.out
    assert "-ln " in answer.out
    assert any(line.startswith("linear5.weight") for line in lines)
    assert "--out trace.html" in answer.out


def test_a_batch_through_an_untrained_model(command: Any) -> None:
    words = ["--batch", 20, "--opt", "adam", "--lr", 0.01, "--seed", 1, "--json"]
    document = command("trace", "mlp", "--model-kwargs", "hidden=16", *words).document
    assert document.keys() == KEYS
    assert all(layer.keys() == LAYER for layer in document["layers"])
    assert all(parameter.keys() == PARAMETER for parameter in document["parameters"])
    assert (document["count"], len(document["answers"]), document["split"]) == (20, 20, "train")
    assert document["step"]["optimizer"] == "adam"
    assert document["step"]["learning_rate"] == 0.01
    assert document["step"]["loss_after"] < document["step"]["loss_before"]
    assert [one["shape"] for one in document["parameters"]][:2] == [[16, 64], [16]]
    again = command("trace", "mlp", "--model-kwargs", "hidden=16", *words).document
    assert again == document


def test_a_page(command: Any, trained: Path, tmp_path: Path) -> None:
    page = tmp_path / "trace.html"
    answer = command("trace", trained, "--out", page, "--json")
    assert answer.err == f"Wrote {page}\n"
    assert answer.document.keys() == KEYS
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_a_picture_with_and_without_its_class(command: Any, trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "three.png"
    data = sartor.load("digits")
    Image.fromarray(data[3].image[0]).save(file)
    known = command("trace", trained, "--picture", file, "--label", 3, "--json").document
    assert known["answers"][0]["label"] == "3"
    same = command("trace", trained, "--image", 3, "--json").document
    np.testing.assert_allclose(known["answers"][0]["logits"], same["answers"][0]["logits"])
    assert known["step"] == same["step"]
    unknown = command("trace", trained, "--picture", file)
    assert unknown.exit_code == 0
    assert "Without a label" in unknown.out
    assert "loss of" not in unknown.out
    document = command("trace", trained, "--picture", file, "--json").document
    assert (document["loss"], document["step"]) == (None, None)
    # The trace is of the network, without the temperature that predict applies.
    (predicted,) = sartor.predict(trained, file, calibrated=False)
    shares = document["answers"][0]["probabilities"]
    np.testing.assert_allclose(shares, list(predicted.probabilities.values()), rtol=1e-6)


def test_warnings_are_printed(command: Any, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\n"
        "def Net(input_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes), nn.Softmax(1))\n"
    )
    answer = command("trace", f"{file}:Net")
    assert answer.exit_code == 0
    assert "warnings\n- The network ends with a softmax" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "sentence", "hint"),
    [
        ([], "There is nothing to trace.", "sartor trace latest"),
        (["lenett"], 'Unknown run or model "lenett"; did you mean "lenet"?', "sartor runs"),
        (["lenet", "--image", 2000], "There is no image 2000: digits holds 1,797", "0 to 1796"),
        (["lenet", "--image", -1], "There is no image -1", "0 to 1796"),
        (["lenet", "--split", "val", "--image", 144], "val split of digits holds 144", "0 to 143"),
        (["lenet", "--batch", 0], "A batch of 0 is not to be had", "from 1 to"),
        (["lenet", "--image", 1, "--batch", 2], "--image and --batch exclude", "one of them"),
        (["lenet", "--label", "3"], "--label says something of a picture", "--picture"),
        (["lenet", "--invert"], "--invert says something of a picture", "--picture"),
        (["lenet", "--out", "page.png"], "Cannot write a page as page.png", ".html"),
        (["lenet", "--opt", "adm"], 'unknown optimizer "adm"; did you mean "adam"?', "Correct"),
    ],
)
def test_bad_input(command: Any, words: list[str], sentence: str, hint: str) -> None:
    answer = command("trace", *words)
    assert (answer.exit_code, answer.out) == (2, "")
    assert sentence in answer.err
    assert hint in answer.err


def test_bad_input_for_runs(command: Any, trained: Path, tmp_path: Path) -> None:
    for words, sentence in (
        (["--recipe", "fashion-cnn"], "A run brings its own recipe."),
        (["--picture", tmp_path / "x.png", "--split", "val"], "exclude each other"),
    ):
        answer = command("trace", trained, *words)
        assert (answer.exit_code, answer.out) == (2, "")
        assert sentence in answer.err
    # Its own data, wherever they lie now, are no mistake.
    answer = command("trace", trained, "--data", "digits", "--image", 3, "--json")
    assert answer.exit_code == 0
    file = tmp_path / "x.png"
    Image.new("L", (8, 8)).save(file)
    answer = command("trace", trained, "--picture", file, "--label", "cat")
    assert 'Unknown class "cat"' in answer.err
    answer = command("trace", trained, "--picture", tmp_path / "none.png")
    assert answer.exit_code == 1
    assert json.dumps(answer.out) == '""'


def test_a_large_network_is_shown_by_stage(command: Any) -> None:
    words = ("trace", "resnet20", "--data", "digits", "--image", 0)
    by_stage, each = (command(*words, *more).out for more in ((), ("--depth", 0)))
    layers = by_stage.split("forward:")[1].split("prediction")[0].splitlines()
    assert "rows for" in by_stage
    assert "--depth 0 shows each" in by_stage
    assert len(layers) < 28
    assert len(each.splitlines()) > 2 * len(by_stage.splitlines())
    assert "rows for" not in each
    assert max(map(len, by_stage.splitlines())) <= 80
    # The loss is the same, however the table is cut.
    assert by_stage.splitlines()[-3] == each.splitlines()[-3]


@pytest.mark.parametrize("words", [("trace", "linear"), ("summary", "linear")])
def test_a_level_below_zero_is_refused(command: Any, words: tuple[str, ...]) -> None:
    answer = command(*words, "--depth", -1)
    assert answer.exit_code == 2
    assert "--depth -1 is no level of names" in answer.err
