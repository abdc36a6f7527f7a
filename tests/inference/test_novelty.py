"""Novelty scores: against closed forms, scikit-learn and ONNX Runtime."""

from __future__ import annotations

import dataclasses
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.covariance import shrunk_covariance
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch import nn

from sartor.evaluation.novelty import auroc
from sartor.inference.calibration import METHODS, Calibration
from sartor.inference.noise import KINDS, noise_of
from sartor.inference.novelty import Novelty, Watched, last_linear
from sartor.inference.novelty_fit import LARGEST, Candidates, Seen, _widest, fit_novelty, scores_of
from sartor.models.registry import build_model


def clouds(count: int, width: int = 12, classes: int = 3, seed: int = 0) -> tuple[Seen, Any]:
    """Features around a centre per class, in directions of different width, and their logits."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(classes, width)) * 4
    labels = rng.integers(0, classes, count)
    labels[:classes] = np.arange(classes)
    features = centres[labels] + rng.normal(size=(count, width)) * np.linspace(0.2, 2, width)
    logits = -((features[:, None] - centres) ** 2).sum(2) / 20
    return Seen(features.astype(np.float32), logits.astype(np.float32)), labels


def fitted(loss: str = "cross-entropy", **options: Any) -> dict[str, Any]:
    """Every method's score of strangers, by its name."""
    train, labels = clouds(400)
    val, _ = clouds(300, seed=1)
    strange, _ = clouds(200, seed=2)
    strange = Seen(strange.features + 3, strange.logits / 3)
    given = {"layer": "head", "loss": loss, "false_alarms": 0.01} | options
    score = fit_novelty(train, labels, val, {"moved": strange}, **given)
    return {"score": score, "train": train, "labels": labels, "val": val, "strange": strange}


def by(method: str, made: dict[str, Any]) -> Any:
    """As if this method had been the best."""
    with Candidates(made["train"], made["labels"], "head", "cross-entropy") as candidates:
        found = list(candidates)
    return next(one for one in found if one.method == method)


class TestMethods:
    def test_mahalanobis_is_the_distance_in_the_shrunk_covariance(self) -> None:
        made = fitted()
        features, labels = made["train"].features.astype(float), made["labels"]
        means = np.stack([features[labels == k].mean(0) for k in range(3)])
        within = features - means[labels]
        precision = np.linalg.inv(shrunk_covariance(within.T @ within / len(within), 0.1))
        gaps = made["strange"].features[:, None] - means
        expected = np.sqrt(np.einsum("nkf,fg,nkg->nk", gaps, precision, gaps).min(1))
        found = scores_of(by("mahalanobis", made), made["strange"], "cross-entropy")
        np.testing.assert_allclose(found, expected, rtol=1e-4)

    @pytest.mark.parametrize("method", ["neighbours", "angles"])
    def test_neighbours_are_those_of_scikit_learn(self, method: str) -> None:
        made = fitted()
        rows, others = made["train"].features, made["strange"].features
        if method == "angles":
            rows, others = (
                one / np.linalg.norm(one, axis=1, keepdims=True) for one in (rows, others)
            )
        distances, _ = NearestNeighbors(n_neighbors=5).fit(rows).kneighbors(others)
        found = scores_of(by(method, made), made["strange"], "cross-entropy")
        np.testing.assert_allclose(found, distances[:, 4], atol=2e-3)

    def test_energy(self) -> None:
        made = fitted()
        logits = made["val"].logits.astype(float)
        score = by("energy", made)
        found = scores_of(score, made["val"], "cross-entropy")
        np.testing.assert_allclose(found, -np.log(np.exp(logits).sum(1)), rtol=1e-4)
        found = scores_of(score, made["val"], "bce")
        np.testing.assert_allclose(found, -np.log1p(np.exp(logits)).sum(1), rtol=1e-4)


