"""Worked examples for the supervised cold start: pairs of a task and the completion to imitate."""

from collections.abc import Iterator
from itertools import count, zip_longest

from actors.config.base import Location
from actors.errors import RecipeError
from actors.tasks.records import messages_of, read_records, text_field
from actors.tasks.stream import TaskStream
from actors.tasks.task import Task, problem_key

_FAR = 1 << 40  # the cold start uses a part of the stream's order that reinforcement learning does not reach
_PATIENCE = 10_000


def addition_traces(stream: TaskStream) -> Iterator[tuple[Task, str]]:
    """Endless (task, trace) pairs for the stream's sums; its tasks from other sources are passed over.

    Raises:
        RecipeError: if the stream has no sums.
    """
    passed_over = 0
    for index in count(_FAR):
        task = stream.train(index)
        if (trace := addition_trace(task)) is not None:
            passed_over = 0
            yield task, trace
        elif (passed_over := passed_over + 1) > _PATIENCE:
            raise RecipeError(
                "only the source `addition` comes with a program that writes traces; give the cold start a file of "
                "`prompt` and `response` instead"
            )


def addition_trace(task: Task) -> str | None:
    """The sum worked out digit by digit from the right, carries included; None if the task is no sum.

    `374+859=` gives `<think>4+9=13,7+5+1=13,3+8+1=12</think><answer>1233</answer>`.
    """
    first, plus, second = task.messages[-1][1].removesuffix("=").partition("+")
    if not (plus and first.isdecimal() and second.isdecimal()):
        return None
    steps, carry = [], 0
    for a, b in zip_longest(map(int, reversed(first)), map(int, reversed(second)), fillvalue=0):
        total = a + b + carry
        steps.append(f"{a}+{b}{'+1' if carry else ''}={total}")
        carry = total // 10
    return f"<think>{','.join(steps)}</think><answer>{int(first) + int(second)}</answer>"


def file_traces(path: Location, stream: TaskStream) -> Iterator[tuple[Task, str]]:
    """One pass over a JSONL file of `prompt` or `messages`, and `response`; held-out and development tasks left out.

    The tasks carry no reference: a trace is imitated, not verified.

    Raises:
        RecipeError: for a bad line, and if no trace is left.
    """
    lines = left = 0
    for place, record in read_records(path, "cold_start.traces"):
        lines += 1
        messages = messages_of(record, place, stream.single_prompt)
        response = text_field(record, "response", place)
        if not stream.is_held_out(messages):
            left += 1
            yield Task(problem_key(messages), messages, "none", {}), response
    if not left:
        raise RecipeError(
            f"{path}: all of its {lines} traces belong to held-out or development tasks; give others"
            if lines
            else f"{path}: holds no trace; each line needs `prompt` or `messages`, and `response`"
        )
