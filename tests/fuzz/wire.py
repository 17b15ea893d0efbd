"""The replay and both ends of weights against an enemy: what `python -m tests.fuzz` calls with its inputs.

A failure is anything but an answer or a ProtocolError, and a ledger that has lost or invented a group.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgpack

from actors.errors import ProtocolError
from actors.replay import messages as m
from actors.replay.board import Board
from actors.replay.buffer import Buffer
from actors.replay.limits import ReplayLimits
from actors.transport.codec import Message, decode, encode, parse
from actors.weights import messages as weights

MAX_BYTES = 2**16
KINDS: Mapping[str, Any] = {**m.REQUESTS, **weights.TO_LEARNER, **weights.TO_GENERATOR}


class Sums:
    """Task n is n + n."""

    held_out = 3

    def train(self, index: int) -> Mapping[str, Any]:
        text = f"{index}+{index}="
        return {
            "key": f"t{index}",
            "messages": [["user", text]],
            "verifier": "exact",
            "reference": {},
            "source": "sums",
        }

    evaluate = train


class Target:
    """What the sockets' threads do with a message, without the sockets."""

    def __init__(self) -> None:
        self.buffer = Buffer(ReplayLimits(max_staleness=1, groups_per_batch=1), 2, Sums())
        self.board = Board(20.0)
        self.now = 0.0
        self.answered = self.refused = 0

    def take(self, frames: Sequence[bytes]) -> None:
        self.now += 0.5
        for kinds in (m.REQUESTS, weights.TO_LEARNER, weights.TO_GENERATOR):
            try:
                message = decode(frames, MAX_BYTES)
                body: Any = parse(message, kinds)
                if kinds is m.REQUESTS:
                    self._answer(body, message)
                self.answered += 1
            except ProtocolError as error:
                str(error)
                self.refused += 1
        assert self.buffer.ledger.conserved()

    def _answer(self, request: Any, message: Message) -> None:
        self.board.members.heard(request.worker, request.role, self.now)
        if isinstance(request, m.BoardRequest):
            body = self.board.answer(request, self.now)
            reply: tuple[Any, Any] = (body or {}, {})
        else:
            version = self.board.members.version(request.worker)
            found = self.buffer.answer(request, message.arrays, self.now, version)
            reply = (found.body, found.arrays) if found else ({}, {})
            for event in found.events if found else ():
                self.board.record(event)
        decode(encode(Message("reply", message.id, *reply)), 2**31)
        self.buffer.expire(self.now)
        self.board.members.expire(self.now)


def frames_of(choose: Any) -> list[bytes]:
    """Frames from a source of choices, `atheris.FuzzedDataProvider` or the like: noise, or a message nearly right."""
    if choose.ConsumeIntInRange(0, 7) == 0:
        return [choose.ConsumeBytes(choose.ConsumeIntInRange(0, 300)) for _ in range(choose.ConsumeIntInRange(0, 4))]
    kind = sorted(KINDS)[choose.ConsumeIntInRange(0, len(KINDS) - 1)]
    body = {"worker": "w", "role": choose.PickValueInList(["generator", "verifier", "learner", "controller"])}
    for name, field in KINDS[kind].model_fields.items():
        if choose.ConsumeIntInRange(0, 9):
            body.setdefault(name, _value(choose, 3, str(field.annotation)))
    specs, arrays = [], []
    for _ in range(choose.ConsumeIntInRange(0, 9)):
        name = choose.PickValueInList(
            ["prompt", "tokens", "logprobs", "lengths", "truncated", "spans", "span_versions", "span_tokens", "mask"]
        )
        count = choose.ConsumeIntInRange(0, 8)
        specs.append([name, choose.PickValueInList(["<i4", "<f4", "|u1"]), [count]])
        arrays.append(choose.ConsumeBytes(4 * count).ljust(4 * count, b"\0") if specs[-1][1] != "|u1" else bytes(count))
    header = {"schema": 1, "kind": kind, "id": choose.ConsumeInt(8), "body": body, "arrays": specs}
    return [msgpack.packb(header, unicode_errors="surrogatepass"), *arrays]


def _value(choose: Any, depth: int, hint: str) -> Any:
    """Mostly of the kind that the field wants."""
    if choose.ConsumeIntInRange(0, 9):
        if "int" in hint and "list" not in hint and "dict" not in hint:
            return choose.ConsumeIntInRange(0, 4)
        if "Literal" in hint:
            return choose.PickValueInList([part.strip(" '[]") for part in hint.partition("[")[2].split(",")])
        if "list[str]" in hint:
            return ["a"] * choose.ConsumeIntInRange(0, 3)
        if "list[int]" in hint:
            return [choose.ConsumeIntInRange(0, 5) for _ in range(choose.ConsumeIntInRange(0, 3))]
    match choose.ConsumeIntInRange(0, 7 if depth else 5):
        case 0:
            return None
        case 1:
            return choose.ConsumeInt(8)
        case 2:
            return choose.ConsumeRegularFloat()
        case 3:
            return choose.ConsumeUnicode(12)
        case 4:
            return choose.ConsumeBytes(8)
        case 5:
            return choose.PickValueInList([True, False, 2**63, -1, float("nan"), float("inf"), "train", "evaluate", ""])
        case 6:
            return [_value(choose, depth - 1, "") for _ in range(choose.ConsumeIntInRange(0, 3))]
        case _:
            return {
                choose.ConsumeUnicode(6): _value(choose, depth - 1, "") for _ in range(choose.ConsumeIntInRange(0, 3))
            }
