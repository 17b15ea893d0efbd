"""Open long polls: requests that wait for something to answer, queued by what they wait for.

No socket, no clock: time is an argument. Nobody looks through the polls: whoever serves them asks, for each thing that
is waited for, whether it may be there by now, and takes polls from the front of its queue while it is. So a message
costs the same with one idle worker and with a thousand, and work goes to whoever has waited longest.
"""

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from actors.replay import messages as m

#: A kind of request, and the version or the number of the event that it is about: polls with the same are answered or
#: not for the same reason.
Topic = tuple[type[m.LongPoll], int]


@dataclass(frozen=True, slots=True)
class Poll:
    """A long poll that has no answer yet.

    Attributes:
        identity: of the sender's connection.
        message: number of the message.
        request: what is asked.
        until: when it is answered at last, with nothing (s).
    """

    identity: bytes
    message: int
    request: m.LongPoll
    until: float


@dataclass(slots=True)
class Polls:
    """See the module's docstring. Each poll has a number, in the order in which they came."""

    _open: dict[int, tuple[Topic, Poll]] = field(default_factory=dict)
    _topics: dict[Topic, OrderedDict[int, Poll]] = field(default_factory=dict)
    _workers: dict[str, dict[int, None]] = field(default_factory=dict)
    #: May hold polls that were answered since.
    _deadlines: list[tuple[float, int]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __len__(self) -> int:
        return len(self._open)

    def add(self, topic: Topic, poll: Poll) -> None:
        """Put a poll at the end of its queue. The same one that has come before, over a connection that its sender has
        given up, is taken out."""
        for number, _, before in self.of(poll.request.worker):
            if poll.request.client and (before.request.client, before.message) == (poll.request.client, poll.message):
                self.remove(number)
        number = next(self._numbers)
        self._enqueue(number, topic, poll)
        self._workers.setdefault(poll.request.worker, {})[number] = None
        if len(self._deadlines) > 2 * len(self._open) + 64:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._open]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (poll.until, number))

    def topics(self) -> list[Topic]:
        """What is waited for; of a kind the highest number first: of generators, those with the newest weights."""
        return sorted(self._topics, key=lambda topic: -topic[1])

    def waiting(self, topic: Topic) -> int:
        """How many polls wait for it."""
        return len(self._topics.get(topic, ()))

    def first(self, topic: Topic, skip: int = 0) -> tuple[int, Poll] | None:
        """The number and the poll of whoever has waited longest, but for the first `skip`."""
        return next(itertools.islice(self._topics.get(topic, {}).items(), skip, None), None)

    def of(self, worker: str) -> list[tuple[int, Topic, Poll]]:
        """The polls of a worker, with their numbers and topics."""
        return [(number, *self._open[number]) for number in self._workers.get(worker, {})]

    def move(self, number: int, topic: Topic) -> None:
        """A poll waits for something else now; it goes to the end of that queue."""
        _, poll = self._open[number]
        self._dequeue(number)
        self._enqueue(number, topic, poll)

    def remove(self, number: int) -> Poll:
        """Take out a poll that is answered."""
        _, poll = self._open[number]
        self._dequeue(number)
        numbers = self._workers[poll.request.worker]
        del numbers[number]
        if not numbers:
            del self._workers[poll.request.worker]
        return poll

    def over(self, now: float) -> list[Poll]:
        """Take out the polls that have waited long enough."""
        over = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number = heapq.heappop(self._deadlines)
            if number in self._open:
                over.append(self.remove(number))
        return over

    def next_deadline(self) -> float:
        """When `over` may have something again (s)."""
        return self._deadlines[0][0] if self._deadlines else float("inf")

    def _enqueue(self, number: int, topic: Topic, poll: Poll) -> None:
        self._open[number] = topic, poll
        self._topics.setdefault(topic, OrderedDict())[number] = poll

    def _dequeue(self, number: int) -> None:
        topic, _ = self._open.pop(number)
        queue = self._topics[topic]
        del queue[number]
        if not queue:
            del self._topics[topic]
