"""A run as a page: safe, whole and of bounded size, on synthetic events."""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from actors.events import Event, FirstSeen, SourceScores
from actors.report import page
from actors.report.health import warnings
from actors.report.page import parts
from actors.report.state import RunState
from tests.unit.actors.report.example_events import (
    HOSTILE,
    evaluation,
    info,
    learning_run,
    sample,
    state_of,
    step,
    tick,
)
from tests.unit.actors.report.example_page import Page

TOLD: dict[str, Any] = {
    "pools": {
        "generator": {
            "alive": 3,
            "ready": 2,
            "wanted": 4,
            "busy": 0.5,
            "waits_for": "tasks</td>",
            "waits_seconds": 75.0,
        },
        "learner": {"alive": 1, "ready": 1, "wanted": 1, "busy": None, "waits_for": None, "waits_seconds": None},
    },
    "queues": {"ready": 5},
    "queue_ages": {"ready": 42.0},
    "versions": {"generator-3": {"version": 5, "behind": 1}, "generator-9": {"version": None, "behind": None}},
    "staleness": {"bound": 4, "max": 2, "last_step": 2},
    "weight_sync": {"version": 5, "members": 2, "total_seconds": 1.5, "ago_seconds": 3.0},
    "joined": ["generator-9"],
    "leaving": ["<generator-7>"],
    "stuck": [{"who": "learner", "on": "the replay", "what": "a full batch", "seconds": 75.0}],
    "unresponsive": {"generator-1": "<b>it did not come up"},
    "recovering": [{"role": "generator", "member": "generator-2", "fault": "died", "seconds": 4.0}],
    "recovered": [
        {"role": "replay", "member": "replay", "fault": "died", "seconds": 60.0, "recovery_seconds": 4.0},
    ],
}


def report_of(*events: Event) -> Page:
    return Page(page.render(state_of(*events)))


def live_page_of(*events: Event) -> Page:
    return Page(page.document(page.parts(state_of(*events), TOLD), live=True))


@pytest.mark.parametrize("made", [report_of, live_page_of])
def test_the_page_loads_nothing_and_its_policy_lets_only_its_own_script_run(made: Callable[..., Page]) -> None:
    found = made(*learning_run())
    names = {name for name, _ in found.elements}
    assert names.isdisjoint({"img", "iframe", "object", "embed", "base", "form", "a", "svg"})
    attributes = [(key, value) for _, each in found.elements for key, value in each.items()]
    assert not [key for key, _ in attributes if key.startswith("on") or key in ("style", "src", "srcset", "action")]
    assert [value for key, value in attributes if key == "href"] == ["data:,"]
    policy = next(each["content"] for _, each in found.elements if "http-equiv" in each) or ""
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    (style,), (_, script) = ([text for tag, text in found.raw if tag == kind] for kind in ("style", "script"))
    for text in (style, script):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert "url(" not in style and "@import" not in style
    assert ("connect-src 'self'" in policy) == (made is live_page_of)


@pytest.mark.parametrize("made", [report_of, live_page_of])
def test_hostile_output_is_shown_as_text(made: Callable[..., Page]) -> None:
    hostile = "</script><script>alert(1)</script><!--"
    event = step(1, more={"<b>": 1.0, f"reward/{hostile}": 1.0, "reward/b": 1.0, hostile: 0.5})
    found = made(sample(3.0, HOSTILE), event)
    assert "<script>alert(1)</script>" in found.text
    assert "⟨U+001B⟩[31m⟨U+202E⟩" in found.text
    assert "addition/</td>17" in found.text
    assert [name for name, _ in found.elements].count("script") == 2
    assert not any(name in ("think", "img", "answer") for name, _ in found.elements)
    labels = {line["label"] for chart in found.charts.values() for line in chart["lines"]}
    assert hostile in labels, "the script gets it as it is, and shows it as text"


def test_what_is_sent_of_a_page_is_escaped_too() -> None:
    markup = page.parts(state_of(sample(3.0, HOSTILE)), TOLD)
    assert "&lt;script&gt;alert(1)" in markup["part/samples"]
    assert not any("<script" in text or "<img" in text for name, text in markup.items() if name.startswith("part/"))
    assert "&lt;b&gt;it did not come up" in markup["part/fleet"]


