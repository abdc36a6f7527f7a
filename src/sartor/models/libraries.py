"""Networks of timm and torchvision as backbones: `timm:NAME` and `torchvision:NAME`.

The libraries are an extra, and imported only when one of their networks is named. What a network's
weights are comes from their own metadata. Where weights lie is found without them: `hub_cache.py`.
"""

from __future__ import annotations

import contextlib
import difflib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import MissingExtraError, UsageError
from . import hub_cache
from .facts import Backbone
from .licences import normalised

TIMM, TORCHVISION = "timm", "torchvision"
EXTRA = "timm"
_FILES = ("model.safetensors", "pytorch_model.bin")
"""What repositories of timm call their weights."""
_STATE_DICTS = (".pth", ".pt", ".bin", ".safetensors")
_SHOWN = 12
"""So many names are listed."""
_LISTING = {TIMM: "timm.list_models()", TORCHVISION: "torchvision.models.list_models()"}


@dataclass(frozen=True, kw_only=True)
class LibraryBackbone(Backbone):
    """A network of timm or torchvision with pretrained weights."""

    repository: str | None = None
    """ORG/NAME on the hub that the weights come from."""
    revision: str | None = None
    """The revision of it that is taken; None for the newest, or the one that is here."""
    files: tuple[str, ...] = _FILES
    """Names of the file of weights, the first that there is."""
    url: str | None = None
    """Where the file lies, where there is no repository."""
    crop: float = 1.0
    """Share of a picture's shorter side that its authors looked at; sartor shows all of it."""
    fixed_size: bool = False
    """Whether the network is built for one size of pictures."""
    extra: str = EXTRA


_IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def _recommended(name: str, source: str, **facts: Any) -> LibraryBackbone:
    return LibraryBackbone(
        name=f"{TIMM}:{name}",
        source=source,
        licence="Apache-2.0",
        image_size=224,
        resampling="bicubic",
        repository=f"timm/{name}",
        **_IMAGENET,
        **facts,
    )


RECOMMENDED: Mapping[str, LibraryBackbone] = {
    one.name: one
    for one in (
        _recommended(
            "mobilenetv4_conv_small.e2400_r224_in1k",
            "timm, trained on ImageNet-1k",
            features=1280,
            parameters=2_493_024,
            multiply_adds=184_725_568,
            crop=0.875,
        ),
        _recommended(
            "repvit_m0_9.dist_300e_in1k",
            "Tsinghua University, distilled on ImageNet-1k",
            features=384,
            parameters=4_717_792,
            multiply_adds=816_512_832,
            crop=0.95,
        ),
        _recommended(
            "tiny_vit_5m_224.dist_in22k_ft_in1k",
            "Microsoft, distilled on ImageNet-22k, fine-tuned on ImageNet-1k",
            features=320,
            parameters=5_071_764,
            multiply_adds=1_254_854_720,
            crop=0.95,
        ),
        _recommended(
            "vit_small_patch14_dinov2.lvd142m",
            "Meta, trained without labels on LVD-142M (DINOv2); strong features, slow",
            features=384,
            parameters=21_628_800,
            multiply_adds=6_123_561_984,
            fixed_size=True,
        ),
    )
}
"""Networks of timm that are free to use and pay on a processor. Facts are those of timm's metadata,
at 224 pixels; `tests/models/test_libraries.py` holds them to it."""


def is_library_model(model: str) -> bool:
    """Whether a `--model` names a network of timm or torchvision."""
    return model.startswith((f"{TIMM}:", f"{TORCHVISION}:"))


def split(model: str) -> tuple[str, str]:
    """The library and the network's name in it."""
    library, _, name = model.partition(":")
    return library, name


def described(model: str) -> LibraryBackbone | None:
    """What the library says of a network's weights; None where it has none for it.

    Raises:
        MissingExtraError: the library is not installed. UsageError: it has no such network.
    """
    if model in RECOMMENDED:
        return RECOMMENDED[model]
    library, name = split(model)
    found = _of_timm(name) if library == TIMM else _of_torchvision(name)
    if found is None:
        return None
    known = RECOMMENDED.get(f"{TIMM}:{(found.repository or '').removeprefix('timm/')}")
    return found if known is None else replace(known, name=model)


