"""Data of `recipes/code-and-math.yaml`: three kinds of small programs to write, worked examples of them and of sums.

    stdio     read a b print 3a-2b          a program that reads two numbers and prints one
    function  f: times 3 minus 4 squared    a function of one number
    assert    f(0)==4 f(1)==7               a function that passes these tests, and others that it is not shown

A worked example answers with a program of a small language subset, in a fenced block within `<answer>`. The same every
time.
"""

import argparse
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from actors.tasks import Task
from actors.tasks.traces import addition_trace

#: Tasks of each kind of program, or fewer where there are not so many different ones.
TASKS = 3000
#: Worked examples of each kind: more where more is to be worked out.
TRACES = {"addition": 5000, "stdio": 2000, "function": 3000, "assert": 5000}
#: What the programs of a task are tried with.
INPUTS = (-3, 2, 11)
PAIRS = ((-3, 4), (2, 0), (11, 7))

Problem = tuple[str, dict[str, Any], str]


def answer(thoughts: str, program: str) -> str:
    """A response in the format of R1-Zero whose answer is a program."""
    return f"<think>{thoughts}</think><answer>\n```python\n{program}\n```\n</answer>"


def stdio(draw: random.Random) -> Problem:
    """A linear combination of two numbers that are read: prompt, fields of the task, worked example."""
    first, second, sign = draw.randint(2, 99), draw.randint(2, 99), draw.choice("+-")
    program = f"a,b=map(int,input().split())\nprint({first}*a{sign}{second}*b)"
    values = [first * a + (second * b if sign == "+" else -second * b) for a, b in PAIRS]
    tests = [{"stdin": f"{a} {b}\n", "stdout": f"{value}\n"} for (a, b), value in zip(PAIRS, values, strict=True)]
    thoughts = f"{first}*a{sign}{second}*b"
    return f"read a b print {first}a{sign}{second}b", {"tests": tests}, answer(thoughts, program)


def function(draw: random.Random) -> Problem:
    """Operations on a number, one after the other."""
    words, steps, expression = [], [], "x"
    for _ in range(draw.choice((2, 3))):
        name, sign = draw.choice((("plus", "+"), ("minus", "-"), ("times", "*"), ("squared", "**")))
        number = 2 if sign == "**" else draw.randint(2, 9)
        words.append(name if sign == "**" else f"{name} {number}")
        # brackets only where the operation binds more tightly than the one before
        inner = f"({expression})" if steps and sign in ("*", "**") else expression
        expression = f"{inner}{sign}{number}"
        steps.append(f"{sign}{number}")
    tests = [[[x], eval(expression, {"x": x})] for x in INPUTS]
    response = answer(",".join(steps), f"def f(x):return {expression}")
    return f"f: {' '.join(words)}", {"entry": "f", "tests": tests}, response


def assertion(draw: random.Random) -> Problem:
    """A linear function that its values at 0 and 1 give away."""
    slope, offset = draw.randint(2, 9), draw.randint(2, 60)
    shown = " ".join(f"f({x})=={slope * x + offset}" for x in (0, 1))
    tests = "\n".join(f"assert f({x})=={slope * x + offset}" for x in (0, 1, *INPUTS))
    thoughts = f"{slope + offset}-{offset}={slope}"
    return shown, {"entry": "f", "test": tests}, answer(thoughts, f"def f(x):return {slope}*x+{offset}")


def addition(draw: random.Random) -> tuple[str, str]:
    """A sum of two numbers with two digits each, and its worked example."""
    prompt = f"{draw.randint(10, 99)}+{draw.randint(10, 99)}="
    trace = addition_trace(Task("", (("user", prompt),), "none", {}))
    assert trace is not None
    return prompt, trace


KINDS: dict[str, Callable[[random.Random], Problem]] = {"stdio": stdio, "function": function, "assert": assertion}


def write(folder: Path) -> None:
    """Write `stdio.jsonl`, `function.jsonl`, `assert.jsonl`, the tasks, and `traces.jsonl`, the worked examples."""
    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    traces = [dict(zip(("prompt", "response"), addition(draw), strict=True)) for _ in range(TRACES["addition"])]
    for verifier, make in KINDS.items():
        problems = {prompt: (fields, response) for prompt, fields, response in _many(make, draw)}
        tasks = [{"prompt": prompt, "verifier": verifier, **fields} for prompt, (fields, _) in problems.items()]
        _lines(folder / f"{verifier}.jsonl", tasks[:TASKS])
        examples = [{"prompt": prompt, "response": response} for prompt, (_, response) in problems.items()]
        traces += draw.choices(examples, k=TRACES[verifier])
    draw.shuffle(traces)
    _lines(folder / "traces.jsonl", traces)


def _many(make: Callable[[random.Random], Problem], draw: random.Random) -> Iterator[Problem]:
    return (make(draw) for _ in range(2 * TASKS))


def _lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/code-and-math"))
    write(parser.parse_args().folder)