def test_the_report_covers_the_run() -> None:
    found = report_of(*learning_run())
    assert "Held-out accuracy rose from 42% to 92%" in found.text
    assert {
        "Held-out accuracy",
        "Training reward",
        "Staleness of the trained tokens",
        "Generator",
        "Verifier",
        "Learner",
        "Tokens a second",
        "Queues",
        "Weight updates",
        "Learner step",
        "Response length (tokens)",
        "Entropy (nats/token)",
        "Engine and learner disagree by (nats)",
        "Loss",
    } <= found.charts.keys()
    for text in (
        "None was over it",
        "zero_variance",
        "verifier-1",
        "Every issued group is accounted for",
        "learning_rate: 0.0003",
    ):
        assert text in found.text
    accuracy = found.charts["Held-out accuracy"]
    assert (accuracy["xs"][0], accuracy["lines"][0]["ys"][0]) == (0, 0.42)
    low, high = accuracy["lines"][0]["band"]
    assert low[0] < 0.42 < high[0]


def test_the_live_page_says_who_is_at_work_and_what_is_wrong() -> None:
    text = live_page_of(*learning_run()).text
    for said in (
        "2 of 4 (+1 coming up)",
        "tasks</td>, for 1 min 15 s",
        "generator-3 v5 (−1)",
        "generator-9 none yet",
        "learner waits for the replay: a full batch, for 1 min 15 s",
        "generator-1: <b>it did not come up",
        "generator: generator-2 died 4.0 s ago",
        "Leaving: <generator-7>",
        "replay: replay died at 1:00, back after 4.0 s",
    ):
        assert said in text
    assert "Who is at work?" not in report_of(*learning_run()).text


def test_the_report_has_evaluations_rewards_and_lengths_by_task_source() -> None:
    scores = SourceScores(n=20, pass_at_1=0.35, pass_at_1_interval=(0.19, 0.55), mean_length=41.0)
    ends = [
        evaluation(name, version, 0.5, seconds).model_copy(
            update={"by_source": {"code": scores, "<math>": scores}, "pass_at_1_interval": (0.44, 0.56)}
        )
        for name, version, seconds in (("before", 0, 1.0), ("after", 1, 9.0))
    ]
    more = {"source_reward/code": 0.3, "source_reward/<math>": 0.5, "source_length/code": 70.0}
    state = state_of(ends[0], step(1, more=more | {"source_length/<math>": 30.0}), ends[1])
    found = parts(state)
    shown = found["part/evaluations"]
    assert shown.count("35.0% [19%, 55%]") == 4 and shown.count("50.0% [44%, 56%]") == 2
    assert "&lt;math&gt;" in shown and "<math>" not in shown
    lengths = json.loads(found["chart/sources/length"])
    assert [(line["label"], line["ys"]) for line in lengths["lines"]] == [("<math>", [30.0]), ("code", [70.0])]
    assert "chart/sources/reward" in found and not [name for name in found if "statistic/source" in name]
    alone = parts(state_of(evaluation("before", 0, 0.5)))
    assert "chart/sources/reward" not in alone and "all sources" in alone["part/evaluations"]


def test_a_rollout_has_its_verdict_and_the_versions_of_its_tokens() -> None:
    rollout = sample(3.0, "4", version=7).model_copy(update={"spans": [(6, 12), (7, 1)], "verdict_status": "wrong"})
    text = report_of(rollout).text
    assert "v6 · 12 tokens" in text and "v7 · 1 token" in text and "wrong" in text
    assert "Versions 6 to 7" in report_of(sample(3.0, "4", version=7)).text, "of a record without them"


def test_the_report_shows_what_the_reward_was_made_of() -> None:
    events = [step(n, more={"reward/accuracy": n / 10, "reward/format": 1.0}) for n in range(1, 10)]
    parts = report_of(*events).charts["Parts of the reward"]
    assert [line["label"] for line in parts["lines"]] == ["accuracy", "format"]
    alone = report_of(*(step(n, more={"reward/accuracy": 1.0}) for n in range(1, 10)))
    assert "Parts of the reward" not in alone.charts, "one part says no more than the reward"


