"""The files for a container and for systemd: what they name exists, and what they promise holds."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from sartor import api
from tests.conftest import Answer

from .web.conftest import gray

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
UNIT = (DEPLOY / "sartor-serve.service").read_text(encoding="utf-8")
TRAINING = ("torch", "sklearn", "matplotlib", "onnx", "onnxscript", "cleanlab", "captum", "pyarrow")
WITHOUT = f"""
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {TRAINING!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Refused())
from sartor.__main__ import main
main()
"""


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, long lines joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    lines = [line.strip() for line in joined.splitlines() if line.strip()]
    return [(line.split()[0], line.partition(" ")[2]) for line in lines]


def test_the_container_copies_what_there_is_and_ends_small() -> None:
    stages = [place for place, (word, _) in enumerate(instructions()) if word == "FROM"]
    assert len(stages) == 2
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources), rest
    last = instructions()[stages[-1] :]
    assert not any(word == "RUN" and re.search(r"apt|pip install", rest) for word, rest in last)
    by_word = dict(last)
    assert by_word["USER"].partition(":")[0].isdecimal()
    assert int(by_word["USER"].partition(":")[0]) > 0
    assert "/ready" in by_word["HEALTHCHECK"]


def test_the_container_starts_a_command_that_exists(
    command: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_word = dict(instructions())
    _, _, _, *words = json.loads(by_word["ENTRYPOINT"]) + json.loads(by_word["CMD"])
    # Open to all, it wants a token; with one it gets as far as the bundle.
    answer = command(*words, "--port", 0)
    assert answer.exit_code == 2
    assert "token" in answer.err
    monkeypatch.setenv("SARTOR_TOKEN", "0123456789abcdef")
    answer = command(*words, "--port", 0)
    assert answer.exit_code == 1
    assert words[-1] in answer.err


def test_what_the_container_installs_is_locked() -> None:
    def name(line: str) -> str:
        return re.split(r"[=<>\[; ]", line)[0].lower().replace("_", "-")

    lines = (DEPLOY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = {name(line) for line in lines if not line.startswith("#")}
    locked = {name(line) for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert wanted <= locked
    assert "torch" not in wanted


def test_a_bundle_is_served_without_what_trains(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    api.export(trained, tmp_path / "digits.zip")
    words = ["serve", str(tmp_path / "digits.zip"), "--port", "0", "--json"]
    line = [sys.executable, "-c", WITHOUT, *words]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
        try:
            assert one.stdout is not None
            url = json.loads(one.stdout.readline())["url"]
            with httpx.Client(base_url=url, trust_env=False) as client:
                assert client.post("/v1/predict", content=gray(9)).status_code == 200
                (model,) = client.get("/v1/models").json()["models"]
                assert model["runtime"] == "onnx"
                assert not {"recipe", "files", "golden"} & model.keys()
                assert client.post("/v1/models/digits/reload").status_code == 200
                # It goes on with what it has while the bundle is not whole.
                content = (tmp_path / "digits.zip").read_bytes()
                middle = len(content) // 2
                changed = bytes([content[middle] ^ 1])
                (tmp_path / "digits.zip").write_bytes(
                    content[:middle] + changed + content[middle + 1 :]
                )
                answer = client.post("/v1/models/digits/reload")
                assert answer.status_code == 409
                assert client.post("/v1/predict", content=gray(9)).status_code == 200
        finally:
            one.kill()


def test_the_unit_is_one(tmp_path: Path) -> None:
    found = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read_string(UNIT)
    service = found["Service"]
    assert service["SuccessExitStatus"] == "143"
    assert {"DynamicUser", "NoNewPrivileges", "MemoryDenyWriteExecute"} <= {
        key for key, value in service.items() if value == "yes"
    }
    program, *words = shlex.split(service["ExecStart"])
    assert words[:3] == ["-m", "sartor", "serve"]
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not here to look at it")
    path = tmp_path / "sartor-serve.service"
    path.write_text(UNIT.replace(program, sys.executable), encoding="utf-8")
    answer = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "sartor-serve" not in answer.stderr


def test_the_job_of_kubernetes_starts_workers_with_flags_that_exist(
    command: Callable[..., Answer], tmp_path: Path
) -> None:
    job = (DEPLOY / "work-job.yaml").read_text(encoding="utf-8")
    (line,) = (line for line in job.splitlines() if "command:" in line)
    program, verb, folder, *flags = json.loads(line.partition(":")[2])
    assert (program, verb) == ("sartor", "work")
    answer = command(verb, tmp_path / Path(folder).name, *flags)
    assert answer.exit_code == 2
    assert "holds no plan" in answer.err, "and nothing about a flag"
