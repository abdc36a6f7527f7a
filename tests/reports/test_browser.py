"""The page in a real browser, as wide as a desk and as narrow as a telephone."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs a browser: install chromium and chromium-driver"
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
Open = Callable[[Path, int], Any]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a window and without a network."""
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with warnings.catch_warnings():
        # selenium leaves a socket to the driver for the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        driver.execute_cdp_cmd("Network.enable", {})
        driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
        )
        yield driver
        driver.quit()


@pytest.fixture
def opened(browser: Any, trained: Path) -> Callable[[int], Any]:
    """The report of a run in a window of a width."""

    def open_page(width: int) -> Any:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 850, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        browser.get((trained / "report.html").as_uri())
        return browser

    return open_page


@pytest.mark.parametrize("width", [1280, 390])
class TestPage:
    def test_nothing_sticks_out_and_nothing_is_complained_of(
        self, opened: Callable[[int], Any], width: int
    ) -> None:
        page = opened(width)
        sticks_out = "const e = document.documentElement; return e.scrollWidth - e.clientWidth"
        assert page.execute_script(sticks_out) == 0
        assert page.execute_script("return document.body.getBoundingClientRect().right") <= width
        assert page.get_log("browser") == []

    def test_a_wrong_cell_opens_its_images_and_closes(
        self, opened: Callable[[int], Any], width: int
    ) -> None:
        page = opened(width)
        cell = page.find_element("css selector", ".matrix button")
        popover = page.find_element("id", cell.get_attribute("popovertarget"))
        assert not popover.is_displayed()
        cell.click()
        assert popover.is_displayed()
        pictures = popover.find_elements("css selector", ".picture")
        assert 1 <= len(pictures) <= int(cell.text)
        for picture in pictures:
            assert picture.size["width"] == picture.size["height"] == 72
            assert "url(" in picture.value_of_css_property("background-image")
            assert "predicted as" in picture.get_attribute("aria-label")
        box = popover.rect
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        popover.find_element("css selector", ".close").click()
        assert not popover.is_displayed()

    def test_details_open_without_a_script(self, opened: Callable[[int], Any], width: int) -> None:
        page = opened(width)
        part = page.find_element("css selector", "#training details")
        table = part.find_element("css selector", "table")
        assert not table.is_displayed()
        part.find_element("css selector", "summary").click()
        assert table.is_displayed()


def test_in_the_dark_letters_are_light(opened: Callable[[int], Any]) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        page = opened(1280)
        page.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        colours[scheme] = {
            what: sum(
                int(part)
                for part in page.find_element("css selector", where)
                .value_of_css_property(name)
                .partition("(")[2]
                .rstrip(")")
                .split(",")[:3]
            )
            for what, where, name in (
                ("paper", "body", "background-color"),
                ("ink", "h1", "color"),
                ("chart", ".chart text", "fill"),
            )
        }
    assert colours["light"]["paper"] > 650 > 300 > colours["light"]["ink"]
    assert colours["dark"]["paper"] < 150 < 600 < colours["dark"]["ink"]
    assert colours["light"]["chart"] < 350 < 450 < colours["dark"]["chart"]


def test_printed_it_is_light_and_fits(opened: Callable[[int], Any]) -> None:
    page = opened(688)  # A4 within its margins
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]},
    )
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= 688
        ink = page.find_element("css selector", "h1").value_of_css_property("color")
        assert ink.startswith("rgba(28, 28, 26")
        assert not page.find_element("css selector", ".contents").is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
