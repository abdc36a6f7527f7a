"""sartor: labelled images in, a classifier that its owner understands, can trust and can ship.

    import sartor
    data = sartor.load("fashion-mnist")
    run = sartor.fit(data, model="lenet", epochs=5, opt="adam", lr=0.01)
    run.evaluate("test").accuracy

Names are imported when they are first used, so that `import sartor` costs nothing.
"""

import os

import lazy_loader

# ONNX Runtime reports what it does to its maker, and writes down a name for this machine, unless
# this is set before it is imported for the first time.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
