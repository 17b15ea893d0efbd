"""The report as a page: safe, whole and of bounded size, on synthetic events."""

from actors.report.health import warnings
from actors.report.html import render
from actors.report.state import RunState
from tests.unit.actors.report.example_events import HOSTILE, info, learning_run, sample, state_of, step, tick
from tests.unit.actors.report.example_page import page_of


def test_the_report_loads_and_runs_nothing() -> None:
    page = page_of(*learning_run())
    names = {name for name, _ in page.elements}
    assert names.isdisjoint({"script", "img", "link", "iframe", "object", "use", "image", "a"})
    assert not any(
        key.startswith("on") or key in ("src", "href") for _, attributes in page.elements for key in attributes
    )
    policy = next(a["content"] for n, a in page.elements if n == "meta" and "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'")


def test_hostile_output_is_shown_as_text() -> None:
    page = page_of(sample(3.0, HOSTILE), step(1, more={"<b>": 1.0}))
    assert "<script>alert(1)</script>" in page.text
    assert "⟨U+001B⟩[31m⟨U+202E⟩" in page.text
    assert "<b>" in page.text
    assert not any(name in ("b", "script", "think") and "onerror" in attributes for name, attributes in page.elements)


def test_the_report_puts_warnings_into_words() -> None:
    events = [step(n, entropy=0.0001) for n in range(1, 10)]
    (warning,) = warnings(state_of(*events))
    assert warning.text in page_of(*events).text


def test_a_report_without_any_event_is_a_page() -> None:
    assert "No values yet." in page_of().text


def test_a_long_run_makes_a_report_of_bounded_size() -> None:
    state = RunState(info(steps=5000))
    for n in range(1, 5001):
        state.fold(step(n, reward=n / 5000, entropy=0.1))
        state.fold(tick(2.0 * n, 2.0, generation=100.0 + n))
    assert len(render(state)) < 2_000_000
