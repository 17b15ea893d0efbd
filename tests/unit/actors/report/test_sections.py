"""What the sections of the report say of a run, on synthetic events."""

from tests.unit.actors.report.example_events import learning_run, step
from tests.unit.actors.report.example_page import page_of


def test_the_report_covers_the_run() -> None:
    page = page_of(*learning_run())
    assert "Held-out accuracy rose from 42% to 92%" in page.text
    charts = {attributes.get("aria-label") for name, attributes in page.elements if name == "svg"}
    assert {
        "Held-out accuracy",
        "Training reward",
        "Staleness of the trained tokens",
        "Utilisation of the pools",
        "Tokens a second",
        "Weight updates",
        "Response length",
        "Entropy",
        "Engine and learner disagree by",
    } <= charts
    for text in (
        "None was over it",
        "zero_variance",
        "verifier-1",
        "Every issued group is accounted for",
        "learning_rate: 0.0003",
    ):
        assert text in page.text


def test_the_report_shows_what_the_reward_was_made_of() -> None:
    events = [step(n, more={"reward/accuracy": n / 10, "reward/format": 1.0}) for n in range(1, 10)]
    page = page_of(*events)
    charts = [attributes.get("aria-label") for name, attributes in page.elements if name == "svg"]
    assert "Parts of the reward" in charts
    assert "accuracy" in page.text and "Reward / accuracy" not in page.text
    alone = page_of(*(step(n, more={"reward/accuracy": 1.0}) for n in range(1, 10)))
    assert "Parts of the reward" not in alone.text, "one part says no more than the reward"
