"""A report as a browser would find it, for the tests of its page and its sections."""

from html.parser import HTMLParser

from actors.events import Event
from actors.report.html import render
from tests.unit.actors.report.example_events import state_of


class Page(HTMLParser):
    """What a browser would find: elements, their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(*events: Event) -> Page:
    """The report of a run of `events`; every element that it opens, it closes."""
    page = Page(render(state_of(*events)))
    assert page.open == []
    return page
