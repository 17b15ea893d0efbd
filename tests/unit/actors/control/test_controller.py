"""The life of a run as the controller leads it, with a real replay and everything else faked. No Ray."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.config.loading import load
from actors.control.controller import Controller, Predecessor
from actors.control.placement import Resources
from actors.deadline import until
from actors.errors import PeerTimeoutError, RunError
from actors.observability.exposition import CONTROLLER
from actors.roles.replay import ReplayRole
from actors.roles.role import RoleContext
from actors.transport.client import Client
from tests.unit.actors.control.fake_starter import FakeProcess, FakeStarter

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"
SECONDS = 60.0


class ReplayStarter(FakeStarter):
    """Starts a real replay in threads of this process; its address is what the fakes' clients would use.

    `elsewhere` lets the next one take another port than the one before.
    """

    elsewhere = False

    def halt_replay(self) -> None:
        """The replay answers nobody any more."""
        self.replay.stop()
        self._serving.join(SECONDS)
        assert not self._serving.is_alive(), "the replay does not end"

    def end_replay(self) -> None:
        """The replay dies."""
        self.halt_replay()
        self.of("replay")[-1].die("its process was killed, or crashed")

    def start(self, role: str, context: RoleContext, resources: Resources) -> FakeProcess:
        if role == "replay":
            if self.elsewhere:
                context = replace(context, recipe=load(QUICKSTART))
            self.replay = ReplayRole(context)
            self._serving = threading.Thread(target=self.replay.run, daemon=True)
            self._serving.start()
            self.addresses[role] = self.replay.describe().address
        return super().start(role, context, resources)


class Life:
    """A controller at work in a thread, and what its `run` raised."""

    def __init__(self, folder: Path, starter: ReplayStarter, *more: str) -> None:
        model = folder / "model"
        model.mkdir()
        (model / "config.json").write_text("{}")
        overrides = [f"model={{kind: folder, path: {model}}}", "controller.stop_seconds=1", "controller.restarts=1"]
        # few tasks, so that a replay is up at once
        overrides += ["tasks.sources=[{source: addition, digits: 1}]", "tasks.held_out=8", "tasks.development=0"]
        overrides.append("cold_start=null")
        self.starter, self.folder = starter, folder
        self.controller = Controller(
            load(QUICKSTART, [*overrides, "controller.interval_seconds=0.05", *more]), folder, folder, None, 0, starter
        )
        self.error: BaseException | None = None
        self._begin()
        starter.wait_for("verifier", 1, SECONDS)

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def vanish(self) -> None:
        """The controller is gone from one moment to the next: nothing is ended, and nothing more is recorded."""
        self.controller._wind_down = lambda *_: []  # type: ignore[method-assign]
        self.controller.stop()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the controller does not end"
        self.controller._watch.close()
        self.controller._server.close()
        self.controller._recording.close()

    def succeed(self, reason: str) -> None:
        """Another controller takes its place."""
        recipe, predecessor = self.controller._recipe, Predecessor("died", reason, time.time())
        arguments = (recipe, self.folder, self.folder, None, 0, self.starter, predecessor)
        self.controller = Controller(*arguments)
        self._begin()

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
def life(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Life]:
    """With the overrides that the test is parametrized with, if it is."""
    handlers = list(logging.getLogger().handlers)
    starter = ReplayStarter()
    life = Life(tmp_path, starter, *(request.param if hasattr(request, "param") else ()))
    yield life
    life.controller.stop()
    life.end()
    starter.halt_replay()
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
    assert [e["name"] for e in events if e["kind"] == "phase"] == ["starting", "ending", "finished"]
    assert all(p.stopped for p in life.starter.started if p.role != "learner")
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [e["name"] for e in written if e["kind"] == "phase"] == ["starting", "ending", "finished"]


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


def test_a_pool_is_scaled_up_and_down_while_the_run_goes_on(life: Life) -> None:
    assert life.controller.scale("generator", 3) == {"generator": 3, "verifier": 1}
    assert len(life.starter.wait_for("generator", 3)) == 3
    life.controller.scale("generator", 1)
    assert until(lambda: sum(p.drained for p in life.starter.of("generator")) == 2, SECONDS)
    assert until(lambda: not life.controller.status()["leaving"], SECONDS)
    assert [p.killed for p in life.starter.of("generator")] == [False, True, True], "they hold what they reserved"
    pools = life.controller.status()["pools"]
    assert (pools["generator"]["wanted"], pools["verifier"]["wanted"]) == (1, 1)
    life.controller.stop()
    assert [e for e in life.end() if e["kind"] == "restart"] == []


def test_a_dead_learner_starts_again_and_the_run_goes_on(life: Life) -> None:
    with closing(up(life, "learner")):
        life.starter.of("learner")[0].die("its process was killed, or crashed")
        restart = life.wait_for("restart")
    assert (restart["role"], restart["member"]) == ("learner", "learner")
    again = life.starter.wait_for("learner", 2)[-1]
    assert again.context.name == "learner"
    with closing(Client(life.starter.addresses["replay"], "learner", "learner")) as client:
        client.request("heartbeat", {"report": {"ready": True, "progress": 1, "process": "another"}})
        recovered = life.wait_for("recovered")
    assert (recovered["role"], recovered["fault"]) == ("learner", "died")
    assert recovered["recovery_seconds"] >= 0
    again.die(None)
    assert life.end()[-1]["name"] == "finished"
    assert json.loads((life.folder / "summary.json").read_text())["recoveries"][0]["role"] == "learner"


def test_a_learner_that_gives_up_ends_the_run_with_its_reason_on_record(life: Life) -> None:
    place = life.folder / "checkpoints" / "step-000000"
    place.mkdir(parents=True)
    with closing(up(life, "learner")):
        life.starter.of("learner")[0].die("5 steps in a row were not finite", refused=True)
        phase = life.end()[-1]
    assert phase["name"] == "failed" and "not finite" in phase["detail"]
    assert isinstance(life.error, RunError) and "--resume" in str(life.error)
    assert all(p.stopped for p in life.starter.of("generator") + life.starter.of("replay"))
    summary = json.loads((life.folder / "summary.json").read_text())
    assert summary["outcome"] == "failed" and "not finite" in summary["reason"]


def test_a_dead_replay_starts_again_where_it_was_and_the_record_goes_on(life: Life) -> None:
    life.wait_for("tick")
    address = life.starter.addresses["replay"]
    client = Client(address, "learner", "learner", 30.0)
    client.request("notice", {"event": {"kind": "phase", "name": "training"}})
    assert until(lambda: life.controller.status()["phase"] == "training", SECONDS)
    life.starter.end_replay()
    recovered = life.wait_for("recovered")
    assert (recovered["role"], recovered["fault"]) == ("replay", "died")
    assert life.starter.addresses["replay"] == address
    client.request("notice", {"event": {"kind": "phase", "name": "saving"}})
    assert until(lambda: life.controller.status()["phase"] == "saving", SECONDS), "events of the new board are missed"
    assert not [e for e in life.events() if e["kind"] == "restart" and e["role"] != "replay"]
    client.close()


def test_a_replay_that_comes_up_elsewhere_is_told_to_everybody(life: Life) -> None:
    life.wait_for("tick")
    life.starter.elsewhere = True
    address = life.starter.addresses["replay"]
    life.starter.end_replay()
    life.wait_for("recovered")
    moved = life.starter.addresses["replay"]
    assert moved != address
    (generator,) = life.starter.of("generator")
    assert until(lambda: generator.told[-1:] == [moved], SECONDS)
    assert json.loads((life.folder / "controller.json").read_text())["replay"] == moved


def test_another_controller_adopts_the_living_and_continues_the_record(life: Life) -> None:
    life.wait_for("tick")
    with closing(Client(life.starter.addresses["replay"], "learner", "learner")) as client:
        client.request("notice", {"event": {"kind": "phase", "name": "training"}})
        assert until(lambda: life.controller.status()["phase"] == "training", SECONDS)
        before = life.controller.describe()["url"]
        life.vanish()
        life.starter.of("verifier")[0].die("killed")
        client.request("notice", {"event": {"kind": "phase", "name": "evaluation"}})
        life.succeed("its process was killed, or crashed")
        assert until(lambda: life.controller.status()["phase"] == "evaluation", SECONDS)
    assert life.controller.describe()["url"] == before
    recovered = life.wait_for("recovered")
    assert (recovered["role"], recovered["fault"]) == ("controller", "died")
    assert {e["role"] for e in life.events() if e["kind"] == "restart"} == {"controller", "verifier"}
    assert len(life.starter.of("generator")) == len(life.starter.of("learner")) == 1, "they live"
    assert len(life.starter.of("verifier")) == 2
    life.starter.of("learner")[0].die(None)
    life.end()
    phases = [
        e["name"]
        for e in map(json.loads, (life.folder / "metrics.jsonl").read_text().splitlines())
        if e["kind"] == "phase"
    ]
    assert phases == ["starting", "training", "evaluation", "ending", "finished"], "nothing is missing or there twice"


def test_another_controller_knows_how_often_the_one_before_has_replaced_somebody(life: Life) -> None:
    """Else a run whose controller dies as well would go on replacing for ever."""
    with closing(up(life, "generator")):
        life.starter.of("generator")[0].die("killed")
        life.wait_for("restart")
    life.vanish()
    life.succeed("its process was killed, or crashed")
    with closing(up(life, "generator")):
        assert until(lambda: len(life.controller.status()["members"]) > 1, SECONDS)
        life.starter.of("generator")[-1].die("killed again")
        life.end()
    assert isinstance(life.error, RunError)
    assert "killed again) after 1 restarts" in str(life.error)


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
    honest = life.controller._watch._ask

    def ask(link: Any, kind: str, body: Any = None) -> Any:
        reply = honest(link, kind, body)
        return (
            {"events": [{"kind": "nonsense"}, {"kind": "phase", "name": "training"}], "last": 2}
            if (kind == "events" and body["after"] == 0)
            else reply
        )

    monkeypatch.setattr(life.controller._watch, "_ask", ask)
    assert until(lambda: life.controller.status()["phase"] == "training", SECONDS)


# ---------------------------------------------------------------- who lives and does not work

IMPATIENT = [
    "membership.heartbeat_seconds=0.1",
    "membership.timeout_seconds=0.5",
    "controller.hang_seconds=0.5",
    "controller.startup_seconds=0.5",
]
impatient = pytest.mark.parametrize("life", [IMPATIENT], indirect=True)


def up(life: Life, role: str) -> Client:
    """A client in the place of the latest process of a role, which has reported once that it came up."""
    client = Client(life.starter.addresses["replay"], life.starter.of(role)[-1].context.name, role)
    client.request("heartbeat", {"report": {"ready": True}})
    return client


class Unanswered:
    """A client of a replay that hangs; it does not wait as long as a real one."""

    def request(self, kind: str, *_: Any, **__: Any) -> Any:
        raise PeerTimeoutError(f"the replay did not answer {kind}")

    def close(self) -> None:
        """There is nothing to close."""


@impatient
def test_a_generator_that_falls_silent_is_named_and_replaced(life: Life) -> None:
    with closing(up(life, "generator")):
        (first,) = life.starter.of("generator")
        said = life.wait_for("unresponsive")
        assert (said["member"], said["state"]) == (first.context.name, "silent")
        restart = life.wait_for("restart")
        assert restart["member"] == first.context.name and "not heard of" in restart["reason"]
        assert first.killed
        assert until(lambda: life.controller.status()["unresponsive"] == {}, SECONDS)


@pytest.mark.parametrize("life", [[*IMPATIENT, "controller.hang_seconds=100"]], indirect=True)
def test_a_generator_that_is_heard_of_again_is_taken_back(life: Life) -> None:
    with closing(up(life, "generator")) as client:
        name = life.wait_for("unresponsive")["member"]
        assert name in life.controller.status()["unresponsive"]
        client.request("heartbeat", {"report": {"ready": True}})
        assert until(lambda: any(e.get("state") == "back" for e in life.events()), SECONDS)
        assert not life.starter.of("generator")[0].killed
        assert not [e for e in life.events() if e["kind"] == "restart"]


@impatient
def test_a_learner_that_falls_silent_is_killed_and_starts_again(life: Life) -> None:
    with closing(up(life, "learner")):
        restart = life.wait_for("restart")
    assert restart["role"] == "learner" and "not heard of" in restart["reason"]
    assert life.starter.of("learner")[0].killed
    life.starter.wait_for("learner", 2)


@impatient
def test_a_replay_that_does_not_answer_is_killed_and_starts_again(life: Life) -> None:
    life.wait_for("tick")
    life.controller._watch.shards[0].client = Unanswered()
    life.starter.halt_replay()
    assert life.wait_for("unresponsive")["member"] == "replay"
    assert life.wait_for("restart")["role"] == "replay"
    assert life.starter.of("replay")[0].killed
    life.starter.wait_for("replay", 2)


def test_who_never_came_up_ends_the_run_at_once(life: Life) -> None:
    life.starter.of("generator")[0].die("ValueError: block_size must be a multiple of 32")
    phase = life.end()[-1]
    assert phase["name"] == "failed" and "did not come up: ValueError: block_size" in phase["detail"]
    assert len(life.starter.of("generator")) == 1
    assert "--resume" not in phase["detail"], "there is nothing to resume from"


# ---------------------------------------------------------------- a run that cannot learn


@pytest.mark.parametrize("life", [["controller.fruitless_batches=30", "replay.groups_per_batch=2"]], indirect=True)
def test_a_run_of_which_every_group_is_dropped_warns_and_ends(life: Life) -> None:
    with closing(up(life, "generator")) as client:
        while life.error is None and not any(e["kind"] == "phase" and e["name"] == "failed" for e in life.events()):
            leased = client.poll("lease", {"version": 0, "capacity": 8}, wait_seconds=0.1)
            for task in leased.body["tasks"] if leased else ():
                lease = {"purpose": task["purpose"], "group_id": task["group_id"]}
                client.request("group_rejected", lease | {"reason": "overlong"})
    life.end()
    assert isinstance(life.error, RunError)
    for text in ("without one batch", "overlong", "controller.fruitless_batches: 30", "tasks.max_prompt_tokens"):
        assert text in str(life.error)
    log = (life.folder / "logs" / "controller.log").read_text()
    assert "fruitless: " in log
    summary = json.loads((life.folder / "summary.json").read_text())
    assert "fruitless" in [warning["symptom"] for warning in summary["warnings"]]
    assert CONTROLLER.get_sample_value("leeway_warning", {"symptom": "fruitless"}) == 1