class TestFit:
    def test_the_best_at_the_noise_is_taken_and_says_how_good_all_are(self) -> None:
        made = fitted()
        score = made["score"]
        assert set(score.separation) == set(METHODS)
        means = {name: kinds["moved"] for name, kinds in score.separation.items()}
        assert means[score.method] == max(means.values()) > 0.95
        known = scores_of(score, made["val"], "cross-entropy")
        strange = scores_of(score, made["strange"], "cross-entropy")
        assert score.separation[score.method]["moved"] == auroc(known, strange)
        np.testing.assert_array_equal(score.table, np.sort(known))
        assert score.images == 300

    def test_the_threshold_keeps_its_promise_on_other_images(self) -> None:
        score = fitted(false_alarms=0.1)["score"]
        alarms = [
            score.unknown(scores_of(score, clouds(500, seed=seed)[0], "cross-entropy")).mean()
            for seed in range(10, 30)
        ]
        assert 0.05 < np.mean(alarms) < 0.16

    def test_few_images_promise_less_or_nothing(self) -> None:
        made = fitted()
        for count, promised in ((300, 0.01), (40, 1 / 41), (19, 1 / 20)):
            val = Seen(*(part[:count] for part in made["val"]))
            found = refitted(made, val)
            assert found.false_alarms == pytest.approx(promised)
            assert found.threshold is not None
            known = scores_of(found, val, "cross-entropy")
            assert (known > found.threshold).sum() <= count * promised
        few = refitted(made, Seen(*(part[:5] for part in made["val"])))
        assert few.threshold is None
        assert len(few.table) == 5

    def test_groups_count_as_one_each(self) -> None:
        made = fitted()
        assert refitted(made, made["val"], groups=np.arange(300) // 30).threshold is None
        assert refitted(made, made["val"], groups=np.arange(300) // 3).false_alarms == 0.01

    def test_scores_are_no_logits(self) -> None:
        assert "energy" not in fitted("mse")["score"].separation

    def test_what_says_nothing(self) -> None:
        made = fitted()
        nothing = Seen(*(part[:0] for part in made["val"]))
        assert refitted(made, nothing) is None
        broken = Seen(made["val"].features * np.float32("nan"), made["val"].logits)
        assert refitted(made, broken) is None
        equal = Seen(np.ones_like(made["train"].features), made["train"].logits)
        alone = fit_novelty(
            equal,
            made["labels"],
            made["val"],
            {"moved": made["strange"]},
            layer="head",
            loss="mse",
            false_alarms=0.01,
        )
        assert alone is None

    def test_wide_features_stay_small(self) -> None:
        train, labels = clouds(300, width=1500)
        val, _ = clouds(50, width=1500, seed=1)
        score = fit_novelty(
            train, labels, val, {"same": val}, layer="x", loss="mse", false_alarms=0.01
        )
        assert score is not None
        assert max(array.size for array in score.arrays.values()) <= LARGEST
        assert score.threshold is not None

    def test_one_image_of_each_class(self) -> None:
        train, labels = clouds(3)
        score = fit_novelty(
            train,
            labels,
            clouds(30, seed=3)[0],
            {"moved": clouds(30, seed=4)[0]},
            layer="",
            loss="cross-entropy",
            false_alarms=0.01,
        )
        assert score is not None


def refitted(made: dict[str, Any], val: Seen, groups: Any = None) -> Any:
    return fit_novelty(
        made["train"],
        made["labels"],
        val,
        {"moved": made["strange"]},
        layer="head",
        loss="cross-entropy",
        false_alarms=0.01,
        groups=groups,
    )


class TestAuroc:
    def test_is_that_of_scikit_learn(self) -> None:
        rng = np.random.default_rng(0)
        known, novel = rng.integers(0, 9, 70), rng.integers(3, 12, 50)  # with ties
        truth = np.r_[np.zeros(70), np.ones(50)]
        assert auroc(known, novel) == pytest.approx(roc_auc_score(truth, np.r_[known, novel]))

    def test_what_is_no_number_is_highest_and_nothing_gives_nothing(self) -> None:
        assert auroc([1.0, 2.0], [np.nan]) == 1.0
        assert np.isnan(auroc([], [1.0]))


class TestNoise:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 31), (1, 1, 1), (1, 3, 200)])
    def test_is_always_the_same_and_of_the_same_shape(
        self, kind: str, shape: tuple[int, int, int]
    ) -> None:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (6, *shape), np.uint8)
        before, labels = images.copy(), np.array([0, 0, 1, 1, 2, 2])
        made = noise_of(kind, images, labels)
        assert made.shape == images.shape
        assert made.dtype == np.uint8
        np.testing.assert_array_equal(made, noise_of(kind, images, labels))
        np.testing.assert_array_equal(images, before, "the images stay as they are")

    @pytest.mark.parametrize("kind", ["shuffled pixels", "shuffled tiles"])
    def test_shuffling_keeps_every_pixel_of_an_image(self, kind: str) -> None:
        images = np.random.default_rng(0).integers(0, 256, (4, 3, 29, 30), np.uint8)
        made = noise_of(kind, images, np.zeros(4, int))
        assert (made != images).any(axis=(1, 2, 3)).all()
        for before, after in zip(images, made, strict=True):
            colours = (np.sort(one.reshape(3, -1).T.tolist(), axis=0) for one in (before, after))
            np.testing.assert_array_equal(*colours)

    def test_blends_mix_two_classes(self) -> None:
        images = np.array([[[[0]]], [[[100]]], [[[0]]]], np.uint8)
        made = noise_of("blends", images, np.array([0, 1, 0]))
        assert made.ravel().tolist() == [50, 50, 50]
        np.testing.assert_array_equal(noise_of("blends", images, np.zeros(3, int)), images)

    def test_smooth_noise_uses_all_of_the_range_and_is_smooth(self) -> None:
        made = noise_of("smooth noise", np.zeros((3, 1, 40, 40), np.uint8), np.zeros(3, int))
        assert [(one.min(), one.max()) for one in made] == [(0, 255)] * 3
        assert np.abs(np.diff(made.astype(int), axis=3)).max() < 60


