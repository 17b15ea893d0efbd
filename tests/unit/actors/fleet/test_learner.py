"""The synthetic learner asks for batches as the real one does."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.config.loading import load
from actors.deadline import until
from actors.fleet import learner as fleet_learner
from actors.fleet.learner import Pace, SyntheticLearner
from actors.roles.role import RoleContext, Storage
from actors.transport.codec import Message
from tests.unit.actors.replay.buffer_world import World

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"
STEPS = 3
#: Until the thread that fetches has asked (s).
PATIENCE = 20.0


class Connection:
    """To a replay with a batch for each step; `asked` are the versions of the batches that were asked for."""

    def __init__(self) -> None:
        self._world, self._lock = World(max_staleness=STEPS), threading.Lock()
        self.asked: list[int] = []
        for _ in range(STEPS):
            (task,) = self._world.lease()
            self._world.submit(task)
            self._world.score([1.0, 0.0])

    def poll(self, kind: str, body: dict[str, Any]) -> Message | None:
        with self._lock:
            self.asked.append(body["version"])
            found = self._world.say(kind, "learner", **body)
        return Message(kind, 1, found, found.pop("arrays")) if found else None

    def request(self, kind: str, body: dict[str, Any]) -> None:
        with self._lock:
            self._world.say(kind, "learner", **body)


@pytest.fixture
def fetcher() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as one:
        yield one


def test_the_next_batch_is_asked_for_while_one_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetcher: ThreadPoolExecutor
) -> None:
    monkeypatch.setattr(fleet_learner, "enter", lambda *_: None)
    recipe = load(QUICKSTART, [f"steps={STEPS}", "replay.group_size=2", "checkpoint_every_steps=0"])
    learner, replay = SyntheticLearner(RoleContext(recipe, "learner", Storage(tmp_path)), Pace(0.0)), Connection()
    published: list[int] = []

    def publish(version: int, _: Any) -> None:
        """The last thing of a step."""
        assert version == STEPS or until(lambda: version in replay.asked, PATIENCE), "it waits for the end of the step"
        published.append(version)

    said = SimpleNamespace(phase=lambda *_: None, evaluate=lambda *_, **__: None)
    parts = {"telling": said, "publisher": SimpleNamespace(publish=publish), "client": replay, "batches": replay}
    for name, part in (parts | {"fetcher": fetcher, "save": lambda: None}).items():
        monkeypatch.setattr(learner, f"_{name}", part, raising=False)
    learner._train()
    assert published == [1, 2, 3] and replay.asked == [0, 1, 2]