def check_name(model: str) -> None:
    """Raise where the library has no such network.

    Raises:
        MissingExtraError: the library is not installed. UsageError: with the nearest name.
    """
    library, name = split(model)
    architecture = name.partition(".")[0]
    if library == TORCHVISION:
        known = list(_torchvision_models().list_models(module=_torchvision_models()))
    else:
        known = imported(TIMM).list_models()
    # A name with a source of its own, such as hf-hub:ORG/NAME, is none of these.
    if architecture not in known:
        raise UsageError(*_unknown(library, "network", name, known))
    if name == architecture:
        return
    tagged = [f"{architecture}.{tag}" for tag in _tags(library, architecture)]
    if name not in tagged:
        raise UsageError(*_unknown(library, f"weights of {architecture}", name, tagged))


def weights_path(backbone: LibraryBackbone) -> Path | None:
    """The file of the weights, where it lies in a hub's cache."""
    if backbone.repository is not None:
        found = hub_cache.cached_in_hub(backbone.repository, backbone.files, backbone.revision)
        if found is not None:
            return found
    return hub_cache.cached_in_torch(Path(backbone.url).name) if backbone.url else None


def imported(library: str) -> ModuleType:
    """timm or torchvision.

    Raises:
        MissingExtraError: it is not installed, or does not fit the torch that is.
    """
    try:
        with _quiet():
            if library == TIMM:
                import timm

                return timm  # type: ignore[no-any-return]
            import torchvision
            import torchvision.models
    except (ImportError, RuntimeError, AttributeError) as error:
        # A torchvision made for another torch fails in one of these ways.
        raise MissingExtraError(f"A network of {library}", library, EXTRA) from error
    return torchvision  # type: ignore[no-any-return]


def _of_timm(name: str) -> LibraryBackbone | None:
    check_name(f"{TIMM}:{name}")
    found = imported(TIMM).get_pretrained_cfg(name)
    url = found.url if found is not None and isinstance(found.url, str) else ""
    if found is None or not (found.hf_hub_id or url.endswith(_STATE_DICTS)):
        return None
    own_file = found.hf_hub_filename
    return LibraryBackbone(
        name=f"{TIMM}:{name}",
        licence=normalised(found.license),
        source=f"timm, {found.architecture}.{found.tag}",
        image_size=found.input_size[-1],
        mean=tuple(found.mean),
        std=tuple(found.std),
        resampling=found.interpolation,
        repository=found.hf_hub_id,
        files=(own_file,) if own_file else _FILES,
        url=url or None,
        crop=found.crop_pct,
        fixed_size=found.fixed_input_size,
    )


def _of_torchvision(name: str) -> LibraryBackbone | None:
    check_name(f"{TORCHVISION}:{name}")
    architecture, _, tag = name.partition(".")
    known = _torchvision_models().get_model_weights(architecture)
    if not len(known):
        return None
    weights = known[tag] if tag else known.DEFAULT
    shown, meta = weights.transforms(), weights.meta
    figures = meta.get("_metrics", {}).get("ImageNet-1K", {})
    size = shown.crop_size[0]
    terms = meta.get("license")
    return LibraryBackbone(
        name=f"{TORCHVISION}:{name}",
        # It states them as an address: ORG/NAME of the repository that has them.
        licence="/".join(terms.split("/")[3:5]) if terms else None,
        source=f"torchvision, {architecture}.{weights.name}",
        image_size=size,
        mean=tuple(shown.mean),
        std=tuple(shown.std),
        resampling=shown.interpolation.value,
        accuracy=figures["acc@1"] / 100 if "acc@1" in figures else None,
        url=weights.url,
        crop=size / shown.resize_size[0],
        fixed_size=architecture.startswith(("vit_", "maxvit")),
        file_bytes=round(meta["_file_size"] * 2**20) if "_file_size" in meta else None,
    )


def _tags(library: str, architecture: str) -> list[str]:
    if library == TIMM:
        names = imported(TIMM).list_pretrained(f"{architecture}.*")
        return [name.partition(".")[2] for name in names]
    return [one.name for one in _torchvision_models().get_model_weights(architecture)]


def _torchvision_models() -> Any:
    return imported(TORCHVISION).models


def _unknown(library: str, kind: str, name: str, known: Iterable[str]) -> tuple[str, str]:
    """A sentence on a name that a library does not have, and what to do."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    listed = ", ".join(f'"{one}"' for one in near)
    sentence = f'unknown {kind} "{name}" in {library}'
    if len(names) <= _SHOWN:
        return f"{sentence}; known: {', '.join(names) or 'none'}", "Correct the name."
    asked = f"; did you mean {listed}?" if near else "."
    return (
        sentence + asked,
        f'Its names: python -c "import {library}; print({_LISTING[library]})"',
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what libraries say while they are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
