"""Likely problems seen in a trace: what was found, why it matters, what to do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch

from .trace import ParameterTrace, Symptom, Trace

FAR_OFF = 1.5
"""The loss of an untrained network may differ from the chance level by this factor."""
ENOUGH_IMAGES = 16
"""With fewer, a dead unit cannot be distinguished from one that is silent for these images."""
MANY_DEAD = 0.5
"""Share of a layer's units that may be dead without a warning."""
VANISHED, EXPLODED = 1e-3, 1e3
"""The first weight's typical gradient over the last one's; between them all is well. Healthy
networks stay between 0.05 and 20; eight sigmoid layers in a row come to 1e-5."""
LONG_GRADIENT = 1e3
"""Norm of the whole gradient; 0.1 to 10 is normal."""
TINY_UPDATE, HUGE_UPDATE = 1e-5, 0.5
"""Length of a weight's update over that of the weight; about 1e-3 is typical, 1e-4 to 1e-1 is fine,
and the first steps of Adam are larger."""
RISEN = 0.05
"""By this share of itself, or of the chance level, a loss may rise in one step."""
LARGE_INPUT = 50.0
"""Normalised images stay well below."""
_KNOWN_ALREADY = 0.1
"""Below this share of the chance level, small updates are not a fault."""


def symptoms(trace: Trace) -> tuple[Symptom, ...]:
    """All likely problems, gravest first."""
    found = itertools.chain(
        _not_finite(trace),
        _input_scale(trace),
        _activation_before_loss(trace),
        _loss_at_start(trace),
        _no_gradient(trace),
        _gradients_across_layers(trace),
        _dead_units(trace),
        _loss_rises(trace),
        _update_sizes(trace),
    )
    return tuple(found)


# ------------------------------------------------------------------------------------ forward


def _not_finite(trace: Trace) -> Iterator[Symptom]:
    """Only the first place: what comes after follows from it."""
    advice = "Lower the learning rate, or look for a division by 0, a logarithm or a root before."
    if not trace.images.isfinite().all():
        yield Symptom(
            kind="not-finite",
            place="input",
            message="The input has numbers that are not finite (NaN or infinite), so everything "
            "after it has too.",
            advice="Look at how it is read and normalised; a standard deviation of 0 divides by 0.",
        )
        return
    broken = [one.name for one in trace.parameters if not one.weight.isfinite().all()]
    if broken:
        yield Symptom(
            kind="not-finite",
            place=broken[0],
            message=f"{broken[0]} has weights that are not finite: training has diverged.",
            advice="Go back to an older checkpoint; lower the learning rate or clip the gradient.",
        )
        return
    for layer in trace.layers:
        if not layer.statistics.finite:
            yield Symptom(
                kind="not-finite",
                place=layer.name,
                message=f"{layer.name} ({layer.operation}) is the first whose output is not "
                "finite (NaN or infinite).",
                advice=advice,
            )
            return
    for parameter in reversed(trace.parameters):
        if parameter.gradient is not None and not parameter.gradient.isfinite().all():
            yield Symptom(
                kind="not-finite",
                place=parameter.name,
                message=f"The gradient of {parameter.name} is not finite, so one step destroys "
                "the weight.",
                advice=advice,
            )
            return


def _input_scale(trace: Trace) -> Iterator[Symptom]:
    largest = float(trace.images.abs().max())
    if math.isfinite(largest) and largest > LARGE_INPUT:
        yield Symptom(
            kind="input-scale",
            place="input",
            message=f"The input reaches {largest:,.0f}: unscaled pixels make the first "
            "outputs, and so the first gradients, too large by the same factor.",
            advice="Divide bytes by 255 and subtract the mean, as sartor's own batches are.",
        )


def _activation_before_loss(trace: Trace) -> Iterator[Symptom]:
    if trace.loss is None or trace.loss.name == "mse" or not trace.layers:
        return
    last, loss = trace.layers[-1], trace.loss.name
    operation = last.operation.lower().replace("_", "")
    outputs = trace.output
    sums = outputs.sum(dim=1)
    looks = bool((outputs >= 0).all()) and torch.allclose(
        sums, torch.ones_like(sums), atol=1e-4, rtol=0
    )
    if loss == "bce":
        if operation in ("sigmoid", "softmax"):
            yield _applied_twice(last.name, operation, "sigmoid", "binary cross-entropy")
    elif operation == "logsoftmax":
        yield Symptom(
            kind="softmax-before-loss",
            place=last.name,
            message=f"{last.name} takes a log-softmax, and cross-entropy takes one again. That "
            "changes nothing, but costs time and hides the logits.",
            advice="Let the network return the input of that layer.",
        )
    elif operation in ("softmax", "sigmoid") or looks:
        yield _applied_twice(last.name, operation, "softmax", "cross-entropy")
    if operation in ("relu", "relu6"):
        yield Symptom(
            kind="relu-before-loss",
            place=last.name,
            message=f"{last.name} cuts negative logits to 0: a class whose logit is 0 gets no "
            "gradient there, and no class can get a low probability.",
            advice="Let the network end with its last linear layer.",
        )


