"""What a server says of itself: figures for Prometheus, and a line of JSON for each request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from ..console.streams import say

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LOGS = ("requests", "errors", "off")
"""What is logged: every request, those that failed, or nothing."""


class Watch:
    """Figures and lines of one server; safe in several threads."""

    def __init__(self, log: str, waiting: Callable[[], float]) -> None:
        self._log = log
        self.registry = CollectorRegistry()
        PlatformCollector(self.registry)
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "sartor_requests",
            "Requests by what was asked and how it ended.",
            ("route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "sartor_request_seconds",
            "From the end of a request's headers to its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._pictures = Counter(
            "sartor_pictures",
            "Pictures by how they ended.",
            ("model", "outcome"),
            registry=self.registry,
        )
        self._batches = Histogram(
            "sartor_batch_pictures",
            "Pictures that the network was given at once.",
            ("model",),
            buckets=_SIZES,
            registry=self.registry,
        )
        self._network = Histogram(
            "sartor_network_seconds",
            "Time of the network for a batch.",
            ("model",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._reloads = Counter(
            "sartor_reloads",
            "Models that were read again, by how it ended.",
            ("model", "outcome"),
            registry=self.registry,
        )
        Gauge(
            "sartor_waiting_pictures", "Pictures without an answer.", registry=self.registry
        ).set_function(waiting)

        # Looking these up by their labels takes longer than counting.
        self._counts: dict[tuple[str, int], Counter] = {}
        self._times: dict[str, Histogram] = {}

    def exposition(self) -> bytes:
        """All figures, in the text format of Prometheus."""
        return generate_latest(self.registry)

    def request(self, route: str, status: int, seconds: float, facts: Mapping[str, object]) -> None:
        """A request was answered, or ended without: then its status is 499."""
        if (route, status) not in self._counts:
            self._counts[route, status] = self._requests.labels(route, str(status))
            self._times[route] = self._seconds.labels(route)
        self._counts[route, status].inc()
        self._times[route].observe(seconds)
        if self._log == "requests" or (self._log == "errors" and status >= 400):
            self.line("request", route=route, status=status, seconds=round(seconds, 6), **facts)

    def pictures(self, model: str, answered: int, failed: int) -> None:
        """So many pictures of a request have an answer, so many a reason."""
        if answered:
            self._pictures.labels(model, "answered").inc(answered)
        if failed:
            self._pictures.labels(model, "failed").inc(failed)

    def batch(self, model: str, size: int, seconds: float) -> None:
        """The network answered for so many pictures at once."""
        self._batches.labels(model).observe(size)
        self._network.labels(model).observe(seconds)

    def fault(self, model: str, error: Exception) -> None:
        """The network failed on a picture."""
        self.failure("network", error, model=model)

    def reload(self, model: str, error: str = "") -> None:
        """A model was read again, or why it was not."""
        self._reloads.labels(model, "failed" if error else "done").inc()
        self.line("reload", model=model, **({"error": error} if error else {}))

    def failure(self, where: str, error: Exception, **facts: object) -> None:
        """Something that should not happen, with its place in the code."""
        trace, place = error.__traceback__, ""
        while trace is not None:
            place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
            trace = trace.tb_next
        text = f"{type(error).__name__}: {str(error)[:300]}"
        self.line("failure", where=where, error=text, place=place, **facts)

    def line(self, event: str, **facts: object) -> None:
        """One line of JSON on stderr; never of pictures or of their names."""
        if self._log == "off":
            return
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        say(json.dumps({"time": now, "event": event, **facts}))
