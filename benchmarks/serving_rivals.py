"""The plain server that `sartor serve` is measured against: FastAPI; a request, a forward pass.

    python benchmarks/serving_rivals.py RUNTIME BUNDLE PORT

RUNTIME is `torch` or `onnx`. It takes the form that `sartor serve` takes, with a part named `file`,
and answers with the probability of every class. `serving_litserve.py` does the same by LitServe.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image

Network = Callable[[Any], Any]


class Classifier:
    """Decoding and network, as somebody would write them who has the weights or the ONNX file."""

    def __init__(self, runtime: str, path: str) -> None:
        from sartor.bundle.format import Bundle

        bundle = Bundle.open(path)
        self.classes = bundle.classes
        preprocess = bundle.preprocess
        self.mode = "L" if preprocess.channels == 1 else "RGB"
        self.size = (preprocess.width, preprocess.height)
        self.network = _torch(bundle) if runtime == "torch" else _onnx(bundle)

    def decoded(self, content: bytes) -> Any:
        """uint8 (H, W, C)."""
        picture = Image.open(io.BytesIO(content)).convert(self.mode)
        if picture.size != self.size:
            picture = picture.resize(self.size, Image.Resampling.BICUBIC)
        pixels = np.asarray(picture)
        return pixels[..., None] if pixels.ndim == 2 else pixels

    def said(self, row: Any) -> dict[str, Any]:
        """Label and probabilities."""
        best = int(row.argmax())
        return {
            "label": self.classes[best],
            "probability": float(row[best]),
            "probabilities": dict(zip(self.classes, map(float, row), strict=True)),
        }


def _torch(bundle: Any) -> Network:
    import torch

    from sartor.bundle.opening import answering_of

    answering = answering_of(bundle)

    def network(images: Any) -> Any:
        with torch.inference_mode():
            found = answering(torch.from_numpy(images))
        return (found[0] if isinstance(found, tuple) else found).numpy()

    return network


def _onnx(bundle: Any) -> Network:
    import onnxruntime

    session = onnxruntime.InferenceSession(bundle.read("model.onnx"))
    return lambda images: session.run(["probabilities"], {"images": images})[0]


def plain(classifier: Classifier, port: int) -> None:
    """FastAPI, with the endpoint that its tutorial shows: a plain function, run in its threads."""
    app = FastAPI()

    @app.post("/v1/predict")
    def predict(file: UploadFile) -> dict[str, Any]:
        image = classifier.decoded(file.file.read())
        (row,) = classifier.network(np.array(image[None]))
        return classifier.said(row)

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    runtime, path, port = sys.argv[1:]
    plain(Classifier(runtime, path), int(port))
