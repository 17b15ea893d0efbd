"""reasoning-gym families: any of them, by name, with scorable references."""

from typing import Any

import msgpack
import pytest
from reasoning_gym.factory import DATASETS, get_score_answer_fn

from actors.config.tasks import ReasoningGymSource, TasksConfig
from actors.errors import RecipeError
from actors.tasks import TaskStream
from actors.tasks.gym import ReasoningGymProblems, to_json_types

SLOW = {"arc_agi", "rearc"}  # building their scorers takes a second each


def problems(family: str, **fields: Any) -> ReasoningGymProblems:
    return ReasoningGymProblems(ReasoningGymSource(source="reasoning_gym", family=family, **fields))


@pytest.mark.parametrize("family", sorted(set(DATASETS) - {"composite"} - SLOW))
def test_every_family_gives_references_that_its_own_scorer_accepts(family: str) -> None:
    task = problems(family, size=20)[3]
    reference = msgpack.unpackb(msgpack.packb(task.reference))
    assert reference == task.reference
    assert task.verifier == "reasoning_gym"
    assert reference["dataset"] == family
    if isinstance(answer := reference["entry"]["answer"], str):
        original = problems(family, size=20)._dataset
        assert get_score_answer_fn(family)(answer, reference["entry"]) == original.score_answer(answer, original[3])


def test_a_scorer_that_needs_python_types_is_replaced_by_exact_comparison() -> None:
    task = problems("rearc", size=20)[0]  # its scorer compares grids as tuples
    assert task.verifier == "exact"
    assert set(task.reference) == {"answer"}


def test_the_options_reach_the_family_and_the_answer_form_the_reference() -> None:
    options = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    task = problems("chain_sum", options=options, answer="last_number")[0]
    metadata = task.reference["entry"]["metadata"]
    assert metadata["difficulty"] == {"num_terms": [2, 2], "num_digits": [1, 1]}
    assert task.reference["last_number"] is True
    assert task.messages == (("user", task.reference["entry"]["question"]),)


def test_problems_are_the_same_in_every_run() -> None:
    first, second = problems("gcd"), problems("gcd")
    assert [first[index] for index in range(5)] == [second[index] for index in range(5)]
    assert len({first[index].key for index in range(50)}) > 45


def test_a_small_family_is_split_without_overlap() -> None:
    source = {
        "source": "reasoning_gym",
        "family": "chain_sum",
        "options": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    }
    stream = TaskStream(TasksConfig.model_validate({"sources": [source], "held_out": 64, "development": 16}), 0)
    apart = {task.key for task in (*stream.held_out, *stream.development(16))}
    trained = {stream.train(index).key for index in range(2000)}
    assert len(apart) == 80
    assert not apart & trained
    assert len(trained) > 100  # of the 200 problems there are


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"family": "chainsum"}, r"no family `chainsum`; did you mean chain_sum"),
        ({"family": "qqqq"}, r"no family `qqqq`; there are .*chain_sum"),
        ({"family": "composite"}, r"list its families as sources of their own"),
        ({"family": "chain_sum", "options": {"max_term": 3}}, r"no option `max_term` .*did you mean max_terms"),
        ({"family": "chain_sum", "options": {"size": 3}}, r"no option `size` .*use `size` beside `family`"),
        ({"family": "chain_sum", "options": {"seed": 3}}, r"no option `seed`"),
        (
            {"family": "chain_sum", "options": {"min_terms": 9}},
            r"refuses its `options` \(min_terms=9\): max_terms",
        ),
        ({"family": "chain_sum", "options": {"min_terms": "two"}}, r"refuses its `options` \(min_terms='two'\)"),
    ],
)
def test_a_wrong_family_or_option_says_what_would_be_right(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        problems(**fields)


def test_an_option_the_family_only_trips_over_later_is_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match=r"chain_sum: the family cannot make problem 0 with these `options`"):
        problems("chain_sum", options={"min_digits": 1.5})[0]


def test_a_family_that_sets_the_decimal_precision_leaves_no_trace() -> None:
    import decimal

    before = decimal.getcontext().prec
    problems("decimal_arithmetic", options={"precision": 7})[0]
    assert decimal.getcontext().prec == before


def test_odd_types_become_json() -> None:
    import numpy as np

    value = {
        "a": (1, 2.5, {3}),
        4: np.int64(5),
        "b": np.float32(0.5),
        "c": 2**70,
        "d": None,
        "e": True,
    }
    plain = to_json_types(value)
    assert plain == {"a": [1, 2.5, [3]], "4": 5, "b": 0.5, "c": str(2**70), "d": None, "e": True}
    assert msgpack.unpackb(msgpack.packb(plain)) == plain
    assert type(to_json_types(np.str_("x"))) is str
