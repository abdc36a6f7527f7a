"""What is answered at which path."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from ..arrays import UInt8Array
from ..data.pictures.preprocess import as_picture
from . import documents
from .connections import is_gone
from .guard import Guard, check_local
from .limits import Limits
from .models import Models
from .problems import Problem, bad_request, stopping
from .reading import Arrivals, Budget, Disconnected, Fault, Picture, Receive, pictures_of
from .watching import Watch
from .work import Answered, Live, Pool

PAGE = Path(__file__).parent / "page"
"""The page at /."""
_KINDS = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_CLIENT_GONE = 499
"""nginx's number for a request whose client hung up; it is only logged."""
_DATA_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
_PAGE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"img-src 'self' data: blob:; media-src 'self' blob:; manifest-src 'self'; "
        b"form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    ),
)
_PREDICT = re.compile(r"/v1/(?:models/(?P<name>[^/]+)/)?predict")
_ROUTES = ("/v1/predict", "/v1/models/{name}/predict")
_TOPK = re.compile(r"0*[1-9][0-9]{0,6}")
_FLAGS = {"": True, "1": True, "true": True, "0": False, "false": False}

Scope = Mapping[str, Any]
Send = Callable[[Any], Awaitable[None]]


def page_paths() -> list[str]:
    """The page and its files, which need no token: the page asks for it."""
    return list(_page_files(PAGE))


def _page_files(page: Path) -> dict[str, Path]:
    """Each file of the page by its path; none but these can be asked for."""
    files = {f"/{file.name}": file for file in sorted(page.iterdir()) if file.suffix in _KINDS}
    return {"/": files["/index.html"], **files}


def _sent(file: Path) -> Callable[[Request], Awaitable[Response]]:
    content, kind = file.read_bytes(), _KINDS[file.suffix]

    async def send(_request: Request) -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return send


