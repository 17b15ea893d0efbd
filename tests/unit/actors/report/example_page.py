"""A page as a browser would find it, for the tests of it."""

import json
from html.parser import HTMLParser
from typing import Any

#: Elements that are never closed.
VOID = ("meta", "link")


class Page(HTMLParser):
    """What a browser would find: elements, their attributes, text, and what inline scripts and styles hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.raw: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == [], "every element that is opened is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.raw.append((self.open[-1], data))
        else:
            self.text += data

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script reads."""
        found: dict[str, str] = json.loads(self.raw[1][1])
        return {name: json.loads(text) for name, text in found.items()}

    @property
    def charts(self) -> dict[str | None, dict[str, Any]]:
        """What the charts show that have a place on the page, by what they are called there."""
        places = [attributes for _, attributes in self.elements if "data-chart" in attributes]
        return {place["aria-label"]: self.data[f"chart/{place['data-chart']}"] for place in places}
