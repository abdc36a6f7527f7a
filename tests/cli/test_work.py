"""`sartor work`: plan, workers, how far it is."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from sartor.data.dataset import Dataset
from sartor.data.pictures.preprocess import as_picture
from tests.held import Hold

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")

NONE = type(None)
PLAN = {
    "folder": str,
    "plan": str,
    "task": str,
    "pictures": int,
    "shards": int,
    "shard_size": int,
}
WORKED = {
    "worker": str,
    "shards": int,
    "pictures": int,
    "seconds": float,
    "complete": bool,
    "stopped": bool,
    "summary": dict,
}
STATUS = {
    "folder": str,
    "task": str,
    "pictures": int,
    "shards": int,
    "shards_done": int,
    "pictures_done": int,
    "complete": bool,
    "workers": list,
    "given_up": list,
    "seconds_left": NONE,
    "summary": NONE,
}
WORKER = {
    "worker": str,
    "host": str,
    "pid": int,
    "shard": str,
    "pictures_per_second": NONE,
    "alive": bool,
}
SUMMARY = {"plan": str, "pictures": int, "without": int, "file": str, "file_sha256": str}


def check(document: dict[str, Any], contract: dict[str, Any]) -> None:
    """Exactly these keys, and values of these types."""
    assert document.keys() == contract.keys()
    for key, kind in contract.items():
        assert isinstance(document[key], kind), key


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    """Digits in class folders, one of them damaged; not to be changed."""
    folder = tmp_path_factory.mktemp("labelled")
    for number in range(60):
        path = folder / digits.classes[digits.labels[number]] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        as_picture(digits.images[number]).save(path)
    (folder / "5" / "broken.jpg").write_bytes(b"no picture")
    return folder


class TestJson:
    def test_keys_and_types(self, command: Any, labelled: Path, tmp_path: Path) -> None:
        folder = tmp_path / "work"
        words = ["--plan", "decode", "--shard-size", 20, "--image-size", 8, "--json"]
        plan = command("work", folder, labelled, *words).document
        check(plan, PLAN)
        assert (plan["task"], plan["pictures"], plan["shards"]) == ("decode", 61, 4)
        shutil.copy(folder / "plan.json", folder / "leases" / "00002")
        status = command("work", folder, "--status", "--json").document
        check(status, STATUS)
        check(status["workers"][0], WORKER | dict.fromkeys(("worker", "host", "pid"), NONE))
        (folder / "leases" / "00002").unlink()
        worked = command("work", folder, "--json").document
        check(worked, WORKED)
        check(worked["summary"], SUMMARY)
        after = command("work", folder, "--status", "--json").document
        check(after, STATUS | {"summary": dict})
        assert after["summary"] == worked["summary"]

    def test_of_check(self, command: Any, labelled: Path, tmp_path: Path) -> None:
        assert command("work", tmp_path / "w", labelled, "--plan", "check").exit_code == 0
        document = command("work", tmp_path / "w", "--json").document
        check(document["summary"], SUMMARY | {"errors": int, "warnings": int})
        assert document["summary"]["errors"] == 1


class TestWords:
    def test_from_the_plan_to_the_end(self, command: Any, labelled: Path, tmp_path: Path) -> None:
        folder = tmp_path / "my work"
        planned = command("work", folder, labelled, "--plan", "decode", "--shard-size", 20)
        assert planned.out == f"{folder}: decode, 61 pictures in 4 shards\n"
        assert f"sartor work '{folder}'" in planned.err
        before = command("work", folder, "--status")
        assert before.out == "decode: 0 of 61 pictures, 0 of 4 shards done\n"
        worked = command("work", folder)
        assert worked.exit_code == 0
        assert worked.out == f"{folder}/decoded.parquet: 61 pictures, 1 of them unreadable\n"
        after = command("work", folder, "--status")
        assert after.out.startswith("decode: 61 of 61 pictures, 4 of 4 shards done\n")
        assert command("work", folder).out == worked.out

    def test_who_does_not_wait(self, command: Any, labelled: Path, tmp_path: Path) -> None:
        command("work", tmp_path / "w", labelled, "--plan", "decode", "--shard-size", 20)
        (tmp_path / "w" / "leases" / "00001").write_text('{"name": "somebody", "host": "there"}')
        answer = command("work", tmp_path / "w", "--no-wait")
        assert answer.exit_code == 0
        assert "this worker did 3 shards, others are at the rest" in answer.out
        assert "  00001  there" in command("work", tmp_path / "w", "--status").out

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ([], "holds no plan"),
            (["--status"], "holds no plan"),
            (["pictures"], "PICTURES means nothing without --plan"),
            (["--topk", "3"], "--topk means nothing without --plan"),
            (["--image-size", "3"], "--image-size means nothing without --plan"),
            (["--status", "--retry"], "--retry means nothing without --plan, or with --status"),
            (["x", "--plan", "decode", "--status"], "--status means nothing with --plan"),
            (["x", "--plan", "decode", "--processes", "2"], "--processes means nothing with"),
            (["x", "--plan", "predict", "--model", "m", "--ink", "mass"], "m"),
            (["--plan", "decode"], "No picture is named"),
            (["--processes", "0"], "--processes must be at least 1"),
            (["--threads", "0"], "--threads must be at least 1"),
        ],
    )
    def test_what_makes_no_sense(
        self, command: Any, tmp_path: Path, words: list[str], message: str
    ) -> None:
        answer = command("work", tmp_path / "w", *words)
        assert answer.exit_code != 0
        assert message in answer.err
        assert not (tmp_path / "w" / "plan.json").exists()

    def test_help_names_every_flag_once(self, command: Any) -> None:
        out = command("work", "--help").out
        for flag in ("--plan", "--model", "--status", "--no-wait", "--engine", "--lease"):
            assert out.count(f"\n  {flag} ") + out.count(f"\n  {flag}\n") == 1, flag
        assert max(map(len, out.splitlines())) <= 80


@pytest.mark.skipif(os.name != "posix", reason="needs signals of POSIX")
def test_sigterm_leaves_the_shard_to_others(
    command: Any, start: Any, hold: Hold, labelled: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "w"
    command("work", folder, labelled, "--plan", "decode", "--shard-size", 1)
    shards = hold._replace(function="sartor.shards.working._Working._do")
    one = start("work", folder, "--threads", 1, held=shards.before(30))
    shards.reached(30, one)
    one.send_signal(signal.SIGTERM)
    shards.end(30)
    _, err = one.communicate(timeout=120)
    assert one.returncode == 143
    assert "Go on with the same command." in err
    assert not list((folder / "leases").glob("[!.]*"))
    done = len(list((folder / "results").glob("*.parquet")))
    assert 0 < done < 61
    assert command("work", folder).out.endswith("61 pictures, 1 of them unreadable\n")


def test_a_worker_ends_with_the_process_that_started_it(
    command: Any, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("work", tmp_path / "w", labelled, "--plan", "decode")
    monkeypatch.setenv("SARTOR_WORK_PARENT", "1")
    answer = command("work", tmp_path / "w")
    assert answer.exit_code == 1
    assert "The process that started this worker has ended" in answer.err
