"""What `benchmarks.replay` asks of a server: groups on their way from generators through verifiers to the learner.

The load costs as little as it can, since it shares the machine with what is measured: arrays are made once, and whole
rounds of requests are on their way at a time. A bare ROUTER is asked the same number of requests of the same sizes, and
answers with as many bytes.
"""

from __future__ import annotations

import itertools
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgpack
import numpy as np
import zmq

from actors.replay.payload import Payload
from actors.transport.client import MAX_REPLY_BYTES
from actors.transport.codec import SCHEMA, Frame, Message, decode, encode
from actors.transport.sockets import DealerSocket
from benchmarks.replay_server import REMEMBER

Frames = list[Frame]
#: Characters of text a token, as in English prose.
CHARACTERS = 4
#: Requests on their way at a time, fewer than a server holds answers for one client.
WINDOW = 32
#: A server has so long to come up, and to answer (s).
STARTUP_SECONDS, ANSWER_SECONDS = 60.0, 120.0


@dataclass(frozen=True, slots=True)
class Size:
    """Groups of `completions` completions of `tokens` tokens each; `groups` of them are a batch, and a round."""

    name: str
    completions: int
    tokens: int
    groups: int

    def payload(self) -> Payload:
        """Arrays of a group, of version 0."""
        random, count = np.random.default_rng(0), self.completions * self.tokens
        return Payload(
            prompt=random.integers(0, 30_000, 256).astype(np.int32),
            tokens=random.integers(0, 30_000, count).astype(np.int32),
            logprobs=-random.gamma(4.0, 0.25, count).astype(np.float32),
            lengths=np.full(self.completions, self.tokens, np.int32),
            truncated=np.zeros(self.completions, np.uint8),
            spans=np.ones(self.completions, np.int32),
            span_versions=np.zeros(self.completions, np.int32),
            span_tokens=np.full(self.completions, self.tokens, np.int32),
        )

    def texts(self) -> list[str]:
        """What the completions say."""
        return ["word"[:CHARACTERS] * self.tokens] * self.completions

    @property
    def group_bytes(self) -> int:
        """Of one group as it is submitted: arrays and texts."""
        return sum(array.nbytes for array in self.payload().arrays().values()) + sum(map(len, self.texts()))


@dataclass(frozen=True, slots=True)
class Server:
    """A process that serves."""

    address: str
    pid: int


class Contender(Protocol):
    """Something that takes rounds; `pid` is the server's process, 0 where there is none of its own."""

    pid: int

    def round(self) -> None:
        """Bring one batch of groups all the way."""

    def submit(self) -> None:
        """Bring one group to the server, and wait until it says that it has it."""


