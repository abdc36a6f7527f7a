"""Stages by the beginning of names, against what one would write by hand."""

from __future__ import annotations

from sartor.models.stages import level_for, stages

NAMES = ["stem", "body.a.conv", "body.a.relu", "body.b.conv", "add", "body.b.norm", "head"]


def test_neighbours_with_one_beginning_are_a_stage() -> None:
    found = stages(NAMES, 2)
    assert found == [
        ("stem", range(0, 1)),
        ("body.a", range(1, 3)),
        ("body.b.conv", range(3, 4)),
        ("add", range(4, 5)),
        ("body.b.norm", range(5, 6)),
        ("head", range(6, 7)),
    ]
    assert [name for name, _ in stages(NAMES, 1)] == ["stem", "body", "add", "body.b.norm", "head"]


def test_every_layer_is_in_one_stage() -> None:
    for level in range(4):
        places = [place for _, held in stages(NAMES, level) for place in held]
        assert places == list(range(len(NAMES)))
    assert [name for name, _ in stages(NAMES, 0)] == NAMES


def test_the_level_follows_from_the_number_of_layers() -> None:
    assert level_for(NAMES) == 0
    assert level_for(NAMES, 1) == 1
    large = [f"stages.{stage}.{block}.conv" for stage in range(5) for block in range(10)]
    assert level_for(large) == 2
    assert level_for(large, 0) == 0
    assert level_for([f"layer{number}" for number in range(100)]) == 1
