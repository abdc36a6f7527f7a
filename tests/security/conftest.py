"""The scripts in benchmarks/ are no package: they find each other in their own folder."""

from __future__ import annotations

import sys
from pathlib import Path

# Behind all else: one of them is called as a library, coverage.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
