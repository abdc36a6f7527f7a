"""Features in shards: those of a backbone that takes no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sartor
from sartor.errors import UsageError
from sartor.inspection.check import backbone

from .test_transferring import NAME, colours, folder_of, small_backbone, weights

__all__ = ["small_backbone"]

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")


class TestFeatures:
    @pytest.fixture(autouse=True)
    def weights_at_hand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backbone, "pretrained_weights", lambda _: weights())
        monkeypatch.setattr("sartor.api.planning.checked_path", lambda _: None)

    def test_do_not_depend_on_what_else_is_in_the_shard(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "pictures", colours())
        (folder / "red" / "broken.png").write_bytes(b"")
        options: dict[str, Any] = {"model": NAME, "runtime": "torch"}
        sartor.plan_work(tmp_path / "work", "features", folder, shard_size=50, **options)
        sartor.work(tmp_path / "work", threads=1)
        found = _table(tmp_path / "work" / "features.parquet")
        assert found.column_names == ["file", "features", "error"]
        rows = found.column("features").to_pylist()
        errors = found.column("error").to_pylist()
        assert [row is None for row in rows] == [error is not None for error in errors]
        assert len(errors) - errors.count(None) == 1
        sartor.plan_work(
            tmp_path / "again", "features", folder, shard_size=7, reading="data", **options
        )
        sartor.work(tmp_path / "again", threads=2)
        again = _table(tmp_path / "again" / "features.parquet")
        assert set(again.column("label").to_pylist()) == {"red", "green", "blue"}
        assert _by_name(found) == _by_name(again)

    def test_settings_of_its_own_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"has a mean of its own"):
            sartor.plan_work(tmp_path / "work", "features", tmp_path, model=NAME, mean=(0.1,))


def _table(path: Path) -> Any:
    return pyarrow.parquet.read_table(path)


def _by_name(found: Any) -> dict[str, Any]:
    files, rows = (found.column(name).to_pylist() for name in ("file", "features"))
    return {Path(file).name: row for file, row in zip(files, rows, strict=True)}
