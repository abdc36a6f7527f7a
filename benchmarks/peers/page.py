"""docs/peers.md: tables of what was measured, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import machine

from .contenders import CONTENDERS
from .disturbance import ALLOWED_OTHERS
from .goals import GOALS, Goal
from .peak import prediction_flops, training_flops
from .results import Results, Row, RunStatistics, epoch_seconds, step_seconds
from .tasks import TASKS, Task

NO_FIGURE = "-"


def document(results: Results) -> str:
    """All of the page."""
    return _PAGE.format(
        goals="\n".join(goal_table(results)),
        batches=_sections(results, "batches", batches_table),
        defaults=_sections(results, "defaults", defaults_table),
        predict=_sections(results, "predict", predict_table),
        predict_images=10_000,
        starts="\n".join(start_table(results)),
        peak=results.peak() / 1e9,
        dates=_dates(results),
        others=max(results.figures("others"), default=0.0),
        allowed=ALLOWED_OTHERS,
        machine="\n".join(machine.markdown_of(results.machine)),
    )


def goal_table(results: Results) -> list[str]:
    """What sartor is to reach, and what it does."""
    rows = [_goal_cells(results, goal) for goal in GOALS]
    return table(
        ["training", "against", "goal", "as documented", "reached", "training only", "batches"],
        rows,
        left=2,
    )


def batches_table(results: Results, task: Task) -> list[str]:
    """Microseconds per step, from ready batches."""
    bare = [step_seconds(task, row) for row in results.rows(task.key, "bare")]
    rows = []
    for name in results.contenders(task.key):
        found = [step_seconds(task, row) for row in results.rows(task.key, name)]
        statistics = RunStatistics.of(found)
        beyond = (
            statistics.median - RunStatistics.of(bare).median if bare and name != "bare" else None
        )
        rows.append(
            [
                CONTENDERS[name].title,
                f"{statistics.median * 1e6:,.0f}",
                f"{statistics.lowest * 1e6:,.0f} to {statistics.highest * 1e6:,.0f}",
                NO_FIGURE if beyond is None else f"{beyond * 1e6:+,.0f}",
                *_comparisons(results, task, name),
                *_throughput(results, task, name),
                *_learnt(results, task, name, judged=name != "bare"),
            ]
        )
    head = ["contender", "µs per step", "lowest to highest", "beyond the bare step, µs"]
    return table([*head, *_COMPARED, *_THROUGHPUT, *_LEARNT], rows)


def defaults_table(results: Results, task: Task) -> list[str]:
    """Seconds per epoch, of whole trainings."""
    rows = []
    for name in results.contenders(task.key):
        found = results.rows(task.key, name)
        statistics = RunStatistics.of([epoch_seconds(task, row) for row in found])
        rows.append(
            [
                CONTENDERS[name].title,
                f"{found[0]['epochs']}",
                f"{statistics.median:.3f}",
                f"{statistics.lowest:.3f} to {statistics.highest:.3f}",
                f"{statistics.median / task.steps * 1e6:,.0f}",
                *_comparisons(results, task, name),
                *_throughput(results, task, name),
                *_learnt(results, task, name, judged=True),
            ]
        )
    head = ["contender", "epochs", "s per epoch", "lowest to highest", "µs per step"]
    return table([*head, *_COMPARED, *_THROUGHPUT, *_LEARNT], rows)


def predict_table(results: Results, task: Task) -> list[str]:
    """Images per second, and microseconds of one image."""
    rows = []
    for name in results.contenders(task.key):
        found = results.rows(task.key, name)
        speed = RunStatistics.of([task.train_images / row["seconds"] for row in found])
        share = speed.median * prediction_flops(task.name) / results.peak()
        rows.append(
            [
                CONTENDERS[name].title,
                f"{speed.median:,.0f}",
                f"{speed.lowest:,.0f} to {speed.highest:,.0f}",
                f"{share:.1%}",
                *[_microseconds(found, figure) for figure in ("one_p50", "one_p99")],
                f"{min(row['agreement'] for row in found):.2%}",
                f"{RunStatistics.of([row['first_seconds'] for row in found]).median:.2f}",
            ]
        )
    head = [
        "contender",
        "images/s",
        "lowest to highest",
        "of peak",
        "one image: p50, µs",
        "p99, µs",
    ]
    return table([*head, "same predictions", "first call, s"], rows)


def start_table(results: Results) -> list[str]:
    """What is left out of the other tables: imports, and the first steps of all."""
    keys = [task.key for task in TASKS if task.table != "predict"]
    rows = []
    for name, contender in CONTENDERS.items():
        starts = results.start_seconds(name)
        if starts:
            cells = [_median_of(results, key, name, "first_seconds") for key in keys]
            rows.append([contender.title, f"{RunStatistics.of(starts).median:.1f}", *cells])
    return table(["contender", "import, s", *keys], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """In Markdown; the first columns flush left."""
    rule = ["---" if number < left else "--:" for number in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


_COMPARED = ["times as fast as the loop", "sartor is faster by"]
_THROUGHPUT = ["images/s", "of peak"]
_LEARNT = ["loss", "accuracy"]


def _comparisons(results: Results, task: Task, name: str) -> list[str]:
    """Against the loop and against sartor: medians of the rounds' ratios."""
    return [
        _ratio(results, task, "loop", name),
        _ratio(results, task, name, "sartor"),
    ]


