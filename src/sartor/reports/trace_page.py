"""A trace as a page: forward through the layers to the loss, back to the first, then the step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..models.stages import EVERY_LAYER, level_for, stages
from .heat import heat_over
from .page import Sheet, make_sheet, picture_uri, render
from .trace_pictures import MOST_PIXELS, Drawing, draw_output, draw_weight
from .trace_words import backward_words, forward_words

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from .drawable import Layer, Parameter, Trace

_ALL_PIXELS = 1_200_000
"""Of all pictures of a page together, so that it stays under 3 MB."""
_FEWEST_PIXELS = 400
_IMAGES_SHOWN = 64
_CLASSES_SHOWN = 12
_TERMS_SHOWN = 6
_SMALL_PRODUCT = 60
"""Weights of a matrix that is written out in full."""
_RAISED = str.maketrans(
    "-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
)
_NO_BREAK = ",\u00a0"


@dataclass(frozen=True, eq=False, kw_only=True)
class Stop:
    """One stop on the way: its place on the map and its section of the page."""

    id: str
    kind: str
    """overview, input, forward, answer, loss, logits, backward or step."""
    name: str
    row: int
    """Of the map: 1 forward, 2 back."""
    column: int
    layer: Layer | None = None
    """The layer; of a stage its last one."""
    held: tuple[Layer, ...] = ()
    """The layers of a stage, in call order; none of a single layer."""
    inside: str = ""
    """The stage that a layer is in; the map shows it only where the way leads through that."""
    previous: str = ""
    """Id of the stop before it, those inside other stages left out; as `following`."""
    following: str = ""


def trace_page(trace: Trace) -> str:
    """HTML, complete in itself, without a script."""
    stops = _stops(trace)
    painter = _Painter(trace, sum(bool(stop.held) for stop in stops))
    sheet = _batch_sheet(trace)
    return render(
        "trace.html",
        sheets=[sheet] if sheet else [],
        sheet=sheet,
        trace=trace,
        stops=stops,
        named={stop.id: stop.name for stop in stops},
        inside=_inside(stops),
        together=_together(trace.parameters),
        paint=painter,
        answers=_answers(trace),
        terms=_terms(trace),
        forward_words=forward_words,
        backward_words=backward_words,
        g=short_number,
        shape=shape_in_words,
        place_of=_ratio_place,
        curve=_loss_curve(trace),
        truth=None if trace.labels is None else trace.classes[int(trace.labels[0])],
        predicted=None if trace.predicted is None else trace.classes[int(trace.predicted[0])],
    )


def trace_table(trace: Trace) -> str:
    """A part of HTML for notebooks: one row per layer, with its pictures."""
    return render(
        "trace_table.html",
        trace=trace,
        paint=_Painter(trace, 0),
        g=short_number,
        shape=shape_in_words,
    )


def short_number(value: float | None) -> str:
    """With three significant digits; a dash for None."""
    if value is None:
        return "\u2013"
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5) and math.isfinite(value):
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        digits = str(int(exponent))
        return f"{mantissa}\u00b710{digits.translate(_RAISED)}".replace("-", "\u2212")
    return f"{value:.3g}".replace("-", "\u2212")


def shape_in_words(shape: Sequence[int]) -> str:
    """(1, 6, 24, 24), with spaces that do not break."""
    return f"({_NO_BREAK.join(map(str, shape))})"


# ------------------------------------------------------------------------------------ the way


def _stops(trace: Trace) -> list[Stop]:
    """In the order in which they are stepped through."""
    return _joined(list(_unjoined(trace)))


def _unjoined(trace: Trace) -> Iterator[Stop]:
    forward = list(_layer_stops(trace))
    yield Stop(id="overview", kind="overview", name="Overview", row=1, column=1)
    yield Stop(id="input", kind="input", name="Input", row=1, column=3)
    yield from forward
    last = 4 + len(forward)
    if trace.probabilities is not None:
        yield Stop(id="answer", kind="answer", name="Prediction", row=1, column=last)
    if trace.step is None:
        return
    yield Stop(id="loss", kind="loss", name="Loss", row=1, column=last + 1)
    for held in _stage_first(forward):
        yield replace(held, id=held.id.replace("forward", "backward"), kind="backward", row=2)
    yield Stop(id="step", kind="step", name="Step", row=2, column=3)


def _layer_stops(trace: Trace) -> Iterator[Stop]:
    """Forward: layers by themselves, and before those of a stage the stage."""
    names = [layer.name for layer in trace.layers]
    column = 4
    for number, (name, places) in enumerate(stages(names, level_for(names)), 1):
        held = tuple(trace.layers[places.start : places.stop])
        inside = f"stage-{number}" if len(held) > 1 else ""
        if inside:
            yield Stop(
                id=f"forward-{inside}",
                kind="forward",
                name=name,
                row=1,
                column=column,
                layer=held[-1],
                held=held,
            )
            column += 1
        for place, layer in zip(places, held, strict=True):
            yield Stop(
                id=f"forward-{place + 1}",
                kind="forward",
                name=layer.name.removeprefix(f"{name}.") if inside else layer.name,
                row=1,
                column=column,
                layer=layer,
                inside=inside,
            )
            column += 1


def _stage_first(forward: Sequence[Stop]) -> Iterator[Stop]:
    """Backward: from the last to the first, a stage before its layers again."""
    layers: list[Stop] = []
    for stop in reversed(forward):
        if stop.inside:
            layers.append(stop)
            continue
        yield stop
        yield from layers
        layers.clear()


def _joined(stops: list[Stop]) -> list[Stop]:
    """Each stop with the one before and the one after it: past stages that are not entered."""
    outside = [place for place, stop in enumerate(stops) if not stop.inside]
    joined = []
    for place, stop in enumerate(stops):
        before: Stop | None
        if stop.inside:
            before = stops[place - 1]
            after = next((one for one in stops[place + 1 :] if not one.inside), None)
            if place + 1 < len(stops) and stops[place + 1].inside == stop.inside:
                after = stops[place + 1]
        else:
            at = outside.index(place)
            before = stops[outside[at - 1]] if at else None
            after = stops[outside[at + 1]] if at + 1 < len(outside) else None
        joined.append(
            replace(stop, previous=before.id if before else "", following=after.id if after else "")
        )
    return joined


def _inside(stops: Sequence[Stop]) -> dict[str, list[Stop]]:
    """The stops inside each stage, by the stage's id, in the order of the way."""
    found: dict[str, list[Stop]] = {}
    for stop in stops:
        if stop.inside:
            found.setdefault(f"{stop.kind}-{stop.inside}", []).append(stop)
    return found


