"""The verbs, for Python and for the command line: the only place that sees everything.

Names are imported when they are first used, for most bring torch along and some need none of it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
