"""Tasks of the reasoning-gym package. The package is imported when a recipe first asks for one of its families."""

import difflib
from dataclasses import fields
from decimal import Context, localcontext
from numbers import Integral, Real
from typing import Any

from actors.config.tasks import ReasoningGymSource
from actors.errors import RecipeError
from actors.tasks.task import Messages, Task, problem_key, with_instruction, without_instruction

_SEED = 0x1EE  # the problems are the same in every run; a run's seed decides their order
_OURS = {"seed", "size"}


class ReasoningGymProblems:
    """`size` problems of one family, generated on demand.

    The reference is `{"dataset", "entry"}`, with the entry reduced to JSON types. Where the family's own scorer would
    judge the reduced entry differently (it compares tuples, say), the task is verified by `exact` instead.
    """

    listed = False

    def __init__(self, config: ReasoningGymSource, instruction: str = ""):
        from reasoning_gym.factory import DATASETS

        if config.family not in DATASETS or config.family == "composite":
            _reject_family(config.family, sorted(set(DATASETS) - {"composite"}))
        self.label = f"reasoning_gym {config.family}"
        self._family = config.family
        self._size = config.size
        self._instruction = instruction
        self._last_number = config.answer == "last_number"
        dataset_type, options_type = DATASETS[config.family]
        known = sorted({field.name for field in fields(options_type)} - _OURS)
        for option in config.options:
            if option not in known:
                close = difflib.get_close_matches(option, known, n=3, cutoff=0.4) or known
                hint = "use `size` beside `family`" if option == "size" else f"did you mean {', '.join(close)}?"
                raise RecipeError(f"{self.label}: there is no option `{option}` in `options`; {hint}")
        try:
            options = options_type(**config.options, seed=_SEED, size=config.size)
            self._dataset = dataset_type(options)
        except (AssertionError, TypeError, ValueError, KeyError, AttributeError) as error:
            given = ", ".join(f"{name}={value!r}" for name, value in config.options.items()) or "none"
            raise RecipeError(
                f"{self.label}: the family refuses its `options` ({given}): {error or type(error).__name__}"
            ) from error

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Task:
        try:
            with localcontext(Context()):  # decimal_arithmetic changes the precision of whoever calls it
                entry = self._dataset[index]
                verifier, reference = self._verification(entry)
        except Exception as error:  # a generator of the package may fail with anything
            raise RecipeError(
                f"{self.label}: the family cannot make problem {index} with these `options` "
                f"({type(error).__name__}: {error}); change them"
            ) from error
        question = (("user", str(entry["question"])),)
        if self._last_number:
            reference["last_number"] = True
        return Task(problem_key(question), with_instruction(question, self._instruction), verifier, reference)

    def key_of(self, messages: Messages) -> str:
        return problem_key(without_instruction(messages, self._instruction))

    def _verification(self, entry: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        reduced = to_json_types(entry)
        answer = entry["answer"]
        # families without a single right answer give None, and their scorers read nothing but the reduced puzzle
        if isinstance(answer, str):
            expected = self._dataset.score_answer(answer, entry)
            if self._score(answer, reduced) != expected:
                return "exact", {"answer": answer}
        return "reasoning_gym", {"dataset": self._family, "entry": reduced}

    def _score(self, answer: str, entry: dict[str, Any]) -> float | None:
        try:
            return float(self._dataset.score_answer(answer, entry))
        except Exception:  # noqa: BLE001 - a scorer that fails on the reduced entry is one we cannot use: None says so
            return None


def to_json_types(value: Any) -> Any:
    """`value` with tuples and sets as lists, keys as text, and all other types and integers over 64 bits as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Integral):  # numpy's integers too
        number = int(value)
        return number if -(2**63) <= number < 2**64 else str(number)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, dict):
        return {str(key): to_json_types(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_types(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((to_json_types(item) for item in value), key=str)
    return str(value)


def _reject_family(family: str, known: list[str]) -> None:
    if family == "composite":
        raise RecipeError("reasoning_gym composite: list its families as sources of their own, each with a `weight`")
    close = difflib.get_close_matches(family, known, n=4, cutoff=0.4)
    hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(known)}"
    raise RecipeError(f"reasoning_gym has no family `{family}`; {hint}")