def _ratio(results: Results, task: Task, over: str, under: str) -> str:
    if over == under:
        return NO_FIGURE
    found = _ratios(results, task, over, under)
    return f"{RunStatistics.of(found).median:.2f}" if found else NO_FIGURE


def _ratios(results: Results, task: Task, over: str, under: str) -> list[float]:
    return results.ratios(task.key, over, under, lambda row: epoch_seconds(task, row))


def _throughput(results: Results, task: Task, name: str) -> list[str]:
    seconds = RunStatistics.of(
        [epoch_seconds(task, row) for row in results.rows(task.key, name)]
    ).median
    speed = task.train_images / seconds
    return [f"{speed:,.0f}", f"{speed * training_flops(task.name) / results.peak():.1%}"]


def _learnt(results: Results, task: Task, name: str, *, judged: bool) -> list[str]:
    """What the judge says of the weights; the bare step learns nothing."""
    if not judged:
        return [NO_FIGURE, NO_FIGURE]
    found = results.rows(task.key, name)
    loss, accuracy = (RunStatistics.of([row[key] for row in found]) for key in ("loss", "accuracy"))
    return [f"{loss.median:.4f}", f"{accuracy.median:.2%}"]


def _median_of(results: Results, key: str, name: str, figure: str) -> str:
    found = [row[figure] for row in results.rows(key, name)]
    return f"{RunStatistics.of(found).median:.2f}" if found else NO_FIGURE


def _microseconds(found: Sequence[Row], figure: str) -> str:
    times = [row[figure] for row in found if figure in row]
    return f"{RunStatistics.of(times).median * 1e6:,.0f}" if times else NO_FIGURE


def _goal_cells(results: Results, goal: Goal) -> list[str]:
    """Reached where sartor as documented reaches it, and is no slower with equal batches."""
    cells, enough = [], []
    for table_name, name in (
        ("defaults", "sartor"),
        ("defaults", "sartor-alone"),
        ("batches", "sartor"),
    ):
        task = next(t for t in TASKS if (t.table, t.name) == (table_name, goal.training))
        found = _ratios(results, task, goal.against, name)
        cells.append(_with_range(found))
        if found and name == "sartor":
            least = goal.ratio if table_name == "defaults" else 1
            enough.append(RunStatistics.of(found).median >= least)
    reached = "not measured" if not enough else "yes" if all(enough) else "no"
    title = CONTENDERS[goal.against].title
    return [goal.training, title, f"{goal.ratio:g}", cells[0], reached, cells[1], cells[2]]


def _with_range(found: Sequence[float]) -> str:
    if not found:
        return NO_FIGURE
    statistics = RunStatistics.of(found)
    return f"{statistics.median:.2f} ({statistics.lowest:.2f} to {statistics.highest:.2f})"


def _sections(
    results: Results, table_name: str, lines: Callable[[Results, Task], list[str]]
) -> str:
    parts = []
    for task in TASKS:
        if task.table == table_name and results.contenders(task.key):
            count = len(results.rows(task.key, results.contenders(task.key)[0]))
            said = f"{_of_task(task)} Rounds: {count}."
            parts += [f"### {task.name}", "", said, "", *lines(results, task), ""]
    return "\n".join(parts).rstrip()