class TestWatched:
    @pytest.mark.parametrize("model", ["linear", "mlp", "lenet", "convnet", "resnet8"])
    def test_features_are_what_the_last_linear_layer_gets(self, model: str) -> None:
        network, images = networks(model)
        name = last_linear(network, images)
        with torch.inference_mode():
            features, logits = Watched(network, name)(images)
            assert torch.equal(logits, network(images))
            found = network.get_submodule(name)(features)
        if model != "convnet":  # which scales its outputs
            assert torch.equal(found, logits)
        assert features.shape[0] == len(images)

    def test_networks_without_such_a_layer(self) -> None:
        images = torch.randn(3, 1, 4, 4)
        assert last_linear(nn.Flatten(), images) == ""
        shared = nn.Linear(4, 4)
        assert last_linear(nn.Sequential(shared, nn.ReLU(), shared), images) == "", "called twice"
        per_row = nn.Sequential(nn.Flatten(0, 1), nn.Linear(16, 2))
        assert last_linear(nn.Sequential(nn.Flatten(2), per_row), torch.randn(3, 2, 4, 4)) == ""
        features, logits = Watched(nn.Flatten(), "")(images)
        assert torch.equal(features, logits)

    def test_a_hook_does_not_stay(self) -> None:
        network, images = networks("mlp")
        Watched(network, last_linear(network, images))(images)
        assert not any(one._forward_pre_hooks for one in network.modules())

    def test_every_score_is_the_same_in_onnx(self) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
        network, images = networks("mlp")
        name = last_linear(network, images)
        with torch.inference_mode():
            seen = Watched(network, name)(torch.randn(60, 1, 28, 28))
        train = Seen(*(part.numpy() for part in seen))
        made = {"train": train, "labels": np.arange(60) % 10}

        class Scored(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.watched = Watched(network, name)
                self.scores = nn.ModuleList(
                    Novelty(by(method, made), loss)
                    for method, loss in [*((one, "cross-entropy") for one in METHODS), LAST]
                )

            def forward(self, images: torch.Tensor) -> torch.Tensor:
                features, logits = self.watched(images)
                return torch.stack([score(features, logits) for score in self.scores])

        module, stream = Scored().eval(), io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (images,),
                dynamo=True,
                verbose=False,
                input_names=["images"],
                dynamic_shapes=({0: torch.export.Dim("count")},),
            ).save(stream)
        session = onnxruntime.InferenceSession(stream.getvalue())
        for count in (1, 7):
            other = torch.randn(count, 1, 28, 28)
            (found,) = session.run(None, {"images": other.numpy()})
            with torch.inference_mode():
                np.testing.assert_allclose(found, module(other).numpy(), rtol=1e-4, atol=1e-5)


