"""The page of a run in a browser: it draws, keeps up, says when its controller is away, and goes on afterwards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.config.network import NetworkConfig
from actors.control.status import Server
from actors.report.page import parts, render
from actors.report.state import RunState
from actors.transport.address import resolve
from tests.e2e.browser import Browser
from tests.unit.actors.report.example_events import HOSTILE, learning_run, record, sample, state_of, step
from tests.unit.actors.report.test_page import TOLD

pytestmark = pytest.mark.e2e

DRAWN = "document.querySelectorAll('#learning canvas').length == 2"
LINK = "document.getElementById('link').className"


class Run:
    """A recorded run as a controller shows it."""

    def __init__(self, state: RunState) -> None:
        self.state = state

    def ready(self) -> bool:
        return True

    def status(self) -> dict[str, Any]:
        return TOLD

    def targets(self) -> list[dict[str, Any]]:
        return []

    def parts(self) -> dict[str, str]:
        return parts(self.state, TOLD)

    def scale(self, pool: str, count: int) -> dict[str, int]:
        return {pool: count}


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "browser") as browser:
        yield browser


def test_it_keeps_up_with_the_run_and_outlives_its_controller(browser: Browser, tmp_path: Path) -> None:
    run = Run(record(tmp_path / "run", list(learning_run())[:-3]))
    node = resolve(NetworkConfig(), in_cluster=False)
    server = Server(run, node)
    browser.look(1366, "light")
    browser.open(server.url)
    assert browser.until(f"{DRAWN} && {LINK} == 'live'")
    assert browser.complaints == []

    run.state.fold(step(61, run.state.seconds + 1, reward=0.9))
    run.state.fold(sample(run.state.seconds + 2, f"a new one {HOSTILE}"))
    assert browser.until("document.querySelector('#head').textContent.includes('61 steps')")
    assert browser.until("document.querySelector('#samples').textContent.includes('a new one <think>')")
    reward = "document.querySelector('[data-chart=reward] .u-legend').textContent"
    assert browser.until(f"{reward}.includes('61')"), "charts keep up, too"
    assert browser.complaints == []

    server.close()
    assert browser.until(f"{LINK} == 'away'")
    assert "has not answered since" in browser.value("document.getElementById('link').textContent")
    assert browser.value(DRAWN), "what was said last stays"
    browser.complaints.clear()  # of connections that were refused
    server = Server(run, node, before=server.url)
    assert browser.until(f"{LINK} == 'live'")
    run.state.fold(step(62, run.state.seconds + 1, reward=0.9))
    assert browser.until("document.querySelector('#head').textContent.includes('62 steps')")
    server.close()


def test_it_fits_any_screen_and_theme_and_needs_no_mouse(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(render(state_of(*learning_run())))
    browser.open((tmp_path / "report.html").as_uri())
    colours = set()
    for theme in ("light", "dark"):
        for width in (1366, 390):
            browser.look(width, theme)
            assert browser.until(f"innerWidth == {width} && {DRAWN}")
            assert browser.until("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
            pixels = "[...document.querySelectorAll('#learning .uplot')].every(each => each.clientWidth <= innerWidth)"
            assert browser.until(pixels)
            assert browser.picture().startswith(b"\x89PNG")
        colours.add(browser.value("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2

    chart = "document.querySelector('[data-chart=reward]')"
    said = "document.getElementById('readout').textContent"
    browser.value(f"{chart}.focus()")
    browser.press("ArrowRight")
    assert browser.value(said).startswith("step 1: Training reward 0.")
    browser.press("ArrowRight")
    assert browser.value(said).startswith("step 2: ")
    assert browser.complaints == []
