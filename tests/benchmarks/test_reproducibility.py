"""What is compared bit for bit, and how it is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reproducibility
from reproducibility import CONDITIONS, Compared, Condition, compared, page, table


def network(weight: float, answer: int = 1) -> dict[str, Any]:
    return {
        "weights w": np.array([weight, -2.0], np.float32),
        "weights n": np.array([3]),
        "answers": np.array([answer, 0, 0, 0]),
    }


ONE = Condition(name="two of them", networks=("mlp", "lenet"), promised=True)


def test_every_bit_counts() -> None:
    reference = {"mlp": network(1.0), "lenet": network(1.0)}
    same = compared(ONE, reference, [reference, reference])
    assert (same.equal, same.different, same.largest, same.answers) == (("mlp", "lenet"), (), 0, 0)
    assert not same.is_broken_promise
    # Of several processes the worst.
    other = {"mlp": network(1.0), "lenet": network(1.5, answer=2)}
    found = compared(ONE, reference, [reference, other])
    assert (found.equal, found.different) == (("mlp",), ("lenet",))
    assert (found.largest, found.answers) == (0.25, 0.25)
    assert found.is_broken_promise
    assert table([found])[-1] == (
        "| two of them | the reference | yes | 1 of 2 (not lenet) | 2.5e-01 | 25.0 % |"
    )


def test_zeros_of_other_signs_are_other_bits() -> None:
    reference = {"mlp": network(0.0), "lenet": network(0.0)}
    found = compared(ONE, reference, [{"mlp": network(-0.0), "lenet": network(0.0)}])
    assert (found.different, found.largest) == (("mlp",), 0)


def test_a_broken_promise_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ends = {"equal": ("mlp", "lenet"), "different": (), "largest": 0.0, "answers": 0.0}
    good = Compared(condition=ONE, **ends)
    bad = Compared(condition=ONE, **ends | {"equal": (), "different": ("mlp", "lenet")})
    monkeypatch.setattr(reproducibility, "measured", lambda *_: iter([good]))
    path = tmp_path / "page.md"
    assert reproducibility.main(["--page", str(path)]) == 0
    assert "Promises kept: 1 of 1." in path.read_text()
    monkeypatch.setattr(reproducibility, "measured", lambda *_: iter([bad]))
    assert reproducibility.main([]) == 1
    assert "BROKEN PROMISE: two of them" in capsys.readouterr().err
    assert "Promises kept: 0 of 1." in page([bad])


def test_each_is_compared_with_one_before_it() -> None:
    names = [""]
    for condition in CONDITIONS:
        assert condition.like in names
        names.append(condition.name)
    assert len(set(names)) == len(names)


def test_a_process_of_its_own(tmp_path: Path) -> None:
    condition = Condition(name="x", settings={"workers": 1}, networks=("mlp by plain",))
    (found,) = reproducibility.results(tmp_path / "place", condition)
    assert set(found) == {"mlp by plain"}
    assert len(found["mlp by plain"]["answers"]) == 144
    weights = [one for name, one in found["mlp by plain"].items() if name.startswith("weights ")]
    assert sum(one.size for one in weights) == 64 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10


def test_what_was_measured_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path, page_path = tmp_path / "kept.json", tmp_path / "page.md"
    wanted = [one for one in CONDITIONS if "worker" in one.name or "busy" in one.name]
    asked: list[list[str]] = []

    def measured(_folder: Path, conditions: Sequence[Condition]) -> Iterator[Compared]:
        asked.append([one.name for one in conditions])
        for one in conditions:
            ends = {"equal": one.networks, "different": (), "largest": 0.0, "answers": 0.0}
            yield Compared(condition=one, **ends)

    monkeypatch.setattr(reproducibility, "measured", measured)
    words = ["--only", "worker", "busy", "--kept", str(path), "--page", str(page_path)]
    assert reproducibility.main([*words, "--minutes", "0"]) == 1
    assert not page_path.exists()
    assert reproducibility.main(words) == 0
    assert reproducibility.main(words) == 0
    names = [one.name for one in wanted]
    assert asked == [names, names[1:]]
    assert f"Promises kept: {len(names)} of {len(names)}." in page_path.read_text()