@dataclass(frozen=True, kw_only=True)
class Together:
    """The parameters of a stage as one."""

    name: str
    count: int
    weight_norm: float
    gradient_norm: float | None
    update_norm: float
    trainable: bool

    @property
    def update_ratio(self) -> float | None:
        return self.update_norm / self.weight_norm if self.weight_norm else None


def _together(parameters: Sequence[Parameter]) -> list[Together]:
    """The parameters by stage; none where they are few."""
    names = [one.name for one in parameters]
    level = level_for(names)
    if level == EVERY_LAYER:
        return []
    found = []
    for name, places in stages(names, level):
        held = parameters[places.start : places.stop]
        gradients = [one.gradient_norm for one in held if one.gradient_norm is not None]
        found.append(
            Together(
                name=name,
                count=len(held),
                weight_norm=_norm([one.weight_norm for one in held]),
                gradient_norm=_norm(gradients) if gradients else None,
                update_norm=_norm([one.update_norm for one in held]),
                trainable=any(one.trainable for one in held),
            )
        )
    return found


def _norm(norms: Sequence[float]) -> float:
    """Of the whole, from those of its parts."""
    return math.sqrt(sum(norm**2 for norm in norms))


# ------------------------------------------------------------------------------------ pictures


@dataclass(frozen=True, kw_only=True)
class Painted:
    """A drawing as the page needs it."""

    uri: str
    width: int
    height: int
    limit: str
    what: str


