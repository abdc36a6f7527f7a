"""What everybody may know of a bundle."""

from __future__ import annotations

import json
from pathlib import Path

from sartor.api.serving import servable
from sartor.bundle.format import Bundle
from sartor.bundle.public import public


def test_it_names_no_picture_of_the_data(wild_bundle: Path) -> None:
    bundle = Bundle.open(wild_bundle)
    mistakes = bundle.record["figures"]["mistakes"]
    assert mistakes, "the whole record names pictures"
    text = json.dumps(public(bundle))
    assert not [one["file"] for one in mistakes if one["file"] in text]
    assert not {"data", "split", "recipe", "golden", "files"} & public(bundle).keys()


def test_a_server_tells_no_more(wild_bundle: Path) -> None:
    known = public(Bundle.open(wild_bundle))
    told = servable(str(wild_bundle), "wild").public
    assert told == {"runtime": "onnx", "input": told["input"], **known}
