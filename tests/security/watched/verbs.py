"""A run of somebody else's, seen by Python itself: no verb opens anything elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fuzz_watch
import pytest

from sartor.home import cache_home

LIBRARIES_ASK = (
    "subprocess.Popen ('lscpu'",
    "subprocess.Popen ('fc-list'",
    "subprocess.Popen ('git', ['git', 'rev-parse', 'HEAD'])",
)
"""What joblib and matplotlib start, and `runs/environment.py` in the folder of sartor's own source:
how many cores there are, where the fonts lie, which commit this is."""


class TestWatched:
    """Every file that a verb opens, seen by Python itself."""

    @pytest.mark.filterwarnings("ignore")
    def test_no_verb_opens_anything_elsewhere(
        self,
        run_copy: Path,
        picture: Path,
        verbs: list[list[Any]],
        command: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        work = tmp_path / "work"
        work.mkdir()
        monkeypatch.chdir(work)
        monkeypatch.setattr("tempfile.tempdir", str(work))
        # Where PyTorch's compiler keeps its results, which it makes when it is imported.
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(work / "inductor"))
        for words in verbs:
            with fuzz_watch.watched(run_copy, work, cache_home(), only_read=[picture]) as found:
                answer = command(*words)
            assert answer.exit_code == 0, (words, answer.err)
            assert [one for one in found if not one.startswith(LIBRARIES_ASK)] == [], words
