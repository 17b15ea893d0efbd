"""Tasks: where they come from, how they are split, formatted and demonstrated."""

from actors.tasks.holdout import hold_out
from actors.tasks.pairs import Pair, read_pairs
from actors.tasks.stream import TaskStream
from actors.tasks.task import Task
from actors.tasks.templates import Renderer
from actors.tasks.traces import addition_traces, file_traces

__all__ = [
    "Pair",
    "Renderer",
    "Task",
    "TaskStream",
    "addition_traces",
    "file_traces",
    "hold_out",
    "read_pairs",
]
