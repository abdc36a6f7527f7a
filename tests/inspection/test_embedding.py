"""Maps of what a network sees: against closed forms, brute force and planted strangers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import sartor
from sartor.errors import DataError, MissingExtraError, UsageError
from sartor.inspection.embedding import METHODS, Embedding, lay_out, outlier_scores


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Three clouds of 20 points in 5 dimensions; point 7 carries the label of another cloud."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    features = 10 * np.eye(5)[labels] + random.normal(size=(60, 5))
    labels[7] = 2
    return features.astype(np.float32), labels


def test_pca_is_the_projection_on_the_two_largest_singular_vectors(
    blobs: tuple[np.ndarray, np.ndarray],
) -> None:
    features, _ = blobs
    centred = features - features.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ directions[:2].T
    points = lay_out(features)
    # A direction has no sign.
    assert np.abs(points) == pytest.approx(np.abs(expected), abs=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_clouds_stay_apart_and_the_same_seed_gives_the_same_map(
    blobs: tuple[np.ndarray, np.ndarray], method: str
) -> None:
    features, _ = blobs
    points = lay_out(features, method, seed=1)
    clouds = points.reshape(3, 20, 2)
    centres = clouds.mean(axis=1)
    spread = np.linalg.norm(clouds - centres[:, None], axis=2).max()
    gaps = [np.linalg.norm(centres[a] - centres[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert min(gaps) > spread
    assert np.array_equal(points, lay_out(features, method, seed=1))


def test_strangeness_is_the_distance_to_neighbours_of_the_class(
    blobs: tuple[np.ndarray, np.ndarray],
) -> None:
    features, labels = blobs
    strangeness = outlier_scores(features, labels)
    assert strangeness.argmax() == 7
    members = features[labels == 1]
    distances = np.linalg.norm(members[:, None] - members[None], axis=2)
    means = np.sort(distances, axis=1)[:, 1:11].mean(axis=1)
    assert strangeness[labels == 1] == pytest.approx(means / np.median(means), rel=1e-3)


def test_a_class_of_one_is_not_strange_and_equal_images_neither() -> None:
    features = np.zeros((4, 2), np.float32)
    assert outlier_scores(features, np.array([0, 1, 1, 1])).tolist() == [0, 0, 0, 0]


def test_features_are_what_the_last_layer_is_given(trained: Path) -> None:
    run = sartor.Run.open(trained)
    embedding = sartor.embed(run, "val")
    assert np.array_equal(embedding.indices, run.split().val)
    network, data = run.network("best"), run.dataset()
    mean, std = run.recipe.preprocess.mean[0], run.recipe.preprocess.std[0]
    images = torch.from_numpy(data.images[embedding.indices]).float() / 255
    with torch.no_grad():
        features = network[:-1]((images - mean) / std).numpy()
    assert np.abs(embedding.points) == pytest.approx(np.abs(lay_out(features)), abs=1e-3)
    expected = outlier_scores(features, data.labels[embedding.indices])
    assert embedding.outlier_scores == pytest.approx(expected, rel=1e-2)
    strangest = embedding.indices[embedding.outlier_scores.argmax()]
    assert embedding.outliers(1).tolist() == [strangest]


def test_a_map_is_drawn_with_every_point(trained: Path) -> None:
    embedding = sartor.embed(trained, "val", limit=50)
    axes = embedding.plot().axes[0]
    drawn = sum(len(dots.get_offsets()) for dots in axes.collections[:-1])
    assert drawn == len(embedding.points) == 50


def test_what_makes_no_map(
    trained: Path, monkeypatch: pytest.MonkeyPatch, blobs: tuple[np.ndarray, np.ndarray]
) -> None:
    features, _ = blobs
    with pytest.raises(UsageError, match='did you mean "tsne"'):
        lay_out(features, "t-sne")
    with pytest.raises(DataError, match="2 images are too few for a map"):
        lay_out(features[:2])
    with pytest.raises(DataError, match="not finite"):
        lay_out(features * np.inf)
    with pytest.raises(UsageError, match='no split "validation"'):
        sartor.embed(trained, "validation")
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtraError, match=r"sartor\[maps\]"):
        lay_out(features, "umap")


def test_no_outlier_is_named_where_a_class_has_one_image_or_two() -> None:
    features = np.array([[0, 0], [9, 9], [0, 1], [5, 5]], np.float32)
    labels = np.array([0, 1, 0, 2])
    embedding = Embedding(
        points=features,
        labels=labels,
        indices=np.arange(4),
        classes=("a", "b", "c"),
        split="val",
        method="pca",
        outlier_scores=outlier_scores(features, labels),
    )
    assert embedding.outliers().tolist() == []
