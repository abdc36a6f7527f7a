import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, log_loss

from sartor.errors import DataError, UsageError
from sartor.evaluation.comparison import compare_pairs, on_same_images, standing
from sartor.evaluation.paired import difference_interval, holm
from sartor.evaluation.predictions import Predictions

CLASSES = ("cat", "dog", "eel")


def make(seed=0, count=300, sharpness=1.5, **changes):
    """Predictions for the same images whatever the seed; the sharper, the more of them right."""
    labels = np.arange(count) % 3
    logits = np.random.default_rng(seed).normal(size=(count, 3))
    logits[np.arange(count), labels] += sharpness
    fields = {
        "logits": logits.astype(np.float32),
        "labels": labels,
        "indices": np.arange(count) * 7,
        "classes": CLASSES,
        "split": "test",
        "loss": "cross-entropy",
        "weights_sha256": "ab" * 32,
        "dataset_fingerprint": "cd" * 32,
    }
    return Predictions(**fields | changes)


def compared(**named):
    return compare_pairs(on_same_images(named))


def shuffled(predictions, order):
    return replace(
        predictions,
        **{name: getattr(predictions, name)[order] for name in ("logits", "labels", "indices")},
    )


def renamed(predictions, order):
    """The same predictions with classes in another order."""
    return replace(
        predictions,
        logits=predictions.logits[:, order],
        labels=np.argsort(order)[predictions.labels],
        classes=tuple(predictions.classes[k] for k in order),
    )


class TestAPair:
    one, other = make(1), make(2, sharpness=1.8)

    def test_counts_and_figures(self):
        (pair,) = compared(one=self.one, other=self.other)
        right = [p.predicted() == p.labels for p in (self.one, self.other)]
        accuracies = [accuracy_score(p.labels, p.predicted()) for p in (self.one, self.other)]
        assert pair.difference == pytest.approx(accuracies[1] - accuracies[0])
        assert pair.count == 300
        assert pair.both == (right[0] & right[1]).sum()
        only_one, only_other = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
        assert (len(pair.only_first), len(pair.only_second)) == (only_one, only_other)
        assert pair.p_value == pytest.approx(binomtest(only_one, only_one + only_other).pvalue)
        assert pair.p_adjusted == pair.p_value, "one pair needs no correction"
        assert pair.interval == difference_interval(int(only_one), int(only_other), 300)

    def test_flips_name_the_image_its_class_and_the_mistake(self):
        (pair,) = compared(one=self.one, other=self.other)
        rows = {int(index): row for row, index in enumerate(self.one.indices)}
        assert pair.only_second
        for flip in pair.only_second:
            row = rows[flip.index]
            assert flip.class_name == CLASSES[self.one.labels[row]]
            assert flip.predicted == CLASSES[self.one.predicted()[row]] != flip.class_name

    def test_the_clearest_flips_stand_in_front(self):
        logits = np.array([[2, 0, 0], [9, 0, 0], [5, 0, 0]], dtype=np.float32)
        right = make(count=3, logits=logits, labels=np.zeros(3, int))
        wrong = replace(right, logits=np.tile(np.float32([0, 1, 0]), (3, 1)))
        (pair,) = compared(right=right, wrong=wrong)
        assert [flip.index for flip in pair.only_first] == [7, 14, 0]
        assert pair.only_second == ()

    def test_classes_add_up_to_the_whole(self):
        (pair,) = compared(one=self.one, other=self.other)
        assert [entry.class_name for entry in pair.per_class] == list(CLASSES)
        assert sum(entry.count for entry in pair.per_class) == pair.count
        assert sum(entry.only_first for entry in pair.per_class) == len(pair.only_first)
        assert sum(entry.only_second for entry in pair.per_class) == len(pair.only_second)
        weighted = sum(entry.difference * entry.count for entry in pair.per_class)
        assert weighted / pair.count == pytest.approx(pair.difference)
        adjusted = [entry.p_adjusted for entry in pair.per_class]
        assert adjusted == list(holm([entry.p_value for entry in pair.per_class]))
        for label, entry in enumerate(pair.per_class):
            mine = self.one.labels == label
            rates = [(p.predicted() == label)[mine].mean() for p in (self.one, self.other)]
            assert entry.accuracies == pytest.approx(rates)

    def test_a_class_without_images_is_known_to_be_nothing(self):
        predictions = make(count=2, labels=np.zeros(2, int))
        (pair,) = compared(one=predictions, other=predictions)
        empty = pair.per_class[1]
        assert (empty.count, empty.accuracies, empty.interval) == (0, None, (-1.0, 1.0))
        assert empty.to_json()["difference"] is None

    def test_outputs_that_are_no_numbers_are_wrong_and_break_nothing(self):
        broken = replace(self.one, logits=np.full((300, 3), np.nan, dtype=np.float32))
        (pair,) = compared(one=self.one, broken=broken)
        assert pair.distinguishable
        json.dumps(pair.to_json(), allow_nan=False)


