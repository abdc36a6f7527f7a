"""A plan's folder of somebody else's leads nowhere, and is waited for by nobody."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sartor

pytest.importorskip("pyarrow", reason="needs the extra parquet")


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A plan to check a few pictures."""
    for label in "ab":
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(4):
            picture = Image.new("L", (8, 8), number * 20)
            picture.save(tmp_path / "pictures" / label / f"{number}.png")
    sartor.plan_work(tmp_path / "job", "check", tmp_path / "pictures", image_size=8)
    return tmp_path / "job"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "kept").write_text("the user's")
    return folder


@pytest.mark.parametrize("name", ["leases", "workers", "results"])
def test_a_folder_that_is_a_link_to_outside(
    name: str, job: Path, outside: Path, command: Any
) -> None:
    (job / name).rmdir()
    (job / name).symlink_to(outside)
    for flags in ([], ["--status"]):
        answer = command("work", job, *flags)
        assert answer.exit_code == 1
        assert f"{job / name} is a link to {outside}" in answer.err
    assert [one.name for one in outside.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    "name", ["plan.json", "manifest.parquet", "summary.json", "leases/00000", "leases/.clock"]
)
def test_a_pipe_is_not_waited_for(name: str, job: Path, command: Any) -> None:
    (job / name).unlink(missing_ok=True)
    os.mkfifo(job / name)
    answer = command("work", job, "--threads", 1)
    assert answer.exit_code == 1
    assert str(job / name) in answer.err


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan.update(pictures="8"),
        lambda plan: plan.update(pictures=10**30),
        lambda plan: plan.update(pictures=10**9, shard_size=1),
        lambda plan: plan.update(lease_seconds=None),
        lambda plan: plan.update(settings=[]),
        lambda plan: plan.update(versions={"numpy": 2}),
        lambda plan: plan["settings"].update(classes=3),
        lambda plan: plan["settings"].update(columns=["x"]),
        lambda plan: plan["settings"].pop("checks"),
        lambda plan: plan["settings"]["recipe"].update(exclude="/etc/passwd"),
        lambda plan: plan["settings"]["recipe"].update(exclude="../pictures/list"),
        lambda plan: plan["settings"]["recipe"].update(image_size="x"),
    ],
)
def test_a_plan_that_says_something_else(
    change: Callable[[dict[str, Any]], object], job: Path, command: Any
) -> None:
    plan = json.loads((job / "plan.json").read_text())
    change(plan)
    (job / "plan.json").write_text(json.dumps(plan))
    answer = command("work", job, "--threads", 1)
    assert answer.exit_code in (1, 2)
    assert "should not have happened" not in answer.err
    assert not list((job / "results").iterdir())


@pytest.mark.parametrize(
    "lease",
    [
        {"name": ["x"], "host": 5, "pid": "\x1b[2J", "taken": "many"},
        {"name": "../../outside", "host": "\x1b[2Jx", "pid": None},
    ],
)
def test_leases_and_words_of_workers_that_say_anything(
    lease: dict[str, Any], job: Path, command: Any
) -> None:
    (job / "leases" / "00000").write_text(json.dumps(lease))
    (job / "leases" / "\x1b[2J").write_text(json.dumps(lease))
    told = {"pictures": "x", "seconds": 0}
    (job / "workers" / "outside.json").write_text(json.dumps(told))
    answer = command("work", job, "--status")
    assert answer.exit_code == 0
    assert "\x1b" not in answer.out + answer.err
    (worker,) = command("work", job, "--status", "--json").document["workers"]
    assert worker["shard"] == "00000"
    assert worker["pictures_per_second"] is None
