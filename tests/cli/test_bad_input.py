"""Wrong input ends with the right exit code and a sentence, and writes nothing."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sartor.runs.folder import RunFolder

NETS = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, width: int = 8):
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, num_classes))

class Wrong(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 7))

class Large(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 10))

class Silent(nn.Flatten):
    pass

class Unbuildable(nn.Module):
    def __init__(self):
        super().__init__()
        raise KeyError("weights")

class Raises(nn.Module):
    def __init__(self):
        super().__init__()
        self.last, self.step = nn.Linear(64, 10), 0

    def forward(self, images):
        self.step += self.training
        if self.step > 30:
            raise RuntimeError("it went wrong here")
        return self.last(images.flatten(1))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, with a few files beside it."""
    (tmp_path / "net.py").write_text(NETS)
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "typo.toml").write_text('[training]\nepoch = 3\n[modle]\nx = 1\n[model]\nmodel="x"')
    (tmp_path / "no.toml").write_text("[training\n")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "file").touch()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def case(words: str, exit_code: int, *says: str) -> Any:
    return pytest.param(words.split(" "), exit_code, says, id=words)


USAGE = [
    case("fti digits", 2, 'Unknown command "fti"; did you mean "fit"?', "sartor --help"),
    case("fit digitz", 2, 'Unknown set "digitz"; did you mean "digits"?'),
    case("fit nowhere/at/all", 2, "There is nothing at nowhere/at/all", "Check the path", "folder"),
    case("fit ./nowhere", 2, "There is nothing at ./nowhere"),
    case("data nowhere.zip", 2, "There is nothing at nowhere.zip"),
    case("check ~nobody/pictures", 2, "There is nothing at ~nobody/pictures"),
    case("fit digits --model lent", 2, 'unknown model "lent"; did you mean "lenet"?'),
    case("fit digits --opt adm", 2, 'unknown optimizer "adm"; did you mean "adam"?'),
    case("fit digits --sched cosin", 2, 'unknown schedule "cosin"; did you mean "cosine"?'),
    case("fit digits --loss mes", 2, 'unknown loss "mes"; did you mean "mse"?'),
    case("fit digits --device gpu", 2, 'unknown device "gpu"'),
    case("fit digits --recipe fashon-cnn", 2, 'did you mean "fashion-cnn"?'),
    case("fit digits --recipe nowhere.toml", 2, "Cannot read the recipe nowhere.toml"),
    case("fit digits --recipe .", 2, 'Unknown recipe "."'),
    case("fit digits --recipe ../no.toml", 2, "not valid TOML"),
    case("fit digits --recipe ../binary.toml", 2, "binary.toml: it is not text"),
    case(
        "fit digits --recipe ../typo.toml",
        2,
        'unknown [training] key "epoch"; did you mean "epochs"?',
        'unknown table "modle"; did you mean "model"?',
    ),
    case("fit digits --epocs 3", 2, "--epocs", "--epochs"),
    case("fit digits --epochs three", 2, "--epochs", "three"),
    case("fit digits --epochs", 2, "--epochs"),
    case("fit digits mnist", 2, "mnist"),
    case(
        "fit digits --epochs 0 --lr nan --batch-size -3 --val-fraction 1.5 --seed -1",
        2,
        "epochs must be at least 1",
        "lr must be greater than 0",
        "batch_size must be at least 1",
        "val_fraction must be at least 0",
        "seed must be at least 0",
    ),
    case("fit digits --lr inf", 2, "lr must be"),
    case("fit digits --lr 0", 2, "lr must be greater than 0"),
    case("fit digits --epochs 99999999999999999999", 2, "epochs must be at least 1 and at most"),
    case("fit digits --batch-size 0", 2, "batch_size must be at least 1"),
    case("fit digits --batch-size some", 2, "--batch-size"),
    case("fit digits --image-size 8 8 8", 2, "image_size must be one number, or height and width"),
    case("fit digits --channels 2", 2, "channels must be 1 or 3"),
    case("fit digits --nesterov", 2, "nesterov needs opt sgd and a momentum"),
    case("fit digits --momentum 0.9", 2, "momentum has no effect on adamw"),
    case("fit digits --warmup-epochs 10", 2, "warmup_epochs (10) must be fewer than epochs (10)"),
    case("fit digits --patience 2 --val-fraction 0", 2, "patience needs a validation split"),
    case("fit digits --class-weights 1 2", 2, "class_weights must be 10 numbers"),
    case("fit digits --model-kwargs dropout", 2, '"dropout" is not of the form key=value'),
    case(
        "fit digits --model-kwargs hiden=3 kernel=x",
        2,
        'unknown setting of lenet "hiden"; did you mean "hidden"?',
        "kernel of lenet must be a whole number",
    ),
    case("fit digits --model nowhere.py:Net", 2, "There is no file", "nowhere.py"),
    case("fit digits --model ../net.py", 2, "does not name a class or function", "net.py:Net"),
    case("fit digits --model ../net.py:Nett", 2, 'net.py "Nett"; did you mean "Net"?'),
    case("fit digits --model ../broken.py:Net", 2, "SyntaxError in line 1 of broken.py"),
    case("fit digits --model ../net.py:Net --model-kwargs wdth=3", 2, 'did you mean "width"?'),
    case("resume", 2, "A run's folder"),
    case("evaluate RUN --split vall", 2, "vall", "'val'"),
    case("evaluate RUN --checkpoint frist", 2, "frist", "'last'"),
    case("resume RUN --epochs 2", 2, "has 3 epochs already"),
    case("predict RUN", 2, "No picture is named"),
    case("predict RUN x.png --topk 0", 2, "--topk must be at least 1, not 0"),
    case("data digits --samples -5", 2, "--samples must be at least 1, not -5"),
    case("data digits --out picture.bmp", 2, 'unknown format "bmp"', "png"),
    case("summary lent", 2, 'unknown model "lent"; did you mean "lenet"?'),
    case("summary lenet --data digitz", 2, 'did you mean "digits"?'),
    case("summary mlp --model-kwargs hiden=3", 2, 'did you mean "hidden"?'),
    case("show RUN --plot plot.gif", 2, 'unknown format "gif"'),
]
FAILURES = [
    case("fit digits --out RUN", 1, "exists and is not empty; runs are never overwritten"),
    case("fit digits --out ../file/below", 1, "Cannot create the folder ../file/below"),
    case("fit digits --out ../file", 1, "Cannot create the folder ../file"),
    case("fit digits --out /proc/sartor/run", 1, "Cannot create the folder /proc/sartor/run"),
    case("fit digits --model ../net.py:Wrong", 1, "the shape (64, 7)", "(64, 10) was expected"),
    case("fit digits --model ../net.py:Large", 1, "cannot take images of shape (1, 8, 8)"),
    case("fit digits --model ../net.py:Silent", 1, "has no trainable parameters"),
    case("fit digits --model ../net.py:Unbuildable", 1, "cannot be built: KeyError in line"),
    case("resume nowhere", 1, "There is no run at nowhere, and none in runs", "sartor fit"),
    case("resume latest", 1, "There is no run at latest"),
    case("show .", 1, "is not a complete run"),
    case(
        "evaluate ../file", 1, "../file is a file, not the folder of a run", "Name a run's folder"
    ),
    case("data digits --image 1797", 1, "There is no image 1797", "0 to 1796"),
    case("data digits --image 3 --out ../file/x.png", 1, "Cannot write ../file/x.png"),
    case("data digits --image 3 --out /proc/x.png", 1, "Cannot write /proc/x.png"),
    case("show RUN --plot ../file/x.png", 1, "Cannot write ../file/x.png"),
]