LAST = ("energy", "bce")


def networks(model: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    network = build_model(model, input_shape=(1, 28, 28), num_classes=10, kwargs={}).eval()
    return network, torch.randn(4, 1, 28, 28)


def test_arrays_of_a_score_come_back_and_must_fit() -> None:
    from sartor.errors import DataError, RunError
    from sartor.inference.calibration_file import from_bytes, to_bytes

    for method in METHODS:
        made = fitted()
        score = dataclasses.replace(made["score"], **vars(by(method, made)) | filled(made))
        calibration = Calibration(novelty=score)
        content = to_bytes(calibration, "weights")
        found, weights = from_bytes(content, "file")
        assert weights == "weights"
        assert found.to_json() == calibration.to_json()
        for name, array in calibration.arrays().items():
            np.testing.assert_array_equal(found.arrays()[name], array)
            wrong = calibration.arrays() | {name: np.ones((2, 2, 2), np.float32)}
            with pytest.raises(DataError, match="do not fit each other"):
                Calibration.from_json(calibration.to_json(), wrong)
        rng = np.random.default_rng(0)
        for place in rng.integers(0, len(content), 60):
            damaged = bytearray(content)
            damaged[place] ^= 1 + int(rng.integers(255))
            with pytest.raises(RunError):
                from_bytes(bytes(damaged), "file")
        with pytest.raises(RunError):
            from_bytes(content[: len(content) // 2], "file")
    assert Path("file").exists() is False


def filled(made: dict[str, Any]) -> dict[str, Any]:
    """What the fit adds to a method."""
    chosen = made["score"]
    names = ("table", "threshold", "false_alarms", "images", "separation")
    return {name: getattr(chosen, name) for name in names}


def test_directions_of_few_rows_are_those_of_their_covariance() -> None:
    random = np.random.default_rng(0)
    within = random.normal(size=(60, 200)) * np.geomspace(1, 0.05, 200)
    variances, directions = _widest(within, 3, 20)
    every, of_all = np.linalg.eigh(within.T @ within / 60)
    np.testing.assert_allclose(variances, every[::-1][:20], rtol=1e-9)
    # Up to their signs.
    np.testing.assert_allclose(np.abs((directions * of_all[:, ::-1][:, :20]).sum(0)), 1, rtol=1e-6)
    # As many directions as rows allow are not enough: those without variance count as well.
    assert _widest(within, 3, 80)[1].shape == (200, 80)


def test_columns_that_never_vary_and_the_order_of_images_change_no_score() -> None:
    train, labels = clouds(700, width=600)
    places = np.random.default_rng(0).permutation(700)
    margin = np.zeros((700, 60), np.float32)
    seen = train._replace(features=np.concatenate([train.features, margin], axis=1))
    other = Seen(seen.features[places], seen.logits[places])
    found = []
    for images, names in ((seen, labels), (other, labels[places])):
        score = by("mahalanobis", {"train": images, "labels": names})
        assert score.arrays["whitening"].shape == (660, LARGEST // 660)
        assert not score.arrays["whitening"][600:].any()
        found.append(scores_of(score, seen, "cross-entropy"))
    features = train.features.astype(float)
    means = np.stack([features[labels == k].mean(0) for k in range(3)])
    within = features - means[labels]
    values, vectors = np.linalg.eigh(within.T @ within / 700)
    values, vectors = values[::-1][: LARGEST // 660], vectors[:, ::-1][:, : LARGEST // 660]
    shrunk = 0.9 * values + 0.1 * (within**2).sum() / 700 / 660
    gaps = (features[:, None] - means) @ (vectors / np.sqrt(shrunk))
    expected = np.sqrt((gaps**2).sum(2).min(1))
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
