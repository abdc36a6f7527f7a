"""Explain: which pixels speak for what a run says of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from ..arrays import UInt8Array
from ..bundle.format import Bundle, is_bundle
from ..data.pictures.preprocess import Preprocess
from ..errors import PictureError, UsageError, unknown
from ..evaluation.predictions import NO_PREDICTION, predicted_of
from ..inspection.attribution import METHODS, attribute
from . import looks
from .network_predictor import NetworkPredictor
from .opened import OpenedRun, load_checkpoint, open_run
from .predicting import Picture, prepared_pictures, with_ink
from .predictor import Predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """Which pixels speak for one class of one picture."""

    file: str
    image: UInt8Array
    """uint8 (C, H, W): the picture as the network sees it."""
    label: str
    """The class that the network gives."""
    probability: float
    """Of the label, in 0..1."""
    target: str
    """The class that is explained."""
    method: str
    map: npt.NDArray[np.float32]
    """float32 (H, W): above 0 speaks for the target, below 0 against it."""

    def plot(self) -> Figure:
        """The picture beside its map."""
        return explanations_figure([self])


def explanations_figure(explanations: Sequence[Explanation]) -> Figure:
    """Every picture beside its map; red speaks for the class, blue against it."""
    from ..reports.figures import explanation_figure

    return explanation_figure(
        [one.image for one in explanations],
        [one.map for one in explanations],
        [
            (f"{one.label} {one.probability:.1%}\n{one.file}", f"for {one.target}\n{one.method}")
            for one in explanations
        ],
    )


def explain(
    source: str | Path | OpenedRun | Bundle,
    pictures: Picture | int | Sequence[Picture | int],
    *,
    method: str = METHODS[0],
    target: str | None = None,
    checkpoint: str = "best",
    invert: bool = False,
    ink: str | None = None,
    device: str | None = None,
    trust: bool = False,
) -> list[Explanation]:
    """Which pixels support the predictions of a run or a bundle.

    Args:
        source: a run or a bundle, by its path or opened.
        pictures: as for `predict`, or numbers of images in the run's dataset.
        method: occlusion, integrated-gradients or grad-cam (only for networks with convolutions);
            `sartor.inspection.attribution.attribute` says what each does.
        target: the class to explain; by default the one that the network gives.
        invert, ink: as for `predict`.
        device, trust: as for `evaluate`.

    Raises:
        UsageError: no such method, class or image; or a bundle whose network is not to be seen,
            or images of its data, which no bundle brings.
        PictureError: naming the files that cannot be read.
        MissingExtraError: captum is not installed.
    """
    several = (
        list(pictures)
        if isinstance(pictures, Sequence) and not isinstance(pictures, str)
        else [pictures]
    )
    numbers = [one for one in several if isinstance(one, int)]
    predictor: NetworkPredictor | Predictor
    run = None
    if isinstance(source, Bundle) or (isinstance(source, str | Path) and is_bundle(source)):
        if numbers:
            raise UsageError(
                "A bundle brings no dataset whose images have numbers.", "Name picture files."
            )
        predictor = Predictor(source, runtime="torch", trust=trust)
    else:
        run = open_run(source, device=device, trust=trust)
        predictor = NetworkPredictor(run, checkpoint=checkpoint)
    names, images = _images(run, predictor.preprocess, several, invert, ink)
    if run is not None:
        _count_look(run, numbers, checkpoint)
    with predictor.at_work():
        return explain_images(predictor, names, images, method=method, target=target)


def _count_look(run: OpenedRun, numbers: Sequence[int], checkpoint: str) -> None:
    """Keep that test images among those of the dataset were looked at."""
    if not numbers:
        return
    test = run.split().test
    count = int(np.isin(numbers, test).sum())
    if count:
        weights = load_checkpoint(run.folder, checkpoint).weights_sha256
        looks.looked(run.folder, looks.key_of(run.dataset(), test), "explain", weights, count)


def explain_images(
    predictor: NetworkPredictor | Predictor,
    names: Sequence[str],
    images: UInt8Array,
    *,
    method: str,
    target: str | None = None,
) -> list[Explanation]:
    """As `explain`, for images uint8 (B, C, H, W) that are prepared already."""
    classes = predictor.classes
    if target is not None and target not in classes:
        raise UsageError(
            unknown("class", target, classes).capitalize() + ".", "Name a class of the run."
        )
    forward = predictor.forward
    batch = predictor.batch(images)
    logits = forward.logits(batch).cpu().numpy()
    predicted = predicted_of(logits)
    if (predicted == NO_PREDICTION).any():
        raise PictureError(
            f"The network's outputs are not finite for {names[int(predicted.argmin())]}, so there "
            "is no prediction to explain.",
            "Train again with a lower --lr or with --clip-grad.",
        )
    targets = predicted if target is None else np.full(len(images), classes.index(target))
    maps = attribute(
        forward.network,
        batch,
        torch.from_numpy(targets).to(forward.device),
        method=method,
        baseline=predictor.batch(np.zeros_like(images[:1])),
    )
    probabilities = predictor.probabilities_of(logits)
    return [
        Explanation(
            file=name,
            image=images[row],
            label=classes[predicted[row]],
            probability=float(probabilities[row, predicted[row]]),
            target=classes[targets[row]],
            method=method,
            map=maps[row],
        )
        for row, name in enumerate(names)
    ]


def _images(
    run: OpenedRun | None,
    preprocess: Preprocess,
    pictures: Sequence[Picture | int],
    invert: bool,
    ink: str | None,
) -> tuple[list[str], UInt8Array]:
    """Names, and the images as the network is given them, uint8 (B, C, H, W)."""
    preprocess = with_ink(preprocess, ink)
    names: list[str] = []
    images: list[UInt8Array] = []
    faults: list[PictureError] = []
    for picture in pictures:
        if isinstance(picture, int):
            assert run is not None, "numbers are refused where there is no run"
            images.append(preprocess.images(_dataset_image(run, picture)))
            names.append(f"image {picture}")
            continue
        try:
            found, batch = prepared_pictures(picture, preprocess, invert)
        except PictureError as fault:
            faults.append(fault)
            continue
        names += found
        images.append(batch)
    if faults:
        raise PictureError("\n".join(fault.message for fault in faults), faults[0].hint)
    return names, np.concatenate(images)


def _dataset_image(run: OpenedRun, index: int) -> UInt8Array:
    dataset = run.dataset()
    if not 0 <= index < len(dataset):
        raise UsageError(
            f"There is no image {index}: the set holds {len(dataset):,}, numbered from 0.",
            "Choose another.",
        )
    return dataset.images[index : index + 1]
