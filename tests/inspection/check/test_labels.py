"""Wrong labels, planted among the digits."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from sartor.data.dataset import Dataset
from sartor.inspection.check import labels
from sartor.inspection.check.kernel import probabilities as by_kernel
from sartor.inspection.check.labels import LISTED, Doubts, Limits, doubts_of, limits_of
from sartor.inspection.check.out_of_sample import FOLDS, _small, folds_of
from sartor.inspection.check.running import run_checks

from .conftest import Found, subject_of

WRONG = 30


@pytest.fixture(scope="module")
def planted(digits: Dataset) -> tuple[Dataset, np.ndarray]:
    """A thousand digits, 30 of them with a wrong label, and which."""
    random = np.random.default_rng(1)
    given = digits.labels[:1000].copy()
    wrong = random.choice(1000, WRONG, replace=False)
    given[wrong] = (given[wrong] + random.integers(1, 10, WRONG)) % 10
    return Dataset(digits.images[:1000], given, digits.classes), wrong


@pytest.fixture(scope="module")
def doubts(planted: tuple[Dataset, np.ndarray]) -> Doubts:
    return doubts_of(subject_of(planted[0]))


def test_planted_errors_are_at_the_top(planted: tuple[Dataset, np.ndarray], doubts: Doubts) -> None:
    _, wrong = planted
    assert np.isin(doubts.ranking()[:WRONG], wrong).sum() >= 0.8 * WRONG
    assert np.isin(wrong, doubts.ranking()[: 3 * WRONG]).sum() >= 0.9 * WRONG


def test_most_of_what_is_flagged_is_wrong_and_rightly_suggested(
    planted: tuple[Dataset, np.ndarray], doubts: Doubts, digits: Dataset
) -> None:
    _, wrong = planted
    flagged = doubts.indices[doubts.flagged]
    assert np.isin(flagged, wrong).mean() >= 0.7
    assert np.isin(wrong, flagged).mean() >= 0.7
    right = doubts.suggested[wrong] == digits.labels[wrong]
    assert right.mean() >= 0.8


def test_no_label_is_doubted_that_is_itself_the_most_probable(
    planted: tuple[Dataset, np.ndarray], doubts: Doubts
) -> None:
    dataset, _ = planted
    assert (doubts.suggested[doubts.flagged] != dataset.labels[doubts.flagged]).all()


def test_the_finding_lists_them_from_the_least_trusted(
    found: Found, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = np.full((len(digits), 10), 0.04)
    answers[np.arange(len(digits)), digits.labels] = 0.64
    subject = subject_of(digits)
    train, test = subject.split.train, subject.split.test
    for index, trust in ((train[7], 0.3), (train[500], 0.1), (train[90], 0.2), (test[3], 0.2)):
        answers[index] = 0
        answers[index, digits.labels[index]] = trust
        answers[index, (digits.labels[index] + 1) % 10] = 1 - trust
    monkeypatch.setattr(labels, "probabilities", lambda *_, **__: answers.astype(np.float32))
    findings = found(subject, "labels")
    assert list(findings) == ["probably wrong in train", "probably wrong in test"]
    finding = findings["probably wrong in train"]
    assert [item.index for item in finding.items] == train[[500, 90, 7]].tolist()
    assert [item.index for item in findings["probably wrong in test"].items] == [test[3]]
    assert all(item.figures["probably_wrong"] for item in finding.items)
    assert finding.severity == "note"
    first = finding.items[0].figures
    assert first["suggested"] == digits.classes[(digits.labels[train[500]] + 1) % 10]
    assert (first["trust"], first["confidence"]) == pytest.approx((0.1, 0.9))


def test_copies_are_on_one_side(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def answer(
        _images: object, _indices: object, labels: np.ndarray, count: int, **more: object
    ) -> np.ndarray:
        seen.update(more)
        return np.full((len(labels), count), 1 / count, np.float32)

    monkeypatch.setattr(labels, "probabilities", answer)
    images, kinds = (
        np.concatenate([part[:200], part[:2]]) for part in (digits.images, digits.labels)
    )
    doubts_of(subject_of(Dataset(images, kinds)))
    assert seen["units"][[200, 201]].tolist() == seen["units"][[0, 1]].tolist()


def test_the_least_trusted_are_listed_besides() -> None:
    count = 10_000
    trust = np.random.default_rng(0).uniform(0, 1, count)
    doubted, flagged = trust < 0.8, np.zeros(count, bool)
    flagged[np.argsort(trust)[[0, 5, 150]]] = True
    zeros = np.zeros(count, np.int64)
    doubts = Doubts(
        indices=np.arange(count),
        trust=trust,
        suggested=zeros,
        confidence=1 - trust,
        doubted=doubted,
        flagged=flagged,
        limits=Limits(agreement=0.2, threshold=0.5, recall=0.5, wrong_at_most=6, images=count),
    )
    order = np.argsort(trust)
    everything = np.ones(count, bool)
    assert doubts.to_look_at(everything).tolist() == order[[*range(LISTED), 150]].tolist()
    few = np.isin(np.arange(count), order[[0, 1, 150, 151, 9999]])
    assert doubts.to_look_at(few).tolist() == order[[0, 1, 150, 151]].tolist()


def answers_of(
    count: int, right: float, wrong: int, *, confident: float = 0.9, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a judge that is right that often says of ten classes; labels, and which are wrong."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 10, count)
    said = np.where(random.uniform(size=count) < right, truth, random.integers(0, 10, count))
    confidence = random.uniform(0.1, confident, count)
    held_out = np.repeat((1 - confidence)[:, None] / 9, 10, axis=1)
    held_out[np.arange(count), said] = confidence
    held_out *= random.uniform(0.5, 1.5, held_out.shape)
    held_out /= held_out.sum(axis=1, keepdims=True)
    given = truth.copy()
    given[:wrong] = (given[:wrong] + random.integers(1, 10, wrong)) % 10
    return held_out, given, np.arange(count) < wrong


class TestLimits:
    @pytest.mark.parametrize("wrong", [0, 40, 200])
    def test_no_more_are_wrong_than_it_says(self, wrong: int) -> None:
        limits = limits_of(*answers_of(2000, 0.95, wrong)[:2])
        assert limits.wrong_at_most >= wrong
        assert not limits.weak

    def test_more_are_allowed_by_a_worse_judge(self) -> None:
        good, poor = (limits_of(*answers_of(2000, right, 40)[:2]) for right in (0.95, 0.6))
        assert good.wrong_at_most < poor.wrong_at_most
        assert good.agreement > poor.agreement

    def test_recall_is_that_of_labels_that_are_changed(self) -> None:
        held_out, given, wrong = answers_of(20_000, 0.8, 2000)
        limits = limits_of(held_out, given)
        trust = held_out[np.arange(len(given)), given]
        assert (trust[wrong] <= limits.threshold).mean() == pytest.approx(limits.recall, abs=0.05)

    def test_a_judge_that_guesses_is_weak(self) -> None:
        assert limits_of(*answers_of(2000, 0.1, 40)[:2]).weak

    def test_labels_that_are_all_predicted_are_not_doubted(self) -> None:
        held_out = np.eye(3)[[0, 1, 2, 0]]
        limits = limits_of(held_out, np.array([0, 1, 2, 0]))
        assert (limits.wrong_at_most, limits.recall, limits.weak) == (0, 0.0, False)

    def test_noise_is_not_judged(self, found: Found) -> None:
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (200, 1, 12, 12), np.uint8)
        dataset = Dataset(images, random.integers(0, 4, 200), ("a", "b", "c", "d"))
        findings = found(subject_of(dataset), "labels")
        assert list(findings) == ["labels cannot be judged"]
        finding = findings["labels cannot be judged"]
        assert (finding.severity, finding.items) == ("note", ())
        assert finding.summary.startswith("Cannot tell which labels are wrong")


class TestKernel:
    def test_mirror_images_are_used_only_where_they_help(self) -> None:
        """Classes that differ by the side on which something is: mirrored, one is the other."""
        random = np.random.default_rng(0)
        images = random.integers(0, 60, (120, 1, 16, 16), np.uint8)
        sides = np.arange(120) % 2
        images[sides == 0, :, 4:12, 2:6] += 150
        images[sides == 1, :, 4:12, 10:14] += 150
        held_out = by_kernel(images, np.arange(120), sides, 2, note=lambda _: None)
        assert (held_out.argmax(axis=1) == sides).all()
        assert held_out.sum(axis=1) == pytest.approx(1, abs=1e-5)

    def test_no_image_is_taught_before_it_is_asked(self) -> None:
        """Were it, labels without any meaning would be predicted."""
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (200, 1, 12, 12), np.uint8)
        labels = random.integers(0, 4, 200)
        held_out = by_kernel(images, np.arange(200), labels, 4, note=lambda _: None)
        assert (held_out.argmax(axis=1) == labels).mean() < 0.4


class TestFolds:
    def test_every_class_is_dealt_out_evenly(self, digits: Dataset) -> None:
        folds = folds_of(digits.labels, None, 0)
        counts = np.array([np.bincount(digits.labels[folds == fold]) for fold in range(FOLDS)])
        assert np.ptp(counts, axis=0).max() <= 1

    def test_units_stay_whole(self, digits: Dataset) -> None:
        units = np.arange(len(digits)) // 3 * 3
        folds = folds_of(digits.labels, units, 0)
        assert np.array_equal(folds, folds[units])
        assert set(folds) == set(range(FOLDS))

    def test_depend_on_the_seed_alone(self, digits: Dataset) -> None:
        assert np.array_equal(folds_of(digits.labels, None, 1), folds_of(digits.labels, None, 1))
        assert not np.array_equal(
            folds_of(digits.labels, None, 1), folds_of(digits.labels, None, 2)
        )


@pytest.mark.parametrize(
    ("shape", "small"), [((1, 28, 28), (1, 28, 28)), ((3, 64, 128), (3, 16, 32))]
)
def test_large_images_are_made_small(shape: tuple[int, ...], small: tuple[int, ...]) -> None:
    images = np.arange(4 * np.prod(shape), dtype=np.uint8).reshape(4, *shape)
    made = _small(images, np.array([3, 1]))
    assert made.shape == (2, *small)
    assert shape != small or np.array_equal(made, images[[3, 1]])


def test_too_few_images_are_left_out(digits: Dataset) -> None:
    dataset = Dataset(digits.images[:30], digits.labels[:30], digits.classes)
    report = run_checks(subject_of(dataset), ["labels"])
    assert "needs 40 images" in report.left_out["labels"]


class FromOutside:
    """Features that tell the classes apart, as a backbone's would."""

    name = "a backbone"

    def __init__(self, digits: Dataset) -> None:
        random = np.random.default_rng(0)
        centres = random.normal(0, 1, (10, 24))
        noise = random.normal(0, 0.6, (len(digits), 24))
        self.of_all = (centres[digits.labels] + noise).astype(np.float32)


def test_features_judge_where_there_are_some(found: Found, digits: Dataset) -> None:
    """The images are noise: only by their features can they be told apart."""
    random = np.random.default_rng(2)
    images = random.integers(0, 256, digits.images.shape, np.uint8)
    given = digits.labels.copy()
    wrong = random.choice(len(given), 36, replace=False)
    given[wrong] = (given[wrong] + random.integers(1, 10, 36)) % 10
    subject = subject_of(Dataset(images, given, digits.classes))
    findings = found(replace(subject, features=FromOutside(digits)), "labels")
    items = [item for one in findings.values() for item in one.items]
    named = {item.index for item in items if item.figures["probably_wrong"]}
    assert len(named & set(wrong.tolist())) >= 30
    assert len(named) <= 50
    text = findings["probably wrong in train"].summary
    assert "The judge, simple models on features of a backbone, predicts" in text


def test_without_cleanlab_the_rest_still_runs(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    report = run_checks(subject_of(digits), ["classes", "labels"])
    assert list(report.checked) == ["classes"]
    assert "pip install 'sartor[check]'" in report.left_out["labels"]
    assert report.exit_code(strict=True) == 0
