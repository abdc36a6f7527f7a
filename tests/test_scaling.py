"""The files that start a training on several machines: their syntax, and that both launchers and
sartor take the words in them; and the model on paper."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.run import get_args_parser

from sartor.cli.fit import Fit, defaults
from sartor.cli.parsing import parse

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy/scaling"
sys.path.append(str(ROOT / "benchmarks"))
import scaling_model  # noqa: E402


def yaml_of(text: str) -> Any:
    """The plain subset of YAML that the file is written in: tables and lists by indentation."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.lstrip().startswith("#")]
    found, rest = block(lines, 0)
    assert not rest, rest[0]
    return found


def block(lines: list[str], depth: int) -> tuple[Any, list[str]]:
    table: dict[str, Any] = {}
    listed: list[Any] = []
    while lines and indent(lines[0]) == depth:
        words = lines[0].strip()
        if words.startswith("- "):
            inside = words[2:]
            if re.match(r"\w+: ", inside):
                lines[0] = " " * (depth + 2) + inside
                value, lines = block(lines, depth + 2)
            else:
                value, lines = scalar(inside), lines[1:]
            listed.append(value)
            continue
        key, colon, value = words.partition(":")
        assert colon, f"not a key: {words}"
        assert key not in table, f"twice: {key}"
        lines = lines[1:]
        if value.strip():
            table[key] = scalar(value.strip())
        else:
            assert indent(lines[0]) > depth, f"nothing below {key}"
            table[key], lines = block(lines, indent(lines[0]))
    assert bool(table) != bool(listed)
    return table or listed, lines


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def scalar(text: str) -> Any:
    if text.startswith("{"):
        pairs = text.strip("{}").split(", ")
        return {key: scalar(value) for key, value in (pair.split(": ") for pair in pairs)}
    assert ": " not in text
    return int(text) if text.isdecimal() else text.strip('"')


def check_words(words: list[str]) -> tuple[Any, Fit]:
    """As torchrun and `sartor fit` read them."""
    launcher = get_args_parser().parse_args(words)
    assert launcher.module
    assert launcher.training_script == "sartor"
    verb, *flags = launcher.training_script_args
    assert verb == "fit"
    given = parse("fit", Fit, flags, defaults(flags))
    assert given.out is not None, "a restart has to find its run"
    assert launcher.rdzv_backend == "c10d"
    assert int(launcher.max_restarts) > 0
    return launcher, given


