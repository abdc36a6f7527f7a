"""What a run has before its first step: all that reproduces it, and what is told of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..arrays import Int64Array, UInt8Array
from ..assembly import Assembly, Material
from ..data.dataset import Dataset
from ..data.pictures.exclude import exclusion_list
from ..errors import FileError
from ..events import Started
from ..files import names_flushed_together, write_bytes, write_json, write_text
from ..inference import familiarity
from ..inspection.probes.preflight import count_parameters
from ..models.custom import is_custom, source_of
from ..recipe import ResolvedRecipe
from ..runs.environment import describe_environment
from ..runs.folder import RunFolder
from ..runs.trust import mark_as_ours
from ..training.objective import chance_level
from ..training.state import Progress
from .calling import packed
from .notes import warn
from .splitting import imbalanced
from .tuning import Tuning


def write_beginnings(
    folder: RunFolder,
    recipe: ResolvedRecipe,
    material: Material,
    tuning: Tuning | None,
    promise: str,
    engine: Mapping[str, Any],
    ranges: familiarity.Ranges,
) -> None:
    """Write everything that reproduces the run, before its first step."""
    if is_custom(recipe.model.model):
        write_bytes(folder.model_source_path, source_of(recipe.model.model))
        try:
            mark_as_ours(folder, recipe.to_tables()["model"])
        except FileError as error:
            warn([f"The run will ask for --trust, for it could not be marked: {error.message}"])
    with names_flushed_together(folder.path):
        write_bytes(folder.split_path, material.split.to_bytes())
        write_json(folder.environment_path, {**describe_environment(), **engine})
        if tuning:
            write_json(folder.engine_path, tuning.document)
        write_json(folder.input_ranges_path, ranges)
        folder.write_status("running", report=promise)
    # This makes the folder a run.
    write_text(folder.recipe_path, recipe.to_toml())


def keep_lists(folder: RunFolder, recipe: ResolvedRecipe, dataset: Dataset) -> ResolvedRecipe:
    """Write what was left out and corrected into the run; the recipe that names these lists.

    What the reader said of the source is written too, such as rows of a list that were left out.
    """
    if dataset.origin is not None:
        listing = dataset.origin.listing
        write_text(folder.source_path, "\n".join((listing.shape, *listing.remarks, "")))
    roster, paths = dataset.everything(), {}
    if roster.by_list:
        excluded = {roster.names[index]: reason for index, reason in roster.by_list.items()}
        write_text(folder.excluded_path, exclusion_list(excluded))
        paths["exclude"] = folder.excluded_path.absolute()
    if recipe.data.fixes:
        write_bytes(folder.fixes_path, Path(recipe.data.fixes).read_bytes())
        paths["fixes"] = folder.fixes_path.absolute()
    return recipe.with_lists(**paths) if paths else recipe


def packed_beginnings(assembled: Assembly, dataset: Dataset) -> bytes:
    """What other processes need of a run that has no folder yet."""
    with tempfile.TemporaryDirectory(prefix="sartor-") as place:
        folder = RunFolder(Path(place))
        recipe = keep_lists(folder, assembled.recipe, dataset)
        if is_custom(recipe.model.model):
            write_bytes(folder.model_source_path, source_of(recipe.model.model))
        write_bytes(folder.split_path, assembled.material.split.to_bytes())
        return packed(folder, recipe)


class RangesAhead:
    """The input ranges of the training images, computed by a thread while other things are done."""

    def begin(self, images: UInt8Array, train: Int64Array) -> None:
        """Images uint8 (N, C, H, W), and which of them are for training (M,)."""
        rows = train[:: len(train) // familiarity.MOST_IMAGES + 1]
        pool = ThreadPoolExecutor(1, "sartor-ranges")
        self._coming = pool.submit(lambda: familiarity.ranges_of(images[rows]))
        pool.shutdown(wait=False)

    def result(self) -> familiarity.Ranges:
        """As `familiarity.ranges_of`, of evenly chosen images."""
        return self._coming.result()


def started_event(
    folder: RunFolder,
    assembled: Assembly,
    progress: Progress,
    loss: float | None,
    tuning: Tuning | None = None,
) -> Started:
    """What the first event of a training says.

    Args:
        loss: of the untrained network; None where that was not computed.
    """
    job, recipe, material = assembled.job, assembled.recipe, assembled.material
    training, split = recipe.training, material.split
    return Started(
        run=str(folder.path),
        source=recipe.data.source,
        train_images=len(split.train),
        val_images=len(split.val),
        test_images=len(split.test),
        num_classes=job.num_classes,
        model=recipe.model.model,
        parameters=count_parameters(job.model),
        epochs=training.epochs,
        steps_per_epoch=len(job.batches),
        device=training.device,
        threads=training.threads,
        memory_format=training.memory_format,
        amp_dtype=training.amp_dtype,
        step=progress.step,
        untrained_loss=loss,
        expected_loss=chance_level(training.loss, job.num_classes),
        imbalanced=imbalanced(material.dataset, split),
        engine=tuning.line if tuning else "",
    )
