"""A controller with a real replay, around which everything else is faked: for the tests of its life."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.config.loading import load
from actors.control.controller import Controller, Predecessor
from actors.control.placement import Resources
from actors.deadline import until
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


def up(life: Life, role: str) -> Client:
    """A client in the place of the latest process of a role, which has reported once that it came up."""
    client = Client(life.starter.addresses["replay"], life.starter.of(role)[-1].context.name, role)
    client.request("heartbeat", {"report": {"ready": True}})
    return client
