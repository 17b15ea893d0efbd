"""The life of a run as the controller leads it, with a real replay and everything else faked. No Ray."""

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.config.loading import load
from actors.control.controller import Controller, waits
from actors.control.placement import Resources
from actors.deadline import until
from actors.errors import RunError
from actors.roles.replay import ReplayRole
from actors.roles.role import RoleContext
from actors.transport.client import Client
from tests.unit.actors.control.fake_starter import FakeProcess, FakeStarter

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"
SECONDS = 30.0


class ReplayStarter(FakeStarter):
    """Starts a real replay in threads of this process; its address is what the fakes' clients would use."""

    def start(self, role: str, context: RoleContext, resources: Resources) -> FakeProcess:
        if role == "replay":
            self.replay = ReplayRole(context)
            threading.Thread(target=self.replay.run, daemon=True).start()
            self.addresses[role] = self.replay.describe().address
        return super().start(role, context, resources)


class Life:
    """A controller at work in a thread, and what its `run` raised."""

    def __init__(self, folder: Path, starter: FakeStarter) -> None:
        model = folder / "model"
        model.mkdir()
        (model / "config.json").write_text("{}")
        overrides = [f"model={{kind: folder, path: {model}}}", "controller.stop_seconds=1", "controller.restarts=1"]
        self.starter = starter
        self.controller = Controller(
            load(QUICKSTART, [*overrides, "controller.interval_seconds=0.05"]), folder, folder, None, 0, starter
        )
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        starter.wait_for("verifier", 1)

    def _run(self) -> None:
        try:
            self.controller.run()
        except Exception as error:  # noqa: BLE001 - what the run raised is what a test looks at
            self.error = error

    def end(self) -> list[dict[str, Any]]:
        """Wait for the end of the run; its events."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the run does not end"
        return self.events()

    def events(self) -> list[dict[str, Any]]:
        return self.controller.events(0)[0]

    def wait_for(self, kind: str) -> dict[str, Any]:
        assert until(lambda: any(e["kind"] == kind for e in self.events()), SECONDS), f"no {kind} in {self.events()}"
        return next(e for e in self.events() if e["kind"] == kind)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    handlers = list(logging.getLogger().handlers)
    starter = ReplayStarter()
    life = Life(tmp_path, starter)
    yield life
    life.controller.stop()
    life.end()
    starter.replay.stop()
    for handler in set(logging.getLogger().handlers) - set(handlers):
        logging.getLogger().removeHandler(handler)
        handler.close()


def test_a_run_ends_when_its_learner_is_done_and_leaves_nobody(life: Life, tmp_path: Path) -> None:
    life.wait_for("tick")
    roles = {"controller", "replay"}
    assert until(lambda: {t["labels"]["role"] for t in life.controller.targets()} == roles, SECONDS)
    life.starter.of("learner")[0].die(None)
    events = life.end()
    assert life.error is None
    assert [e["name"] for e in events if e["kind"] == "phase"] == ["starting", "finished"]
    assert all(p.stopped for p in life.starter.started if p.role != "learner")
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [e["name"] for e in written if e["kind"] == "phase"] == ["starting", "finished"]


def test_a_stop_that_is_asked_for_is_an_interruption(life: Life) -> None:
    life.controller.stop()
    assert life.end()[-1]["name"] == "interrupted"
    assert life.error is None


def test_a_dead_generator_is_replaced_and_taken_off_the_list(life: Life) -> None:
    (first,) = life.starter.of("generator")
    client = Client(life.starter.addresses["replay"], first.context.name, "generator")
    client.request("heartbeat", {"report": {"ready": True, "generated_tokens": 70}})
    assert until(lambda: first.context.name in life.controller.status()["members"], SECONDS)
    first.die("its process was killed, or crashed")
    restart = life.wait_for("restart")
    assert (restart["member"], restart["role"]) == (first.context.name, "generator")
    assert life.starter.wait_for("generator", 2)[1].context.name != first.context.name
    assert until(lambda: first.context.name not in life.controller.status()["members"], SECONDS)
    assert life.controller.status()["restarts"] == 1
    client.close()


def test_a_dead_learner_ends_the_run_with_its_reason_on_record(life: Life) -> None:
    life.starter.of("learner")[0].die("ValueError: boom")
    phase = life.end()[-1]
    assert phase["name"] == "failed" and "boom" in phase["detail"]
    assert isinstance(life.error, RunError) and "--resume" in str(life.error)
    assert all(p.stopped for p in life.starter.of("generator") + life.starter.of("replay"))


def test_a_step_of_winding_down_that_fails_is_named_and_the_others_are_taken(life: Life, tmp_path: Path) -> None:
    def jam() -> None:
        raise OSError("no such actor")

    learner = life.starter.of("learner")[0]
    learner.stop = jam  # type: ignore[method-assign]
    life.controller.stop()
    events = life.end()
    assert isinstance(life.error, RunError)
    assert "stopping the learner failed: OSError: no such actor" in str(life.error)
    assert events[-1]["name"] == "interrupted"
    assert all(p.stopped for p in life.starter.started if p is not learner)
    assert (tmp_path / "summary.json").exists()


def test_a_malformed_event_ends_nothing(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = life.controller._ask

    def ask(kind: str, body: Any = None) -> Any:
        reply = honest(kind, body)
        return (
            {"events": [{"kind": "nonsense"}, {"kind": "phase", "name": "training"}], "last": 2}
            if (kind == "events" and body["after"] == 0)
            else reply
        )

    monkeypatch.setattr(life.controller, "_ask", ask)
    assert until(lambda: life.controller.status()["phase"] == "training", SECONDS)


@pytest.mark.parametrize(
    ("busy", "queues", "expected"),
    [
        ({"generator": 0.0, "verifier": 0.9, "learner": 0.9}, {"ready": 3, "generated": 0}, "staleness bound"),
        ({"generator": 0.0, "verifier": 0.9, "learner": 0.9}, {"ready": 0, "generated": 0}, "weights or tasks"),
        ({"generator": 0.9, "verifier": 0.0, "learner": 0.9}, {"ready": 0, "generated": 0}, "completions"),
        ({"generator": 0.9, "verifier": 0.9, "learner": 0.0}, {"ready": 0, "generated": 0}, "a full batch"),
    ],
)
def test_an_idle_pool_says_what_it_waits_for(busy: dict[str, float], queues: dict[str, int], expected: str) -> None:
    (reason,) = waits(busy, queues).values()
    assert expected in reason
