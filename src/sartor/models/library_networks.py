"""A network of timm or torchvision with its head cut off, and a linear head of ours on it."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ModelError
from . import libraries
from .custom import reason_of
from .dropout import Dropout
from .headed import HeadedNetwork
from .mlp import Probability

Trained = Literal["all", "head"]
"""What training changes: everything, or only the head."""
_WITH_AUXILIARIES = ("googlenet", "inception_v3")
"""Networks of torchvision with second heads, which are left out, and a normalisation of their own
within the network, which their weights expect."""
_CONVERSIONS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
"""What files of timm call the function that renames weights of other origins."""


class LibraryNetwork(HeadedNetwork):
    """The body of a library's network, and a linear head: images -> logits."""

    def __init__(self, body: nn.Module, width: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.body = body
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(width, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """float (B, C, H, W) -> (B, F): what the head is given."""
        features: Tensor = self.body(images)
        return features

    def freeze(self, trained: Trained) -> None:
        """Leave everything but what is `trained` as it is, statistics of normalisation included."""
        self.frozen = (self.body,) if trained == "head" else ()
        self.body.requires_grad_(trained == "all")
        self.train(self.training)

    def weights_named_here(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of other origins under the names of this network, as far as timm knows how.

        Position embeddings are resampled to the size of this network's input.
        """
        module = sys.modules[type(self.body).__module__]
        for name in _CONVERSIONS:
            convert = getattr(module, name, None)
            if module.__name__.startswith("timm.") and callable(convert):
                try:
                    converted = _called(convert, dict(tensors), self.body)
                except Exception:  # weights that it was not made for
                    continue
                return {f"body.{key}": one for key, one in converted.items()}
        return {}


def factory_of(model: str) -> Callable[..., LibraryNetwork]:
    """The function that builds a library's network with random weights; making it imports no
    library."""

    def timm_network(
        *,
        input_shape: tuple[int, int, int],
        num_classes: int,
        pretrained: bool = True,
        trained: Trained = "all",
        dropout: Probability = 0.0,
        drop_path: Probability = 0.0,
    ) -> LibraryNetwork:
        del pretrained  # says what is put into the network afterwards
        return _build(model, input_shape, num_classes, trained, dropout, drop_path)

    def torchvision_network(
        *,
        input_shape: tuple[int, int, int],
        num_classes: int,
        pretrained: bool = True,
        trained: Trained = "all",
        dropout: Probability = 0.0,
    ) -> LibraryNetwork:
        del pretrained
        return _build(model, input_shape, num_classes, trained, dropout)

    is_of_timm = libraries.split(model)[0] == libraries.TIMM
    return timm_network if is_of_timm else torchvision_network


def _build(
    model: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    trained: Trained,
    dropout: float,
    drop_path: float = 0.0,
) -> LibraryNetwork:
    """The network with random weights.

    Raises:
        MissingExtraError: the library is not installed. UsageError: it has no such network.
        ModelError: it has no head that can be cut off, or cannot take images of that size.
    """
    libraries.check_name(model)
    library, name = libraries.split(model)
    with _building(model, input_shape), _quiet():
        if library == libraries.TIMM:
            body = _timm_body(name, input_shape, drop_path)
        else:
            body = _torchvision_body(model, name, input_shape)
        width = _width_of(body, model, input_shape)
    network = LibraryNetwork(body, width, num_classes, dropout)
    network.freeze(trained)
    return network


def _timm_body(name: str, input_shape: tuple[int, int, int], drop_path: float) -> nn.Module:
    timm = libraries.imported(libraries.TIMM)
    known, settings = timm.get_pretrained_cfg(name), dict[str, Any]()
    if known is not None and known.fixed_input_size:
        settings["img_size"] = input_shape[1:]
    if drop_path:
        settings["drop_path_rate"] = drop_path
    body: nn.Module = timm.create_model(
        name, pretrained=False, num_classes=0, in_chans=input_shape[0], **settings
    )
    return body


def _torchvision_body(model: str, name: str, input_shape: tuple[int, int, int]) -> nn.Module:
    models = libraries.imported(libraries.TORCHVISION).models
    architecture, settings = name.partition(".")[0], dict[str, Any]()
    if architecture in _WITH_AUXILIARIES:
        settings = {"aux_logits": False, "init_weights": False, "transform_input": True}
    body: nn.Module = models.get_model(architecture, weights=None, **settings)
    layers = [(key, one) for key, one in body.named_modules() if _own(one)]
    place, last = layers[-1]
    if not isinstance(last, nn.Linear):
        raise ModelError(
            f"The last layer of {model} is a {type(last).__name__}, not a linear one on features.",
            "Choose another network, such as torchvision:mobilenet_v3_small.",
        )
    _replace(body, place, nn.Identity())
    channels = input_shape[0]
    key, first = next((key, one) for key, one in body.named_modules() if isinstance(one, nn.Conv2d))
    if first.in_channels != channels:
        _replace(body, key, _for_channels(first, channels))
    return body


def _for_channels(first: nn.Conv2d, channels: int) -> nn.Conv2d:
    """A first layer like another one, for other channels, drawn at random."""
    assert isinstance(first.padding, tuple)
    return nn.Conv2d(
        channels,
        first.out_channels,
        (first.kernel_size[0], first.kernel_size[1]),
        (first.stride[0], first.stride[1]),
        (int(first.padding[0]), int(first.padding[1])),
        bias=first.bias is not None,
    )


def _replace(body: nn.Module, place: str, layer: nn.Module) -> None:
    parent, _, name = place.rpartition(".")
    setattr(body.get_submodule(parent), name, layer)


def _width_of(body: nn.Module, model: str, input_shape: tuple[int, int, int]) -> int:
    """How many features the body gives for an image; it is tried on a black one."""
    was_training = body.training
    body.eval()
    with torch.no_grad():
        found = body(torch.zeros(1, *input_shape))
    body.train(was_training)
    if not isinstance(found, Tensor) or found.ndim != 2:
        raise ModelError(
            f"{model} gives no single row of features for an image.",
            "Choose a network that is made to classify images.",
        )
    return int(found.shape[1])


@contextmanager
def _building(model: str, input_shape: tuple[int, int, int]) -> Iterator[None]:
    """Say in a sentence why a network cannot be built, or cannot take such images."""
    try:
        yield
    except (AssertionError, RuntimeError, ValueError, TypeError, IndexError) as error:
        size = "x".join(map(str, input_shape))
        raise ModelError(
            f"{model} cannot take images of {size}: {reason_of(error).rstrip('!')}.",
            "Leave --image-size and --channels out to use those that its weights were trained "
            "with.",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _own(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def _called(convert: Any, tensors: dict[str, Tensor], body: nn.Module) -> Mapping[str, Tensor]:
    takes = len(inspect.signature(convert).parameters)
    converted: Mapping[str, Tensor] = convert(tensors, body) if takes > 1 else convert(tensors)
    return converted