@dataclass
class Replay:
    """Our replay, asked as generators, verifiers and the learner ask it.

    `first` holds the requests and answers of the first round, by kind.
    """

    server: Server
    size: Size
    version: int = 0
    first: dict[str, tuple[Frames, Frames]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pid = self.server.pid
        self._socket = DealerSocket(self.server.address, MAX_REPLY_BYTES)
        self._numbers = itertools.count(1)
        arrays = self.size.payload().arrays()
        self._specs = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
        self._arrays = [array.tobytes() for array in arrays.values()]
        score = {"status": "ok", "reward": 1.0, "parts": {"accuracy": 1.0}, "answer": "1"}
        self._scores = [score | {"reward": float(i % 2)} for i in range(self.size.completions)]
        self._texts = self.size.texts()

    def round(self) -> None:
        tasks = self._ask("lease", "generator", version=self.version, capacity=self.size.groups)["tasks"]
        assert len(tasks) == self.size.groups
        self._many("group_arrived", [self._group(task["group_id"]) for task in tasks])
        self._ask("lease_verification", "verifier", capacity=self.size.groups)
        verdicts = [{"purpose": "train", "group_id": t["group_id"], "scores": self._scores} for t in tasks]
        self._many("verdict", [self._frames("verdict", "verifier", verdict) for verdict in verdicts])
        self._ask("take_batch", "learner", version=self.version)
        self._ask("trained", "learner", version=self.version, statistics={}, staleness={}, step_seconds=0.0)
        self.version += 1
        self._ask("committed", "learner", version=self.version)

    def submit(self) -> None:
        (task,) = self._ask("lease", "generator", version=self.version, capacity=1)["tasks"]
        self._many("group_arrived", [self._group(task["group_id"])])

    def hold(self, groups: int) -> None:
        """Let the server hold more groups, which wait for verifiers."""
        for start in range(0, groups, 2048):
            count = min(2048, groups - start)
            tasks = self._ask("lease", "generator", version=self.version, capacity=count)["tasks"]
            self._many("group_arrived", [self._group(task["group_id"]) for task in tasks])

    def _group(self, group_id: int) -> Frames:
        body = {"purpose": "train", "group_id": group_id, "prompt": "?", "texts": self._texts}
        return self._frames("group_arrived", "generator", body, arrays=True)

    def _frames(self, kind: str, role: str, body: dict[str, Any], arrays: bool = False) -> Frames:
        body = body | {"worker": f"{role}-1", "role": role}
        header = {"schema": SCHEMA, "kind": kind, "id": next(self._numbers), "body": body}
        return [msgpack.packb(header | {"arrays": self._specs if arrays else []}), *(self._arrays if arrays else ())]

    def _ask(self, kind: str, role: str, **body: Any) -> Any:
        (answer,) = self._many(kind, [self._frames(kind, role, body)])
        return {} if kind in ("take_batch", "lease_verification") else decode(answer, MAX_REPLY_BYTES).body

    def _many(self, kind: str, requests: Sequence[Frames]) -> list[Frames]:
        """All answers; a few requests are on their way at a time."""
        start, answers = time.perf_counter(), []
        for frames in requests[:WINDOW]:
            self._socket.send(frames)
        for following in (*requests[WINDOW:], *[None] * min(WINDOW, len(requests))):
            if not self._socket.poll(ANSWER_SECONDS):
                raise TimeoutError(f"the replay did not answer {kind} within {ANSWER_SECONDS:g} s")
            answers.append(self._socket.receive())
            if following is not None:
                self._socket.send(following)
            if b"error" in bytes(answers[-1][0][:40]):
                raise RuntimeError(f"{kind}: {decode(answers[-1], MAX_REPLY_BYTES).body}")
        self.first.setdefault(kind, (requests[0], answers[0]))
        self.seconds[kind] = self.seconds.get(kind, 0.0) + time.perf_counter() - start
        return answers


class Bare:
    """A bare ROUTER that is asked what a replay was asked.

    Args:
        server: the ROUTER.
        size: of the groups.
        first: requests and answers of a replay, by kind.
        copy: whether into and out of bytes, as pyzmq does by default.
    """

    def __init__(self, server: Server, size: Size, first: dict[str, tuple[Frames, Frames]], copy: bool = True) -> None:
        self.pid, self._size, self._first, self._copy = server.pid, size, first, copy
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.connect(server.address)
        for kind, (_, answer) in first.items():
            self._exchange([[REMEMBER, kind.encode(), *answer]])

    def round(self) -> None:
        for kind, count in (
            ("lease", 1),
            ("group_arrived", self._size.groups),
            ("lease_verification", 1),
            ("verdict", self._size.groups),
            ("take_batch", 1),
            ("trained", 1),
            ("committed", 1),
        ):
            self._exchange([[kind.encode(), *self._first[kind][0]]] * count)

    def submit(self) -> None:
        for kind in ("lease", "group_arrived"):
            self._exchange([[kind.encode(), *self._first[kind][0]]])

    def _exchange(self, requests: Sequence[Frames]) -> None:
        for frames in requests[:WINDOW]:
            self._socket.send_multipart(frames, copy=self._copy)
        for following in (*requests[WINDOW:], *[None] * min(WINDOW, len(requests))):
            if not self._socket.poll(int(ANSWER_SECONDS * 1000)):
                raise TimeoutError(f"the bare ROUTER did not answer within {ANSWER_SECONDS:g} s")
            self._socket.recv_multipart(0, copy=self._copy)
            if following is not None:
                self._socket.send_multipart(following, copy=self._copy)


class Idle:
    """Members of a run that are alive and wait: each has a connection, an open long poll, and a heartbeat."""

    def __init__(self, address: str, count: int) -> None:
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 4 * count + 64)
        self._sockets = [self._context.socket(zmq.DEALER) for _ in range(count)]
        for number, socket in enumerate(self._sockets):
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(address)
            self._send(socket, "events", number, {"after": 2**62, "wait_seconds": 60})

    def beat(self, number: int) -> None:
        """One of them says that it is alive."""
        if self._sockets:
            number %= len(self._sockets)
            self._send(self._sockets[number], "heartbeat", number, {})
            while self._sockets[number].poll(0):
                self._sockets[number].recv_multipart()

    def _send(self, socket: zmq.Socket[bytes], kind: str, number: int, body: dict[str, Any]) -> None:
        sender = {"worker": f"idle-{number}", "role": "generator"}
        socket.send_multipart(encode(Message(kind, number, body | sender)))

    def close(self) -> None:
        self._context.destroy(0)


@contextmanager
def served(*arguments: str) -> Iterator[Server]:
    """A process of `benchmarks.replay_server`, until the context is left."""
    command = [sys.executable, "-m", "benchmarks.replay_server", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        if not select.select([process.stdout], [], [], STARTUP_SECONDS)[0]:
            process.kill()
            raise TimeoutError(f"{' '.join(arguments[:1])}: the server had no address within {STARTUP_SECONDS:g} s")
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"{' '.join(arguments[:1])}: the server ended before it had an address")
        yield Server(address, process.pid)
    finally:
        process.stdin.close()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)
