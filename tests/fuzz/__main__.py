"""Fuzzing of the wire, guided by coverage. By hand: it needs atheris, and minutes.

python -m tests.fuzz -max_total_time=600 [FOLDER OF INPUTS]
"""

import sys

import atheris

with atheris.instrument_imports(include=["actors"]):
    from tests.fuzz.wire import Target, frames_of

#: A state that grows for ever would make every input slower than the last.
INPUTS_PER_STATE = 200
#: How often it is said how it stands (inputs).
SAID_EVERY = 50_000


class Fuzzer:
    """Feeds each input, which is up to six messages, to a state that is begun anew from time to time."""

    def __init__(self) -> None:
        self._target = Target()
        self._inputs = self._answered = self._refused = 0

    def one(self, data: bytes) -> None:
        self._inputs += 1
        choose = atheris.FuzzedDataProvider(data)
        for _ in range(choose.ConsumeIntInRange(1, 6)):
            self._target.take(frames_of(choose))
        if self._inputs % INPUTS_PER_STATE == 0:
            self._answered, self._refused = self._answered + self._target.answered, self._refused + self._target.refused
            self._target = Target()
        if self._inputs % SAID_EVERY == 0:
            print(f"{self._inputs} inputs: {self._answered} answered, {self._refused} refused", flush=True)


atheris.Setup(sys.argv, Fuzzer().one)
atheris.Fuzz()
