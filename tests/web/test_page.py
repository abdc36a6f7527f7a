"""The page in a real browser: with its network behind a server, and in the browser itself."""

from __future__ import annotations

import functools
import json
import shutil
import threading
import time
import warnings
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sartor
from sartor.api import export, export_site
from sartor.bundle.browser import Browser
from sartor.bundle.golden import DOCUMENT
from sartor.bundle.onnxruntime_web import onnxruntime_web
from sartor.bundle.verify import Replay, verify
from sartor.errors import CorruptDataError, UnavailableError, UsageError
from sartor.web.application import PAGE

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
)
VECTORS = Path(__file__).parents[1] / "vectors" / "preprocess"
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs a browser: install chromium and chromium-driver"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a window; what it asks for is logged."""
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with warnings.catch_warnings():
        # selenium leaves a socket to the driver for the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        driver.set_script_timeout(60)
        yield driver
        driver.quit()


@pytest.fixture(scope="module", autouse=True)
def runtime() -> None:
    """ONNX Runtime for browsers, where npm can fetch it."""
    try:
        onnxruntime_web()
    except UnavailableError as error:
        pytest.skip(f"needs ONNX Runtime for browsers: {error.message}")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a network that reads digits."""
    folder = tmp_path_factory.mktemp("digits")
    run = sartor.fit("digits", epochs=4, threads=1, report=False, out=folder / "run")
    return export(run.path, folder / "bundle").path


@pytest.fixture(scope="module")
def site(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of its static site."""
    folder = tmp_path_factory.mktemp("static") / "site"
    export_site(digits, folder)
    with handed_out(folder) as url:
        yield url