def _applied_twice(place: str, found: str, own: str, loss: str) -> Symptom:
    seen = f"ends with a {found}" if found in ("softmax", "sigmoid") else "gives probabilities"
    return Symptom(
        kind="softmax-before-loss",
        place=place,
        message=f"The network {seen}, and {loss} applies its own {own}: applied twice, it "
        "flattens the probabilities, so the loss cannot come near 0 and learning is slow.",
        advice="Let the network return the logits, the numbers before it.",
    )


def _loss_at_start(trace: Trace) -> Iterator[Symptom]:
    untrained = trace.about.untrained
    # The first outputs under mse may be of any size, so no first loss is too high for it.
    if trace.loss is None or trace.loss.name == "mse" or untrained is False:
        return
    loss = float(trace.loss.of_each.mean())
    chance, count = trace.loss.chance_level, len(trace.classes)
    far_above = loss > FAR_OFF * chance
    far_below = loss < chance / FAR_OFF and untrained
    if not (far_above or far_below) or not math.isfinite(loss):
        return
    known = {"cross-entropy": f"ln {count} = "}.get(trace.loss.name, "about ")
    opening = "The loss before training" if untrained else "If this network is untrained: the loss"
    yield Symptom(
        kind="loss-at-start",
        place="",
        message=f"{opening} is {loss:.3f}; the chance level for {count} classes is "
        f"{known}{chance:.3f}.",
        advice="The network is confident in wrong predictions: scale down the input and the "
        "initial weights."
        if far_above
        else "It is better than chance already: check for labels in the input, or trained weights.",
    )


def _dead_units(trace: Trace) -> Iterator[Symptom]:
    count = len(trace.images)
    for layer in trace.layers:
        if not layer.is_relu:
            continue
        silent, units = layer.statistics.silent_units, layer.statistics.units
        if count >= ENOUGH_IMAGES and silent >= MANY_DEAD * units:
            yield Symptom(
                kind="dead-units",
                place=layer.name,
                message=f"{silent} of {units} units of {layer.name} are 0 for all {count} images: "
                "dead ReLUs, which get no gradient and may never recover.",
                advice="Lower the learning rate, start from smaller weights or biases of 0, or "
                "use a leaky ReLU.",
            )
        elif count < ENOUGH_IMAGES and silent == units:
            these = "this image" if count == 1 else f"these {count} images"
            yield Symptom(
                kind="silent-layer",
                place=layer.name,
                message=f"All {units} units of {layer.name} are silent for {these}: no "
                "information about the image gets past it.",
                advice=f"Trace a batch of {ENOUGH_IMAGES} or more to see whether they are dead.",
            )


# ------------------------------------------------------------------------------------ backward


def _no_gradient(trace: Trace) -> Iterator[Symptom]:
    if trace.step is None:
        return
    yield from _output_layer(trace)
    unused = [one for one in trace.parameters if one.trainable and one.gradient is None]
    if unused:
        names = _listed([one.name for one in unused])
        yield Symptom(
            kind="unused-parameters",
            place=unused[0].name,
            message=f"{names} got no gradient: the loss does not depend on "
            f"{'it' if len(unused) == 1 else 'them'}, so training never changes "
            f"{'it' if len(unused) == 1 else 'them'}.",
            advice="Use it in forward, remove it, or look for detach() and no_grad in forward.",
        )


def _output_layer(trace: Trace) -> Iterator[Symptom]:
    layer, step = trace.output_layer, trace.step
    if layer is None or step is None:
        return
    own = [trace.parameter(name) for name in layer.parameters]
    if not any(one.trainable for one in own):
        message = f"The output layer {layer.name} is frozen (requires_grad is off)."
        advice = (
            "Frozen features are fine, a frozen output layer rarely is: set requires_grad on it."
        )
    elif all(one.gradient is not None and not one.gradient.any() for one in own):
        message = f"The gradient of the output layer {layer.name} is exactly 0."
        advice = (
            "The loss is saturated: the prediction is certain, or blocked by an "
            "activation after this layer."
        )
    elif any(one.gradient is not None for one in own) and not any(one.update.any() for one in own):
        message = (
            f"The step left the output layer {layer.name} exactly as it was, at a learning rate "
            f"of {step.learning_rate:.3g}."
        )
        advice = "Has the schedule ended? Give another learning rate."
    else:
        return
    yield Symptom(
        kind="output-never-changes",
        place=layer.name,
        message=f"{message} A network whose output layer does not change cannot learn.",
        advice=advice,
    )


