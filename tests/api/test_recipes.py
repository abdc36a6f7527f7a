from pathlib import Path

import pytest

from sartor.api.recipes import differing_settings, seed_groups, settings_of
from sartor.errors import RunError
from sartor.runs.folder import RunFolder

BASE = {"seed": 0, "lr": 0.1, "mean": [0.3], "std": [0.4], "model_kwargs": {"hidden": [8]}}


def test_settings_of_a_run_have_json_values_under_flat_names(trained: Path) -> None:
    settings = settings_of(RunFolder(trained))
    assert (settings["seed"], settings["model"], settings["epochs"]) == (3, "lenet", 3)
    assert settings["image_size"] == [8, 8]
    assert settings["model_kwargs"]["channels"] == [6, 12]


def test_a_recipe_of_another_version_is_read_as_far_as_it_goes(run_copy: Path) -> None:
    path = run_copy / "recipe.toml"
    path.write_text(path.read_text().replace("[training]", "[training]\nquantum = true"))
    settings = settings_of(RunFolder(run_copy))
    assert settings["quantum"] is True
    assert settings["seed"] == 3
    path.write_text("[training")
    assert settings_of(RunFolder(run_copy)) == {}
    path.unlink()
    with pytest.raises(RunError, match="not a complete run"):
        settings_of(RunFolder(run_copy))


def test_models_of_ones_own_differ_by_their_source(run_copy: Path, trained: Path) -> None:
    (run_copy / "model.py").write_text("a = 1\n")
    settings = [settings_of(RunFolder(path)) for path in (trained, run_copy)]
    assert not differing_settings(settings), "a file that the recipe does not name is not read"
    recipe = (run_copy / "recipe.toml").read_text()
    model = f'model = "{settings[0]["model"]}"'
    (run_copy / "recipe.toml").write_text(recipe.replace(model, 'model = "net.py:Net"'))
    own = settings_of(RunFolder(run_copy))
    assert differing_settings([settings[0], own]).keys() == {"model", "model_source"}
    assert len(own["model_source"]) == 16


def test_lists_of_a_run_differ_by_what_they_say(run_copy: Path, trained: Path) -> None:
    for name in ("excluded.txt", "fixes.csv"):
        (run_copy / name).write_text("one")
    before = settings_of(RunFolder(trained))
    settings = settings_of(RunFolder(run_copy))
    assert differing_settings([before, settings]).keys() == {"exclude", "fixes"}
    text = (run_copy / "recipe.toml").read_text()
    moved = text.replace("[data]", '[data]\nfixes = "/elsewhere/fixes.csv"')
    (run_copy / "recipe.toml").write_text(moved)
    assert settings_of(RunFolder(run_copy)) == settings


def test_what_differs() -> None:
    other = BASE | {"lr": 0.2, "model_kwargs": {"hidden": [9]}, "new": 1}
    assert differing_settings([BASE, BASE]) == {}
    assert differing_settings([BASE, other, BASE]) == {
        "lr": [0.1, 0.2, 0.1],
        "model_kwargs": [{"hidden": [8]}, {"hidden": [9]}, {"hidden": [8]}],
        "new": [None, 1, None],
    }


def test_groups_of_seeds() -> None:
    def run(seed: int, **changes: object) -> dict[str, object]:
        return BASE | {"seed": seed} | changes

    measured = {"mean": [0.31], "std": [0.39]}
    runs = [run(0), run(1, **measured), run(0, lr=1), run(1), run(4, lr=1), run(2)]
    assert seed_groups(runs) == [[0, 1, 5], [2, 4]], "of one seed the first counts"
    assert seed_groups([run(0), run(1, mean=[0.5], std=[0.5])]) == [], "another preparation"
    assert seed_groups([run(0), run(0)]) == []
    assert seed_groups([run(0), run(1, model_kwargs={"hidden": [9]})]) == []
    assert seed_groups([run(0, mean=[], std=[]), run(1, mean=[], std=[])]) == [[0, 1]]
    assert seed_groups([{}, {}]) == []
