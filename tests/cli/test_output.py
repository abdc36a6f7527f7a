"""What people see: help, progress, tables; in a terminal, a pipe, and where nobody looks."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor import api
from sartor.cli import tables
from sartor.cli.help import GROUPS
from sartor.cli.main import VERBS
from sartor.console.progress import PlainProgress, duration, epoch_line, step_figures
from sartor.data.named import catalogue, names
from sartor.evaluation.metrics import evaluate_sums
from sartor.events import StepDone
from sartor.models.registry import MODELS
from sartor.recipe import setting_places, shipped_recipes

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b\][^\x1b\x07]*(\x1b\\|\x07)")
COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;)[0-9;]*m")


class TestHelp:
    @pytest.mark.parametrize("verb", VERBS)
    def test_fits_80_columns(
        self, verb: str, command: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        answer = command(verb, "--help")
        assert (answer.exit_code, answer.err) == (0, "")
        assert answer.out.startswith(f"usage: sartor {verb}")
        assert max(map(len, answer.out.splitlines())) <= 80

    def test_the_list_of_verbs(self, command: Any) -> None:
        answers = [command(*words) for words in ([], ["--help"], ["-h"], ["help"])]
        assert len(set(answers)) == 1
        assert answers[0].exit_code == 0
        for verb, (_, does) in VERBS.items():
            assert re.search(rf"^  {verb} +{re.escape(does)}$", answers[0].out, re.MULTILINE)
        assert max(map(len, answers[0].out.splitlines())) <= 80
        assert command("--version").out.startswith("sartor ")

    @pytest.mark.parametrize("verb", VERBS)
    def test_all_flags_fit_80_columns(self, verb: str, command: Any) -> None:
        answer = command(verb, "--help-all")
        assert (answer.exit_code, answer.err) == (0, "")
        assert max(map(len, answer.out.splitlines())) <= 80
        assert "None" not in answer.out

    def test_the_first_screen_of_fit_is_one_screen(self, command: Any) -> None:
        assert len(command("fit", "--help").out.splitlines()) <= 40

    def test_names_what_the_registries_have(self, command: Any) -> None:
        for wanted in ("--help", "--help-all"):
            words = set(re.split(r"[\s,.:]+", command("fit", wanted).out))
            assert words >= {*shipped_recipes(), *MODELS, *catalogue.NAMES}
        assert set(names.NAMES) == {"digits", *catalogue.SETS}

    def test_every_setting_belongs_to_one_group(self) -> None:
        listed = [name for _, members in GROUPS.values() for name in members.split()]
        filled_in = {"source", "fingerprint", "fixes_sha256", "split_hash", "extensions"}
        filled_in |= {"engine_changes", "weights_sha256", "weights_licence"}
        assert sorted(listed) == sorted({*setting_places()} - filled_in)

    def test_a_command_without_words_is_parsed(self, command: Any) -> None:
        answer = command("resume")
        assert answer.exit_code == 2
        assert "This should not have happened" not in answer.err

    def test_one_group_of_flags(self, command: Any) -> None:
        text = command("fit", "--help", "loss").out
        assert "--smoothing" in text
        assert "--epochs" not in text
        answer = command("fit", "--help", "los")
        assert answer.exit_code == 2
        assert 'did you mean "loss"?' in answer.err

    def test_a_switch_says_what_it_does(self, command: Any) -> None:
        text = " ".join(command("fit", "--help-all").out.split())
        assert "--no-shuffle Keep the images in file order" in text

    def test_no_help_imports_torch(self) -> None:
        code = (
            "import sys\n"
            "from sartor.cli.main import VERBS, run\n"
            "for words in [[], ['--version'], *([verb, asked] for verb in VERBS "
            "for asked in ('--help', '--help-all'))]:\n"
            "    try: assert run(words) == 0\n"
            "    except SystemExit as leaving: assert not leaving.code\n"
            "assert not {'torch', 'numpy', 'matplotlib', 'sklearn'} & set(sys.modules)"
        )
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr

    def test_every_setting_stands_there_with_its_default(self, command: Any) -> None:
        text = " ".join(command("fit", "--help-all").out.split())
        for flag in (
            *("model", "model-kwargs", "epochs", "batch-size", "lr", "opt", "momentum"),
            *("weight-decay", "sched", "warmup-epochs", "smoothing", "loss", "clip-grad"),
            *("grad-accum-steps", "amp-dtype", "val-fraction", "patience", "seed", "device"),
            *("workers", "image-size", "recipe", "out", "json", "quiet"),
        ):
            assert f"--{flag}" in text
        assert "(default: 0.002)" in text

    def test_a_recipe_changes_the_defaults(self, command: Any) -> None:
        for words in (["--recipe", "fashion-mlp"], ["--recipe=fashion-mlp"]):
            text = " ".join(command("fit", *words, "--help-all").out.split())
            assert "(default: 0.001)" in text
            assert "hidden=128,64,32" in " ".join(text.split())


class TestWithoutATerminal:
    def test_progress_is_plain_lines_on_stderr(self, command: Any, tmp_path: Path) -> None:
        out = tmp_path / "run"
        words = ["--recipe", "plain", "--epochs", 2, "--threads", 1, "--out", out]
        answer = command("fit", "digits", *words)
        assert "\x1b" not in answer.err + answer.out
        lines = answer.err.splitlines()
        assert lines[0].startswith("digits: 1,294 images to train on, 144 to validate, 359 to test")
        layout = "(contiguous|channels-last)"  # of the engine native, of PyTorch
        assert re.match(rf"lenet: 15,718 parameters; cpu, float32, {layout}, 1 thread$", lines[1])
        assert re.match(
            r"loss before training: 2\.\d+; chance level for 10 classes: 2\.303$", lines[2]
        )
        assert lines[3] == f"run: {out}"
        for number, line in enumerate(lines[4:], start=1):
            figures = r"loss \d\.\d{4}  accuracy +\d+\.\d\d%  val \d\.\d{4} +\d+\.\d\d%  [\d,]+/s"
            assert re.fullmatch(rf"epoch {number}/2  {figures}( \*)?", line)
        assert len(lines) == 6
        assert f"report: {out / 'report.html'}\nnext: sartor predict {out} PICTURE" in answer.out

    def test_without_a_report_none_is_named(self, command: Any, tmp_path: Path) -> None:
        words = ["--epochs", 1, "--threads", 1, "--out", tmp_path / "run", "--no-report"]
        assert "report:" not in command("fit", "digits", *words).out
        assert not (tmp_path / "run" / "report.html").exists()

    def test_what_rounds_to_zero_has_no_minus(self) -> None:
        gap = {"gap": -1e-6, "gap_interval": (-0.01, 0.01), "ece": 0, "ece_by_chance": 0}
        line = tables._calibration_lines(gap | {"verdict": ""})
        assert line.startswith("confidence minus accuracy +0.00 points (-1.00 to +1.00)")

    def test_report(self, command: Any, run_copy: Path) -> None:
        lines = command("report", run_copy).out.splitlines()
        number = r"\d+\.\d\d%"
        accuracy = rf"accuracy {number} \(95 % interval {number} to {number}\)"
        assert re.fullmatch(rf"test split: {accuracy}, best epoch, \d", lines[0])
        points = r"[+-]\d+\.\d\d"
        gap = rf"confidence minus accuracy {points} points \({points} to {points}\)"
        error = rf"calibration error {number}, by chance up to {number}"
        verdict = "(: (over|under)confident)?"
        for first, indent in ((1, ""), (4, "  ")):
            assert re.fullmatch(f"{indent}{gap}{verdict}", lines[first])
            assert re.fullmatch(f"{indent}{error}", lines[first + 1])
        assert re.fullmatch(r"at temperature \d\.\d+:", lines[3])
        baseline = rf"baseline [a-z0-9 ]+: {number} \(.*% to .*%\).*"
        assert sum(bool(re.fullmatch(baseline, line)) for line in lines[6:-1]) == 3
        assert lines[-1] == f"report: {run_copy / 'report.html'}"
        assert max(map(len, lines[:-1])) <= 80

    def test_quiet_says_nothing_but_the_result(self, command: Any, tmp_path: Path) -> None:
        words = ["--epochs", 1, "--threads", 1, "--out", tmp_path / "run", "--quiet"]
        answer = command("fit", "digits", *words)
        assert answer.err == ""
        assert "val accuracy" in answer.out
        answer = command("resume", tmp_path / "run", "--epochs", 2, "--quiet")
        assert answer.err == ""

    def test_show(self, command: Any, trained: Path) -> None:
        answer = command("show", trained)
        assert answer.out.startswith(f"{trained}: finished, weights ")
        assert "[training]" not in answer.out
        assert len(re.findall(r"^epoch \d/3 ", answer.out, re.MULTILINE)) == 3
        whole = command("show", trained, "--recipe").out
        assert "[training]" in whole
        assert whole.index("epoch 1/3") < whole.index("[data]")

    def test_training_goes_on_when_nobody_reads_its_progress(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w") as nobody, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", nobody)
            PlainProgress().line("text")
            # What is left in the buffer of the stream shall not complain either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
        assert capsys.readouterr().out == ""


class TestStreams:
    """In processes of their own, of one verb that needs no torch."""

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "sartor", *words]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.run(line, text=True, **(pipes | options))

    def test_a_reader_that_leaves_is_no_error(self, trained: Path) -> None:
        for words in (["runs", str(trained.parent)], ["data", "digits"]):
            reader, writer = os.pipe()
            os.close(reader)
            answer = self.run(*words, stdout=writer)
            os.close(writer)
            assert (answer.returncode, answer.stderr) == (0, "")

    def test_a_full_disk_behind_stdout(self) -> None:
        with Path("/dev/full").open("w") as full:
            answer = self.run("data", "digits", "--json", stdout=full)
        assert answer.returncode == 1
        assert "no space left on device" in answer.stderr
        assert "Traceback" not in answer.stderr

    def test_closed_streams(self, tmp_path: Path) -> None:
        line = f"{sys.executable} -m sartor runs {tmp_path} --json >&- 2>&-"
        assert subprocess.run(["sh", "-c", line]).returncode == 0
        line = f"{sys.executable} -m sartor runs {tmp_path} --json 2>&-"
        assert subprocess.run(["sh", "-c", line], capture_output=True).stdout == b"[]\n"

    def test_a_terminal_that_knows_ascii_alone(self) -> None:
        answer = self.run("data", "digits", env=os.environ | {"PYTHONIOENCODING": "ascii"})
        assert answer.returncode == 0
        assert "0  178 ??????" in answer.stdout


class TestTables:
    def test_evaluation(self, command: Any, trained: Path) -> None:
        answer = command("evaluate", trained)
        assert answer.exit_code == 0
        assert max(map(len, answer.out.splitlines())) <= 80
        document = command("evaluate", trained, "--json").document
        assert f"accuracy {document['accuracy']:.2%} (95 % interval" in answer.out
        rows = re.findall(r"^ +\d \d {2,}((?: *[\d.]+)+)$", answer.out, re.MULTILINE)
        cells = [[0 if cell == "." else int(cell) for cell in row.split()] for row in rows]
        assert cells == document["confusion"]

    def test_the_worst_mistakes_are_drawn(
        self, command: Any, trained: Path, tmp_path: Path
    ) -> None:
        picture = tmp_path / "mistakes.png"
        answer = command("evaluate", trained, "--mistakes", picture)
        assert answer.exit_code == 0
        assert f"Wrote {picture}" in answer.err
        with Image.open(picture) as drawn:
            assert drawn.width > 8 * 100, "eight a row"

    def test_mistakes_have_the_largest_losses_and_say_both_classes(self, trained: Path) -> None:
        run = api.Run.open(trained)
        predictions = api.predictions_of(run, "test")
        titles = [
            axes.get_title() for axes in api.mistakes_figure(predictions, run.dataset(), 5).axes
        ]
        wrong = predictions.predicted() != predictions.labels
        worst = np.argsort(-np.where(wrong, predictions.example_losses(), -1), kind="stable")[:5]
        assert titles == [
            f"image {predictions.indices[row]}\n"
            f"true: {predictions.labels[row]}\npredicted: {predictions.predicted()[row]}"
            for row in worst
        ]

    def test_the_number_of_a_mistake_leads_to_its_trace(self, command: Any, trained: Path) -> None:
        run = api.Run.open(trained)
        predictions = api.predictions_of(run, "test")
        number, true, _ = (
            api.mistakes_figure(predictions, run.dataset(), 1).axes[0].get_title().split("\n")
        )
        answer = command("trace", trained, *number.replace("image", "--image").split())
        assert f"{number} of digits (test" in " ".join(answer.out.split())
        assert f"class {true.removeprefix('true: ')}" in answer.out

    def test_without_a_mistake_there_is_nothing_to_draw(
        self, command: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        predictions = api.predictions_of(api.Run.open(trained), "test")
        perfect = replace(predictions, labels=predictions.predicted())
        monkeypatch.setattr(api, "predictions_of", lambda *_, **__: perfect)
        answer = command("evaluate", trained, "--mistakes", tmp_path / "none.png")
        assert answer.exit_code == 0
        assert "There are no mistakes to draw." in answer.err
        assert not (tmp_path / "none.png").exists()

    @pytest.mark.parametrize("count", [2, 10, 100])
    def test_long_names_and_many_classes(
        self, count: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import numpy as np

        classes = [f"[b]:smile: a very long name of a class, number {n}" for n in range(count)]
        confusion = np.full((count, count), 1_000, np.int64)
        evaluation = evaluate_sums(split="val", classes=classes, confusion=confusion, loss_sum=1.0)
        weights = {"checkpoint": "best", "epoch": 12, "chosen_on_validation": True}
        tables.print_evaluation(evaluation, "runs/some-run-1", tables.weights_line(weights))
        text = capsys.readouterr().out
        assert max(map(len, text.splitlines())) <= 80
        rows = re.findall(r"^\[b\]:smile:.*…", text, re.MULTILINE)
        assert len(rows) == count, "as they are, one line each"

    def test_predictions(self, command: Any, trained: Path, tmp_path: Path) -> None:
        from PIL import Image

        folder = tmp_path / ("long-name-" * 12)
        folder.mkdir()
        Image.new("L", (8, 8)).save(folder / "picture.png")
        for topk in (1, 3, 10):
            answer = command("predict", trained, folder, "--topk", topk)
            assert answer.exit_code == 0
            assert max(map(len, answer.out.splitlines())) <= 80
            assert topk > 1 or "next" not in answer.out, "no heading over nothing"

    def test_runs(self, command: Any, trained: Path, tmp_path: Path) -> None:
        assert command("runs", tmp_path).out == (
            f"No runs in {tmp_path}. Make one: sartor fit fashion-mnist\n"
        )
        answer = command("runs", trained.parent)
        assert re.search(r"^run +finished +3/3 +\d\d\.\d\d% +\d\d\.\d\d% +0:0\d$", answer.out, re.M)

    def test_epoch_line_of_a_large_training(self) -> None:
        row = {
            "epoch": 1000,
            "train_loss": 2.30259,
            "train_accuracy": 1.0,
            "val_loss": 12.3456,
            "val_accuracy": 0.9999,
            "images_per_second": 234_567.8,
            "val_balanced_accuracy": 1.0,
        }
        assert len(epoch_line(row, 1000) + " *") <= 80
        line = epoch_line(row | {"epoch": 100}, 100, balanced=True)
        assert len(line + " *") <= 80
        assert "val 12.346 100.0% bal 100.0%" in line
        del row["val_balanced_accuracy"]
        assert "bal" not in epoch_line(row, 1000, balanced=True)
        assert "val" not in epoch_line(row | {"val_loss": None, "val_accuracy": None}, 1000)

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0, "0:00"), (0.2, "0:01"), (59.5, "1:00"), (61, "1:01"), (3600, "1:00:00")],
    )
    def test_duration(self, seconds: float, text: str) -> None:
        assert duration(seconds) == text

    def test_step_figures(self) -> None:
        step = StepDone(
            step=1,
            total_steps=10,
            epoch=1,
            epochs=1,
            position=1,
            steps_per_epoch=10,
            learning_rate=0.1,
            train_loss=1.23456,
            train_accuracy=0.5,
            images_per_second=12345.6,
            seconds_left=61.0,
        )
        assert step_figures(step) == "12,346/s  loss 1.235  acc 50.0%  1:01 left"


SESSION = """
import sys
from sartor.cli.help import GROUPS
from sartor.cli.main import run
run_folder, runs = sys.argv[1:]
fit = ["fit", "digits", "--batch-size", "4", "--epochs", "2", "--threads", "1", "--out", run_folder]
for words in (fit, ["evaluate", run_folder], ["runs", runs], ["show", run_folder]):
    print("$", *words[:1], flush=True)
    assert run(words) == 0
