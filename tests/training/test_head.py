"""The head on features, held against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sartor.errors import DataError
from sartor.training.head import FOLDS, fit_head, folds_of


def clusters(
    counts: tuple[int, ...], *, width: int = 6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, F), of unequal mean and scale, and labels (N,)."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = generator.normal(size=(len(counts), width))
    features = centres[labels] + generator.normal(size=(len(labels), width))
    scale, shift = generator.uniform(0.1, 9, width), generator.normal(size=width) * 20
    return (features * scale + shift).astype(np.float32), labels.astype(np.int64)


class TestHead:
    @pytest.mark.parametrize("width", [6, 200], ids=["more images", "more features"])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("counts", [(30, 30), (40, 20, 30)])
    def test_it_is_a_logistic_regression_on_standardised_features(
        self, counts: tuple[int, ...], weighted: bool, width: int
    ) -> None:
        features, labels = clusters(counts, width=width)
        weights = np.where(labels == 0, 3.0, 0.5) if weighted else None
        head = fit_head(features, labels, len(counts), weights=weights)
        scaler = StandardScaler().fit(features.astype(np.float64))
        model = LogisticRegression(C=head.strength, tol=1e-8, max_iter=5000)
        model.fit(scaler.transform(features), labels, weights)
        expected = model.predict_proba(scaler.transform(features))
        logits = head.logits(features).astype(np.float64)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        np.testing.assert_allclose(shares / shares.sum(1, keepdims=True), expected, atol=5e-3)

    def test_noise_is_penalised_more_than_what_can_be_learnt(self) -> None:
        features, labels = clusters((60, 60), width=40)
        noise = np.random.default_rng(1).normal(size=features.shape).astype(np.float32)
        assert fit_head(noise, labels, 2).strength < fit_head(features, labels, 2).strength

    def test_the_same_seed_gives_the_same_bits(self) -> None:
        features, labels = clusters((20, 30, 25))
        one, two = (fit_head(features, labels, 3, seed=5) for _ in range(2))
        assert np.array_equal(one.weight, two.weight)
        assert np.array_equal(one.bias, two.bias)

    def test_a_class_without_training_images_is_never_predicted(self) -> None:
        features, labels = clusters((20, 20, 20))
        head = fit_head(features, np.where(labels == 1, 3, labels), 4)
        assert head.weight.shape == (4, 6)
        assert not (head.logits(features).argmax(1) == 1).any()
        assert np.isfinite(head.logits(features)).all()

    def test_a_class_with_one_image_is_learnt(self) -> None:
        features, labels = clusters((20, 20, 1))
        features[-1] += 100
        head = fit_head(features, labels, 3)
        assert head.logits(features)[-1].argmax() == 2

    def test_a_feature_that_is_always_the_same_does_no_harm(self) -> None:
        features, labels = clusters((20, 20))
        features[:, 2] = 7
        assert np.isfinite(fit_head(features, labels, 2).weight).all()

    def test_weights_of_rows_shift_the_decision(self) -> None:
        features, labels = clusters((15, 15))
        weights = np.where(labels == 1, 3.0, 1.0)
        weighted = fit_head(features, labels, 2, weights=weights)
        biased = weighted.logits(features).argmax(1).mean()
        assert biased >= fit_head(features, labels, 2).logits(features).argmax(1).mean()

    def test_images_of_one_class_are_refused(self) -> None:
        features, labels = clusters((20, 20))
        with pytest.raises(DataError, match="all of one class"):
            fit_head(features, np.zeros_like(labels), 2)


class TestFolds:
    def test_each_class_is_spread_over_all_folds(self) -> None:
        labels = np.repeat(np.arange(3), (40, 20, 12)).astype(np.int64)
        folds = folds_of(labels, None, 0)
        table = np.array(
            [[((folds == f) & (labels == c)).sum() for f in range(FOLDS)] for c in range(3)]
        )
        assert (np.ptp(table, axis=1) <= 1).all()

    def test_units_stay_whole(self) -> None:
        labels = np.repeat(np.arange(2), 20).astype(np.int64)
        units = np.arange(40) // 2
        folds = folds_of(labels, units, 3)
        assert (folds[::2] == folds[1::2]).all()
        assert len(np.unique(folds)) == FOLDS

    def test_the_seed_decides(self) -> None:
        labels = np.repeat(np.arange(2), 20).astype(np.int64)
        assert (folds_of(labels, None, 0) != folds_of(labels, None, 1)).any()
