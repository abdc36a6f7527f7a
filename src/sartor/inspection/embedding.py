"""A map of a network's feature space: its last features reduced to two dimensions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import nn

from ..arrays import Float32Array, Int64Array
from ..data.feed.batches import Feed
from ..errors import DataError, MissingExtraError, UsageError, unknown
from ..inference.forward import Forward
from ..training.settings import TrainingSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


METHODS = ("pca", "tsne", "umap")
_NEIGHBOURS = 10
_FEWEST = 3


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Embedding:
    """Every image of a split as a point; close points look similar to the network."""

    points: Float32Array
    """float32 (N, 2)."""
    labels: Int64Array
    """int64 (N,): the true class of each point."""
    indices: Int64Array
    """int64 (N,): which image of the dataset each point is."""
    classes: tuple[str, ...]
    split: str
    method: str
    """pca, tsne or umap."""
    outlier_scores: Float32Array
    """float32 (N,): mean distance to the 10 nearest others of the same class, among all features
    and not in the map, over the class's median; an outlier has a high score."""

    def __repr__(self) -> str:
        return f"<Embedding of {self.split}: {len(self.points):,} images by {self.method}>"

    def outliers(self, count: int = 20) -> Int64Array:
        """Indices of the strongest outliers of their class, strongest first."""
        return self.indices[self.outlier_rows(count)]

    def outlier_rows(self, count: int) -> Int64Array:
        """As `outliers`, as places among the points: only images that are less like their class
        than half of it is, so that none is named of a class with one or two."""
        strongest = np.argsort(-self.outlier_scores, kind="stable")[:count]
        return strongest[self.outlier_scores[strongest] > 1.0]

    def plot(self) -> Figure:
        """Every image as a dot in the colour of its class; the strongest outliers are circled."""
        from ..reports.figures import embedding_figure

        return embedding_figure(self)


def features_of(
    model: nn.Module, feed: Feed, settings: TrainingSettings
) -> tuple[Float32Array, Float32Array]:
    """What the last linear layer is given for every image, (N, features), and logits (N, classes).

    A network without a linear layer that sees each image once is described by its logits.
    """
    forward = Forward.of(model, settings)
    layer = ""
    for images, _ in replace(feed, indices=feed.indices[:2]).in_order(2):
        layer = forward.last_linear(images)
    features, logits = forward.all_seen(feed, layer)
    return features.cpu().numpy(), logits.cpu().numpy()


def lay_out(features: Float32Array, method: str = "pca", seed: int = 0) -> Float32Array:
    """Features (N, F) as points (N, 2).

    pca keeps the two directions of largest variance. tsne (van der Maaten, Hinton 2008) and umap
    (McInnes et al. 2018) keep neighbours together; distances between their clusters mean little.

    Raises:
        UsageError: no such method. DataError: fewer than three images, or values that are not
            finite. MissingExtraError: umap is not installed.
    """
    if method not in METHODS:
        raise UsageError(unknown("method", method, METHODS).capitalize() + ".", "Choose another.")
    if len(features) < _FEWEST:
        raise DataError(
            f"{len(features)} images are too few for a map.",
            f"Choose a split of at least {_FEWEST}.",
        )
    if not np.isfinite(features).all():
        raise DataError("The network's features are not finite.", "Its weights may have diverged.")
    points: Float32Array = _REDUCERS[method](_padded(features), seed).astype(np.float32)
    return points


def outlier_scores(features: Float32Array, labels: Int64Array) -> Float32Array:
    """See `Embedding.outlier_scores`; 0 where a class has a single image."""
    from sklearn.neighbors import NearestNeighbors

    outlier_scores = np.zeros(len(labels), np.float32)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        neighbours = min(_NEIGHBOURS, len(members) - 1)
        if neighbours < 1:
            continue
        search = NearestNeighbors(n_neighbors=neighbours).fit(features[members])
        # Without arguments, no point counts as its own neighbour.
        distances = search.kneighbors()[0].mean(axis=1)
        outlier_scores[members] = distances / (np.median(distances) or 1.0)
    return outlier_scores


def _by_pca(features: Float32Array, _seed: int) -> npt.NDArray[Any]:
    from sklearn.decomposition import PCA

    points: npt.NDArray[Any] = PCA(n_components=2, svd_solver="full").fit_transform(features)
    return points


def _by_tsne(features: Float32Array, seed: int) -> npt.NDArray[Any]:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    reducer = TSNE(n_components=2, init="pca", perplexity=perplexity, random_state=seed)
    points: npt.NDArray[Any] = reducer.fit_transform(features)
    return points


def _by_umap(features: Float32Array, seed: int) -> npt.NDArray[Any]:
    try:
        with warnings.catch_warnings():
            # Of TensorFlow, which another of its methods would need.
            warnings.simplefilter("ignore", ImportWarning)
            from umap import UMAP
    except ImportError as error:
        raise MissingExtraError("A map by umap", "umap-learn", "maps") from error
    # With a seed it works on one thread; saying so keeps it from warning of that.
    reducer = UMAP(
        n_components=2,
        n_neighbors=min(15, len(features) - 1),
        init="pca",
        random_state=seed,
        n_jobs=1,
    )
    points: npt.NDArray[Any] = reducer.fit_transform(features)
    return points


_REDUCERS: dict[str, Callable[[Float32Array, int], npt.NDArray[Any]]] = {
    "pca": _by_pca,
    "tsne": _by_tsne,
    "umap": _by_umap,
}


def _padded(features: Float32Array) -> Float32Array:
    """At least two features, so that there are two dimensions to fill."""
    return features if features.shape[1] > 1 else np.pad(features, ((0, 0), (0, 1)))
