import dataclasses

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

from sartor.errors import DataError, FileError, RunError
from sartor.evaluation.predictions import Predictions

LOSSES = ("cross-entropy", "mse", "bce")
CLASSES = ("cat", "dog", "日本", "<b>$x$</b>")


def make(logits=None, labels=None, **changes):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(12, 4)) * 3 if logits is None else np.asarray(logits)
    count, num_classes = logits.shape
    fields = {
        "logits": logits.astype(np.float32),
        "labels": np.arange(count) % num_classes if labels is None else np.asarray(labels),
        "indices": np.arange(count)[::-1] * 5,
        "classes": CLASSES[:num_classes],
        "split": "val",
        "loss": "cross-entropy",
        "weights_sha256": "ab" * 32,
        "dataset_fingerprint": "cd" * 32,
    }
    return Predictions(**fields | changes)


def contents(predictions):
    return [
        value.tobytes() + str(value.dtype).encode() if isinstance(value, np.ndarray) else value
        for value in (getattr(predictions, field.name) for field in dataclasses.fields(predictions))
    ]


wild_logits = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(2, 4)),
    elements=st.floats(-1e4, 1e4, width=32),
)


@pytest.mark.parametrize("loss", LOSSES)
@given(logits=wild_logits)
def test_probabilities_are_probabilities_whatever_the_outputs(loss, logits):
    probabilities = make(logits, loss=loss).probabilities()
    assert probabilities.dtype == np.float64
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)


@given(logits=wild_logits)
def test_cross_entropy_means_softmax(logits):
    expected = softmax(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(make(logits).probabilities(), expected, rtol=1e-9, atol=1e-300)


def test_bce_means_sigmoids_divided_by_their_sum():
    predictions = make(loss="bce")
    sigmoids = expit(predictions.logits.astype(np.float64))
    expected = sigmoids / sigmoids.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predictions.probabilities(), expected, rtol=1e-12)


def test_bce_still_ranks_classes_that_are_all_out_of_the_question():
    probabilities = make([[-1e4, -9_990.0]], labels=[0], loss="bce").probabilities()
    np.testing.assert_allclose(probabilities, softmax([[-10.0, 0.0]], axis=1))