class _Painter:
    """Draws the tensors of a trace within the size limit of a page."""

    def __init__(self, trace: Trace, stages: int) -> None:
        """`stages` are pictures of stages, which get half of the pixels."""
        pictures = 2 * len(trace.layers) + 2 * len(trace.parameters) + 1
        rest = _ALL_PIXELS // 2 if stages else _ALL_PIXELS
        self._most = max(_FEWEST_PIXELS, min(MOST_PIXELS, rest // pictures))
        self._most_of_stage = min(MOST_PIXELS, _ALL_PIXELS // 2 // max(stages, 1))
        self._image_shape = tuple(trace.images.shape[1:])
        self._pixels = trace.about.pixels
        self._image = trace.images[0]

    def output(self, values: Tensor) -> Painted:
        """Of the first image: what a layer gives, or the gradient there."""
        return _painted(draw_output(_array(values[0] if values.ndim else values), self._most))

    def stage(self, values: Tensor) -> Painted:
        """As `output`, larger: there are few of them."""
        array = _array(values[0] if values.ndim else values)
        return _painted(draw_output(array, self._most_of_stage))

    def weight(self, values: Tensor) -> Painted:
        """A parameter, or its gradient."""
        return _painted(draw_weight(_array(values), self._image_shape, self._most))

    def image(self) -> Painted:
        """The first image: as it is, where its pixels are known, else by its numbers."""
        if self._pixels is None:
            return _painted(draw_output(_array(self._image), MOST_PIXELS))
        pixels = self._pixels[0]
        _, height, width = pixels.shape
        scale = max(1, 280 // max(height, width))
        return Painted(
            uri=picture_uri(pixels),
            width=width * scale,
            height=height * scale,
            limit="",
            what=f"{width} by {height} pixels",
        )

    def evidence(self, heat: npt.NDArray[np.float32]) -> Painted:
        """The first image with the evidence for the prediction."""
        assert self._pixels is not None
        pixels = heat_over(self._pixels[0], heat)
        _, height, width = pixels.shape
        scale = max(1, 280 // max(height, width))
        return Painted(
            uri=picture_uri(pixels),
            width=width * scale,
            height=height * scale,
            limit="",
            what="red: evidence for it, blue: against it",
        )


def _painted(drawing: Drawing) -> Painted:
    return Painted(
        uri=picture_uri(drawing.pixels),
        width=drawing.width,
        height=drawing.height,
        limit=short_number(drawing.limit),
        what=drawing.what,
    )


def _array(values: Tensor) -> Any:
    return values.double().numpy()


def _batch_sheet(trace: Trace) -> Sheet | None:
    """The batch's images, where there are several and their pixels are known."""
    pixels = trace.about.pixels
    if pixels is None or len(pixels) < 2:
        return None
    return make_sheet(dict(enumerate(pixels[:_IMAGES_SHOWN])))


# ------------------------------------------------------------------------------------ numbers


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The network's output for one class."""

    name: str
    true: bool
    logit: float
    probability: float
    after: float | None
    """Probability after the step."""
    gradient: float | None
    """Of the loss, by this logit."""


def _answers(trace: Trace) -> list[Answer]:
    """The most probable classes first, and among them the true one; of the first image."""
    if trace.probabilities is None:
        return []
    probabilities = trace.probabilities[0]
    shown = probabilities.argsort(descending=True, stable=True)[:_CLASSES_SHOWN].tolist()
    true = None if trace.labels is None else int(trace.labels[0])
    if true is not None and true not in shown:
        shown[-1] = true
    after = None if trace.step is None else trace.step.probabilities_after[0]
    last = trace.layers[-1] if trace.layers else None
    gradient = None
    if last is not None and last.gradient is not None and last.output_shape == trace.output.shape:
        gradient = last.gradient[0]
    return [
        Answer(
            name=trace.classes[row],
            true=row == true,
            logit=float(trace.output[0, row]),
            probability=float(probabilities[row]),
            after=None if after is None else float(after[row]),
            gradient=None if gradient is None else float(gradient[row]),
        )
        for row in shown
    ]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """An output of the last linear layer, term by term."""

    name: str
    """The class, or the number of the output."""
    largest: tuple[tuple[str, str, str], ...]
    """Weight, input, and their product, of the largest terms."""
    others: int
    """Number of the other terms."""
    rest: str
    """Their sum."""
    bias: str
    total: str


def _terms(trace: Trace) -> dict[str, str | Terms]:
    """By the name of a layer: a small product in full, of the last linear layer one sum."""
    linear = [layer for layer in trace.layers if layer.is_linear]
    written: dict[str, str | Terms] = {}
    for layer in linear:
        product = layer.as_product()
        if product.weights.numel() <= _SMALL_PRODUCT:
            written[layer.name] = repr(product)
        elif layer is linear[-1]:
            written[layer.name] = _sum_of(trace, layer)
    return written


def _sum_of(trace: Trace, layer: Layer) -> Terms:
    product = layer.as_product()
    row = int(product.result.argmax())
    terms = product.terms[row]
    order = terms.abs().argsort(descending=True)
    shown, others = order[:_TERMS_SHOWN].tolist(), order[_TERMS_SHOWN:]
    is_logit = (
        len(product.result) == len(trace.classes) and layer.output_shape == trace.output.shape
    )
    return Terms(
        name=trace.classes[row] if is_logit else f"output {row}",
        largest=tuple(
            (
                short_number(float(product.weights[row, i])),
                short_number(float(product.vector[i])),
                short_number(float(terms[i])),
            )
            for i in shown
        ),
        others=len(others),
        rest=short_number(float(terms[others].sum())),
        bias="" if product.bias is None else short_number(float(product.bias[row])),
        total=short_number(float(product.result[row])),
    )


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Cross-entropy over the true class's probability, and where the first image stands."""

    points: str
    """Of a polyline, in a box of 100 by 60."""
    before: tuple[float, float]
    after: tuple[float, float]


_CURVE_TOP = 6.0


def _loss_curve(trace: Trace) -> Curve | None:
    if trace.loss is None or trace.loss.name != "cross-entropy" or trace.step is None:
        return None
    assert trace.labels is not None, "there is a loss"
    assert trace.probabilities is not None, "there is a loss"
    label = int(trace.labels[0])
    start = math.exp(-_CURVE_TOP)
    places = [start ** (1 - number / 60) for number in range(61)]
    return Curve(
        points=" ".join(f"{x:.2f},{y:.2f}" for x, y in map(_on_curve, places)),
        before=_on_curve(float(trace.probabilities[0, label])),
        after=_on_curve(float(trace.step.probabilities_after[0, label])),
    )


def _on_curve(probability: float) -> tuple[float, float]:
    loss = -math.log(probability) if probability > 0 else _CURVE_TOP
    return 100 * min(max(probability, 0.0), 1.0), 60 * (1 - min(loss, _CURVE_TOP) / _CURVE_TOP)


def _ratio_place(parameter: Parameter | Together) -> float | None:
    """Where the update's ratio stands on the way from 1e-7 to 1, by its logarithm; per cent."""
    ratio = parameter.update_ratio
    if not ratio or not math.isfinite(ratio):
        return None
    return round(min(max((math.log10(ratio) + 7) / 7, 0), 1) * 100, 1)
