"""Fuzzing of the wire and of the journal, guided by coverage. By hand: it needs atheris, and minutes.

python -m tests.fuzz wire|journal -max_total_time=600 [FOLDER OF INPUTS]
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["actors"]):
    from tests.fuzz.stored import StoredTarget
    from tests.fuzz.wire import Target, frames_of

#: A state that grows for ever would make every input slower than the last.
INPUTS_PER_STATE = 200
#: How often it is said how it stands (inputs).
SAID_EVERY = {"wire": 50_000, "journal": 2_000}


class Wire:
    """Feeds each input, which is up to six messages, to a state that is begun anew from time to time."""

    def __init__(self) -> None:
        self._target = Target()
        self._inputs = self._answered = self._refused = 0

    def take(self, choose: Any) -> None:
        self._inputs += 1
        for _ in range(choose.ConsumeIntInRange(1, 6)):
            self._target.take(frames_of(choose))
        if self._inputs % INPUTS_PER_STATE == 0:
            self._answered, self._refused = self.answered, self.refused
            self._target = Target()

    @property
    def answered(self) -> int:
        return self._answered + self._target.answered

    @property
    def refused(self) -> int:
        return self._refused + self._target.refused


class Fuzzer:
    """Feeds inputs to a target, and says now and then what became of them."""

    def __init__(self, name: str, target: Any) -> None:
        self._target, self._every, self._inputs = target, SAID_EVERY[name], 0

    def one(self, data: bytes) -> None:
        self._inputs += 1
        self._target.take(atheris.FuzzedDataProvider(data))
        if self._inputs % self._every == 0:
            print(
                f"{self._inputs} inputs: {self._target.answered} answered, {self._target.refused} refused", flush=True
            )


name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
if name not in SAID_EVERY:
    sys.exit(__doc__)
with tempfile.TemporaryDirectory(prefix="leeway-fuzz-") as folder:
    target = Wire() if name == "wire" else StoredTarget(Path(folder))
    atheris.Setup(sys.argv, Fuzzer(name, target).one)
    atheris.Fuzz()