def test_kubernetes() -> None:
    text = (DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")
    service, job = map(yaml_of, text.split("\n---\n"))
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"]
    (container,) = pod["containers"]
    program, *words = container["command"]
    assert program == "torchrun"
    launcher, _ = check_words(words)
    assert int(launcher.nnodes) == spec["completions"]
    # The first pod's name, below the service that resolves it.
    first = f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert launcher.rdzv_endpoint.partition(":")[0] == first
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"] == {"clusterIP": "None", "selector": {"job-name": "sartor"}}
    assert [one["name"] for one in pod["volumes"]] == [
        one["name"] for one in container["volumeMounts"]
    ]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("name", ["slurm.sbatch", "ssh.sh"])
def test_shell(name: str) -> None:
    path = DEPLOY / name
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert path.read_text(encoding="utf-8").startswith("#!/bin/bash\n")


STUBS = {
    "torchrun": 'printf "%s\\n" "$@" > words; exit 0',
    "srun": 'shift; exec "$@"',
    "scontrol": "echo first-host; echo second-host",
    # ssh -tt HOST COMMAND, on this machine.
    "ssh": 'cd / && exec bash -c "$3"',
}


@pytest.fixture
def stubs(tmp_path: Path) -> dict[str, str]:
    """An environment in which the commands of a cluster only say what they were told."""
    tools = tmp_path / "env/bin"
    tools.mkdir(parents=True)
    for name, line in STUBS.items():
        (tools / name).write_text(f"#!/bin/bash\n{line}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    return {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_slurm_fits_once_and_then_resumes(stubs: dict[str, str], tmp_path: Path) -> None:
    said = {"SLURM_CPUS_PER_TASK": "32", "SLURM_JOB_NODELIST": "first-host,second-host"}
    said |= {"SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "RUN": str(tmp_path / "run")}
    line = ["bash", str(DEPLOY / "slurm.sbatch")]
    subprocess.run(line, env=stubs | said, cwd=tmp_path, check=True)
    words = (tmp_path / "words").read_text(encoding="utf-8").splitlines()
    launcher, _ = check_words(words)
    assert (launcher.nnodes, launcher.nproc_per_node) == ("2", "4")
    assert launcher.rdzv_endpoint == "first-host:29500"
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.toml").touch()
    subprocess.run(line, env=stubs | said, cwd=tmp_path, check=True)
    words = (tmp_path / "words").read_text(encoding="utf-8").splitlines()
    assert words[-2:] == ["resume", str(tmp_path / "run")]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_ssh_starts_the_same_words_on_every_host(stubs: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    said = {"ENVIRONMENT": str(tmp_path / "env"), "FOLDER": str(folder), "PROCESSES": "3"}
    fit = ["fit", "my pictures", "--out", "runs/it's", "--epochs", "2"]
    line = ["bash", str(DEPLOY / "ssh.sh"), "me@one", "two", "--", *fit]
    subprocess.run(line, env=stubs | said, check=True)
    words = (folder / "words").read_text(encoding="utf-8").splitlines()
    launcher, given = check_words(words)
    assert (launcher.nnodes, launcher.nproc_per_node) == ("2", "3")
    assert launcher.rdzv_endpoint == "one:29500"
    assert launcher.training_script_args == fit
    assert given.target == "my pictures"
    refused = subprocess.run(["bash", str(DEPLOY / "ssh.sh"), "one"], env=stubs | said, text=True)
    assert refused.returncode == 2


def test_the_page_names_the_files_and_its_commands_are_understood() -> None:
    page = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    for path in DEPLOY.iterdir():
        assert f"(../deploy/scaling/{path.name})" in page
    shown = re.sub(r"\\\n\s*", "", page)
    commands = re.findall(r"^    torchrun (.* -m sartor .*)$", shown, re.MULTILINE)
    assert len(commands) >= 2
    for command in commands:
        launcher = get_args_parser().parse_args(shlex.split(command))
        _, *flags = launcher.training_script_args
        parse("fit", Fit, flags, defaults(flags))


def test_the_model_adds_up_and_finds_its_own_numbers_again() -> None:
    """Fitted to times that it made itself, it gives these back; and its limits are right."""
    true = scaling_model.Step(
        fixed=0.01, image=1e-4, norms=3, gradient_bytes=4e6, latency=1e-4, bandwidth=1e9
    )
    sums = {
        str(size): [
            {"numbers": 1024, "ordered": [1.0], "gather": [(size - 1) * true.latency]},
            {"numbers": 1_000_000, "ordered": [4e6 / true.bandwidth]},
        ]
        for size in (2, 3, 4)
    }
    seconds = {"alone": [true.seconds(1, 512)], "smaller": [true.seconds(1, 256)]}
    one = {"seconds": seconds, "parameters": 1_000_000, "norms": 3}
    again = scaling_model.fitted(one, sums, 512, 256)
    for name, value in vars(true).items():
        assert getattr(again, name) == pytest.approx(value), name
    assert true.seconds(1, 512) == pytest.approx(0.01 + 512e-4)
    best = scaling_model.best(true, 512)
    assert true.seconds(best, 512) < true.seconds(1, 512)
    assert true.seconds(512, 512) > true.seconds(best, 512), "too many are slower"
    assert scaling_model.breaks_first(true, 512).endswith("to the sum")
    many_norms = replace(true, norms=20)
    assert "batch normalisation" in scaling_model.breaks_first(many_norms, 512)
    found = {"native": {"net": one}, "plain": {"net": one}, "sums": {"memory": sums}}
    assert any("1,000" in line for line in scaling_model.lines(found, 512, 256))
