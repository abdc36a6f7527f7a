import io
import itertools
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits

from sartor.data.dataset import Dataset
from sartor.errors import DataError, FileError, RunError, UsageError
from sartor.evaluation.metrics import confusion_matrix, evaluate_sums
from sartor.reports.figures import (
    class_histogram,
    confusion_figure,
    learning_curves,
    pixel_image,
    sample_grid,
    save_figure,
)

HOSTILE = (
    "W" * 40,
    "a very long class name of many words, which does not end so soon",
    "n01440764_tench_Tinca_tinca_and_more",
    "$x^{$ 5",
    "着物 \U0001f45f",
    "<b>bold</b>\ttab\udcff",
    "",
)


@pytest.fixture(scope="module")
def digits():
    source = load_digits()
    return Dataset(np.round(source.images * 255 / 16).astype(np.uint8), source.target)


@pytest.fixture(scope="module")
def colours():
    images = np.random.default_rng(0).integers(0, 256, (14, 3, 6, 9), dtype=np.uint8)
    return Dataset(images, np.arange(14) % len(HOSTILE), HOSTILE)


def drawn(figure):
    """Draw a figure, and return the renderer that knows where everything went."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def extents(artists, renderer):
    return [artist.get_window_extent(renderer) for artist in artists]


def assert_apart(boxes):
    for one, other in itertools.combinations(boxes, 2):
        beside = one.x1 <= other.x0 or other.x1 <= one.x0
        assert beside or one.y1 <= other.y0 or other.y1 <= one.y0, (one, other)


def assert_inside(boxes, figure):
    for box in boxes:
        assert box.x0 >= 0, box
        assert box.y0 >= 0, box
        assert box.x1 <= figure.bbox.x1, box
        assert box.y1 <= figure.bbox.y1, box


def row(epoch, **values):
    return {
        "epoch": epoch,
        "step": epoch * 10,
        "seconds": 1.5,
        "learning_rate": 0.01,
        "train_loss": 1 / epoch,
        "train_accuracy": 1 - 0.5 / epoch,
        "val_loss": 1.1 / epoch,
        "val_accuracy": 1 - 0.6 / epoch,
        "images_per_second": 1e4,
    } | values


def evaluation_of(classes, count=150_000):
    generator = np.random.default_rng(1)
    labels = generator.integers(0, len(classes), count)
    wrong = generator.integers(0, len(classes), count)
    predicted = np.where(generator.random(count) < 0.8, labels, wrong)
    confusion = confusion_matrix(labels, predicted, len(classes))
    return evaluate_sums(split="test", classes=classes, confusion=confusion, loss_sum=1.0)


# ------------------------------------------------------------------------------ sample_grid


def test_a_grid_shows_each_image_untouched_under_its_class(digits):
    indices = np.arange(40, 51)
    figure = sample_grid(digits, indices)
    assert len(figure.axes) == 11
    for axes, index in zip(figure.axes, indices, strict=True):
        assert axes.get_title() == digits[index].class_name
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), digits.images[index, 0])
        assert image.get_clim() == (0, 255)
        assert image.get_interpolation() == "nearest"


def test_colour_images_stay_in_colour(colours):
    (image,) = sample_grid(colours, [3]).axes[0].images
    np.testing.assert_array_equal(image.get_array(), colours.images[3].transpose(1, 2, 0))


def test_rows_are_filled_from_the_left(digits):
    figure = sample_grid(digits, range(11), columns=4)
    places = [axes.get_position() for axes in figure.axes]
    columns = [round(place.x0, 6) for place in places]
    rows = [round(place.y0, 6) for place in places]
    assert columns[:4] == sorted(set(columns))
    assert columns == (columns[:4] * 3)[:11]
    assert rows == sorted(rows, reverse=True)
    assert len(set(rows)) == 3


@pytest.mark.parametrize("with_captions", [False, True])
def test_titles_hide_neither_each_other_nor_an_image(colours, with_captions):
    captions = [
        f"true: {colours[i].class_name}\npredicted: {colours[i - 1].class_name}" for i in range(14)
    ]
    figure = sample_grid(colours, range(14), captions=captions if with_captions else None)
    renderer = drawn(figure)
    titles = extents([axes.title for axes in figure.axes if axes.get_title()], renderer)
    assert len(titles) == (14 if with_captions else 12)
    assert_inside(titles, figure)
    assert_apart(titles + extents(figure.axes, renderer))


def test_captions_take_the_place_of_class_names(digits):
    figure = sample_grid(digits, [5, 6], captions=["true: 5\npredicted: 9", "costs $5 or $6"])
    assert [axes.get_title() for axes in figure.axes] == ["true: 5\npredicted: 9", "costs $5 or $6"]


def test_a_long_name_goes_on_in_a_second_line_and_ends_in_an_ellipsis(colours):
    titles = [axes.get_title() for axes in sample_grid(colours, [1, 2, 3]).axes]
    assert titles[0].startswith("a very long class")
    assert titles[0].count("\n") == 1
    assert titles[0].endswith("…")
    assert titles[1].replace("\n", "") == HOSTILE[2]
    assert titles[2] == HOSTILE[3]


def test_a_letter_that_no_font_has_becomes_a_box(colours):
    assert sample_grid(colours, [5]).axes[0].get_title() == "<b>bold</b>□tab□"


@pytest.mark.parametrize("shape", [(2, 60), (60, 2), (1, 1)])
def test_images_of_any_shape_stay_in_their_cells(shape):
    dataset = Dataset(np.zeros((4, *shape), np.uint8), [0, 1, 0, 1], ("cat", "dog"))
    figure = sample_grid(dataset, range(4), columns=2)
    renderer = drawn(figure)
    boxes = extents([*figure.axes, *(axes.title for axes in figure.axes)], renderer)
    assert_inside(boxes, figure)
    assert_apart(boxes)


def test_a_grid_that_cannot_be_drawn_says_why(digits):
    with pytest.raises(DataError, match="no images"):
        sample_grid(digits, [])
    with pytest.raises(DataError, match="no image 1797"):
        sample_grid(digits, [0, 1797])
    with pytest.raises(DataError, match="1 captions"):
        sample_grid(digits, [0, 1], captions=["one"])
    with pytest.raises(UsageError):
        sample_grid(digits, [0], columns=0)


# ------------------------------------------------------------------------------ pixel_image


def written_values(axes):
    """What is written on an image, put back into its place."""
    found = {tuple(int(at) for at in text.get_position()): text.get_text() for text in axes.texts}
    height, width = axes.images[0].get_array().shape
    return np.array([[int(found[x, y]) for x in range(width)] for y in range(height)])


def test_every_pixel_carries_its_value(digits):
    figure = pixel_image(digits, 389)
    (axes,) = figure.axes
    assert len(axes.texts) == 64
    np.testing.assert_array_equal(written_values(axes), digits.images[389, 0])
    assert figure.texts[0].get_text() == f"{digits[389].class_name}, index 389"


def test_letters_contrast_with_their_pixel(digits):
    for text in pixel_image(digits, 0).axes[0].texts:
        gray = int(text.get_text()) / 255
        luminance = gray / 12.92 if gray <= 0.04045 else ((gray + 0.055) / 1.055) ** 2.4
        black = text.get_color() == "black"
        contrast = (luminance + 0.05) / 0.05 if black else 1.05 / (luminance + 0.05)
        assert contrast >= 4.5


def test_colours_have_a_panel_each(colours):
    figure = pixel_image(colours, 4)
    assert [axes.get_title() for axes in figure.axes] == ["red", "green", "blue"]
    for axes, channel in zip(figure.axes, colours.images[4], strict=True):
        np.testing.assert_array_equal(written_values(axes), channel)


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (28, 28), (5, 40)])
def test_values_fit_into_their_pixels(shape):
    images = np.full((2, *shape), 255, np.uint8)
    figure = pixel_image(Dataset(images, [0, 1], ("cat " * 60, "dog")), 0)
    assert max(figure.get_size_inches()) < 13
    (axes,) = figure.axes
    renderer = drawn(figure)
    pixel = axes.get_window_extent(renderer).width / shape[1]
    texts = extents(axes.texts[:1], renderer)
    assert texts[0].width < 0.9 * pixel
    assert texts[0].height > 0.2 * pixel
    headline = extents(figure.texts, renderer)
    assert_inside(headline, figure)
    assert_apart(headline + extents(figure.axes, renderer))


def test_a_large_image_is_refused():
    dataset = Dataset(np.zeros((2, 65, 20), np.uint8), [0, 1])
    with pytest.raises(DataError, match=r"20x65.*at most 64"):
        pixel_image(dataset, 0)
    with pytest.raises(DataError, match="no image 2"):
        pixel_image(dataset, 2)


# -------------------------------------------------------------------------- class_histogram


def test_every_part_has_a_panel_with_a_bar_for_each_class():
    counts = {"train": [50, 0, 1200], "val": [3, 4, 5], "test": [1, 1, 1]}
    figure = class_histogram(counts, ["cat", "dog", "$5"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "train: 1,250 images",
        "val: 12 images",
        "test: 3 images",
    ]
    for axes, values in zip(figure.axes, counts.values(), strict=True):
        assert [bar.get_width() for bar in axes.patches] == values
        assert [text.get_text() for text in axes.texts] == [f"{value:,}" for value in values]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["cat", "dog", "$5"]


@pytest.mark.parametrize("num_classes", [2, 100])
def test_names_and_numbers_of_a_histogram_do_not_overlap(num_classes):
    classes = [f"class {number} {'x' * number}" for number in range(num_classes)]
    counts = {part: [10**6] * num_classes for part in ("train", "val", "test")}
    figure = class_histogram(counts, classes)
    renderer = drawn(figure)
    texts = [text for axes in figure.axes for text in axes.texts]
    boxes = extents([*figure.axes[0].get_yticklabels(), *texts], renderer)
    assert_inside(boxes, figure)
    assert_apart(boxes)


def test_a_set_without_images_can_be_drawn():
    drawn(class_histogram({"train": [0, 0]}, ["cat", "dog"]))


def test_a_histogram_needs_one_count_a_class():
    for counts in ({}, {"train": [1, 2], "val": [1]}):
        with pytest.raises(DataError):
            class_histogram(counts, ["cat", "dog"])


# -------------------------------------------------------------------------- learning_curves


def curves(axes):
    return {line.get_label().split(",")[0]: line.get_ydata().tolist() for line in axes.lines}


def test_curves_show_the_history():
    history = [row(epoch) for epoch in (1, 2, 3)]
    loss, accuracy = learning_curves(history).axes
    for axes, quantity in ((loss, "loss"), (accuracy, "accuracy")):
        assert curves(axes) == {
            "training": [entry[f"train_{quantity}"] for entry in history],
            "validation": [entry[f"val_{quantity}"] for entry in history],
        }
        assert [line.get_xdata().tolist() for line in axes.lines] == [[1, 2, 3]] * 2
    labels = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert labels == ["training, last 83.33 %", "validation, last 80.00 %"]


@pytest.mark.parametrize("epochs", [1, 2, 20, 300])
def test_ticks_are_whole_epochs_and_percent_and_points_have_markers(epochs):
    figure = learning_curves([row(epoch) for epoch in range(1, epochs + 1)])
    renderer = drawn(figure)
    for axes in figure.axes:
        assert all(tick == int(tick) for tick in axes.get_xticks())
        assert all(line.get_marker() in ("o", "s") for line in axes.lines)
        title, legend = extents([axes._left_title, axes.get_legend()], renderer)
        assert_apart([title, legend, axes.get_window_extent(renderer)])
        assert_inside([title, legend], figure)
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert all(label.endswith(" %") for label in labels)


def test_without_a_validation_split_there_is_one_curve():
    history = [row(epoch, val_loss=None, val_accuracy=None) for epoch in (1, 2)]
    assert [list(curves(axes)) for axes in learning_curves(history).axes] == [["training"]] * 2


def test_what_is_missing_or_not_finite_is_a_gap():
    history = [row(1), row(2, train_loss=float("inf"), val_loss=None), row(3)]
    figure = learning_curves(history)
    drawn(figure)
    assert [np.isnan(values).tolist() for values in curves(figure.axes[0]).values()] == [
        [False, True, False]
    ] * 2


def test_a_history_without_any_finite_value_can_be_drawn():
    nothing = dict.fromkeys(("train_loss", "train_accuracy", "val_loss", "val_accuracy"))
    figure = learning_curves([row(1, **nothing)])
    drawn(figure)
    assert not figure.axes[0].lines


def test_a_run_without_an_epoch_has_no_curves():
    with pytest.raises(RunError, match="no complete epoch"):
        learning_curves([])


# ------------------------------------------------------------------------- confusion_figure


def test_shades_are_shares_of_the_row_and_every_count_is_written():
    confusion = np.array([[6, 2, 0], [0, 0, 0], [1, 0, 3]])
    classes = ("cat", "dog", "$5")
    evaluation = evaluate_sums(split="val", classes=classes, confusion=confusion, loss_sum=1.0)
    axes = confusion_figure(evaluation).axes[0]
    shares = [[0.75, 0.25, 0], [0, 0, 0], [0.25, 0, 0.75]]
    np.testing.assert_allclose(axes.images[0].get_array(), shares)
    np.testing.assert_array_equal(written_values(axes), confusion)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert tuple(label.get_text() for label in labels) == classes
    assert axes.get_title().startswith("val: accuracy 75.00 %\n95 % interval")


@pytest.mark.parametrize("num_classes", [2, 7, 30, 100])
def test_a_matrix_of_any_size_is_readable(num_classes):
    classes = (HOSTILE * 20)[:num_classes]
    figure = confusion_figure(evaluation_of(classes))
    renderer = drawn(figure)
    axes = figure.axes[0]
    assert len(axes.texts) == (num_classes**2 if num_classes <= 40 else 0)
    names = extents([label for label in axes.get_yticklabels() if label.get_text()], renderer)
    assert_apart(names)
    below = extents([label for label in axes.get_xticklabels() if label.get_text()], renderer)
    titles = extents([axes.title, axes.xaxis.label, axes.yaxis.label], renderer)
    assert_inside(names + below + titles, figure)
    assert_apart([*titles, axes.get_window_extent(renderer)])
    cell = axes.get_window_extent(renderer).width / num_classes
    assert all(box.width < cell for box in extents(axes.texts, renderer))


# ------------------------------------------------------------------------------ save_figure


@pytest.fixture(scope="module")
def figure(digits):
    return sample_grid(digits, range(3))


def test_a_png_decodes_to_the_size_of_the_figure(figure, tmp_path):
    save_figure(figure, tmp_path / "grid.PNG")
    with Image.open(tmp_path / "grid.PNG") as image:
        image.load()
        assert image.format == "PNG"
        assert image.size == pytest.approx(figure.get_size_inches() * 150, abs=1)
        assert len(image.getcolors(1 << 16)) > 10


@pytest.mark.parametrize(("suffix", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_suffix_decides_the_format(figure, tmp_path, suffix, start):
    path = tmp_path / f"grid.{suffix}"
    save_figure(figure, path)
    assert path.read_bytes().startswith(start)


@pytest.mark.parametrize("name", ["grid.gif", "grid", "grid.pgn"])
def test_another_suffix_is_refused_and_nothing_written(figure, tmp_path, name):
    with pytest.raises(UsageError, match=r"\.png, \.svg or \.pdf"):
        save_figure(figure, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_explained(figure, tmp_path):
    with pytest.raises(FileError):
        save_figure(figure, tmp_path / "absent" / "grid.png")


def test_a_figure_too_tall_for_the_renderer_is_saved_smaller(tmp_path):
    save_figure(Figure(figsize=(1, 700)), tmp_path / "tall.png")
    with Image.open(tmp_path / "tall.png") as image:
        assert image.height == pytest.approx(32_000, abs=1)


def test_a_notebook_shows_the_figure(figure):
    with Image.open(io.BytesIO(figure._repr_png_())) as image:
        assert image.size == pytest.approx(figure.get_size_inches() * 100, abs=1)


def test_drawing_loads_neither_pyplot_nor_torch():
    program = (
        "import sys, sartor.reports.figures as figures;"
        "figures.class_histogram({'train': [1, 2]}, ['cat', 'dog'])._repr_png_();"
        "print({'matplotlib.pyplot', 'torch', 'scipy', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
