"""LitServe with the batching of its documentation, for `serving.py` to measure.

PYTHON benchmarks/serving_litserve.py RUNTIME BUNDLE PORT
"""

# No `from __future__ import annotations`: LitServe looks at the type itself.
import sys
from typing import Any

import litserve
import numpy as np
from fastapi import Request
from serving_rivals import Classifier

BATCH, BATCH_SECONDS = 64, 0.005
"""Its documentation's example of a size, and a few milliseconds to fill it."""


class Api(litserve.LitAPI):
    """A picture in, a label out."""

    def __init__(self, runtime: str, path: str) -> None:
        super().__init__(max_batch_size=BATCH, batch_timeout=BATCH_SECONDS, api_path="/v1/predict")
        self._runtime, self._path = runtime, path

    def setup(self, device: str) -> None:  # noqa: ARG002
        """In the process that answers."""
        self._classifier = Classifier(self._runtime, self._path)

    def decode_request(self, request: Request) -> Any:
        """A form's file becomes an image."""
        return self._classifier.decoded(request["file"].file.read())

    def batch(self, inputs: list[Any]) -> Any:
        """Images become one array."""
        return np.stack(inputs)

    def predict(self, images: Any) -> Any:
        """Probabilities."""
        return self._classifier.network(images)

    def unbatch(self, output: Any) -> list[Any]:
        """A row for each image."""
        return list(output)

    def encode_response(self, row: Any) -> dict[str, Any]:
        """The answer."""
        return self._classifier.said(row)


if __name__ == "__main__":
    runtime, path, port = sys.argv[1:]
    server = litserve.LitServer(Api(runtime, path), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), log_level="warning", generate_client_file=False)
