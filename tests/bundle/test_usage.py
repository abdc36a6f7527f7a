"""What a card says about how to use the bundle is run as it is written."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sartor.bundle.format import Bundle


def snippets(card: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", card, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def card(wild_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The text, from within the bundle's folder."""
    monkeypatch.chdir(wild_bundle)
    return Path("README.md").read_text()


def test_the_python_in_the_card_runs(
    card: str, wild_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_sartor, by_onnx = snippets(card, "python")
    classes = Bundle.open(wild_bundle).classes
    for code, lines in ((by_sartor, 1), (by_onnx, 3)):
        exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
        out = capsys.readouterr().out.splitlines()
        assert len(out) == lines
        assert all(any(name in line for name in classes) for line in out)


def test_the_commands_in_the_card_run(card: str, command: Callable[..., Any]) -> None:
    lines = [line for block in snippets(card, "sh") for line in block.splitlines()]
    own = [shlex.split(line) for line in lines if re.match(r"sartor (verify|predict) ", line)]
    assert len(own) == 2
    for words in own:
        assert command(*words[1:]).exit_code == 0


def test_the_card_is_covered_by_the_bundles_hashes(wild_bundle: Path) -> None:
    assert "README.md" in Bundle.open(wild_bundle).names


def test_the_server_of_the_card_answers_as_the_bundle_does(
    card: str,
    start: Callable[..., subprocess.Popen[str]],
    command: Callable[..., Any],
    free_port: Callable[[], int],
) -> None:
    lines = [line for block in snippets(card, "sh") for line in block.splitlines()]
    serve, post = (line for line in lines if "serve" in line or line.startswith("curl"))
    port = str(free_port())
    words = shlex.split(serve.removesuffix("&").replace("8000", port))
    _, option, form, url = shlex.split(post.replace("8000", port))
    assert option == "-F"
    assert Path(form.removeprefix("file=@")).is_file()
    assert url.endswith("/v1/predict")
    start(*words[1:])
    end = time.monotonic() + 60
    while not answers(int(port)) and time.monotonic() < end:
        time.sleep(0.1)
    answer = command("verify", ".", "--url", url, "--json")
    assert answer.exit_code == 0, answer.out
    (check,) = (one for one in answer.document["checks"] if one["name"] == "server")
    assert check["largest_difference"] < 1e-5


def answers(port: int) -> bool:
    with socket.socket() as asking:
        asking.settimeout(1)
        return asking.connect_ex(("127.0.0.1", port)) == 0