def observed(number: int, **statistics: float) -> Event:
    """A step of which the verifiers have told."""
    bands = {"difficulty/never": 0.25, "difficulty/always": 0.75}
    return step(
        number, more={"format_rate": 0.5, "thinking_tokens": 10.0 * number, "answer_tokens": 5.0, **bands, **statistics}
    )


def test_what_a_run_does_not_show_has_no_chart() -> None:
    assert "How does it think?" not in report_of(step(1, reward=1.0)).text
    titles = report_of(observed(1), observed(2)).charts.keys()
    assert {"Thinking time", "Format", "How often tasks are solved"} <= titles
    assert titles.isdisjoint({"Words of reflection", "Responses that reflect", "Languages"})


def test_the_first_reflection_is_marked_in_charts_and_text() -> None:
    text = f"<think>1+1=3. {HOSTILE[:7]}Wait, it is 2</think>"
    rollout = sample(0.0, text).model_copy(update={"reflections": [(text.index("Wait"), text.index("Wait") + 4)]})
    firsts = [FirstSeen(what=what, step=2, sample=rollout) for what in ("reflection", "rewarded reflection")]
    found = report_of(*firsts[:1], observed(1, reflection_words=0.0, reflection_rate=0.0), *firsts, observed(2))
    assert found.charts["Words of reflection"]["marks"] == [[2, "first reflection, rewarded reflection"]]
    assert found.text.count("The first reflection, in step 2") == 1
    assert [name for name, _ in found.elements].count("mark") == 2
    assert "1+1=3. <think>Wait, it is 2" in found.text and "think" not in [name for name, _ in found.elements]


@pytest.mark.parametrize("spans", [[(-5, 3)], [(3, 2)], [(0, 10**9)], [(10**9, 10**9 + 1)], [(0, 4), (2, 6)]])
def test_marks_in_the_wrong_place_lose_nothing_of_a_response(spans: list[tuple[int, int]]) -> None:
    rollout = sample(3.0, "Wait <b>here").model_copy(update={"reflections": spans})
    assert "Wait <b>here" in report_of(rollout).text


def test_of_a_long_response_the_part_with_the_marks_is_shown() -> None:
    long = "x" * 50_000 + "WAIT" + "y" * 50_000
    rollout = sample(3.0, long).model_copy(update={"reflections": [(50_000, 50_004)]})
    text = report_of(rollout).text
    assert "(49,000 characters before) … xx" in text and "xWAITy" in text and "more characters)" in text
    assert len(text) < 20_000


def test_the_report_puts_warnings_into_words() -> None:
    events = [step(n, entropy=0.0001) for n in range(1, 10)]
    (warning,) = warnings(state_of(*events))
    assert warning.text in report_of(*events).text


def test_a_page_without_any_event_is_a_page() -> None:
    assert "No values yet." in report_of().text
    assert live_page_of().charts["Held-out accuracy"]["xs"] == []


def test_only_what_an_event_changes_is_different() -> None:
    state = state_of(*learning_run())
    before = page.parts(state)
    state.fold(sample(state.seconds, "something new"))
    after = page.parts(state)
    assert {name for name in after if after[name] != before[name]} == {"part/samples"}


def test_a_long_run_makes_a_page_of_bounded_size() -> None:
    state = RunState(info(steps=5000))
    for n in range(1, 5001):
        state.fold(step(n, reward=n / 5000, entropy=0.1, staleness={n: 5}))
        state.fold(tick(2.0 * n, 2.0, generation=100.0 + n))
    text = page.render(state)
    assert len(text) < 500_000
    assert all(len(chart["xs"]) <= 512 for chart in Page(text).charts.values())


def test_numbers_that_are_not_finite_leave_a_gap() -> None:
    found = report_of(step(1, reward=1.0), step(2, reward=float("nan")), step(3, reward=2.0))
    assert json.dumps(found.data, allow_nan=False)
