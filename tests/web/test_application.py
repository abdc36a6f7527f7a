"""A real server, asked as clients ask it; every answer is held against `predict`."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import time
import zlib
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.api.serving import Servable
from sartor.data.dataset import Dataset
from sartor.web.application import Server
from sartor.web.guard import Guard
from sartor.web.limits import Limits
from sartor.web.models import Models
from sartor.web.work import Live

from .conftest import LIMITS, Address, encoded, gray


@pytest.fixture(scope="module")
def images(digits: Dataset) -> list[bytes]:
    return [encoded(image[0]) for image in digits.images[:6]]


@pytest.fixture(scope="module")
def expected(trained: Path, images: list[bytes]) -> list[dict[str, float]]:
    """Probabilities as `sartor.predict` has them."""
    pictures = [Image.open(io.BytesIO(content)) for content in images]
    return [one.probabilities for one in sartor.predict(trained, pictures)]


def assert_fault(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    assert document["error"].endswith((".", "?"))
    assert document["hint"]
    return document


class TestPredict:
    def test_every_way_to_send_gives_the_answers_of_predict(
        self, client: httpx.Client, images: list[bytes], expected: list[dict[str, float]]
    ) -> None:
        data = [
            {"file": f"{n}", "data": base64.b64encode(c).decode()} for n, c in enumerate(images)
        ]
        form = [("file", (f"{n}", content)) for n, content in enumerate(images)]
        for answer in (
            client.post("/v1/predict", files=form),
            client.post("/v1/predict", json={"pictures": data}),
            client.post("/v1/models/second/predict", files=form),
        ):
            assert answer.status_code == 200
            assert answer.json()["model"] in ("digits", "second")
            predictions = answer.json()["predictions"]
            assert [one["file"] for one in predictions] == [str(n) for n in range(len(images))]
            for one, wanted in zip(predictions, expected, strict=True):
                assert one["probabilities"] == pytest.approx(wanted, abs=1e-6)
                assert one["label"] == max(wanted, key=wanted.__getitem__)
                assert one["probability"] == max(one["probabilities"].values())
        raw = client.post("/v1/predict", content=images[0], headers={"content-type": "image/png"})
        (one,) = raw.json()["predictions"]
        assert one["probabilities"] == pytest.approx(expected[0], abs=1e-6)

    def test_bad_pictures_stand_beside_good_ones(
        self, client: httpx.Client, images: list[bytes]
    ) -> None:
        large = encoded(np.zeros((1001, 1000), np.uint8))
        mixed = [images[0], images[0][:60], b"", large, images[1]]
        form = [("file", (f"{n}", content)) for n, content in enumerate(mixed)]
        answer = client.post("/v1/predict", files=form)
        assert answer.status_code == 200
        predictions = answer.json()["predictions"]
        assert ["error" in one for one in predictions] == [False, True, True, True, False]
        assert [one["file"] for one in predictions] == list("01234")
        assert predictions[3]["error"].startswith("3 has 1,000 x 1,001 pixels. At most 1,000,000")

    def test_only_bad_ones_are_no_success(self, client: httpx.Client) -> None:
        document = assert_fault(client.post("/v1/predict", files={"file": ("a", b"x")}), 422)
        assert document["predictions"] == [
            {"file": "a", "error": f"{document['error']} {document['hint']}"}
        ]
        two = [("file", ("a", b"x")), ("file", ("b", b"y"))]
        assert "None of the 2" in assert_fault(client.post("/v1/predict", files=two), 422)["error"]

    def test_bombs_are_refused_by_their_header(self, client: httpx.Client) -> None:
        """60,000 x 60,000 pixels: a header, and a bitmap of one bit each."""
        small, side = gray(0), (60_000).to_bytes(4)
        header = b"IHDR" + side + side + small[24:29]
        bomb = small[:12] + header + zlib.crc32(header).to_bytes(4) + small[33:]
        stream = io.BytesIO()
        Image.new("1", (10_000, 10_000)).save(stream, "PNG")
        # Whoever decoded the last one would find that it is damaged.
        for content in (bomb, stream.getvalue(), stream.getvalue()[:100]):
            assert_fault(client.post("/v1/predict", content=content), 413)

    def test_what_is_asked_of_an_answer(self, client: httpx.Client, images: list[bytes]) -> None:
        form = {"file": ("a", images[2])}
        answer = client.post("/v1/predict", params={"topk": 2, "input": 1}, files=form)
        (one,) = answer.json()["predictions"]
        assert next(iter(one["probabilities"])) == one["label"]
        assert len(one["probabilities"]) == 2
        seen = Image.open(io.BytesIO(base64.b64decode(one["input"].partition(",")[2])))
        assert np.array_equal(np.asarray(seen), np.asarray(Image.open(io.BytesIO(images[2]))))
        for query in ("topk=0", "topk=x", "topk=999999999999", "topk=", "input=maybe"):
            assert_fault(client.post(f"/v1/predict?{query}", files=form), 400)


class TestRefusals:
    def test_of_what_is_not_there(self, client: httpx.Client) -> None:
        assert_fault(client.get("/nothing"), 404)
        assert_fault(client.put("/v1/predict"), 405)
        assert_fault(client.get("/v1/predict"), 405)
        document = assert_fault(client.post("/v1/models/digit/predict"), 404)
        assert document["error"] == 'Unknown model "digit"; did you mean "digits"?'

    def test_of_bodies(self, client: httpx.Client) -> None:
        assert_fault(client.post("/v1/predict"), 400)
        assert_fault(client.post("/v1/predict", data={"file": "x"}), 415)
        assert_fault(client.post("/v1/predict", files=[("file", b"x")] * 9), 413)
        assert_fault(client.post("/v1/predict", json={"pictures": "x"}), 400)
        compressed = {"content-encoding": "gzip"}
        assert_fault(client.post("/v1/predict", content=b"x", headers=compressed), 415)

    def test_of_too_many_bytes_announced_or_not(self, client: httpx.Client) -> None:
        too_many = b"x" * (LIMITS["body_bytes"] + 1)
        assert_fault(client.post("/v1/predict", content=too_many), 413)
        pieces = (too_many[:65536] for _ in range(17))
        assert_fault(client.post("/v1/predict", content=pieces), 413)

    def test_of_a_body_without_end(self, address: Address) -> None:
        head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        answer = address.send(head, *[piece] * 100)
        assert not answer or answer.startswith(b"HTTP/1.1 413 ")

    def test_of_pages_of_other_sites(self, client: httpx.Client, images: list[bytes]) -> None:
        other = {"origin": "http://evil.example"}
        assert_fault(client.post("/v1/predict", content=images[0], headers=other), 403)
        own = {"origin": str(client.base_url).rstrip("/")}
        assert client.post("/v1/predict", content=images[0], headers=own).status_code == 200
        renamed = {"host": "evil.example"}
        assert_fault(client.get("/v1/models", headers=renamed), 403)

    def test_reload_is_for_this_machine(self, client: httpx.Client) -> None:
        forwarded = {"x-forwarded-for": "10.0.0.1"}
        assert_fault(client.post("/v1/models/digits/reload", headers=forwarded), 403)


class TestWhatItSaysOfItself:
    def test_health_and_models(self, client: httpx.Client, trained: Path) -> None:
        assert client.get("/health").json() == {"status": "ok"}
        ready = {"status": "ready", "models": ["digits", "second"]}
        assert client.get("/ready").json() == ready
        for path in ("/health", "/ready", "/v1/models"):
            asked = client.head(path)
            assert (asked.status_code, asked.content) == (200, b"")
        first, second = client.get("/v1/models").json()["models"]
        assert (first["name"], first["default"]) == ("digits", True)
        assert (second["name"], second["default"]) == ("second", False)
        assert first["classes"] == [str(n) for n in range(10)]
        assert first["input"] == {"channels": 1, "height": 8, "width": 8}
        assert str(trained) not in client.get("/v1/models").text

    def test_metrics_count_what_happened(self, client: httpx.Client, images: list[bytes]) -> None:
        def counted(name: str) -> float:
            text = client.get("/metrics").text
            found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
            return float(found[1]) if found else 0.0

        good = 'sartor_pictures_total{model="digits",outcome="answered"}'
        bad = 'sartor_pictures_total{model="digits",outcome="failed"}'
        asked = 'sartor_requests_total{route="/v1/predict",status="200"}'
        before = [counted(name) for name in (good, bad, asked)]
        form = [("file", ("a", images[0])), ("file", ("b", images[1])), ("file", ("c", b"x"))]
        client.post("/v1/predict", files=form)
        after = [counted(name) for name in (good, bad, asked)]
        assert [one - other for one, other in zip(after, before, strict=True)] == [2, 1, 1]
        assert counted("sartor_waiting_pictures") == 0
        assert counted('sartor_batch_pictures_count{model="digits"}') > 0

    def test_the_examples_of_the_interface_are_answered_so(self, client: httpx.Client) -> None:
        openapi = client.get("/openapi.json").json()
        described = openapi["paths"]["/v1/predict"]["post"]
        example = described["requestBody"]["content"]["application/json"]["example"]
        answer = described["responses"]["200"]["content"]["application/json"]["example"]
        given = client.post("/v1/predict", json=example).json()
        assert given["model"] == answer["model"]
        (one,), (wanted,) = given["predictions"], answer["predictions"]
        assert one["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-6)
        assert one.keys() == wanted.keys()
        assert set(described["responses"]) >= {"200", "400", "413", "422", "429", "503", "504"}
        paths = set(openapi["paths"])
        assert paths == {
            "/v1/predict", "/v1/models", "/v1/models/{name}/predict", "/v1/models/{name}/reload",
            "/health", "/ready", "/metrics",
        }  # fmt: skip

    def test_its_page_loads_nothing_from_elsewhere(self, client: httpx.Client) -> None:
        page = client.get("/docs")
        assert page.status_code == 200
        assert "POST /v1/models/{name}/predict" in page.text
        assert not re.search(r"(src|href)=\"(?!/)", page.text)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "http" not in policy
        assert client.get("/docs.css").headers["content-type"].startswith("text/css")

    def test_the_log_names_no_picture(self, client: httpx.Client, address: Address) -> None:
        secret = "patient-4711"
        client.post("/v1/predict", files={"file": (f"{secret}.png", gray(9))})
        client.post("/v1/predict", files={"file": (secret, b"x")})
        client.post("/v1/predict", content=b"x" * 7777)
        line = address.awaited(lambda line: line.get("bytes") == 7777)
        assert {"time", "method", "route", "status", "seconds", "model", "pictures", "failed"} <= (
            line.keys()
        )
        assert secret not in "".join(address.lines)


def test_what_should_not_happen_is_logged_and_told_in_the_same_shape(
    judge: Callable[..., Servable],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    limits = Limits()
    server = Server(
        Models([judge()], limits, lambda before: before), limits=limits, guard=Guard(), threads=1
    )

    def broken(_name: object) -> Live:
        raise RuntimeError("a defect")

    async def ask(method: str, path: str) -> httpx.Response:
        transport = httpx.ASGITransport(server, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, content=gray(1))

    monkeypatch.setattr(server.models, "find", broken)
    try:
        for method, path in (("POST", "/v1/predict"), ("GET", "/v1/models")):
            assert_fault(asyncio.run(ask(method, path)), 500)
            failure, request = map(json.loads, capsys.readouterr().err.splitlines())
            assert failure["error"] == "RuntimeError: a defect"
            assert "test_application.py" in failure["place"]
            assert (request["status"], request["route"]) == (500, path)
    finally:
        server.pool.close()


class TestConnections:
    HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"

    def test_slow_headers(self, hasty: Address) -> None:
        answer = hasty.send(*[bytes([byte]) for byte in self.HEAD[:12]], pause=0.1)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert hasty.send(b"") == b""

    def test_a_slow_body(self, hasty: Address) -> None:
        answer = hasty.send(self.HEAD + b"Content-Length: 100\r\n\r\n", *[b"x"] * 8, pause=0.1)
        assert answer.startswith(b"HTTP/1.1 408 ")

    def test_headers_without_end(self, address: Address) -> None:
        answer = address.send(self.HEAD, *[b"X: " + b"y" * 1000 + b"\r\n"] * 20, pause=0.01)
        assert not answer or answer.startswith(b"HTTP/1.1 431 ")

    def test_no_http(self, address: Address) -> None:
        for nonsense in (b"\x16\x03\x01\x02\x00" * 20, b"hello\r\n\r\n", b"\0" * 100):
            answer = address.send(nonsense)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert answer.endswith(b'"hint": "Send one of HTTP/1.1."}')

    def test_hanging_up_in_the_middle(self, address: Address, client: httpx.Client) -> None:
        for _ in range(5):
            address.send(self.HEAD + b"Content-Length: 100\r\n\r\nabc", end=True)
        assert client.get("/health").status_code == 200
        assert address.awaited(lambda line: line["status"] == 499)
        assert not address.logged("failure")

    def test_more_than_there_may_be(self, address: Address) -> None:
        with ExitStack() as crowd:
            for _ in range(LIMITS["connections"]):
                second = crowd.enter_context(closing(open_connection(address)))
            assert address.send(b"").startswith(b"HTTP/1.1 503 ")
            # Who was there before is served.
            assert second.get("/health").status_code == 200
        with closing(open_connection(address)):
            """There is room again."""

    def test_one_after_the_other_on_one_connection(self, hasty: Address) -> None:
        request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert hasty.send(request * 20).count(b'{"status":"ok"}') == 20


def open_connection(address: Address) -> httpx.Client:
    """A client that is connected; it waits for the room of others that have gone."""
    for _ in range(1000):
        client = httpx.Client(base_url=address.url, timeout=60, trust_env=False)
        if client.get("/health").status_code == 200:
            return client
        client.close()
        time.sleep(0.05)
    raise AssertionError("there is never room")
