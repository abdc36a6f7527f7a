"""A run's own Python file runs only for who trained it, or says --trust."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import sartor
from sartor.errors import RunError
from sartor.files import sha256_of_file
from sartor.home import cache_home

# What was changed is said besides; tests/runs/test_seals.py looks at that.
pytestmark = pytest.mark.filterwarnings("ignore:.*is not the file that the run was trained with")

NET = """
from pathlib import Path
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
"""
PAYLOAD = 'from pathlib import Path\nPath("PWNED").touch()\n'
SETTINGS: dict[str, Any] = {"epochs": 1, "threads": 1, "report": False}


@pytest.fixture
def own() -> Path:
    """A run of this user with a network from a file."""
    Path("net.py").write_text(NET)
    return sartor.fit("digits", model="net.py:Net", out="own", **SETTINGS).path


@pytest.fixture
def foreign(own: Path, tmp_path: Path) -> Path:
    """The same run as somebody else would send it, with a file that does more."""
    path = Path(shutil.copytree(own, tmp_path / "foreign"))
    (path / "model.py").write_text(PAYLOAD + NET)
    return path


def pwned() -> bool:
    return Path("PWNED").exists()


def verbs(run: Path, picture: Path, other: Path) -> list[list[Any]]:
    return [
        ["evaluate", run],
        ["predict", run, picture],
        ["predict", run, picture, "--explain", "why.svg"],
        ["report", run],
        ["trace", run],
        ["summary", run],
        ["resume", run, "--epochs", 2],
        ["compare", run, other],
        ["compare", other, run],
    ]


class TestRecipesOfOthers:
    """A recipe's file may name Python code, too."""

    def test_code_that_only_the_file_names_asks_for_trust(
        self, foreign: Path, command: Any
    ) -> None:
        recipe = foreign / "recipe.toml"
        recipe.write_text(
            recipe.read_text().replace(str(Path("net.py")), str(foreign / "model.py"))
        )
        words = ["fit", "--recipe", recipe, "--no-report", "--out", "mine"]
        for more in ([], ["--overfit-batch"], ["--lr-find"], ["--seeds", 2]):
            answer = command(*words, *more)
            assert answer.exit_code == 2
            assert f"names Python code, which training would run: {foreign / 'model.py'}" in (
                answer.err
            )
            assert "--trust" in answer.err
            assert not pwned()
        assert command(*words, "--trust").exit_code == 0
        assert pwned()

    def test_who_names_it_himself_is_not_asked(self, foreign: Path, command: Any) -> None:
        spec = f"{foreign / 'model.py'}:Net"
        words = ["fit", "--recipe", foreign / "recipe.toml", "--model", spec, "--no-report"]
        assert command(*words, "--out", "mine").exit_code == 0

    def test_a_run_of_ones_own_is_made_again(self, own: Path, command: Any) -> None:
        words = ["fit", "--recipe", own / "recipe.toml", "--no-report", "--out", "again"]
        assert command(*words).exit_code == 0


@pytest.fixture
def picture(digits: sartor.Dataset, tmp_path: Path) -> Path:
    from sartor.data.pictures.preprocess import as_picture

    as_picture(digits.images[0]).save(tmp_path / "digit.png")
    return tmp_path / "digit.png"


def test_no_verb_runs_the_file_of_somebody_else(
    foreign: Path, picture: Path, trained: Path, command: Any
) -> None:
    for words in verbs(foreign, picture, trained):
        answer = command(*words)
        assert answer.exit_code == 1, words
        assert not pwned(), words
        assert f"{foreign} comes with Python code" in answer.err
        assert str(foreign / "model.py") in answer.err
        assert str(sha256_of_file(foreign / "model.py")) in answer.err
        assert "--trust" in answer.err
    for words in (["show", foreign], ["runs", foreign.parent]):
        assert command(*words).exit_code == 0
    assert not pwned()