def _of_task(task: Task) -> str:
    training = task.training
    if task.table == "predict":
        return f"{task.train_images:,} images of {task.source}."
    judged = f", {task.val_images:,} evaluated after each" if task.val_images else ""
    order = "a new order every epoch" if task.shuffle else "the set's order"
    return (
        f"{task.train_images:,} images of {task.source} per epoch, {order}{judged}; batches of "
        f"{training.batch_size}, {task.steps:,} steps; {training.optimizer.__name__}, learning "
        f"rate {training.learning_rate:g}; {training_flops(task.name) / 1e6:,.2f} million "
        "operations per image."
    )


def _dates(results: Results) -> str:
    dates = [one["date"] for one in results.rounds]
    return f"from {dates[0]} to {dates[-1]}" if dates else "never"


_PAGE = """\
# sartor and other tools

Written by `benchmarks/bench_peers.py` (`make bench-peers`); every single result is in
[peers.json](peers.json).

All contenders run in one environment (`benchmarks/peers/requirements.txt`): the same Python, the
same build of torch for sartor, the loop, Lightning, fastai, skorch and Keras. All start from the
same weights, those of sartor's recipe with seed 0, and train with the same hyper-parameters on the
same images. In each round every contender has a fresh process, pinned to the same two cores; they
train one after the other, task by task, and only one works at a time; each round begins with a
different contender. Figures are medians over the rounds; a ratio is the median of the rounds'
ratios.

Loss and accuracy are those of the final weights on the training images, computed by one judge
(`judge.py`) for all: whoever trained something else would show up here. "Of peak": operations of
the network (forward and backward, counted by torch's `FlopCounterMode`) times images per second,
divided by the best rate that float32 products of two 2048 x 2048 matrices reach here: {peak:,.0f}
GFLOP/s, the better of `mm` and oneDNN.

## Goals

{goals}

How many times as fast sartor is as the other tool; lowest to highest of the rounds in brackets. "As
documented": a whole `sartor.fit` with its data check and its report, which the others do not have,
over the walk-through's epochs. "Training only": without these two. "Batches": a step of such a
training, in the first kind of table below. A goal is reached where sartor as documented is that
many times as fast, and no slower with equal batches.

## Equal batches in memory

What a tool adds to a step. Each gets the same images as prepared float batches, in the same order,
in the cheapest way its documentation offers; nothing is evaluated, shown or logged. sartor does not
accept such batches: it gets the bytes and makes its batches in every step. Time of a step: what the
epochs after the first add to a training, divided by their steps, so that one-time costs are left
out. The bare step repeats one batch with PyTorch's modules and optimizer, at a learning rate of 0,
and reads no loss.

{batches}

## As documented

What a newcomer gets: each tool as its own introduction shows it, with progress bar, logger and
checkpoints where these are on by default; output goes to a file. The loop is
[tutorial.py](../benchmarks/tutorial.py) on torchvision's data sets. Lightning and fastai get the
same sets in PyTorch's loaders; skorch and Keras arrays of floats; sartor its own data set. Time of
an epoch: all of the training, from the call until it returns, divided by its epochs; before that,
the data were loaded and 20 steps trained with all shapes that occur, so that everything is
compiled. sartor trains as many epochs as the walk-through, the others fewer; "training only" as
many as they.

{defaults}

## Prediction

From bytes in memory, (N, 28, 28), to a class index, with the weights of one run for all. "Many":
{predict_images:,} images per call, in batches of 1,000 where the tool lets one choose; the median
of three calls in a round. "One": calls with one image, up to 2,000 within a second. For one image,
Lightning calls the module itself, which is plain torch, and fastai's `predict` needs its own
datasets. sartor's first row is `run.predictor()` with arrays, the second `run.predict` with
pictures of Pillow, which opens the run again in every call.

{predict}

## First steps

Seconds until the tool is imported in a fresh process, and for the first short training of 20 steps,
with all one-time costs: compiling, and late imports.

{starts}

## Measured on

Measured {dates}. While something was measured, other programs used at most {others:.1%} of the
processor (a measurement with more than {allowed:.0%} is repeated up to twice).

{machine}
"""
