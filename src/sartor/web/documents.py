"""What the interface is: OpenAPI with examples that were answered here, and a page of it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as version_of
from importlib.resources import files
from typing import Any, Self

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from pydantic import BaseModel, Field

from ..api.serving import Servable

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Entry(BaseModel):
    """A picture in JSON."""

    file: str = Field("", description="Its name, for the answer.")
    data: str = Field(description="The bytes of the picture's file in base64, or a data: URL.")


class Pictures(BaseModel):
    """The body of a request in JSON."""

    pictures: list[Entry | str]


class Said(BaseModel):
    """What is said of a picture."""

    model_config = {"extra": "allow"}

    file: str
    label: str | None = Field(description="The most probable class.")
    probability: float | None = Field(description="Of the label, in 0..1.")
    probabilities: dict[str, float] = Field(description="Of every class, or of the topk.")


class NotSaid(BaseModel):
    """A picture that has no answer."""

    file: str
    error: str


class Answers(BaseModel):
    """What is said of all pictures, in their order."""

    model: str
    predictions: list[Said | NotSaid]


class Fault(BaseModel):
    """What is wrong with a request; the same shape everywhere."""

    error: str
    hint: str


_FAULTS: Mapping[int, str] = {
    400: "The request is malformed.",
    401: "The token is missing or wrong.",
    403: "It comes from the page of another site, or not from this machine.",
    404: "There is no such model.",
    408: "The body came too slowly.",
    409: "The model stays as it was.",
    413: "Too many bytes, pictures or pixels.",
    415: "A type of body that is not read.",
    422: "None of the pictures could be answered; each has its reason.",
    429: "Too much waits already; Retry-After says when to try again.",
    503: "The server is stopping.",
    504: "There was no answer in time.",
}


@dataclass(frozen=True, kw_only=True)
class Descriptions:
    """What FastAPI is told of each path."""

    answer: dict[str, Any]
    """To the example of a request."""

    predict: dict[str, Any]
    predict_by_name: dict[str, Any]
    reload: dict[str, Any]
    models: dict[str, Any]
    health: dict[str, Any]
    ready: dict[str, Any]
    metrics: dict[str, Any]

    @classmethod
    def of(cls, servable: Servable) -> Self:
        """With a picture as an example, and what this classifier says of it."""
        request, answer = _example(servable)
        predict = _predict(request)
        name = {
            "name": "name",
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "example": servable.name,
        }
        by_name = predict["openapi_extra"] | {"parameters": [name, *_PARAMETERS]}
        status = {"application/json": {"example": {"status": "ok"}}}
        return cls(
            answer=answer,
            predict=predict | {"summary": "Classify pictures with the first model"},
            predict_by_name=predict
            | {"summary": "Classify pictures with a model by its name", "openapi_extra": by_name},
            reload={
                "summary": "Read a model again; only from the server's own machine",
                "responses": _faults(401, 403, 404, 409),
                "openapi_extra": {"parameters": [name]},
            },
            models={"summary": "The models, the first first", "responses": _faults(401)},
            health={
                "summary": "Whether the server is alive",
                "responses": {200: {"content": status}},
            },
            ready={"summary": "Whether it takes requests", "responses": _faults(503)},
            metrics={
                "summary": "Figures for Prometheus",
                "responses": {
                    200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
                    **_faults(401),
                },
            },
        )


_PARAMETERS = [
    {
        "name": "topk",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1},
        "description": "Only the most probable classes.",
    },
    {
        "name": "input",
        "in": "query",
        "schema": {"type": "boolean"},
        "description": "Also the prepared picture, as the network sees it, as a PNG in a "
        "data: URL.",
    },
]


def _example(servable: Servable) -> tuple[dict[str, Any], dict[str, Any]]:
    """A request, and what this classifier answers."""
    content = _example_picture()
    image = servable.preprocess.from_stranger(content, "example.png", max_pixels=1 << 20)
    (said,) = servable.answers(["example.png"], [image])
    data = base64.b64encode(content).decode()
    return (
        {"pictures": [{"file": "example.png", "data": data}]},
        {"model": servable.name, "predictions": [said.to_json()]},
    )


def _predict(request: Mapping[str, Any]) -> dict[str, Any]:
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {
                "type": "array",
                "items": {"type": "string", "format": "binary"},
                "description": "One or many parts of this name, each a picture's file.",
            }
        },
    }
    return {
        "responses": {
            200: {"model": Answers},
            **_faults(*(status for status in _FAULTS if status != 409)),
        },
        "openapi_extra": {
            "parameters": _PARAMETERS,
            "requestBody": {
                "required": True,
                "content": {
                    "multipart/form-data": {"schema": form},
                    "application/json": {
                        "schema": Pictures.model_json_schema(
                            ref_template="#/components/schemas/{model}"
                        ),
                        "example": request,
                    },
                    "image/*": {"schema": {"type": "string", "format": "binary"}},
                },
            },
        },
    }


def with_answer(openapi: dict[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """With the answer as an example; FastAPI would leave out what is null in it."""
    for path in ("/v1/predict", "/v1/models/{name}/predict"):
        good = openapi["paths"][path]["post"]["responses"]["200"]
        good["content"]["application/json"]["example"] = answer
    return openapi


def _faults(*statuses: int) -> dict[int | str, Any]:
    others = {403: "Not from here.", 404: "No such model.", 409: "The old one stays."}
    return {
        status: {"model": Fault, "description": {**_FAULTS, **others}[status]}
        for status in statuses
    }


def _example_picture() -> bytes:
    """A small picture, from black to white."""
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((8, 8)).save(stream, "PNG")
    return stream.getvalue()


def version() -> str:
    """Of sartor."""
    return version_of("sartor")


def page(openapi: Mapping[str, Any]) -> str:
    """The interface on a page that loads nothing."""
    environment = Environment(
        loader=PackageLoader("sartor.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    return environment.get_template("docs.html").render(openapi=openapi)


def style() -> str:
    """The style sheet of that page."""
    return (files("sartor.web") / "templates" / "docs.css").read_text(encoding="utf-8")