class handed_out:  # noqa: N801  (used as a function)
    """The files of a folder over HTTP, on this machine only."""

    def __init__(self, folder: Path) -> None:
        handler = functools.partial(_Quiet, directory=str(folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def opened(browser: Any, url: str, width: int = 1280, scheme: str = "light") -> None:
    """The page, once its network is there; earlier complaints and requests are forgotten."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(url)
    awaited(browser, "return document.documentElement.dataset.ready")


def awaited(browser: Any, script: str, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = browser.execute_script(script)
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{script}: {text(browser, 'error')} {browser.get_log('browser')}")


def text(browser: Any, name: str) -> str:
    return str(browser.execute_script(f"return document.getElementById('{name}').textContent"))


def shown(browser: Any, name: str) -> bool:
    script = f"return document.getElementById('{name}').checkVisibility()"
    return bool(browser.execute_script(script))


def draw_a_seven(browser: Any) -> None:
    from selenium.webdriver.common.by import By

    paper = browser.find_element(By.ID, "paper")
    side = paper.size["width"]
    hand = webdriver.ActionChains(browser, duration=10)
    hand.move_to_element_with_offset(paper, round(-0.2 * side), round(-0.25 * side))
    hand.click_and_hold()
    for x, y in ((0.0, -0.25), (0.2, -0.25), (0.1, 0.02), (0.0, 0.28)):
        hand.move_to_element_with_offset(paper, round(x * side), round(y * side))
    hand.release().perform()


def given(browser: Any, picture: Path) -> None:
    from selenium.webdriver.common.by import By

    browser.find_element(By.ID, "file").send_keys(str(picture))


def requests_of(browser: Any) -> list[str]:
    """Addresses of everything that was asked for since `opened`."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]


class TestStaticSite:
    @pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
    def test_a_drawing_is_read_and_nothing_else_is_asked_for(
        self, browser: Any, site: str, width: int, scheme: str
    ) -> None:
        opened(browser, site, width, scheme)
        draw_a_seven(browser)
        awaited(browser, "return document.getElementById('label').textContent === '7'")
        assert "%" in text(browser, "probability")
        seen = browser.execute_script(
            "const c = document.getElementById('seen');"
            "const pixels = c.getContext('2d').getImageData(0, 0, 8, 8).data;"
            "return [c.width, c.height, Math.max(...pixels.filter((_, i) => i % 4 === 0))]"
        )
        assert seen == [8, 8, 255]
        sticks_out = "const e = document.documentElement; return e.scrollWidth - e.clientWidth"
        assert browser.execute_script(sticks_out) == 0
        assert browser.get_log("browser") == []
        elsewhere = [url for url in requests_of(browser) if not url.startswith((site, "blob:"))]
        assert elsewhere == []

    def test_a_picture_of_ones_own_is_answered_as_predict_answers(
        self, browser: Any, site: str, digits: Path, tmp_path: Path
    ) -> None:
        page = np.full((90, 70, 4), 255, np.uint8)
        page[20:70, 30:36, :3] = (30, 40, 120)
        picture = tmp_path / "one of mine.png"
        Image.fromarray(page).save(picture)
        (expected,) = sartor.predict(digits, picture)
        opened(browser, site)
        given(browser, picture)
        awaited(browser, "return document.getElementById('answer').checkVisibility()")
        assert text(browser, "label") == expected.label
        assert text(browser, "probability") == f"{100 * expected.probability:.1f} %"
        assert browser.execute_script("return document.getElementById('shown').alt") == picture.name

    def test_what_is_no_picture_is_said_and_the_page_goes_on(
        self, browser: Any, site: str, tmp_path: Path
    ) -> None:
        cut = tmp_path / "cut.png"
        Image.fromarray(np.zeros((50, 50), np.uint8)).save(cut)
        cut.write_bytes(cut.read_bytes()[:60])
        words = tmp_path / "words.txt"
        words.write_text("no picture")
        opened(browser, site)
        for file, sentence in ((cut, "cut off"), (words, "not a picture")):
            given(browser, file)
            awaited(
                browser,
                f"return document.getElementById('error').textContent.includes('{sentence}')",
            )
            assert not shown(browser, "answer")
        browser.execute_script(
            """
            const folder = new File([""], "holiday");
            folder.arrayBuffer = () => Promise.reject(new DOMException("", "NotReadableError"));
            const drop = new Event("drop");
            drop.dataTransfer = { files: [folder] };
            dispatchEvent(drop);
            """
        )
        awaited(
            browser,
            "return document.getElementById('error').textContent.startsWith('holiday cannot be')",
        )
        browser.execute_script("document.getElementById('clear').click()")
        draw_a_seven(browser)
        awaited(browser, "return document.getElementById('answer').checkVisibility()")
        assert not shown(browser, "error")

    @pytest.mark.parametrize(
        ("set_", "count", "words"),
        [
            (["a"], 1, "a"),
            (["a", "b"], 2, "every class"),
            ([*"abcdefghij"], 12, "a, b, c, d, e, f, g, h, i, j"),
            ([*"abcdefghijkl"], 13, "a, b, c, d, e, f, g, h, i, j and 2 more"),
        ],
    )
    def test_a_long_set_is_cut(
        self, set_: list[str], count: int, words: str, browser: Any, site: str
    ) -> None:
        opened(browser, site)
        said = browser.execute_async_script(
            "const [set, count, done] = arguments;"
            "import('/answers.js').then((answers) => done(answers.setInWords(set, count)));",
            set_,
            count,
        )
        assert said == words

    def test_by_keyboard(self, browser: Any, site: str) -> None:
        from selenium.webdriver.common.keys import Keys

        opened(browser, site)
        browser.execute_script("document.getElementById('paper').focus()")
        hand = webdriver.ActionChains(browser, duration=5)
        hand.send_keys(Keys.ARROW_UP * 7, Keys.SPACE, Keys.ARROW_DOWN * 14, Keys.SPACE).perform()
        awaited(browser, "return document.getElementById('answer').checkVisibility()")
        # What a screen reader is told, once the answer has settled.
        awaited(browser, "return document.getElementById('status').textContent.includes('%')")
        webdriver.ActionChains(browser).send_keys(Keys.DELETE).perform()
        awaited(browser, "return !document.getElementById('answer').checkVisibility()")
        reached = set()
        for _ in range(8):
            webdriver.ActionChains(browser).send_keys(Keys.TAB).perform()
            reached.add(browser.execute_script("return document.activeElement.id"))
        assert {"file", "film", "clear", "invert"} <= reached

    def test_a_pasted_picture_and_one_of_the_camera(self, browser: Any, site: str) -> None:
        opened(browser, site)
        browser.execute_async_script(
            """
            const done = arguments[0];
            const canvas = document.createElement("canvas");
            canvas.toBlob((blob) => {
              const data = new DataTransfer();
              data.items.add(new File([blob], "pasted.png", { type: "image/png" }));
              dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
              done();
            });
            """
        )
        awaited(browser, "return document.getElementById('shown').alt === 'pasted.png'")
        awaited(browser, "return document.getElementById('answer').checkVisibility()")
        browser.execute_script("document.getElementById('clear').click()")
        browser.execute_script("document.getElementById('film').click()")
        awaited(browser, "return document.getElementById('camera').videoWidth > 0")
        browser.execute_script("document.getElementById('film').click()")
        awaited(browser, "return document.getElementById('shown').alt === 'camera.png'")
        awaited(browser, "return document.getElementById('answer').checkVisibility()")
        assert browser.execute_script("return document.getElementById('camera').hidden")

    def test_folders_of_others_stay(self, digits: Path, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "note.txt").write_text("keep me")
        with pytest.raises(UsageError, match="is not a site"):
            export_site(digits, tmp_path / "mine", overwrite=True)
        first = export_site(digits, tmp_path / "site")
        with pytest.raises(UsageError, match="already exists"):
            export_site(digits, tmp_path / "site")
        assert export_site(digits, tmp_path / "site", overwrite=True) == first
        assert (tmp_path / "mine" / "note.txt").read_text() == "keep me"

    def test_no_picture_of_the_data_is_in_it(self, digits: Path, tmp_path: Path) -> None:
        made = export_site(digits, tmp_path / "site")
        assert not [name for name in made.files if "golden" in name or name.endswith(".png")]
        record = json.loads((tmp_path / "site/model/bundle.json").read_text())
        assert {"name", "classes", "preprocess", "calibration"} <= record.keys()
        assert not {"data", "recipe", "split", "golden", "files"} & record.keys()


class TestServer:
    def test_a_drawing_and_another_model(self, browser: Any, address: Any) -> None:
        opened(browser, address.url)
        draw_a_seven(browser)
        awaited(browser, "return document.getElementById('answer').checkVisibility()")
        assert browser.execute_script("return document.getElementById('seen').width") == 8
        models = browser.execute_script(
            "return [...document.getElementById('model').options].map((one) => one.value)"
        )
        assert models == ["digits", "second"]
        browser.execute_script(
            "const m = document.getElementById('model'); m.value = 'second';"
            "m.dispatchEvent(new Event('change'))"
        )
        draw_a_seven(browser)
        awaited(browser, "return document.getElementById('answer').checkVisibility()")
        assert text(browser, "title") == "second"
        assert browser.get_log("browser") == []
        assert [url for url in requests_of(browser) if not url.startswith(address.url)] == []

    def test_a_token_is_asked_for_and_kept_for_the_tab(self, browser: Any, guarded: Any) -> None:
        from selenium.webdriver.common.by import By

        opened(browser, guarded.url)
        assert shown(browser, "ask")
        field = browser.find_element(By.ID, "token")
        field.send_keys("wrong\n")
        awaited(browser, "return document.getElementById('error').textContent.includes('wrong')")
        field.clear()
        field.send_keys("secret\n")
        awaited(browser, "return !document.getElementById('ask').checkVisibility()")
        draw_a_seven(browser)
        awaited(browser, "return document.getElementById('answer').checkVisibility()")


class TestPreprocess:
    def test_every_vector(self, browser: Any) -> None:
        """To the bit; of ink to a level, as sums in floating point may differ."""
        listed = json.loads((VECTORS / "vectors.json").read_text())
        script = """
            const [page, listed, done] = arguments;
            (async () => {
              const { prepared } = await import(page + "preprocess.js");
              const worst = {};
              for (const { file, preprocess, pixels } of listed.vectors) {
                const bytes = new Uint8Array(await (await fetch("/vectors/" + file)).arrayBuffer());
                const { levels } = await prepared(bytes, listed.preprocess[preprocess]);
                const wanted = Uint8Array.from(atob(pixels), (letter) => letter.charCodeAt(0));
                const apart = levels.length === wanted.length
                  ? Math.max(...levels.map((level, i) => Math.abs(level - wanted[i]))) : 999;
                worst[preprocess] = Math.max(worst[preprocess] ?? 0, apart);
              }
              return worst;
            })().then(done, (error) => done({ error: `${error.stack}` }));
        """
        with page_and_vectors() as url:
            browser.get(f"{url}page/icon.svg")
            worst = browser.execute_async_script(script, f"{url}page/", listed)
        allowed = {name: int(one["ink"] != "off") for name, one in listed["preprocess"].items()}
        assert worst.keys() == allowed.keys()
        assert all(worst[name] <= allowed[name] for name in allowed), worst


class page_and_vectors(handed_out):  # noqa: N801
    """The page's own files, and the vectors beside them."""

    def __init__(self) -> None:
        super().__init__(PAGE)
        self._server.RequestHandlerClass = functools.partial(_Both, directory=str(PAGE.parent))


class _Both(_Quiet):
    def translate_path(self, path: str) -> str:
        if path.startswith("/vectors/"):
            return str(VECTORS / Path(path).name)
        return super().translate_path(path)


class TestVerify:
    def test_golden_examples_in_the_browser(self, digits: Path) -> None:
        found = verify(digits, runtimes=[], paths=[Browser()])
        (check,) = [one for one in found.checks if one.name == "browser"]
        assert found.ok, check.detail
        assert check.largest_difference is not None
        assert check.largest_difference < 1e-5

    def test_a_page_that_answers_otherwise_is_found(self, digits: Path) -> None:
        def shuffled(replay: Replay) -> Any:
            content = json.loads(replay.bundle.read(DOCUMENT))
            golden = [*content[1:], content[0]]
            moved = {
                name: replay.contents[one["file"]]
                for name, one in zip(replay.contents, golden, strict=True)
            }
            return Browser()(_replaced(replay, moved))

        (check,) = [
            one
            for one in verify(digits, runtimes=[], paths=[shuffled]).checks
            if one.name == "browser"
        ]
        assert not check.ok
        assert "other pixels" in check.detail

    def test_a_browser_that_never_answers_is_given_up(self, digits: Path) -> None:
        found = verify(digits, runtimes=[], paths=[Browser(seconds=0.01)])
        assert not found.ok
        assert "did not answer within" in found.checks[-1].detail


def _replaced(replay: Replay, contents: dict[str, bytes]) -> Replay:
    return Replay(
        bundle=replay.bundle,
        golden=replay.golden,
        contents=contents,
        images=replay.images,
        exact=replay.exact,
    )


class TestRuntime:
    def test_other_files_are_not_kept(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("SARTOR_HOME", str(tmp_path))

        class Elsewhere:
            def fetch(self, names: list[str]) -> dict[str, bytes]:
                return dict.fromkeys(names, b"alert(1)")

        with pytest.raises(CorruptDataError, match="not the registered file"):
            onnxruntime_web(place=Elsewhere())
        assert not list(tmp_path.rglob("*.mjs"))

    def test_a_closed_network_is_told_where_to_put_them(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("SARTOR_HOME", str(tmp_path))
        monkeypatch.setenv("PATH", "")
        with pytest.raises(UnavailableError, match="npm is not installed") as caught:
            onnxruntime_web()
        assert str(tmp_path) in caught.value.hint
