"""Reads a page as a browser would, and notes what is wrong with it."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

_VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """A page's parts; `faults` lists what no page of sartor may have."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: Counter[str] = Counter()
        self.references: set[str] = set()
        self.tags: Counter[str] = Counter()
        self.tables_without_caption = 0
        self.text = ""
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self.open]
        self.faults += [f"id {name} twice" for name, times in self.ids.items() if times > 1]
        self.faults += [f"nothing has the id {name}" for name in self.references - set(self.ids)]
        if self.tables_without_caption:
            self.faults.append("a table without a caption")

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.tags[tag] += 1
        if tag not in _VOID:
            self.open.append(tag)
        if len(given) < len(attributes):
            self.faults.append(f"<{tag}> has an attribute twice")
        if tag == "table":
            self.tables_without_caption += 1
        if tag == "caption":
            self.tables_without_caption -= 1
        if tag == "script" or any(name.startswith("on") for name in given):
            self.faults.append(f"<{tag}> runs a script")
        if tag == "img" and not given.get("alt"):
            self.faults.append("<img> without alt")
        if given.get("role") == "img" and not (
            given.get("aria-label") or given.get("aria-labelledby")
        ):
            self.faults.append(f"<{tag} role=img> without a label")
        if tag == "th" and "scope" not in given:
            self.faults.append("<th> without scope")
        self._follow(tag, given)

    def _follow(self, tag: str, given: dict[str, str | None]) -> None:
        if given.get("id"):
            self.ids[str(given["id"])] += 1
        for name in ("aria-labelledby", "popovertarget"):
            self.references |= set((given.get(name) or "").split())
        for name in ("href", "src", "data", "action", "poster", "srcset"):
            target = given.get(name) or ""
            if target.startswith("#"):
                self.references.add(target[1:])
            elif target and not target.startswith("data:"):
                self.faults.append(f"<{tag}> asks for {target}")
        if "url(" in (given.get("style") or ""):
            self.faults.append(f"<{tag}> asks for something in its style")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.faults.append(f"</{tag}> where {self.open[-1:]} is open")
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self.open[-1:]:
            if data.replace("url(data:", "").count("url(") or "@import" in data:
                self.faults.append("the style asks for something")
        else:
            self.text += f" {data.strip()}"