class Server:
    """The application, as ASGI wants it, with all that it needs."""

    def __init__(
        self,
        models: Models,
        *,
        limits: Limits,
        guard: Guard,
        threads: int,
        log: str = "requests",
        page: Path = PAGE,
    ) -> None:
        self.models = models
        self.limits = limits
        self.guard = guard
        self.watch = Watch(log, lambda: self.pool.waiting)
        self.pool = Pool(limits, threads, self.watch)
        self.budget = Budget(limits.bytes_in_flight)
        self.arrivals = Arrivals(limits)
        self.stopping = False
        self.api = self._api(page)

    def stop(self) -> None:
        """No request that comes from now on is taken; those that were are answered."""
        self.stopping = True
        self.arrivals.stop()

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        """One request: who asks is looked at first, and every fault has one shape."""
        assert scope["type"] == "http", "uvicorn is told not to send anything else"
        begun, status = time.perf_counter(), 0
        # What the line in the log is to say besides.
        facts: dict[str, object] = {"method": scope["method"]}

        async def watched(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] += _policy(scope, message["headers"])
            await send(message)

        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        route = ""
        if scope["method"] == "HEAD":
            # uvicorn leaves out the body; who watches over a server often asks so.
            scope = {**scope, "method": "GET"}
        try:
            self.guard.check(scope["method"], scope["path"], headers)
            asked = _PREDICT.fullmatch(scope["path"]) if scope["method"] == "POST" else None
            if asked is None:
                await self.api(scope, receive, watched)
            else:
                # The layers of a framework take longer than a small network.
                route = _ROUTES[asked["name"] is not None]
                question = Question(
                    name=asked["name"],
                    query=scope["query_string"].decode("latin-1"),
                    headers=headers,
                    receive=receive,
                    is_gone=is_gone(scope),
                    facts=facts,
                )
                status = await _send_json(send, await self._predict(question))
        except Problem as problem:
            await _response_of(problem)(scope, receive, watched)
        except Disconnected:
            status = _CLIENT_GONE
        except Exception as error:
            self.watch.failure("request", error)
            if not status:
                await _response_of(_FAILED)(scope, receive, watched)
        finally:
            route = route or _route(scope)
            self.watch.request(route, int(status), time.perf_counter() - begun, facts)

    def _api(self, page: Path) -> FastAPI:
        # Its own pages of documentation load scripts from elsewhere.
        api = FastAPI(
            title="sartor",
            version=documents.version(),
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            redirect_slashes=False,
        )
        api.exception_handlers[HTTPException] = _unknown_path
        api.exception_handlers[Problem] = _problem
        api.exception_handlers[Exception] = _failed
        first = self.models.find(None)
        described = documents.Descriptions.of(first.servable)

        @api.post("/v1/predict", **described.predict)
        async def predict() -> None:
            """Described here, and answered before it comes here."""

        @api.post("/v1/models/{name}/predict", **described.predict_by_name)
        async def predict_by_name() -> None:
            """The same."""

        @api.post("/v1/models/{name}/reload", **described.reload)
        async def reload(request: Request) -> Response:
            check_local(_client(request), request.headers)
            return JSONResponse(await self.reload(request.path_params["name"]))

        @api.get("/v1/models", **described.models)
        async def models() -> Response:
            return JSONResponse({"models": [self._described(name) for name in self.models.names]})

        @api.get("/health", **described.health)
        async def health() -> Response:
            return JSONResponse({"status": "ok"})

        @api.get("/ready", **described.ready)
        async def ready() -> Response:
            if self.stopping:
                raise stopping()
            return JSONResponse({"status": "ready", "models": list(self.models.names)})

        @api.get("/metrics", **described.metrics)
        async def metrics() -> Response:
            return Response(self.watch.exposition(), media_type=documents.METRICS_TYPE)

        def described_as_a_whole() -> dict[str, Any]:
            return documents.with_answer(api.openapi(), described.answer)

        @api.get("/openapi.json", include_in_schema=False)
        async def openapi() -> Response:
            return JSONResponse(described_as_a_whole())

        @api.get("/docs", include_in_schema=False)
        async def docs() -> Response:
            return HTMLResponse(documents.page(described_as_a_whole()))

        @api.get("/docs.css", include_in_schema=False)
        async def style() -> Response:
            return Response(documents.style(), media_type="text/css")

        for path, file in _page_files(page).items():
            api.add_route(path, _sent(file), methods=["GET"], include_in_schema=False)
        return api

    async def reload(self, name: str) -> dict[str, object]:
        """Read a model again; what `/v1/models` says of it then.

        Raises:
            Problem: it stays as it was.
        """
        try:
            await self.models.reload(name)
        except Problem as problem:
            if problem.status != HTTPStatus.NOT_FOUND:
                self.watch.reload(name, problem.error)
            raise
        self.watch.reload(name)
        return self._described(name)

    def _described(self, name: str) -> dict[str, object]:
        live = self.models.find(name)
        return {
            "name": name,
            "default": name == self.models.names[0],
            "batch": live.batch,
            **live.servable.public,
        }

    async def _predict(self, question: Question) -> dict[str, object]:
        if self.stopping:
            raise stopping()
        live = self.models.find(question.name)
        options = Options.of(question.query)
        facts, taken = question.facts, 0
        try:
            body = await self.arrivals.body(question.receive, question.headers, self.budget)
            taken = len(body)
            facts.update(model=live.servable.name, bytes=taken)
            pictures = await pictures_of(body, question.headers, self.limits.pictures)
            del body
            facts["pictures"] = len(pictures)
            answers = await self._answered(live, pictures, question.is_gone, options.input)
        finally:
            self.budget.give_back(taken)
        failed = [one for one in answers if isinstance(one, Fault)]
        facts["failed"] = len(failed)
        self.watch.pictures(live.servable.name, len(answers) - len(failed), len(failed))
        document: dict[str, object] = {
            "model": live.servable.name,
            "predictions": [_said(one, options.topk) for one in answers],
        }
        if len(failed) == len(answers):
            raise _all_failed(failed, document)
        return document

    async def _answered(
        self,
        live: Live,
        pictures: Sequence[Picture | Fault],
        is_gone: Callable[[], bool],
        keep_inputs: bool,
    ) -> list[Answered | Fault]:
        answers = self.pool.submit(live, pictures, is_gone=is_gone, keep_inputs=keep_inputs)
        try:
            async with asyncio.timeout(self.limits.answer_seconds):
                found = await answers
        except TimeoutError:
            raise Problem(
                HTTPStatus.GATEWAY_TIMEOUT,
                f"There was no answer within {self.limits.answer_seconds:g} seconds.",
                "Send fewer pictures at once, or try again when the server is less busy.",
            ) from None
        if None in found:
            raise Disconnected
        return found


