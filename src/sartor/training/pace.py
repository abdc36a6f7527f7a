"""Whether a training has become far slower than it was."""

from __future__ import annotations

WINDOW_SECONDS = 2.0
_WINDOWS = 3
"""So many windows in a row: one can be a stopped process or a slow disk."""
FRACTION = 0.25


class Pace:
    """The pace of training steps, by their own clock, window by window."""

    def __init__(self, expected: float = 0.0) -> None:
        """`expected` steps per second, as measured before; 0 where nothing was."""
        self.best = expected
        """Steps per second in the fastest window."""
        self.now = expected
        """In the last one."""
        self._slow = 0
        self._steps = 0
        self._seconds = 0.0

    def add(self, steps: int, seconds: float) -> None:
        """Some steps were made, in so many seconds of training."""
        self._steps += steps
        self._seconds += seconds
        if self._seconds < WINDOW_SECONDS:
            return
        self.now = self._steps / self._seconds
        self._slow = self._slow + 1 if self.now < FRACTION * self.best else 0
        self.best = max(self.best, self.now)
        self._steps, self._seconds = 0, 0.0

    @property
    def has_fallen(self) -> bool:
        """Whether the last windows were all slower than a quarter of the best."""
        return self._slow >= _WINDOWS

    def begin_again(self) -> None:
        """Forget what was slow: from here on another engine trains."""
        self._slow, self._steps, self._seconds = 0, 0, 0.0
