"""Bodies, good and bad, without a server."""

from __future__ import annotations

import asyncio
import base64
import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.multipart import MultipartParser

from sartor.web.problems import Problem
from sartor.web.reading import Fault, Picture, pictures_of

from .conftest import gray


def pictures(body: bytes, kind: str = "", most: int = 4) -> list[Picture | Fault]:
    return asyncio.run(pictures_of(body, {"content-type": kind}, most))


def refusal(body: bytes, kind: str, most: int = 4) -> Problem:
    with pytest.raises(Problem) as refused:
        pictures(body, kind, most)
    assert refused.value.error
    assert refused.value.hint
    return refused.value


def form(*files: tuple[str, bytes], part: str = "file") -> tuple[bytes, str]:
    request = httpx.Request("POST", "http://x", files=[(part, file) for file in files])
    return request.read(), request.headers["content-type"]


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


NEARLY_BOUNDARIES = (
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"boundary", b"x", b"\0"]))
    .map(b"".join)
    .filter(lambda content: b"\r\n--boundary" not in b"\r\n" + content)
)


class TestAForm:
    @given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
    def test_comes_back_as_it_was_sent(self, contents: list[bytes]) -> None:
        body, kind = form(*((f"{n}.png", content) for n, content in enumerate(contents)))
        assert pictures(body, kind) == [
            Picture(file=f"{n}.png", content=content) for n, content in enumerate(contents)
        ]

    def test_a_large_one_too(self) -> None:
        body, kind = form(("a", b"x" * 200_000))
        assert pictures(body, kind) == [Picture(file="a", content=b"x" * 200_000)]

    def test_that_ends_too_early_is_refused_wherever_it_ends(self) -> None:
        body, kind = form(("a", b"one"), ("b", b"two"))
        for end in range(len(body) - len(b"--\r\n")):
            assert refusal(body[:end], kind).status == 400

    def test_other_parts_too_many_and_no_boundary(self) -> None:
        body, kind = form(("a", b"x"), part="image")
        assert refusal(body, kind).error == 'A part of the form is named "image".'
        body, kind = form(*[("a", b"x")] * 5)
        assert refusal(body, kind).status == 413
        assert refusal(b"", "multipart/form-data").status == 400

    @given(st.lists(NEARLY_BOUNDARIES, min_size=1, max_size=4), st.sampled_from([b"", b"\r\n"]))
    def test_is_understood_as_by_a_library(self, contents: list[bytes], before: bytes) -> None:
        head = b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        parts = [b"--boundary\r\n" + head + content + b"\r\n" for content in contents]
        body = before + b"".join(parts) + b"--boundary--\r\n"
        found: list[bytes] = []
        parser = MultipartParser(
            b"boundary",
            {
                "on_part_begin": lambda: found.append(b""),
                "on_part_data": lambda data, start, end: found.append(
                    found.pop() + data[start:end]
                ),
            },
        )
        parser.write(body)
        parser.finalize()
        ours = pictures(body, "multipart/form-data; boundary=boundary")
        assert [one.content for one in ours if isinstance(one, Picture)] == found == contents


class TestJson:
    def test_entries_are_texts_or_tables(self) -> None:
        data = base64.b64encode(gray(7)).decode()
        body = as_json({"pictures": [data, {"file": "b", "data": f"data:image/png;base64,{data}"}]})
        assert pictures(body, "application/json") == [
            Picture(file="picture 1", content=gray(7)),
            Picture(file="b", content=gray(7)),
        ]

    @pytest.mark.parametrize(
        ("data", "what"),
        [("http://x/a.png", "an address"), ("file:///etc/passwd", "an address"), ("???", "base64")],
    )
    def test_what_is_not_base64_is_a_fault_of_its_own(self, data: str, what: str) -> None:
        good = base64.b64encode(gray(7)).decode()
        fault, picture = pictures(as_json({"pictures": [data, good]}), "application/json")
        assert isinstance(fault, Fault)
        assert what in fault.error
        assert isinstance(picture, Picture)

    @pytest.mark.parametrize(
        "body",
        [
            b'{"pictures": [NaN]}',
            b'{"pictures": [Infinity]}',
            b'{"pictures": [{"data": -Infinity}]}',
            b"{",
            b"[]",
            b"7",
            b"null",
            b"\xff\xfe",
            b'{"pictures": 1}',
            b'{"pictures": [1]}',
            b'{"pictures": [null]}',
            b'{"pictures": [{}]}',
            b'{"pictures": [{"data": 1}]}',
            b'{"pictures": [{"data": "", "url": "x"}]}',
            b'{"pictures": [{"data": "", "file": 3}]}',
            b'{"pictures": [' + b"9" * 5000 + b"]}",
            b'{"pictures": []}',
            b'{"a":' * 200 + b"1" + b"}" * 200,
        ],
    )
    def test_everything_else_is_malformed(self, body: bytes) -> None:
        assert refusal(body, "application/json").status == 400

    @pytest.mark.parametrize("entry", ['"AA=="', "[]", "{}", "1"])
    def test_a_million_entries_are_refused_before_they_are_made(self, entry: str) -> None:
        body = b'{"pictures": [' + ", ".join([entry] * 1_000_000).encode() + b"]}"
        assert refusal(body, "application/json").status == 413

    def test_nesting_beyond_all_measure(self) -> None:
        assert refusal(b"[" * 100_000, "application/json").status == 413

    @given(st.binary(max_size=200))
    def test_any_bytes_end_in_pictures_or_a_refusal(self, body: bytes) -> None:
        for kind in ("application/json", "multipart/form-data; boundary=x", "text/plain", ""):
            try:
                pictures(body, kind)
            except Problem as problem:
                assert problem.status in (400, 413, 415)  # noqa: PT017


def test_a_body_of_its_own() -> None:
    of_curl = "application/x-www-form-urlencoded"
    for kind in ("image/png", "application/octet-stream", "", of_curl):
        assert pictures(gray(3), kind) == [Picture(file="body", content=gray(3))]
    assert refusal(b"", "image/png").status == 400
    assert refusal(b"x", "text/html").status == 415
    assert refusal(b"file=x", of_curl).status == 415