@pytest.mark.parametrize(("words", "exit_code", "says"), [*USAGE, *FAILURES])
def test_sentence_and_exit_code(
    words: list[str],
    exit_code: int,
    says: tuple[str, ...],
    command: Any,
    here: Path,
    trained: Path,
) -> None:
    before = sorted(path.name for path in trained.iterdir())
    answer = command(*(str(trained) if word == "RUN" else word for word in words))
    assert answer.exit_code == exit_code, answer
    assert answer.out == ""
    # The parser of flags draws a box, which breaks lines.
    text = " ".join(answer.err.replace("│", " ").split())
    for part in says:
        assert part in text
    assert list(here.iterdir()) == [], "nothing was written"
    assert sorted(path.name for path in trained.iterdir()) == before


def test_a_sentence_what_is_wrong_and_one_what_to_do(command: Any, here: Path) -> None:
    answer = command("fit", "digits", "--out", "../file/below")
    first, second = answer.err.splitlines()[-2:]
    assert first.startswith("sartor: ")
    assert second.endswith(".")
    assert list(here.iterdir()) == []


@pytest.mark.usefixtures("here")
class TestDuringTraining:
    def test_a_network_that_raises(self, command: Any) -> None:
        words = ["--threads", 1, "--out", "run"]
        answer = command("fit", "digits", "--model", "../net.py:Raises", *words, "--json")
        assert (answer.exit_code, answer.out) == (1, "")
        assert "RuntimeError after step 30, in epoch 2: it went wrong here." in answer.err
        status = RunFolder(Path("run")).status()
        assert status["state"] == "failed"
        assert "it went wrong here" in status["reason"]
        assert command("evaluate", "run", "--json", "--split", "val").document["count"] == 144

    def test_a_loss_that_explodes(self, command: Any) -> None:
        words = ["--opt", "sgd", "--lr", 1000, "--threads", 1, "--out", "run"]
        answer = command("fit", "digits", "--model", "mlp", *words)
        assert (answer.exit_code, answer.out) == (1, "")
        assert "at step" in answer.err
        assert "Lower --lr" in answer.err
        assert RunFolder(Path("run")).status()["state"] == "failed"
        assert command("evaluate", "run", "--json").exit_code == 0, "the last good checkpoint"

    @pytest.mark.parametrize("lasts", [0, 3, 6, 8, 9, 10, 11, 13, 14, 16, 18, 21])
    def test_a_disk_that_gets_full(
        self, lasts: int, command: Any, monkeypatch: pytest.MonkeyPatch, trained: Path
    ) -> None:
        calls = iter(range(lasts))

        def fsync(_handle: int) -> None:
            if next(calls, None) is None:
                raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            answer = command("fit", "--recipe", trained / "recipe.toml", "--out", "run", "--quiet")
        assert (answer.exit_code, answer.out) == (1, "")
        first, second = answer.err.splitlines()
        # The names of the first files are flushed together, with the folder's.
        began = {0: "Cannot create the folder run", 9: "Cannot write run:"}.get(
            lasts, "Cannot write run/"
        )
        assert first.startswith(f"sartor: {began}")
        assert first.endswith("no space left on device.")
        assert second == "The disk is full: free some space, then try again."
        assert not list(Path("run").rglob("*.tmp"))
        if lasts < 11:
            assert not Path("run/recipe.toml").exists(), "no run yet"
        else:
            weights = command("resume", "run", "--json").document["weights_sha256"]
            assert weights == command("show", trained, "--json").document["weights_sha256"]