def _gradients_across_layers(trace: Trace) -> Iterator[Symptom]:
    step = trace.step
    if step is None:
        return
    typical = {
        one.name: float(one.gradient.double().square().mean().sqrt())
        for one in _weights_in_order(trace)
        if one.gradient is not None
    }
    finite = {name: size for name, size in typical.items() if math.isfinite(size)}
    if len(finite) >= 2:
        (first, begins), *_, (last, ends) = finite.items()
        ratio = begins / ends if ends else math.nan
        if ratio < VANISHED:
            yield Symptom(
                kind="vanishing-gradients",
                place=first,
                message=f"Gradients vanish in the backward pass: {first} gets {begins:.1e} per "
                "weight, "
                f"{last} {ends:.1e}; the first layers hardly learn.",
                advice="Use ReLU instead of sigmoid or tanh, normalisation layers, residual "
                "connections, or "
                "fewer layers.",
            )
        if ratio > EXPLODED:
            yield Symptom(
                kind="exploding-gradients",
                place=first,
                message=f"Gradients explode in the backward pass: {first} gets {begins:.1e} per "
                f"weight, {last} {ends:.1e}.",
                advice="Start from smaller weights, add normalisation layers, or clip the "
                "gradient (--clip-grad).",
            )
            return
    if math.isfinite(step.gradient_norm) and step.gradient_norm > LONG_GRADIENT:
        yield Symptom(
            kind="exploding-gradients",
            place="",
            message=f"The gradient norm is {step.gradient_norm:,.0f}; 0.1 to 10 is normal.",
            advice="Scale the input, start from smaller weights, or clip the gradient "
            "(--clip-grad).",
        )


def _loss_rises(trace: Trace) -> Iterator[Symptom]:
    step, loss = trace.step, trace.loss
    if step is None or loss is None:
        return
    risen = step.loss_after - step.loss_before
    if risen > RISEN * max(step.loss_before, loss.chance_level):
        yield Symptom(
            kind="loss-rises",
            place="",
            message=f"The step increases the loss of its own batch from {step.loss_before:.4f} "
            f"to {step.loss_after:.4f}: it is too large.",
            advice=f"Lower the learning rate, now {step.learning_rate:.3g}, or start with a "
            "warm-up.",
        )


def _update_sizes(trace: Trace) -> Iterator[Symptom]:
    if trace.step is None or trace.loss is None:
        return
    ratios = {
        one.name: one.update_ratio
        for one in _weights_in_order(trace)
        if one.trainable and one.gradient is not None and one.update_ratio is not None
    }
    huge = {name: ratio for name, ratio in ratios.items() if ratio > HUGE_UPDATE}
    tiny = {name: ratio for name, ratio in ratios.items() if 0 < ratio < TINY_UPDATE}
    rate = trace.step.learning_rate
    usual = "about 0.001 is typical"
    if huge:
        name = max(huge, key=lambda one: huge[one])
        yield Symptom(
            kind="update-too-large",
            place=name,
            message=f"The step changes {_listed(list(huge))} by up to {huge[name]:.0%} of its "
            f"size; {usual}. What was learned there is overwritten.",
            advice=f"Lower the learning rate, now {rate:.3g}.",
        )
    knows = trace.loss.value < _KNOWN_ALREADY * trace.loss.chance_level
    if tiny and len(tiny) == len(ratios) and not knows:
        name = max(tiny, key=lambda one: tiny[one])
        yield Symptom(
            kind="update-too-small",
            place=name,
            message=f"The step changes no weight by more than {tiny[name]:.1e} of its size; "
            f"{usual}. Learning will be very slow.",
            advice=f"Raise the learning rate, now {rate:.3g}, unless its schedule is ending.",
        )


def _weights_in_order(trace: Trace) -> Iterator[ParameterTrace]:
    """Matrices and kernels in the order in which the batch met them, each once."""
    names = dict.fromkeys(name for layer in trace.layers for name in layer.parameters)
    for name in names:
        parameter = trace.parameter(name)
        if len(parameter.shape) >= 2:
            yield parameter


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} others"
