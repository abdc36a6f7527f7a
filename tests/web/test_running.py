"""The life of a server: port, token, reload, and the end that loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from sartor.errors import ServerError
from sartor.web import running
from tests.conftest import Answer

from .conftest import LIMITS, gray, serving

Command = Callable[..., Answer]
TOKEN = "correct-horse-battery"


def test_from_the_command_line(
    start: Callable[..., subprocess.Popen[str]],
    run_copy: Path,
    rivals: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A token, answers, models that are read again whole or broken, and the end."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SARTOR_TOKEN", TOKEN)
    process = start("serve", f"digits={run_copy}", "--port", 0, "--json", "--max-pictures", 4)
    assert process.stdout is not None
    assert process.stderr is not None
    said = json.loads(process.stdout.readline())
    assert said["models"] == ["digits"]
    # Any name of the machine will do where a token is shown.
    shown = {"authorization": f"Bearer {TOKEN}", "host": "elsewhere.example"}
    with httpx.Client(base_url=said["url"], trust_env=False, timeout=60) as client:
        check_token(client)
        client.headers.update(shown)

        def probability() -> float:
            (one,) = client.post("/v1/predict", content=gray(200)).json()["predictions"]
            return float(one["probability"])

        assert client.post("/v1/predict", files=[("file", gray(3))] * 5).status_code == 413
        before = probability()
        kept = run_copy.with_name("kept")
        run_copy.rename(kept)
        answer = client.post("/v1/models/digits/reload")
        assert answer.status_code == 409
        assert answer.json()["error"].startswith("digits stays as it was: ")
        assert answer.json()["hint"]
        assert probability() == before
        shutil.copytree(rivals[0], run_copy)
        answer = client.post("/v1/models/digits/reload")
        assert answer.status_code == 200
        assert probability() != before
        shutil.rmtree(run_copy)
        kept.rename(run_copy)
        process.send_signal(signal.SIGHUP)
        reloads: list[dict[str, Any]] = []
        while len(reloads) < 3:
            line = process.stderr.readline()
            reloads += [json.loads(line)] * ('"reload"' in line)
        assert [bool(line.get("error")) for line in reloads] == [True, False, False]
        assert probability() == before
        assert client.post("/v1/models/none/reload").status_code == 404
    process.terminate()
    assert process.wait(60) == 143
    assert "Stopped; every accepted request was answered" in process.stderr.read()


def check_token(client: httpx.Client) -> None:
    assert client.get("/health").status_code == 200
    assert client.get("/ready").status_code == 200
    for wrong in ("", "Bearer", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", b"Bearer \xfc"):
        headers: Any = {"authorization": wrong} if wrong else {}
        for path in ("/v1/models", "/metrics", "/docs", "/nothing"):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["hint"]
        assert client.post("/v1/predict", content=gray(1), headers=headers).status_code == 401


def test_the_end_answers_what_was_taken(trained: Path) -> None:
    """Requests are on their way all the time; each is answered or was never taken."""
    outcomes: list[str] = []
    with ExitStack() as ends:
        address = ends.enter_context(serving(trained, LIMITS))
        stopped = threading.Event()

        def ask() -> None:
            while not stopped.is_set():
                try:
                    with httpx.Client(base_url=address.url, timeout=60, trust_env=False) as client:
                        while not stopped.is_set():
                            answer = client.post("/v1/predict", files=[("file", gray(3))] * 8)
                            outcomes.append(str(answer.status_code))
                except httpx.ConnectError:
                    return
                except httpx.RemoteProtocolError as error:
                    # An idle connection that was closed, as it may be at any time, is no loss;
                    # half an answer would be.
                    assert "without sending" in str(error)  # noqa: PT017
                    return
                except httpx.ReadError:
                    return

        # A body that never ends keeps the server no longer than the time of grace.
        half = ends.enter_context(socket.create_connection(("127.0.0.1", address.port)))
        askers = [threading.Thread(target=ask) for _ in range(4)]
        for one in askers:
            one.start()
        for _ in range(2000):
            if len(outcomes) > 20:
                break
            time.sleep(0.05)
        head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        half.sendall(head)
        address.process.send_signal(signal.SIGTERM)
        assert address.process.wait(60) == 15
        stopped.set()
        for one in askers:
            one.join()
        statuses = {line["status"] for line in address.logged("request")}
        assert not address.logged("failure")
    assert set(outcomes) <= {"200", "503"}
    assert outcomes.count("200") > 20
    assert statuses <= {200, 503}


class TestToken:
    def test_is_needed_for_other_machines(self, command: Command, trained: Path) -> None:
        answer = command("serve", trained, "--host", "0.0.0.0", "--port", 0)
        assert answer.exit_code == 2
        assert "--token-file FILE" in answer.err

    @pytest.mark.parametrize("token", ["short", "ü" * 20, "tab\there-is-not-one"])
    def test_is_hard_to_guess(self, command: Command, trained: Path, token: str) -> None:
        answer = command("serve", trained, "--token", token)
        assert answer.exit_code == 2
        assert "at least 16 characters" in answer.err

    def test_is_given_once(
        self, command: Command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "token").write_text(TOKEN + "\n")
        monkeypatch.setenv("SARTOR_TOKEN", TOKEN)
        answer = command("serve", trained, "--token-file", tmp_path / "token")
        assert "more than one token" in answer.err
        monkeypatch.delenv("SARTOR_TOKEN")
        answer = command("serve", trained, "--token-file", tmp_path / "none")
        assert answer.exit_code == 1
        assert "Cannot read the token" in answer.err


class TestBadUsage:
    def test_a_port_in_use(self, command: Command, trained: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            answer = command("serve", trained, "--port", port)
        assert answer.exit_code == 1
        assert answer.err == (
            f"sartor: Port {port} of 127.0.0.1 is in use.\nChoose another: --port {port + 1}\n"
        )

    @pytest.mark.parametrize(
        ("host", "port"), [("127.0.0.1", 70000), ("256.1.1.1", 0), ("192.0.2.1", 0), ("", -1)]
    )
    def test_no_such_address(self, host: str, port: int) -> None:
        with pytest.raises(ServerError) as refused:
            running.listen(running.Address(host=host, port=port))
        assert refused.value.hint
        assert "while attempting" not in refused.value.message

    def test_names(self, command: Command, trained: Path) -> None:
        assert command("serve").exit_code == 2
        answer = command("serve", trained, trained, "--port", 0)
        assert answer.exit_code == 2
        assert f"Two models have the name {trained.name}" in answer.err
        answer = command("serve", "missing", "--port", 0)
        assert answer.exit_code == 1
        assert "missing" in answer.err
        answer = command("serve", f"a b={trained}", "--port", 0)
        assert answer.exit_code == 2
        assert "cannot be served as a b." in answer.err
        assert f"a-b={trained}" in answer.err

    @pytest.mark.parametrize("content", [b"", b"PK\3\4", b"no bundle at all" * 100])
    def test_a_file_that_is_no_bundle(
        self, command: Command, tmp_path: Path, content: bytes
    ) -> None:
        (tmp_path / "shoes.zip").write_bytes(content)
        answer = command("serve", tmp_path / "shoes.zip", "--port", 0)
        assert answer.exit_code == 1
        assert "shoes.zip is not" in answer.err

    @pytest.mark.parametrize(
        "flags",
        [("--batch", 0), ("--queue", 10), ("--deadline", 0), ("--deadline", "nan"),
         ("--max-pixels", -1), ("--max-megabytes", 0)],
    )  # fmt: skip
    def test_limits_that_let_nothing_through(
        self, command: Command, trained: Path, flags: tuple[object, ...]
    ) -> None:
        answer = command("serve", trained, "--port", 0, *flags)
        assert answer.exit_code == 2
        assert str(flags[0]) in answer.err

    def test_the_extra_is_named(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr("sartor.web.running")
        monkeypatch.delitem(sys.modules, "sartor.web.running")
        monkeypatch.setitem(sys.modules, "uvicorn", None)
        answer = command("serve", "x")
        assert answer.exit_code == 1
        assert "pip install 'sartor[serve]'" in answer.err


def test_it_listens_on_ipv6_too() -> None:
    if not os.path.exists("/proc/net/if_inet6"):  # noqa: PTH110
        pytest.skip("this machine has none")
    with running.listen(running.Address(host="::1", port=0)) as listening:
        assert running.url_of(listening).startswith("http://[::1]:")
