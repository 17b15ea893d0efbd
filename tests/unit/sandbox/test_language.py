"""Language consistency counts words, and neither code nor mathematics."""

from __future__ import annotations

import pytest

from sandbox import Pool, RewardConfig, RewardWeights, SandboxConfig, SandboxError, Submission
from sandbox.language import consistency, scripts

ENGLISH = "First we add the two numbers together. Then we carry the one to the next digit."
GERMAN = "Zuerst addieren wir die beiden Zahlen. Danach übertragen wir die Eins auf die nächste Stelle."
CHINESE = "首先我们把两个数相加，然后进位。"
RUSSIAN = "Сначала мы складываем два числа."
JAPANESE = "まず二つの数を足します。"


@pytest.mark.parametrize(
    ("text", "language"),
    [(ENGLISH, "en"), (GERMAN, "de"), (CHINESE, "zh"), (RUSSIAN, "ru"), (JAPANESE, "ja")],
)
def test_one_language_is_consistent_and_no_other(text: str, language: str) -> None:
    assert consistency(text, language) == 1.0
    for other in {"en", "de", "ru", "ko", "ar"} - {language}:
        assert consistency(text, other) == 0.0


def test_mixed_text_has_its_share() -> None:
    assert 0.2 < consistency(ENGLISH + CHINESE, "zh") < 0.8
    assert 0.3 < consistency(ENGLISH + " " + GERMAN, "en") < 0.7


@pytest.mark.parametrize(
    "decoration",
    [
        "```python\nfor element in collection:\n    print(element)\n```",
        "`some_function_name(argument)`",
        r"$\sum_{i=1}^{n} \text{something in english here} x_i$",
        r"\begin{align} a &= b \text{ because of the lemma} \end{align}",
        r"\[ \text{the answer to the question} = 42 \]",
        "https://example.com/a/very/long/english/path",
    ],
)
def test_code_and_mathematics_are_no_words(decoration: str) -> None:
    assert consistency(f"{CHINESE} {decoration} {CHINESE}", "zh") == 1.0


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("- first the red cup\n- then the blue cup\n- then the green cup", "en"),
        ("No remainder left.\nDivide by three.\nSo the total is six.\nHence done.", "en"),
        ("GCD LCM AM GM\nBy AM-GM the sum is at least ten.", "en"),
        ("THE PRODUCT IS EVEN SO THE SUM IS ODD.", "en"),
        ("Let θ be the angle at A and φ the angle at C, then θ plus φ is eighty.", "en"),
        ("Two NaOH and one H2SO4 give water, so we count the atoms on both sides.", "en"),
        ("Erst der rote Becher\nDann der blaue Becher\nDann der grüne Becher", "de"),
        ("设 n 为学生人数，m 为老师人数，ABC 班有 5 kg 的书，则 sin x 为零。", "zh"),
        ("Пусть x равно трём, а y равно семи.", "ru"),
    ],
)
def test_short_lines_variables_and_abbreviations_are_not_foreign(text: str, language: str) -> None:
    assert consistency(text, language) > 0.9


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("- erst der rote Becher\n- dann der blaue Becher\n- dann der grüne Becher", "en"),
        ("puis la tasse bleue\nenfin la tasse verte\ndonc la somme est neuf", "en"),
        ("- first the red cup\n- then the blue cup\n- then the green cup", "de"),
        ("Let n be the number of pupils.", "zh"),
    ],
)
def test_short_lines_of_another_language_are(text: str, language: str) -> None:
    assert consistency(text, language) < 0.5


def test_only_the_reasoning_counts_and_no_words_earn_nothing() -> None:
    assert consistency(f"<think>{CHINESE}</think><answer>{ENGLISH}</answer>", "zh") == 1.0
    assert consistency("<think>1 + 1 = 2</think>", "en") == 0.0
    assert consistency("", "en") == 0.0


def test_the_pool_weighs_it_and_refuses_unknown_languages() -> None:
    rewards = RewardConfig(weights=RewardWeights(language=0.5), language="zh")
    with Pool(SandboxConfig(), rewards) as pool:
        [verdict] = pool.score([Submission("exact", f"<think>{CHINESE}</think><answer>4</answer>", {"answer": "4"})], 5)
    assert (verdict.parts["language"], verdict.reward) == (1.0, 1.5)
    with pytest.raises(SandboxError, match="tlh"):
        Pool(SandboxConfig(), RewardConfig(language="tlh"))


def test_scripts_are_counted_by_words_and_japanese_is_one() -> None:
    assert scripts("<think>We add `x = 1`, then $y$: конец</think> 等等") == {"LATIN": 3, "CYRILLIC": 1}
    assert scripts("カードを確認").keys() == {"EAST ASIAN"}
