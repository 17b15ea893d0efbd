"""Which score a judge's words hold."""

import pytest

from actors.config.judge import JudgeConfig
from actors.errors import NoScoreError
from actors.roles.verifier.endpoint import Judgement
from actors.roles.verifier.judgement import read_score

CONFIG = JudgeConfig(url="http://judge/v1", model="m")


@pytest.mark.parametrize(
    ("words", "score"),
    [
        ("Score: 7", 7.0),
        ("It is right.\n**Score:** 7.5\n", 7.5),
        ("I take 'Score: 9' for a joke.\nScore: 2/9", 2.0),
        ("<think>\nScore: 9, or is it?\n</think>\n\nScore: 3", 3.0),
        ("</think>score = 3", 3.0),
    ],
)
def test_the_last_score_outside_of_its_thoughts_counts(words: str, score: float) -> None:
    assert read_score(CONFIG, Judgement(words, False, None)) == score


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("I would rather not say.", "wrote 'I would rather not say.', in which there is no score"),
        ("", "in which there is no score"),
        ("Score: ten", "in which there is no score"),
        ("7", "in which there is no score"),
        ("Score: 0", "gave 0, which is not from 1 to 9"),
        ("Score: 10", "gave 10, which is not from 1 to 9"),
        ("<think>Score: 7</think>", "in which there is no score"),
    ],
)
def test_words_without_a_score_are_an_error(words: str, says: str) -> None:
    with pytest.raises(NoScoreError, match=says):
        read_score(CONFIG, Judgement(words, False, None))


def test_a_judge_that_is_cut_off_has_given_no_score() -> None:
    with pytest.raises(NoScoreError, match=r"cut off after preferences\.judge\.max_tokens, 512"):
        read_score(CONFIG, Judgement("Score: 1", True, None))