class TestVerdict:
    def test_better(self):
        (pair,) = compared(one=make(1), other=make(2, sharpness=4))
        low, high = pair.interval
        assert pair.distinguishable
        assert pair.images_needed is None
        assert pair.verdict == (
            f"other is better than one by {100 * pair.difference:.1f} points, "
            f"{100 * low:.1f} to {100 * high:.1f}"
        )

    def test_the_better_one_is_named_first_whichever_it_is(self):
        (pair,) = compared(other=make(2, sharpness=4), one=make(1))
        assert pair.difference < 0
        assert pair.verdict.startswith("other is better than one by ")
        assert "-" not in pair.verdict

    def test_not_distinguishable(self):
        (pair,) = compared(one=make(1, sharpness=1.8), other=make(2, sharpness=1.8))
        assert not pair.distinguishable
        beginning, _, end = pair.verdict.partition("about ")
        assert beginning == "one and other are not distinguishable on 300 images: "
        assumed = " would be needed for a power of 80%, if they keep differing as on these"
        needed = int(end.removesuffix(assumed).replace(",", ""))
        assert needed == pytest.approx(pair.images_needed, rel=0.05)
        assert needed > 300

    def test_the_same(self):
        (pair,) = compared(one=make(1), other=make(1))
        assert pair.verdict == (
            "one and other are not distinguishable on 300 images: "
            "both are correct on the same images"
        )
        assert pair.images_needed is None

    def test_right_equally_often(self):
        logits = np.zeros((2, 3), dtype=np.float32)
        one, other = logits.copy(), logits.copy()
        one[0, 1] = one[1, 1] = 1
        other[0, 0] = other[1, 0] = 1
        base = {"count": 2, "labels": np.array([0, 1])}
        (pair,) = compared(one=make(logits=one, **base), other=make(logits=other, **base))
        assert pair.verdict.endswith("on 2 images: both are correct equally often")

    def test_a_small_difference_is_not_written_as_0(self):
        count = 50_000
        logits = np.zeros((count, 3), dtype=np.float32)
        logits[:, 0] = 1
        worse = logits.copy()
        worse[:12, 1] = 2
        base = {"count": count, "labels": np.zeros(count, int)}
        (pair,) = compared(one=make(logits=worse, **base), other=make(logits=logits, **base))
        assert pair.verdict == "other is better than one by 0.02 points, 0.01 to 0.04"


class TestMoreThanTwo:
    def test_every_pair_of_up_to_six(self):
        pairs = compared(**{f"run{k}": make(k) for k in range(6)})
        assert len(pairs) == 15
        assert [pair.p_adjusted for pair in pairs] == list(holm([p.p_value for p in pairs]))
        assert {pair.pairs for pair in pairs} == {15}
        classes = [entry for pair in pairs for entry in pair.per_class]
        adjusted = holm([entry.p_value for entry in classes])
        assert [entry.p_adjusted for entry in classes] == list(adjusted)

    def test_of_more_each_with_the_first(self):
        pairs = compared(**{f"run{k}": make(k) for k in range(7)})
        assert [(pair.first, pair.second) for pair in pairs] == [
            ("run0", f"run{k}") for k in range(1, 7)
        ]

    def test_a_correction_asks_for_more_images(self):
        two = compared(a=make(1), b=make(2))
        three = compared(a=make(1), b=make(2), c=make(3))
        assert three[0].images_needed > two[0].images_needed

    def test_chance_alone_is_rarely_called_a_difference(self):
        """Six models that are equally good, twenty times: Holm holds the whole family to 5 %."""
        claims = 0
        for trial in range(20):
            models = {str(k): make(100 * trial + k, count=120) for k in range(6)}
            claims += any(pair.distinguishable for pair in compared(**models))
        assert claims <= 3


class TestTheSameImages:
    def test_rows_in_another_order_are_brought_into_line(self):
        one, other = make(1), make(2)
        order = np.random.default_rng(0).permutation(300)
        assert compared(one=one, other=shuffled(other, order)) == compared(one=one, other=other)
        assert compared(one=shuffled(one, order), other=other) == compared(one=one, other=other)

    @pytest.mark.parametrize("order", [[1, 2, 0], [2, 0, 1], [1, 0, 2]])
    def test_classes_are_matched_by_name(self, order):
        one, other = make(1), make(2)
        assert compared(one=one, other=renamed(other, order)) == compared(one=one, other=other)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"dataset_fingerprint": "ef" * 32}, "evaluated on different data"),
            ({"split": "val"}, "on the test split, the other on the val split"),
            ({"indices": np.arange(300) * 7 + 21}, "300 and 300, 297 of them in both"),
            ({"count": 150}, "300 and 150, 150 of them in both"),
            ({"classes": ("cat", "dog", "fox")}, '"eel" is only in one'),
            ({"classes": ("dog", "cat", "eel")}, "disagree about the true classes of"),
        ],
    )
    def test_anything_else_is_refused(self, changes, says):
        with pytest.raises(DataError) as refusal:
            compared(first=make(1), second=make(2, **changes))
        assert says in refusal.value.message
        assert "first" in refusal.value.message
        assert "second" in refusal.value.message
        assert refusal.value.hint

    def test_a_third_that_differs_is_named(self):
        with pytest.raises(DataError, match="first and third cannot be compared"):
            compared(first=make(1), second=make(2), third=make(3, dataset_fingerprint="0"))

    def test_validation_images_of_two_seeds_get_the_right_hint(self):
        val = {"split": "val"}
        with pytest.raises(DataError, match="depend on the seed"):
            compared(a=make(1, **val), b=make(2, indices=np.arange(300) * 7 + 1, **val))

    def test_one_alone_is_no_comparison(self):
        with pytest.raises(UsageError, match="at least two"):
            on_same_images({"one": make()})

    def test_nothing_to_compare(self):
        empty = make(count=0)
        with pytest.raises(DataError, match="no predictions to compare"):
            on_same_images({"one": empty, "other": empty})


def test_a_standing_equals_scikit_learn():
    predictions = make(1)
    row = standing("one", predictions)
    assert row.accuracy == accuracy_score(predictions.labels, predictions.predicted())
    assert row.loss == pytest.approx(log_loss(predictions.labels, predictions.probabilities()))
