"""The attacks. Each is a whole model answer's program and the task it claims to solve.

An attack has succeeded if its verdict is `ok`, or if it did damage that `World.damage` sees. Programs of kind "stdio"
are to print `@TOKEN@` (which they can only read where they must not), or REACHED after something they must not be able
to do; "function" and "assert" programs are to return `@NUMBER@` without being told. `control` means that the attack
succeeds against a naive judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Attack:
    """One attack: a program, the kind of task, and whether a naive judge falls for it."""

    name: str
    family: str
    kind: str
    source: str
    control: bool = True
    goal: str = "@TOKEN@"
    test: str = "def check(candidate):\n    assert candidate([1, 2, 3]) == @NUMBER@\n"

    def reference(self) -> dict[str, Any]:
        """The reference of the task, with placeholders; expected values are random."""
        if self.kind == "stdio":
            return {"tests": [{"stdin": "", "stdout": self.goal}]}
        if self.kind == "function":
            return {"entry": "solve", "tests": [[[[1, 2, 3]], "@NUMBER@"], [[[4]], "@NUMBER@"]]}
        return {"entry": "solve", "test": self.test}


ATTACKS: list[Attack] = []


def attack(name: str, family: str, kind: str, source: str, *, control: bool = True, goal: str = "@TOKEN@") -> None:
    """Add one attack."""
    ATTACKS.append(Attack(name, family, kind, source.lstrip("\n"), control, goal))


def forge(
    name: str, family: str, source: str, *, control: bool = True, kinds: tuple[str, ...] = ("function", "assert")
) -> None:
    """Add one forgery for each kind of task whose answer is a value."""
    for kind in kinds:
        attack(f"{name} ({kind})", family, kind, source, control=control)


def fool(name: str, family: str, test: str, source: str, *, control: bool = True) -> None:
    """Add an attack on how particular tests are written."""
    ATTACKS.append(Attack(name, family, "assert", source.lstrip("\n"), control, test=test.lstrip("\n")))


_REPLY = """
import json, os
def solve(xs):
    os.write(4, json.dumps({reply}).encode() + b"\\n")
    os.read(0, 100000)
    os._exit(0)
"""


def reply(name: str, family: str, test: str, message: str) -> None:
    """Add a program that writes a message of its own making, a Python expression, to the tests' process."""
    fool(f"reply with {name}", family, test, _REPLY.replace("{reply}", message), control=False)


def reach(name: str, family: str, source: str, *, control: bool = True) -> None:
    """Add an attempt at something forbidden that prints REACHED if it worked."""
    attack(name, family, "stdio", source, control=control, goal="REACHED")


def call(name: str, number: str, *, control: bool = False) -> None:
    """Add a direct system call (x86-64 and aarch64 numbers), bypassing every library."""
    reach(
        f"system call {name}",
        "exotic system calls",
        "import ctypes, platform\n"
        f"n, args = ({number})\n"
        "n = n[platform.machine() == 'aarch64'] if isinstance(n, tuple) else n\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        # Plain ints are passed as 32 bits; what lies above them on the stack would be part of the argument.
        "args = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]\n"
        "if libc.syscall(n, *args) >= 0: print('REACHED')\n",
        control=control,
    )
