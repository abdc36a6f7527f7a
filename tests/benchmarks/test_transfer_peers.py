"""The benchmark of a folder against fastai: its parts and its page, without training."""

from __future__ import annotations

import hashlib
from pathlib import Path

import transfer_peers
from transfer_peers import Result


def test_rounds_test_other_pictures_and_copies_stay_together(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for index in range(200):
        path = folder / f"class{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture %d" % (index // 4))
    tested: list[set[str]] = []
    for number in range(transfer_peers.FOLDS):
        target = tmp_path / str(number)
        transfer_peers.lay_out(folder, target, number)
        parts = {part: set() for part in ("train", "val", "test")}
        for part, found in parts.items():
            for path in transfer_peers.pictures_in(target / part):
                found.add(hashlib.sha256(path.read_bytes()).hexdigest())
        assert not parts["train"] & parts["test"]
        assert not parts["val"] & (parts["train"] | parts["test"])
        assert len(parts["train"]) > len(parts["test"]) > 0
        tested.append(parts["test"])
    assert sum(map(len, tested)) == len(set().union(*tested)) == 50


def test_the_page_pairs_pictures_of_a_round() -> None:
    def result(tool: str, number: int, right: int, seconds: float) -> Result:
        answers = {f"a/{index}": index < right for index in range(100)}
        return Result(tool, number, 2 * seconds, seconds, answers)

    results = [
        result("sartor", 0, 90, 10),
        result("fastai 1", 0, 80, 30),
        result("sartor", 1, 90, 10),
        result("fastai 1", 1, 80, 20),
    ]
    document = {
        "about": {"processor": "some"},
        "folder": "photos",
        "pictures": 500,
        "results": [vars(one) for one in results],
    }
    page = transfer_peers.page(document)
    ours, theirs = (
        line for line in page.splitlines() if line.startswith(("| `sartor", "| fastai"))
    )
    assert "180 of 200: 90.0%" in ours
    assert "160 of 200: 80.0%" in theirs
    assert "+10.0 points" in theirs
    assert theirs.endswith("| 60, 40 | 30, 20 | 3.0, 2.0 |")