def test_mse_means_outputs_clipped_and_divided_by_their_sum():
    predictions = make([[-1.0, 0.2, 0.6], [-1.0, -2.0, 0.0], [5.0, 3.0, -1.0]], loss="mse")
    expected = [[0, 0.25, 0.75], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]]
    np.testing.assert_allclose(predictions.probabilities(), expected, rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@given(logits=wild_logits)
def test_torch_gives_the_same_loss_for_each_image(loss, logits):
    predictions = make(logits, loss=loss)
    outputs = torch.from_numpy(predictions.logits).double()
    labels = torch.from_numpy(predictions.labels)
    targets = F.one_hot(labels, outputs.shape[1]).double()
    expected = {
        "cross-entropy": lambda: F.cross_entropy(outputs, labels, reduction="none"),
        "mse": lambda: F.mse_loss(outputs, targets, reduction="none").mean(dim=1),
        "bce": lambda: F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(
            dim=1
        ),
    }[loss]()
    losses = predictions.example_losses()
    assert losses.dtype == np.float64
    np.testing.assert_allclose(losses, expected.numpy(), rtol=1e-9, atol=1e-12)


def test_the_highest_output_is_predicted_and_the_first_of_equal_ones():
    assert make([[1.0, 3.0, 2.0], [7.0, 7.0, 0.0]]).predicted().tolist() == [1, 0]


@pytest.mark.parametrize("loss", LOSSES)
def test_outputs_that_are_not_finite_give_no_warning(loss):
    predictions = make([[np.inf, np.inf], [np.nan, 0.0], [-np.inf, np.inf]], loss=loss)
    predictions.probabilities()
    assert not np.isfinite(predictions.example_losses()).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_saved_then_loaded_is_equal(tmp_path, loss):
    predictions = make(loss=loss)
    predictions.save(tmp_path / "val.npz")
    assert contents(Predictions.load(tmp_path / "val.npz")) == contents(predictions)
    assert [path.name for path in tmp_path.iterdir()] == ["val.npz"]


def test_predictions_of_no_image_can_be_saved(tmp_path):
    make(np.empty((0, 3))).save(tmp_path / "test.npz")
    assert len(Predictions.load(tmp_path / "test.npz")) == 0


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("predictions") / "val.npz"
    make().save(path)
    return path


@given(data=st.data())
def test_a_flipped_bit_is_an_error_or_harmless(saved, data):
    content = bytearray(saved.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    damaged = saved.with_name("damaged.npz")
    damaged.write_bytes(content)
    try:
        loaded = Predictions.load(damaged)
    except RunError:
        return
    assert contents(loaded) == contents(make())


def test_an_array_that_became_shorter_is_an_error(saved, tmp_path):
    content = saved.read_bytes()
    assert content.count(b"'<U3'") == 1  # the split, "val"
    (tmp_path / "short.npz").write_bytes(content.replace(b"'<U3'", b"'<U1'"))
    with pytest.raises(RunError, match="checksum"):
        Predictions.load(tmp_path / "short.npz")


@given(data=st.data())
def test_a_truncated_file_is_an_error(saved, data):
    content = saved.read_bytes()
    torn = saved.with_name("torn.npz")
    torn.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(RunError, match="sartor evaluate"):
        Predictions.load(torn)


REQUIRED = [
    field.name for field in dataclasses.fields(Predictions) if field.default is dataclasses.MISSING
]


def test_groups_and_pictures_are_kept_where_there_are_any(saved, tmp_path):
    before = Predictions.load(saved)
    assert before.groups is before.pictures is None
    names = tuple(f"{index}" for index in range(len(before)))
    more = dataclasses.replace(before, groups=before.indices // 2, pictures=names)
    more.save(tmp_path / "more.npz")
    after = Predictions.load(tmp_path / "more.npz")
    assert after.groups.tolist() == (before.indices // 2).tolist()
    assert after.pictures == names


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_array_is_named(saved, tmp_path, field):
    with np.load(saved) as arrays:
        rest = {name: arrays[name] for name in arrays if name != field}
    np.savez(tmp_path / "less.npz", **rest)
    with pytest.raises(RunError, match=f"lacks {field}"):
        Predictions.load(tmp_path / "less.npz")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("labels", np.zeros(11, np.int64)),
        ("indices", np.arange(13)),
        ("classes", np.array(["cat", "dog"])),
        ("logits", np.array(["text"])),
        ("loss", np.array("hinge")),
        ("logits", np.array([{}], dtype=object)),
    ],
)
def test_arrays_that_do_not_belong_together_are_an_error(saved, tmp_path, field, value):
    with np.load(saved) as arrays:
        changed = {name: arrays[name] for name in arrays} | {field: value}
    np.savez(tmp_path / "odd.npz", **changed)
    with pytest.raises(RunError):
        Predictions.load(tmp_path / "odd.npz")


def test_a_file_of_another_kind_is_an_error(tmp_path):
    np.save(tmp_path / "array.npy", np.arange(3))
    for path in (tmp_path / "array.npy", tmp_path, tmp_path / "absent.npz"):
        with pytest.raises(RunError):
            Predictions.load(path)


def test_a_folder_that_is_not_there_is_explained(tmp_path):
    with pytest.raises(FileError):
        make().save(tmp_path / "absent" / "val.npz")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": np.zeros(11, np.int64)},
        {"labels": np.full(12, 4)},
        {"labels": np.full(12, -1)},
        {"labels": np.zeros(12)},
        {"indices": np.zeros(12, np.int64)},
        {"classes": ("cat", "dog")},
        {"logits": np.zeros((12, 4), np.int64)},
        {"logits": np.zeros(12, np.float32)},
        {"loss": "hinge"},
    ],
)
def test_what_is_inconsistent_is_refused(changes):
    with pytest.raises(DataError):
        dataclasses.replace(make(), **changes)


def test_integers_of_any_width_become_int64():
    predictions = make(labels=np.zeros(12, np.uint8), indices=np.arange(12, dtype=np.int32))
    assert predictions.labels.dtype == predictions.indices.dtype == np.int64


def test_repr_is_one_line():
    expected = "<Predictions for val: 12 images, 4 classes, cross-entropy, weights abababababab>"
    assert repr(make()) == expected