@dataclass(frozen=True, kw_only=True)
class Question:
    """A request for predictions."""

    name: str | None
    """Of the model, where one is named."""
    query: str
    headers: Mapping[str, str]
    receive: Receive
    is_gone: Callable[[], bool]
    facts: dict[str, object]
    """For the log."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the query asks of the answer."""

    topk: int | None = None
    input: bool = False

    @classmethod
    def of(cls, query: str) -> Self:
        """
        Raises:
            Problem: 400, not what they may be.
        """
        if not query:
            return cls()
        asked = dict(parse_qsl(query, keep_blank_values=True))
        topk, shown = asked.get("topk"), asked.get("input", "0").lower()
        if topk is not None and not _TOPK.fullmatch(topk):
            raise bad_request(f'topk is "{topk[:50]}", not a number above 0.', "Such as: ?topk=3")
        if shown not in _FLAGS:
            raise bad_request(f'input is "{shown[:50]}", not 1 or 0.', "Such as: ?input=1")
        return cls(topk=None if topk is None else int(topk), input=_FLAGS[shown])


def _said(answer: Answered | Fault, topk: int | None) -> dict[str, object]:
    if isinstance(answer, Fault):
        return {"file": answer.file, "error": f"{answer.error} {answer.hint}".strip()}
    document: dict[str, object] = answer.said.to_json(topk)
    if answer.image is not None:
        document["input"] = _as_png(answer.image)
    return document


def _as_png(image: UInt8Array) -> str:
    stream = io.BytesIO()
    as_picture(image).save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _all_failed(failed: list[Fault], document: Mapping[str, object]) -> Problem:
    """One picture: its own fault. Several: how many; each with its own beside it."""
    too_large = all(one.too_large for one in failed)
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_large else HTTPStatus.UNPROCESSABLE_ENTITY
    first = failed[0]
    if len(failed) == 1:
        return Problem(status, first.error, first.hint, more=document)
    return Problem(
        status,
        f"None of the {len(failed):,} pictures could be answered; the first: {first.error}",
        first.hint,
        more=document,
    )


async def _send_json(send: Send, document: object) -> HTTPStatus:
    """An answer that is as it should be."""
    body = json.dumps(document, allow_nan=False).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *_DATA_HEADERS,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return HTTPStatus.OK


def _text(headers: Sequence[tuple[bytes, bytes]]) -> Mapping[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


def _client(request: Request) -> tuple[str, int] | None:
    return request.scope.get("client")


def _route(scope: Scope) -> str:
    """The path as it is described, so that there are few of them."""
    found = scope.get("route")
    return getattr(found, "path", "") or "other"


def _policy(scope: Scope, headers: Sequence[tuple[bytes, bytes]]) -> Sequence[tuple[bytes, bytes]]:
    kind = next((value for name, value in headers if name == b"content-type"), b"")
    is_data = kind.startswith(b"application/json") or scope["path"] == "/metrics"
    return _DATA_HEADERS if is_data else _PAGE_HEADERS


def _response_of(problem: Problem) -> Response:
    content = json.dumps(problem.document, allow_nan=False)
    return Response(content, problem.status, headers=problem.headers, media_type="application/json")


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _response_of(error)


async def _unknown_path(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    sentence = {
        HTTPStatus.NOT_FOUND: "There is nothing at this path.",
        HTTPStatus.METHOD_NOT_ALLOWED: "This path takes another method.",
    }.get(status, f"{status.phrase}.")
    problem = Problem(status, sentence, "GET /docs lists what there is.", headers=error.headers)
    return _response_of(problem)


async def _failed(_request: Request, _error: Exception) -> Response:
    return _response_of(_FAILED)


_FAILED = Problem(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "The server failed on this request.",
    "Its log has the reason; this should not happen.",
)
