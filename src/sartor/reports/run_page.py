"""The page of a run: report.html, from what report.json says and the pixels of the dataset."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..data.dataset import Dataset
from ..models.stages import EVERY_LAYER, level_for, stages
from . import charts
from .contents import Document, Explained
from .heat import heat_over
from .page import LARGEST_PICTURE, Sheet, make_sheet, render

_MOST_CLASSES_IN_A_MATRIX = 30
_PAIRS_SHOWN = 10
_PAIRS_INSTEAD_OF_A_MATRIX = 40
_CLASSES_SHOWN = 1000
_SECTIONS = (
    ("classes", "Classes"),
    ("confusions", "Confusion matrix"),
    ("mistakes", "Mistakes"),
    ("confidence", "Confidence"),
    ("calibration", "Calibration"),
    ("sets", "Sets and unknown"),
    ("coverage", "Coverage"),
)
_OTHER_SECTIONS = (
    ("training", "Training"),
    ("network", "Network"),
    ("data", "Data"),
    ("again", "Reproduce"),
)


def render_report(
    document: Document,
    dataset: Dataset,
    recipe: str,
    mistakes: str,
    explained: Sequence[Explained] = (),
) -> str:
    """The page; `recipe` is the text of recipe.toml, `mistakes` the name of the CSV file.

    It shows only so many pictures as keep it well under 3 MB, whatever their size and number.
    """
    choice = _choose(document, dataset.shape)
    sheet = make_sheet({index: dataset.images[index] for index in sorted(choice.indices())})
    judged = document["judged"] is not None
    points = _points(document, dataset.shape)
    sections = [
        *((("baselines", "Baselines"),) if document["baselines"] else ()),
        *(_SECTIONS if judged else ()),
        *((("map", "Map"),) if points else ()),
        *_OTHER_SECTIONS,
    ]
    on_map = make_sheet({one["index"]: dataset.images[one["index"]] for one in points}, name="map")
    heat = _heat_sheet(explained, dataset)
    return render(
        "report.html",
        sheets=[sheet, *([on_map] if points else ()), *([heat] if explained else ())],
        sheet=sheet,
        map_sheet=on_map,
        heat_sheet=heat,
        points=points,
        hues=_hues(document["data"]["classes"]),
        sections=sections,
        report=document,
        choice=choice,
        recipe=recipe,
        mistakes_file=mistakes,
        charts=_charts(document),
        ranges=_ranges(document) if judged else [],
        matrix=_matrix(document, choice) if judged else None,
        pairs=_pairs_view(document, choice) if judged else [],
        classes_shown=_CLASSES_SHOWN,
        stages=_stages(document["network"]["rows"]),
    )


def _stages(rows: Sequence[Document]) -> list[Document]:
    """The layers of a large network by stage: name, number of layers, output, parameters; none of
    a small one."""
    names = [row["name"] for row in rows]
    level = level_for(names)
    if level == EVERY_LAYER:
        return []
    return [
        {
            "name": name,
            "layers": len(places),
            "kind": rows[places[0]]["kind"],
            "output_shape": rows[places[-1]]["output_shape"],
            "parameters": sum(
                rows[place]["parameters"] for place in places if not rows[place]["repeated"]
            ),
        }
        for name, places in stages(names, level)
    ]


def render_notebook(document: Document, path: str) -> str:
    """Its headline and its table of classes, as a part of another page."""
    return render("notebook.html", report=document, path=path)


# ------------------------------------------------------------------------------------ pictures


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A wrong cell of the confusion matrix whose pictures can be opened."""

    id: str
    true: str
    predicted: str
    count: int
    share: float
    images: Sequence[Document]

    @property
    def more(self) -> int:
        """How many of its images are not shown."""
        return self.count - len(self.images)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which pictures are shown."""

    samples: Sequence[Document]
    """{class, indices, files} of the first classes."""
    lists: Mapping[str, Sequence[Document]]
    """mistakes, most_confident and least_confident."""
    cells: Mapping[tuple[str, str], Cell]
    """By true and predicted class."""

    def indices(self) -> set[int]:
        """All of them, as numbers of the dataset."""
        found = {index for row in self.samples for index in row["indices"]}
        found |= {image["index"] for images in self.lists.values() for image in images}
        return found | {image["index"] for cell in self.cells.values() for image in cell.images}


def _choose(document: Document, shape: tuple[int, int, int]) -> Choice:
    most = _most_pictures(shape)
    lists = (
        {
            "mistakes": document["mistakes"]["images"],
            "most_confident": document["most_confident"],
            "least_confident": document["least_confident"],
        }
        if document["judged"]
        else {}
    )
    classes = document["data"]["samples"][: most // 4]
    each = max(1, most // 4 // len(classes))
    samples = [
        row | {"indices": row["indices"][:each], "files": row["files"] and row["files"][:each]}
        for row in classes
    ]
    taken = Choice(samples=samples, lists=lists, cells={}).indices()
    cells = _cells(document, taken, most) if document["judged"] else {}
    return Choice(samples=samples, lists=lists, cells=cells)


def _most_pictures(shape: tuple[int, int, int]) -> int:
    """So many pictures of a shape as weigh about a megabyte."""
    channels, height, width = shape
    shrink = min(1, LARGEST_PICTURE / max(height, width))
    numbers = channels * height * width * shrink**2
    return int(min(max(1_200_000 / numbers, 200), 800))


def _cells(document: Document, taken: set[int], most: int) -> dict[tuple[str, str], Cell]:
    """Cells with as many images each as there is room for, the worst first."""
    confusions = [one for one in document["confusions"] if one["images"]]
    if len(document["data"]["classes"]) > _MOST_CLASSES_IN_A_MATRIX:
        wanted = set(_shown_directions(document))
        confusions = [one for one in confusions if (one["true"], one["predicted"]) in wanted]
    each = max((len(one["images"]) for one in confusions), default=0)
    while each > 1 and len(_new_images(confusions, each, taken)) + len(taken) > most:
        each -= 1
    cells = {}
    for place, one in enumerate(confusions):
        images = one["images"][:each]
        taken = taken | {image["index"] for image in images}
        if len(taken) > most:
            break
        key = one["true"], one["predicted"]
        cells[key] = Cell(
            id=f"cell-{place}",
            true=one["true"],
            predicted=one["predicted"],
            count=one["count"],
            share=one["share"],
            images=images,
        )
    return cells


def _new_images(confusions: Sequence[Document], each: int, taken: set[int]) -> set[int]:
    shown = {image["index"] for one in confusions for image in one["images"][:each]}
    return shown - taken


def _shown_directions(document: Document) -> Iterator[tuple[str, str]]:
    for pair in document["pairs"][:_PAIRS_INSTEAD_OF_A_MATRIX]:
        one, other = pair["classes"]
        yield one, other
        yield other, one


# ------------------------------------------------------------------------------------ map


def _points(document: Document, shape: tuple[int, int, int]) -> list[Document]:
    """The points of the map with their places in per cent of its sides, as many as fit a page."""
    if not document["map"]:
        return []
    points = document["map"]["points"]
    points = points[:: max(1, math.ceil(len(points) / _most_pictures(shape)))]
    shown = {point["index"] for point in points}
    strange = {one["index"] for one in document["map"]["outliers"]}
    points += [one for one in document["map"]["points"] if one["index"] in strange - shown]
    sides = {}
    for side in ("x", "y"):
        values = [point[side] for point in points]
        low, span = min(values), (max(values) - min(values)) or 1
        sides[side] = [round(100 * (value - low) / span, 2) for value in values]
    return [
        point | {"left": left, "top": round(100 - up, 2), "strange": point["index"] in strange}
        for point, left, up in zip(points, sides["x"], sides["y"], strict=True)
    ]


def _hues(classes: Sequence[str]) -> dict[str, int]:
    """A hue for each class, in degrees; neighbours in the list lie far apart."""
    step = next(step for step in (3, 1) if math.gcd(step, len(classes)) == 1)
    return {
        name: place * step % len(classes) * 360 // len(classes)
        for place, name in enumerate(classes)
    }


def _heat_sheet(explained: Sequence[Explained], dataset: Dataset) -> Sheet:
    """Each explained image with the evidence for its predicted and its true class."""
    pictures = {}
    for one in explained:
        image = dataset.images[one.index]
        pictures[one.index, "predicted"] = heat_over(image, one.for_predicted)
        pictures[one.index, "true"] = heat_over(image, one.for_true)
    return make_sheet(pictures, name="heat")


# ------------------------------------------------------------------------------------ tables


def _matrix(document: Document, choice: Choice) -> list[Document] | None:
    """Rows of the confusion matrix; None where it would have too many."""
    classes = document["data"]["classes"]
    if len(classes) > _MOST_CLASSES_IN_A_MATRIX:
        return None
    return [
        {
            "class": true,
            "cells": [
                {
                    "count": count,
                    "predicted": predicted,
                    "right": true == predicted,
                    # The root lets one mistake in a hundred be seen beside a full diagonal.
                    "shade": round(0.5 * math.sqrt(count / max(sum(row), 1)), 3),
                    "share": count / max(sum(row), 1),
                    "cell": choice.cells.get((true, predicted)),
                }
                for predicted, count in zip(classes, row, strict=True)
            ],
        }
        for true, row in zip(classes, document["evaluation"]["confusion"], strict=True)
    ]


def _pairs_view(document: Document, choice: Choice) -> list[Document]:
    few = len(document["data"]["classes"]) <= _MOST_CLASSES_IN_A_MATRIX
    shown = document["pairs"][: _PAIRS_SHOWN if few else _PAIRS_INSTEAD_OF_A_MATRIX]
    cells = choice.cells
    return [
        pair | {"cells": [cells.get((one, other)), cells.get((other, one))]}
        for pair in shown
        for one, other in (pair["classes"],)
    ]


def _ranges(document: Document) -> list[Document]:
    """Where accuracy and its interval lie on a line, in per cent of its length, class by class."""
    rows = document["evaluation"]["per_class"]
    lowest = min((row["interval"][0] for row in rows if row["count"]), default=0.0)
    start = math.floor(lowest * 10) / 10

    def place(share: float) -> float:
        return round(100 * max(share - start, 0) / (1 - start), 1) if start < 1 else 100.0

    return [
        {
            "left": place(row["interval"][0]),
            "width": round(place(row["interval"][1]) - place(row["interval"][0]), 1),
            "dot": None if row["accuracy"] is None else place(row["accuracy"]),
            "start": start,
        }
        for row in rows
    ]


# ------------------------------------------------------------------------------------ charts


def _charts(document: Document) -> dict[str, Markup | None]:
    history = document["training"]["history"]
    calibration, coverage = document["calibration"], document["coverage"]
    before = calibration and calibration["before"]
    after = calibration and calibration["after"]
    return {
        "loss": charts.learning_chart(history, "loss") if history else None,
        "accuracy": charts.learning_chart(history, "accuracy") if history else None,
        "before": before and charts.reliability_chart("before", "Uncalibrated", before["bins"]),
        "after": after and charts.reliability_chart("after", "With temperature", after["bins"]),
        "coverage": coverage and charts.coverage_chart(coverage["curve"]),
    }