def test_whoever_trusts_it_says_so(
    foreign: Path, picture: Path, trained: Path, command: Any
) -> None:
    for words in verbs(foreign, picture, trained):
        Path("PWNED").unlink(missing_ok=True)
        shutil.rmtree(foreign / "predictions", ignore_errors=True)
        answer = command(*words, "--trust")
        assert answer.exit_code == 0, (words, answer.err)
        assert pwned(), words


def test_in_python(foreign: Path) -> None:
    for call in (sartor.evaluate, sartor.report, sartor.trace, sartor.explain, sartor.embed):
        more: dict[str, Any] = {"pictures": 0} if call is sartor.explain else {}
        with pytest.raises(RunError, match="comes with Python code") as caught:
            call(foreign, **more)  # type: ignore[operator]
        assert "trust=True" in caught.value.hint
    assert not pwned()
    assert sartor.Run.open(foreign, trust=True).evaluate().count == 359
    assert pwned()


@pytest.mark.parametrize("model", ["lenet", "linear"])
def test_a_file_beside_a_registered_network_is_not_read(
    model: str, tmp_path: Path, picture: Path, trained: Path, command: Any
) -> None:
    run = sartor.fit("digits", model=model, out=tmp_path / "run", **SETTINGS).path
    (run / "model.py").write_text(PAYLOAD + NET.replace("Net", model))
    for words in verbs(run, picture, trained):
        assert command(*words).exit_code == 0, words
        assert not pwned(), words


def test_the_one_who_trained_it_is_not_asked(
    own: Path, picture: Path, trained: Path, command: Any
) -> None:
    for words in verbs(own, picture, trained):
        answer = command(*words)
        assert answer.exit_code == 0, (words, answer.err)


class TestTheMark:
    def refused(self, run: Path) -> bool:
        try:
            sartor.evaluate(run)
        except RunError as error:
            assert "comes with Python code" in error.message  # noqa: PT017
            return True
        return False

    def test_a_copied_or_moved_run_does_not_carry_it(self, own: Path) -> None:
        shutil.copytree(own, "copy")
        assert self.refused(Path("copy"))
        own.rename("moved")
        assert self.refused(Path("moved"))
        Path("moved").rename(own)
        assert not self.refused(own)

    def test_nor_an_edited_file_nor_other_arguments(self, own: Path) -> None:
        text = (own / "model.py").read_text()
        (own / "model.py").write_text(text + "\n")
        assert self.refused(own)
        (own / "model.py").write_text(text)
        assert not self.refused(own)

    @pytest.mark.parametrize("name", ["numpy.py", "torch/__init__.py", "json.so"])
    def test_nor_a_run_with_something_to_import(self, name: str, own: Path) -> None:
        (own / name).parent.mkdir(exist_ok=True)
        (own / name).write_text(PAYLOAD)
        assert self.refused(own)
        assert not pwned()

    def test_the_key_is_private_and_nobody_elses_counts(self, own: Path) -> None:
        (key,) = (cache_home() / "trust").glob("*/key")
        assert key.stat().st_mode & 0o077 == 0
        key.chmod(0o644)
        assert self.refused(own), "others may have read it"
        key.chmod(0o600)
        assert not self.refused(own)
        content = key.read_bytes()
        try:
            key.write_bytes(os.urandom(32))
            assert self.refused(own)
        finally:
            key.write_bytes(content)

    def test_a_home_that_cannot_be_written_to(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        Path("net.py").write_text(NET)
        monkeypatch.setenv("SARTOR_HOME", str(tmp_path / "file"))
        settings = SETTINGS | {"report": True}
        with pytest.warns(sartor.SartorWarning, match="will ask for --trust"):
            run = sartor.fit("digits", model="net.py:Net", out="own", **settings)
        assert (run.path / "report.html").is_file()
        assert run.evaluate().count == 359
        assert self.refused(run.path)


def test_without_its_copy_the_path_in_the_recipe_does_not_run(own: Path, command: Any) -> None:
    (own / "model.py").unlink()
    Path("net.py").write_text(PAYLOAD + NET)
    for flags in ([], ["--trust"]):
        answer = command("evaluate", own, *flags)
        assert answer.exit_code == 1
        assert "model.py cannot be read" in answer.err
    assert not pwned()
