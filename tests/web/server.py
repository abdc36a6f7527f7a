"""A server with limits of its own: python server.py RUN '{"pictures": 4}' [TOKEN]."""

from __future__ import annotations

import json
import sys

from sartor.api.serving import servable
from sartor.web import running
from sartor.web.limits import Limits

run, limits, *token = sys.argv[1:]
address = running.Address(port=0, token=token[0] if token else None)
with running.listen(address) as listening:
    server = running.Running.of(
        [servable(run, "digits"), servable(run, "second")],
        address=address,
        reopen=lambda before: servable(str(before.source), before.name),
        limits=Limits(**json.loads(limits)),
    )
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    sys.exit(server.run(listening))
