"""The page of a trace: complete, in order, and stepped through in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sartor
from sartor.reports.trace_page import _stops, _together, short_number
from sartor.reports.trace_words import backward_words, forward_words, kind_of

VOID = {"meta", "link", "input", "img", "br"}
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))


@pytest.fixture(scope="module")
def trace(trained: Path) -> sartor.Trace:
    return sartor.trace(trained, batch=20)


@pytest.fixture(scope="module")
def page(trace: sartor.Trace) -> str:
    return trace.page()


class Reader(HTMLParser):
    """Collects elements, and refuses tags that do not match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("polyline", "path", "circle"):
            return
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def stops(layers: int) -> list[str]:
    """Ids in the order of the way."""
    forward = [f"forward-{number}" for number in range(1, layers + 1)]
    backward = [f"backward-{number}" for number in range(layers, 0, -1)]
    return ["overview", "input", *forward, "answer", "loss", *backward, "step"]


class TestHtml:
    def test_the_way_is_in_order_and_every_stop_can_be_chosen(
        self, page: str, trace: sartor.Trace
    ) -> None:
        reader = Reader(page)
        expected = stops(len(trace.layers))
        assert [one["id"] for one in reader.all("section")] == expected
        radios = [one["id"] for one in reader.all("input")]
        assert radios == [*(f"at-{name}" for name in expected), "at-all"]
        assert all(one["aria-label"] for one in reader.all("input"))
        assert {one["for"] for one in reader.all("label") if "for" in one} <= set(radios)

    def test_it_is_complete_and_asks_for_nothing(self, page: str) -> None:
        reader = Reader(page)
        assert "script" not in {tag for tag, _ in reader.elements}
        for _, attributes in reader.elements:
            for name in ("src", "href"):
                assert (attributes.get(name) or "#").startswith(("data:", "#"))
            assert not any(name.startswith("on") for name in attributes)
        assert not re.search(r"url\((?!data:)|@import", page)
        assert len(page) < 3_000_000

    def test_pictures_have_words_and_ids_are_unique(self, page: str) -> None:
        reader = Reader(page)
        images = reader.all("img")
        assert len(images) > 40
        assert all(one.get("alt") for one in images)
        assert all(int(one["width"] or 0) <= 340 for one in images)
        ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        labelled = [one["aria-labelledby"] for one in reader.all("section")]
        assert set(labelled) <= set(ids)

    def test_the_figures_are_those_of_the_trace(self, page: str, trace: sartor.Trace) -> None:
        text = " ".join(Reader(page).text.split()).replace("\u00a0", " ")
        assert trace.step is not None
        before, after = trace.step.loss_before, trace.step.loss_after
        assert f"{before:.4f} → {after:.4f}" in text
        assert f"{trace.step.correct_before} of 20" in text
        for layer in trace.layers:
            assert f"({', '.join(map(str, layer.output_shape))})" in text
        for parameter in trace.parameters:
            assert parameter.name in text
        assert trace.loss_in_words() in text

    def test_a_small_linear_layer_is_written_out(self) -> None:
        layer = nn.Linear(4, 3, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[1.0, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]]))
        traced = sartor.trace(layer, torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([2]))
        assert "1*1 + 2*2 + 3*3 + 4*4 = 30" in traced.page()

    def test_the_terms_of_an_output_add_up_to_it(self, trace: sartor.Trace) -> None:
        from sartor.reports.trace_page import Terms, _terms

        terms = _terms(trace)["linear5"]
        assert isinstance(terms, Terms)
        parts = [float(one.replace("\u2212", "-")) for *_, one in terms.largest]
        parts += [float(one.replace("\u2212", "-")) for one in (terms.rest, terms.bias)]
        assert sum(parts) == pytest.approx(float(terms.total.replace("\u2212", "-")), abs=0.05)
        assert len(terms.largest) + terms.others == 60

    def test_names_from_outside_are_escaped(self) -> None:
        data = sartor.Dataset(
            np.arange(4 * 36, dtype=np.uint8).reshape(4, 6, 6),
            np.arange(4) % 2,
            classes=["<b>cat</b>", "dog & co"],
        )
        page = sartor.trace("linear", data=data, batch=2).page()
        assert "<b>cat" not in page
        assert "&lt;b&gt;cat" in page

    @pytest.mark.parametrize(
        "make",
        [
            lambda: sartor.trace(nn.Conv2d(1, 2, 3), torch.randn(1, 1, 8, 8)),
            lambda: sartor.trace(nn.Flatten(), torch.randn(2, 3, 2), torch.tensor([0, 5])),
            lambda: sartor.trace("linear", data="digits", loss="mse", image=1),
            lambda: sartor.trace(
                nn.Sequential(nn.Flatten(), nn.Linear(9, 20), nn.Softmax(1)),
                torch.full((3, 1, 3, 3), float("nan")),
                torch.tensor([0, 1, 2]),
            ),
        ],
        ids=["forward alone", "no parameters", "squared error", "not a number"],
    )
    def test_unusual_traces(self, make: Any) -> None:
        trace = make()
        reader = Reader(trace.page())
        ids = [one["id"] for one in reader.all("section")]
        complete = stops(len(trace.layers))
        assert ids == [name for name in complete if name in ids]
        assert ("step" in ids) == (trace.step is not None)
        assert Reader(trace._repr_html_()).all("table")

    def test_a_deep_network_stays_light(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1)]
        for _ in range(40):
            layers += [nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
        trace = sartor.trace(model, torch.randn(1, 3, 32, 32), torch.tensor([1]))
        assert len(trace.layers) == 124
        assert len(trace.page()) < 3_000_000


@pytest.fixture(scope="module")
def staged() -> sartor.Trace:
    """A network of three stages with 16 layers each, and five layers outside."""

    def stage() -> nn.Sequential:
        layers = [nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()) for _ in range(8)]
        return nn.Sequential(*layers)

    model = nn.Sequential(
        OrderedDict(
            stem=nn.Conv2d(3, 4, 1),
            first=stage(),
            middle=nn.MaxPool2d(2),
            second=stage(),
            third=stage(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(4, 10),
        )
    )
    torch.manual_seed(0)
    return sartor.trace(model, torch.randn(1, 3, 8, 8), torch.tensor([1]))


OUTSIDE = [
    *("overview", "input", "forward-1", "forward-stage-2", "forward-18", "forward-stage-4"),
    *("forward-stage-5", "forward-51", "forward-52", "forward-53", "answer", "loss"),
    *("backward-53", "backward-52", "backward-51", "backward-stage-5", "backward-stage-4"),
    *("backward-18", "backward-stage-2", "backward-1", "step"),
]
"""The way through the stages of `staged`, none of them entered."""


class TestStages:
    def test_the_way_leads_past_layers_inside(self, staged: sartor.Trace) -> None:
        found = {stop.id: stop for stop in _stops(staged)}
        assert [stop.id for stop in found.values() if not stop.inside] == OUTSIDE
        way = [OUTSIDE[0]]
        while found[way[-1]].following:
            way.append(found[way[-1]].following)
            assert found[way[-1]].previous == way[-2]
        assert way == OUTSIDE

    def test_and_through_them_where_one_is_entered(self, staged: sartor.Trace) -> None:
        found = {stop.id: stop for stop in _stops(staged)}
        assert found["forward-2"].previous == "forward-stage-2"
        assert found["forward-2"].following == "forward-3"
        assert found["forward-17"].following == "forward-18"
        assert found["backward-17"].previous == "backward-stage-2"
        assert found["backward-2"].following == "backward-1"
        assert found["forward-3"].name == "0.1"
        layer = found["forward-stage-2"].layer
        assert layer is not None
        assert layer.name == "first.7.1"

    def test_the_page_has_all_of_them(self, staged: sartor.Trace) -> None:
        reader = Reader(staged.page())
        ids = [str(one["id"]) for one in reader.all("section")]
        assert [one for one in ids if one in OUTSIDE] == OUTSIDE
        assert len(ids) == len(OUTSIDE) + 2 * 48
        targets = {one["for"] for one in reader.all("label") if "for" in one}
        assert {f"at-forward-{number}" for number in range(2, 18)} <= targets
        assert "All 53 layers" in reader.text
        assert "All 52 parameters" in reader.text

    def test_norms_of_a_stage_are_those_of_its_parameters(self, staged: sartor.Trace) -> None:
        together = {one.name: one for one in _together(staged.parameters)}
        own = [one for one in staged.parameters if one.name.startswith("first.")]
        assert together["first"].count == len(own) == 16
        whole = torch.cat([one.weight.flatten() for one in own]).double()
        assert together["first"].weight_norm == pytest.approx(float(whole.norm()))
        moved = torch.cat([one.update.flatten() for one in own]).double()
        assert together["first"].update_norm == pytest.approx(float(moved.norm()))


class TestWords:
    @pytest.mark.parametrize(
        ("operation", "kind"),
        [
            ("Conv2d", "conv"),
            ("conv2d", "conv"),
            ("ReLU", "relu"),
            ("relu_", "relu"),
            ("max_pool2d", "maxpool"),
            ("AdaptiveAvgPool2d", "avgpool"),
            ("BatchNorm2d", "batchnorm"),
            ("LayerNorm", "norm"),
            ("MultiheadAttention", "attention"),
            ("add", "sum"),
            ("iadd", "sum"),
            ("view", "shape"),
            ("Something", ""),
        ],
    )
    def test_kinds(self, operation: str, kind: str) -> None:
        assert kind_of(operation) == kind
        assert bool(forward_words(operation)) == bool(kind)
        assert not backward_words("Something")

    def test_numbers(self) -> None:
        assert short_number(0.5) == "0.5"
        assert short_number(-0.0123456) == "\u22120.0123"
        assert short_number(0.00012) == "1.2·10⁻⁴"
        assert short_number(-250_000) == "\u22122.5·10⁵"
        assert short_number(0.0) == "0"
        assert short_number(None) == "\u2013"
        assert short_number(float("nan")) == "nan"


def test_reports_import_no_torch() -> None:
    code = (
        "import sartor.reports.trace_page, sartor.reports.trace_figures, sys; print(*sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "torch" not in answer.stdout.split()


# ------------------------------------------------------------------------------------ a browser


@pytest.fixture(scope="module")
def browser(page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (pip install)")
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs a browser: install chromium and chromium-driver")
    folder = tmp_path_factory.mktemp("browser")
    file = folder / "trace.html"
    file.write_text(page, "utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        f"user-data-dir={folder / 'profile'}",
    ):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        resize(driver, 1100)
        driver.get(file.as_uri())
        yield driver
    finally:
        driver.quit()


def resize(driver: Any, width: int) -> None:
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def visible(driver: Any) -> list[str]:
    script = (
        "return [...document.querySelectorAll('section')]"
        ".filter(one => one.checkVisibility()).map(one => one.id)"
    )
    found: list[str] = driver.execute_script(script)
    return found


def press(driver: Any, key: str) -> None:
    from selenium.webdriver.common.keys import Keys

    driver.switch_to.active_element.send_keys(getattr(Keys, key))


class TestInABrowser:
    def test_arrow_keys_walk_all_the_way(self, browser: Any, trace: sartor.Trace) -> None:
        browser.refresh()
        way = stops(len(trace.layers))
        assert visible(browser) == way[:1]
        for stop in way[1:]:
            press(browser, "ARROW_RIGHT")
            assert visible(browser) == [stop]
        press(browser, "ARROW_LEFT")
        assert visible(browser) == [way[-2]]

    def test_buttons_walk_and_the_map_keeps_up(self, browser: Any, trace: sartor.Trace) -> None:
        resize(browser, 390)
        browser.refresh()
        for stop in stops(len(trace.layers))[1:10]:
            (here,) = visible(browser)
            browser.find_element("css selector", f"#{here} .next").click()
            assert visible(browser) == [stop]
            box = browser.execute_script(
                "const box = document.activeElement.parentElement.getBoundingClientRect();"
                "return [document.activeElement.id, box.left, box.right]"
            )
            assert box[0] == f"at-{stop}"
            assert box[2] > 0
            assert box[1] < 390

    def test_stages_open_where_they_are_entered(
        self, browser: Any, staged: sartor.Trace, tmp_path: Path
    ) -> None:
        def shown() -> list[str]:
            found: list[str] = browser.execute_script(
                "return [...document.querySelectorAll('.stop input')]"
                ".filter(one => one.checkVisibility()).map(one => one.id.slice(3))"
            )
            return found

        before = browser.current_url
        resize(browser, 1100)
        browser.get(staged.save(tmp_path / "staged.html").as_uri())
        assert shown() == [*OUTSIDE, "all"]
        for stop in OUTSIDE[1:4]:
            press(browser, "ARROW_RIGHT")
            assert visible(browser) == [stop]
        browser.find_element("css selector", "#forward-stage-2 .opened label").click()
        assert visible(browser) == ["forward-2"]
        inner = {f"{way}-{number}" for way in ("forward", "backward") for number in range(2, 18)}
        assert set(shown()) == {*OUTSIDE, "all", *inner}
        browser.find_element("css selector", "#forward-2 .next").click()
        assert visible(browser) == ["forward-3"]
        browser.find_element("id", "at-forward-18").click()
        assert shown() == [*OUTSIDE, "all"]
        browser.get(before)

    def test_all_at_once_and_in_print(self, browser: Any, trace: sartor.Trace) -> None:
        way = stops(len(trace.layers))
        browser.find_element("id", "at-all").click()
        assert visible(browser) == way
        browser.find_element("id", "at-loss").click()
        assert visible(browser) == ["loss"]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert visible(browser) == way
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})

    @pytest.mark.parametrize("width", [390, 1100])
    def test_nothing_is_wider_than_the_screen(self, browser: Any, width: int) -> None:
        resize(browser, width)
        browser.refresh()
        browser.find_element("id", "at-all").click()
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        whole = "return [...document.images].every(one => one.complete && one.naturalWidth > 0)"
        assert browser.execute_script(whole)

    def test_the_browser_has_no_complaint(self, browser: Any) -> None:
        assert browser.get_log("browser") == []
