"""The bare step is the loop's, and a step's operations are those counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import step_cost
import torch
from step_cost import Pair

from sartor.data.dataset import Dataset
from sartor.models.summary import summarize
from sartor.training.loop import update


def test_pairs_become_medians_with_their_overhead(small_sets: dict[str, Dataset]) -> None:
    job = step_cost.job_of("fashion-mlp", small_sets["fashion-mnist"])
    assert job.val is None
    pairs = [Pair(plain_us=200, bare_us=100, loop_us=loop) for loop in (101, 103, 150)]
    cost = step_cost.cost_of("x", job, pairs, peak=1e12, share_target=0.5)
    assert (cost.engine, cost.plain_us) == ("native", 200)
    assert (cost.bare_us, cost.loop_us, cost.overhead_us) == (100, 103, 3)
    assert cost.overhead == pytest.approx(0.03)
    layers = np.array([784 * 128, 128 * 64, 64 * 32, 32 * 10])
    # Forward, of the weights, of the inputs but the first layer's; a product and a sum each.
    assert cost.operations == 2 * 128 * (3 * layers.sum() - layers[0])
    assert cost.peak_share == pytest.approx(cost.operations / 103e-6 / 1e12)


def test_both_sides_of_a_pair_are_timed(small_sets: dict[str, Dataset]) -> None:
    job, plain = (
        step_cost.job_of("mnist-logistic", small_sets["mnist"], engine=engine)
        for engine in ("native", "plain")
    )
    pairs = step_cost.measure_pairs(job, plain, 2)
    assert len(pairs) == 2
    assert all(min(pair.plain_us, pair.bare_us, pair.loop_us) > 0 for pair in pairs)


def test_the_bare_step_is_that_of_the_loop(
    small_sets: dict[str, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_cost, "BARE_LR", 0.1)
    results = []
    for bare in (step_cost._bare, step_cost._written_down, None):
        # Of one batch again and again; the engine native goes through the batches of an epoch.
        job = step_cost.job_of("mnist-logistic", small_sets["mnist"], engine="plain")
        batch = job.batches.batch(0, 0)
        if bare is not None:
            bare(job, batch)
        else:
            for _ in range(len(job.batches)):
                update(job, batch, 0.1)
        results.append(job.model.state_dict())
    for result in results[:2]:
        torch.testing.assert_close(result, results[2])


def test_operations_of_a_network_by_hand() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    assert step_cost.operations_of(summarize(network, (3, 2, 2)), 7) == 2 * 7 * 2 * 60


def test_the_peak_is_that_of_some_product() -> None:
    assert 1e6 < step_cost.peak_operations(1, side=64) < 1e15