class TestPictures:
    @pytest.fixture
    def pictures(self, tmp_path: Path) -> Path:
        folder = tmp_path / "pictures"
        folder.mkdir()
        Image.new("L", (8, 8), 200).save(folder / "good.png")
        Image.new("RGB", (300, 200), (5, 6, 7)).save(folder / "photo.jpg")
        (folder / "text.png").write_text("hello")
        (folder / "empty.png").touch()
        content = (folder / "good.png").read_bytes()
        (folder / "cut.jpg").write_bytes((folder / "photo.jpg").read_bytes()[:900])
        (folder / "huge.png").write_bytes(claims_to_be(60_000, 60_000, content))
        (folder / "notes.txt").write_text("no picture, and not asked for")
        return folder

    def test_the_others_are_predicted_and_the_bad_ones_named(
        self, pictures: Path, trained: Path, command: Any
    ) -> None:
        answer = command("predict", trained, pictures, pictures / "nowhere.png", "--json")
        assert answer.exit_code == 1
        found = {Path(one["file"]).name: one for one in answer.document}
        assert [name for name, one in found.items() if "label" in one] == ["good.png", "photo.jpg"]
        named = {
            "text.png": "is not a picture that Pillow can read",
            "empty.png": "is empty",
            "cut.jpg": "is damaged",
            "huge.png": "pixels",
            "nowhere.png": "no such file or directory",
        }
        # Besides, it is said which of the others are unlike the training images.
        faults = [line for line in answer.err.splitlines() if line.startswith("sartor: ")]
        assert len(faults) == len(named)
        for name, reason in named.items():
            (line,) = [line for line in faults if name in line]
            assert reason in line
            assert reason in found[name]["error"]
        table = command("predict", trained, pictures)
        assert table.exit_code == 1
        assert "good.png" in table.out

    @pytest.mark.parametrize("word", ["notes.txt", ".", "*.gif"])
    def test_nothing_to_predict(
        self, word: str, pictures: Path, trained: Path, command: Any
    ) -> None:
        folder = pictures / "without"
        folder.mkdir()
        path = pictures / word if word == "notes.txt" else folder / word
        answer = command("predict", trained, path)
        assert (answer.exit_code, answer.out) == (1, "")
        assert answer.err.startswith("sartor: ")
        assert len(answer.err.splitlines()) == 1

    def test_names_stand_as_they_are(self, trained: Path, tmp_path: Path, command: Any) -> None:
        (tmp_path / "a[").mkdir()
        names = ["[bold]b :smile:.png", "a[/red].png", "é.png"]
        for name in names:
            Image.new("L", (8, 8)).save(tmp_path / name)
        answer = command("predict", trained, *(tmp_path / name for name in names))
        assert answer.exit_code == 0
        text = answer.out.replace("\n", "")
        assert "[bold]b :smile:.png" in text
        assert "[/red].png" in text


def claims_to_be(width: int, height: int, png: bytes) -> bytes:
    """The same PNG with another size in its header."""
    header = png[12:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]
