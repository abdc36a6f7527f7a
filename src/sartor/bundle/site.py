"""A static site of a bundle: the page, the network and its runtime; any web server can hand it out.

    index.html and the page's own files    the same page that `sartor serve` shows
    model/bundle.json                      what the page needs to know of the bundle
    model/model.onnx                       the network
    ort/                                   ONNX Runtime for browsers

Nothing is loaded from anywhere else, and no picture leaves the browser. The golden examples are
pictures of the owner's data and stay out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.resources import files

from ..errors import BundleError
from .format import ONNX, RECORD, Bundle
from .onnxruntime_web import onnxruntime_web
from .public import public

_ONLY_FOR_CHECKS = ("check.html", "check.js")
_ELSEWHERE = ("there.js",)
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "form-action 'none'; base-uri 'none'"
)


def site(
    bundle: Bundle, name: str, *, note: Callable[[str], None] = lambda _line: None
) -> dict[str, bytes]:
    """The files of the site, by their names in it.

    Args:
        name: what the page calls the classifier.

    Raises:
        BundleError: the bundle has no model.onnx. UnavailableError: ONNX Runtime for browsers is
            not in the cache and cannot be fetched.
    """
    if ONNX not in bundle.names:
        raise BundleError(
            f"{bundle.path} has no {ONNX}, which is what a browser runs.",
            "Export the run again, without --no-onnx.",
        )
    runtime = onnxruntime_web(note=note)
    page = _page_files()
    for left_out in (*_ONLY_FOR_CHECKS, *_ELSEWHERE):
        del page[left_out]
    page["index.html"] = _for_here(page["index.html"])
    record = json.dumps({"name": name, **public(bundle)}, ensure_ascii=False, allow_nan=False)
    return {
        **page,
        **{f"ort/{file}": content for file, content in runtime.items()},
        f"model/{RECORD}": f"{record}\n".encode(),
        f"model/{ONNX}": bundle.read(ONNX),
    }


def site_to_check(bundle: Bundle, golden: Mapping[str, bytes]) -> dict[str, bytes]:
    """The site with the page that replays golden examples, and these."""
    page = _page_files()
    return {
        **site(bundle, "golden examples"),
        **{name: page[name] for name in _ONLY_FOR_CHECKS},
        **{f"model/{name}": content for name, content in golden.items()},
    }


def _page_files() -> dict[str, bytes]:
    folder = files("sartor") / "web" / "page"
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.is_file()}


def _for_here(index: bytes) -> bytes:
    """The page with its network in the browser, and with a policy, since no server sends one."""
    page = index.decode()
    there = '<meta name="network" content="there">'
    assert there in page, "the page says where its network runs"
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    return page.replace(there, f'<meta name="network" content="here">\n  {policy}').encode()
