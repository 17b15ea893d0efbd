"""The program in a response: the last block that can be one, and no text costs time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.code_blocks import last_program

PROGRAM = "n = int(input())\nprint(n + 1)\n"


def block(text: str, tag: str = "", fence: str = "```") -> str:
    return f"{fence}{tag}\n{text}{fence}\n"


@pytest.mark.parametrize(
    "tag",
    ["python", "Python", "py", "python3", "python3.11", "PYPY3", " python ", "{python}", "{.python .numberLines}",
     'python title="main.py"', "main.py", "ipython", ""],
)  # fmt: skip
def test_a_block_of_python_is_the_program(tag: str) -> None:
    assert last_program(f"So:\n{block(PROGRAM, tag)}That is it.") == PROGRAM
    assert last_program(f"{block(PROGRAM, tag, '~~~~')}") == PROGRAM


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("", "8\n"),
        ("", "Case #1: 8\n"),
        ("", "[1, 2]\n"),
        ("", "x = 8\n"),
        ("", "Point(x=1, y=2)\n"),
        ("", ">>> solve(7)\n8\n"),
        ("", "Traceback (most recent call last):\nValueError: no\n"),
        ("", "python main.py < input.txt\n"),
        ("text", "8\n"),
        ("output", "print(8)\n"),
        ("bash", "python main.py\n"),
        ("sh", "echo 7 | python main.py\n"),
        ("console", "8\n"),
        ("json", '{"time": "O(1)"}\n'),
        ("markdown", "# Why\nIt adds one.\n"),
        ("cpp", "int main() { return 0; }\n"),
        ("java", "class Main {}\n"),
        ("pycon", ">>> 7 + 1\n8\n"),
        ("python-repl", ">>> 7 + 1\n8\n"),
        ("plaintext", "n = int(input())\n"),
    ],
)
def test_what_follows_the_program_is_not_taken_for_one(tag: str, text: str) -> None:
    assert last_program(f"{block(PROGRAM, 'python')}It prints:\n{block(text, tag)}") == PROGRAM


def test_the_last_program_counts() -> None:
    assert last_program(block("print(1)\n", "python") + block("print(2)\n", "py")) == "print(2)\n"
    assert last_program(block("print(1)\n", "python") + block("print(2)\n")) == "print(2)\n"
    assert last_program(block("print(1)\n", "python") + block("int main() {}\n", "c")) == "print(1)\n"
    assert last_program("no fence") is None
    assert last_program(block("int main() {}\n", "cpp")) is None
    # A lone block that is not even Python is what was meant; so is the body that completes a prompt.
    assert last_program(block("def f(:\n", "python")) == "def f(:\n"
    assert last_program(block("    return x\n")) == "    return x\n"


def test_an_example_of_its_use_is_not_the_program() -> None:
    solution = "def solve(x):\n    return x + 1\n"
    for usage in ("print(solve(3))\n", "assert solve(3) == 4\n", "for x in range(3):\n    print(solve(x))\n"):
        response = block(solution, "python") + block(usage, "python")
        assert last_program(response, "solve") == solution
        assert last_program(response) == usage
    for other in ("class Solution:\n    def solve(self, x):\n        return 2\n", "solve = lambda x: 2\n"):
        assert last_program(block(solution, "python") + block(other, "python"), "solve") == other
        assert last_program(block(solution, "python") + block(other, "python"), "Solution.solve") in (other, solution)


def test_a_program_that_was_cut_off_is_none() -> None:
    draft = block(PROGRAM, "python")
    assert last_program(draft + "No, better:\n```python\nn = int(input())\n") is None
    assert last_program("```python\nprint(1)\n") is None
    assert last_program("```\nprint(1)\n") is None
    # What explains a program may be cut off.
    assert last_program(draft + "It prints\n```text\n8\n") == PROGRAM
    assert last_program(draft + "It prints\n```\n8\n") == PROGRAM


def test_fences() -> None:
    assert last_program("1. So:\n   ```python\n   if x:\n       y\n   ```\n") == "if x:\n    y\n"
    assert last_program("```python\nx\n````\n") == "x\n"
    assert last_program("````python\ns = '''\n```\n'''\n````\n") == "s = '''\n```\n'''\n"
    assert last_program("~" * 100_000 + "`") is None


@given(st.text(alphabet="`~ \npythondef(:)1", max_size=80))
@settings(deadline=None)
def test_no_text_raises(text: str) -> None:
    last_program(text, "f")


@pytest.mark.parametrize("piece", ["```a\n", "```\n(\n```\n", "~~~", "`", "\n", "```python\n1\n```\n"])
def test_hostile_text_costs_no_time(piece: str) -> None:
    last_program(piece * (400_000 // len(piece)), "f")
