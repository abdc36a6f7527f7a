"""sartor: labelled images in, a classifier that its owner understands, can trust and can ship.

    import sartor
    data = sartor.load("fashion-mnist")
    run = sartor.fit(data, model="lenet", epochs=5, opt="adam", lr=0.01)
    run.evaluate("test").accuracy

Names are imported when they are first used, so that `import sartor` costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