try:
    run(["fit", "--help"])
except SystemExit:
    pass
"""


class TestTerminal:
    @pytest.fixture(scope="class")
    @classmethod
    def seen(cls, tmp_path_factory: pytest.TempPathFactory) -> str:
        """All that a terminal of 80 columns got, NO_COLOR set."""
        folder = tmp_path_factory.mktemp("terminal")
        inside, outside = pty.openpty()
        fcntl.ioctl(outside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {name: os.environ[name] for name in os.environ if name != "COLUMNS"}
        environment |= {"TERM": "xterm-256color", "NO_COLOR": "1"}
        streams: dict[str, Any] = {"stdin": outside, "stdout": outside, "stderr": outside}
        line = [sys.executable, "-c", SESSION, str(folder / "run"), str(folder)]
        with subprocess.Popen(line, env=environment, **streams) as process:
            os.close(outside)
            seen = b""
            # Reading a terminal whose last user has gone is an error on Linux.
            while part := read_or_nothing(inside):
                seen += part
        os.close(inside)
        assert process.returncode == 0, seen.decode()
        return seen.decode()

    def test_a_bar_for_the_present_epoch(self, seen: str) -> None:
        frames = re.findall(r"epoch (\d)/2 [━╸╺ ]+ [\d,]+/s  loss [\d.]+  acc [\d.]+%", plain(seen))
        assert len(frames) > 2
        assert set(frames) == {"1", "2"}
        assert re.search(r"\d:\d\d left", plain(seen))

    def test_the_bar_goes_and_the_lines_stay(self, seen: str) -> None:
        during, after = plain(seen).split("$ evaluate")[0], plain(seen).split("$ evaluate")[1]
        assert len(re.findall(r"epoch \d/2  loss [\d.]+  accuracy", during)) == 2
        assert "━" not in during.split("epoch 2/2  loss")[1].split("val accuracy")[1]
        assert "left" not in after
        assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") == 1, "the cursor is back"

    def test_nothing_is_wider_than_the_terminal(self, seen: str) -> None:
        for line in re.split(r"[\r\n]+", plain(seen)):
            if not line.startswith(("run: ", "next: ", "/tmp")):
                assert len(line) <= 80, line

    def test_no_line_ends_in_blanks(self, seen: str) -> None:
        after = plain(seen).split("$ evaluate")[1]
        assert re.search(r"[a-z,]\r\n[a-z]", after), "a sentence is broken into lines"
        assert not re.findall(r".* \r\n", after)

    def test_no_color_is_honoured(self, seen: str) -> None:
        assert not COLOUR.search(seen)


def plain(text: str) -> str:
    return ESCAPE.sub("", text)


def read_or_nothing(handle: int) -> bytes:
    try:
        return os.read(handle, 65_536)
    except OSError:
        return b""


NOT_FINITE = """
import torch
from torch import nn


class Net(nn.Module):
    \"\"\"Trains well, and gives NaN where it is judged.\"\"\"

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, images):
        logits = self.layers(images)
        return logits if self.training else logits * torch.nan
"""


def test_a_validation_loss_that_is_not_finite_does_not_end_a_finished_fit(
    command: Any, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(NOT_FINITE)
    words = ("--model", f"{tmp_path / 'net.py'}:Net", "--epochs", 1, "--threads", 1)
    answer = command("fit", "digits", *words, "--out", tmp_path / "run")
    assert answer.exit_code == 0, answer.err
    assert "loss not finite" in answer.out
    assert sartor.Run.open(tmp_path / "run").status["state"] == "finished"


def test_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone');"
        "sys.argv = ['sartor', 'fit', 'digits', '--epochs', '1'];"
        "from sartor.__main__ import main; main()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.splitlines() == [
        "sartor: The folder that you are in does not exist any more.",
        "Change to another folder first, such as: cd ~",
    ]
