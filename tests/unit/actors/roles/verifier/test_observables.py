"""What completions show beside their rewards."""

import time
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from actors.config.loading import load
from actors.config.observables import REFLECTION_WORDS
from actors.observability.exposition import VERIFIER
from actors.roles.verifier.observables import MOST_CHARACTERS, Observer, asked_format, count
from sandbox import Status, Submission, Verdict

QUICKSTART = Path(__file__).parents[5] / "recipes" / "quickstart.yaml"
R1_ZERO = ["tasks.template=r1_zero", "rewards.format=none", "rewards.weights.format=0"]


def observe(text: str, *overrides: str, tokens: int = 100, truncated: bool = False, **parts: float) -> dict[str, float]:
    """What is seen in a response."""
    submission = Submission("math", text, {}, truncated=truncated, length=tokens)
    return Observer(load(QUICKSTART, overrides))(submission, Verdict(Status.OK, 1.0, parts, 0.0)).values


def words(text: str, *overrides: str) -> list[str]:
    """The words of reflection in a response."""
    seen = Observer(load(QUICKSTART, overrides))(Submission("math", text, {}), Verdict(Status.OK, 1.0, {}, 0.0))
    return [text[begin:end] for begin, end in seen.reflections]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Wait, let me re-check that: 3 + 4 is 8. However, WAIT.", ["Wait", "re-check", "However", "WAIT"]),
        ("The waiter checked the buttons in error-free order", ["error"]),
        ("On second  thought we hold\non to the sum", ["On second  thought", "hold\non"]),
        ("我们先把两个数相加，等等，让我再检查一下。", ["等等", "检查"]),
        ("Сначала сложим числа. Однако ошибка возможна, подожди", ["Однако", "ошибка", "подожди"]),
        ("Zuerst die Summe, aber warte: das ist falsch", ["aber", "warte", "falsch"]),
        ("Let me add the numbers", []),
    ],
)
def test_words_of_reflection_are_whole_words_of_any_language(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_the_words_are_the_recipes() -> None:
    text = "wait a moment, hmm, aber warte"
    assert words(text) == ["wait", "aber", "warte"]
    assert words(text, "observables.reflection_words={en: [hmm], de: []}") == ["hmm"]
    nothing = ", ".join(f"{language}: []" for language in REFLECTION_WORDS)
    assert words(text, f"observables.reflection_words={{{nothing}}}") == []


def test_thoughts_and_answer_share_the_tokens_by_their_characters() -> None:
    seen = observe("<think>" + 30 * "1" + "</think><answer>" + 10 * "2" + "</answer>", tokens=80)
    assert (seen["thinking_tokens"], seen["answer_tokens"]) == (60.0, 20.0)
    cut_off = observe("<think>1+1", tokens=50, truncated=True)
    assert (cut_off["thinking_tokens"], cut_off["answer_tokens"]) == (50.0, 0.0)
    assert "thinking_tokens" not in observe("the answer is 42"), "nothing marks its thoughts"


def test_digits_and_signs_have_no_language() -> None:
    seen = observe("<think>4+9=13,7+5+1=13</think><answer>1333</answer>", format=1.0)
    assert seen.keys() == {"thinking_tokens", "answer_tokens", "format_rate"}


@pytest.mark.parametrize(
    ("text", "mixed"),
    [
        ("First we add the numbers of both lines, then we carry the one", False),
        ("First we add the numbers, 然后我们检查结果", True),
        ("我们先把两个数相加，让我再检查一下结果是不是正确的，最后得到答案", False),
        ("まず二つの数を足して、カードを確認します", False),
        (
            "The lemma of Гаусс says that in such a sum we can add the first and the last number of every single row",
            False,
        ),
    ],
)
def test_two_scripts_are_a_mixture_and_a_name_is_none(text: str, mixed: bool) -> None:
    assert observe(text)["language_mixing"] == float(mixed)


def test_with_a_target_language_its_share_decides() -> None:
    seen = observe("zuerst die Summe and then we add", language=0.6)
    assert (seen["language_mixing"], seen["language_consistency"]) == (1.0, 0.6)
    other = observe("alles steht in einer anderen Sprache", language=0.0)
    assert (other["language_mixing"], other["language_consistency"]) == (0.0, 0.0)


def test_the_format_is_watched_where_it_is_asked_for() -> None:
    assert asked_format(load(QUICKSTART)) == "r1_zero"
    assert asked_format(load(QUICKSTART, R1_ZERO)) == "r1_zero"
    assert asked_format(load(QUICKSTART, R1_ZERO[1:])) == "none"
    boxed = "tasks.sources=[{source: reasoning_gym, family: chain_sum, answer: boxed}]"
    assert asked_format(load(QUICKSTART, [*R1_ZERO[1:], boxed])) == "boxed"
    assert observe("<think>1</think><answer>2</answer>", *R1_ZERO)["format_rate"] == 1.0
    assert observe("<think>1</think>2", *R1_ZERO)["format_rate"] == 0.0


@pytest.mark.parametrize(
    "piece",
    [
        "hold " + " " * 50,
        "re-chec ",
        "w ",
        "<think>",
        "</think",
        "$",
        "\\[",
        "等",
        "\ud800",
        "on second ",
        "`",
        "A b C d ",
    ],
)
def test_whatever_a_model_writes_costs_a_bounded_time(piece: str) -> None:
    longest = (piece * MOST_CHARACTERS)[:MOST_CHARACTERS]
    begin = time.process_time()
    observe(longest)
    assert time.process_time() - begin < 10.0, "some microseconds a character"


def test_the_metrics_count_what_was_seen() -> None:
    count([observe("<think>Wait, let me add</think><answer>1</answer>", format=1.0), {}])
    told = generate_latest(VERIFIER).decode()
    assert 'leeway_responses_total{present="yes",trait="reflects"}' in told
    assert 'leeway_response_tokens_count{part="thoughts"}' in told
