"""Trackers of others get what TensorBoard gets, and whatever they do wrong costs a gap and no more."""

import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from actors.config.checks import problems
from actors.config.loading import load
from actors.deadline import until
from actors.report import trackers
from actors.report.trackers import Aside, Scalars
from actors.report.tracking import mlflow_tracker, trackio_tracker, wandb_tracker
from actors.report.writer import RunFolder
from tests.unit.actors.report.example_events import step

QUICKSTART = Path(__file__).parents[4] / "recipes" / "quickstart.yaml"


class Told:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.values: list[tuple[str, int, dict[str, float]]] = []
        self.closed = False

    def log(self, scalars: Scalars) -> None:
        self.values.append((scalars.axis, scalars.number, dict(scalars.values)))

    def close(self) -> None:
        self.closed = True


class Broken(Told):
    def log(self, scalars: Scalars) -> None:
        super().log(scalars)
        if scalars.number == 1:
            raise RuntimeError("401 from https://user:s3cret@tracker")


def test_values_arrive_in_order_and_the_end_is_said() -> None:
    told = Told()
    aside = Aside("told", lambda: told)
    for number in range(3):
        aside.log(Scalars("step", number, 1.0, {"a": float(number)}))
    aside.close()
    assert told.closed and told.values == [("step", number, {"a": float(number)}) for number in range(3)]


def test_one_that_fails_has_a_gap_and_its_words_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    broken = Broken()
    aside = Aside("broken", lambda: broken)
    for number in (1, 2):
        aside.log(Scalars("step", number, 1.0, {"a": 1.0}))
    aside.close()
    assert [number for _, number, _ in broken.values] == [1, 2]
    assert "broken has a gap: RuntimeError" in caplog.text and "s3cret" not in caplog.text


def test_one_that_cannot_begin_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    told, tries = Told(), iter([True, False])

    def begin() -> Told:
        if next(tries):
            raise ConnectionError
        return told

    aside = Aside("late", begin)
    aside.log(Scalars("step", 1, 1.0, {"a": 1.0}))
    aside.log(Scalars("step", 2, 1.0, {"a": 1.0}))
    aside.close()
    assert [number for _, number, _ in told.values] == [2] and "ConnectionError" in caplog.text


def test_one_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(trackers, "WAITING", 2)
    monkeypatch.setattr(trackers, "CLOSE_SECONDS", 0.1)
    free = threading.Event()

    def begin() -> Told:
        free.wait()
        return Told()

    aside = Aside("hanging", begin)
    for number in range(10):
        aside.log(Scalars("step", number, 1.0, {"a": 1.0}))
    aside.close()
    free.set()
    assert "hanging has a gap: it takes nothing" in caplog.text
    assert "hanging was left behind, without its last values" in caplog.text


def test_one_that_is_only_slow_gets_all_that_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "WAITING", 2)
    monkeypatch.setattr(trackers, "CLOSE_SECONDS", 30.0)
    told, free = Told(), threading.Event()

    def begin() -> Told:
        free.wait(30)
        return told

    aside = Aside("slow", begin)
    aside.log(Scalars("step", 0, 1.0, {"a": 1.0}))
    assert until(aside._values.empty, 30)
    for number in (1, 2):
        aside.log(Scalars("step", number, 1.0, {"a": 1.0}))
    threading.Timer(0.1, free.set).start()
    aside.close()
    assert [number for _, number, _ in told.values] == [0, 1, 2] and told.closed


def test_a_run_hands_its_numbers_to_the_trackers_that_it_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = Told()
    monkeypatch.setattr(wandb_tracker, "begin", lambda _: told)
    folder = RunFolder(tmp_path, trackers=["wandb"])
    folder.write(step(1, reward=0.5))
    assert until(lambda: bool(told.values), 30)
    folder.close()
    ((axis, number, values),) = told.values
    assert (axis, number, values["train/reward"]) == ("step", 1, 0.5)
    assert told.closed and list((tmp_path / "tensorboard" / "training").iterdir())


def test_one_that_is_not_installed_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    (problem,) = problems(load(QUICKSTART, ["trackers=[trackio]"]))
    assert "pip install 'leeway-rl[trackio]'" in problem


class Recorded:
    """Keeps every call of every method, and gives itself."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.info = SimpleNamespace(run_id="r")

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> "Recorded":
            self.calls.append((name, arguments, named))
            return self

        return call

    def __bool__(self) -> bool:
        return False

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for called, arguments, _ in self.calls if called == name]


def module(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    made = ModuleType(name)
    vars(made).update(content)
    monkeypatch.setitem(sys.modules, name, made)


def test_wandb_is_told_what_to_draw_values_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = Recorded()
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    module(monkeypatch, "wandb", init=run.init, Settings=lambda **named: named)
    tracker = wandb_tracker.begin(tmp_path / "first")
    tracker.log(Scalars("step", 3, 1.0, {"train/loss": 0.5}))
    tracker.log(Scalars("second", 9, 9.0, {"queue/ready": 2.0}))
    tracker.close()
    assert run.named("log") == [({"train/loss": 0.5, "step": 3},), ({"queue/ready": 2.0, "second": 9},)]
    ((_, _, begun),) = [call for call in run.calls if call[0] == "init"]
    assert (begun["id"], begun["mode"]) == ("first", "offline")
    assert ("queue/*",) in run.named("define_metric") and run.named("finish")


def test_trackio_is_told_the_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = Recorded()
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    module(monkeypatch, "trackio", init=run.init)
    tracker = trackio_tracker.begin(tmp_path / "first")
    tracker.log(Scalars("step", 3, 1.0, {"train/loss": 0.5}))
    tracker.close()
    assert ("log", ({"train/loss": 0.5},), {"step": 3}) in run.calls and run.named("finish")


def test_mlflow_gets_a_step_in_one_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = Recorded()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    module(monkeypatch, "mlflow", MlflowClient=lambda **_: client)
    module(monkeypatch, "mlflow.entities", Metric=lambda name, value, _, number: (name, value, number))
    tracker = mlflow_tracker.MlflowTracker(client, "r")
    tracker.log(Scalars("step", 3, 1.0, {"train/loss": 0.5, "train/mfu": 0.1}))
    tracker.close()
    ((_, _, sent),) = [call for call in client.calls if call[0] == "log_batch"]
    assert sent["metrics"] == [("train/loss", 0.5, 3), ("train/mfu", 0.1, 3)]
    assert client.named("set_terminated") == [("r",)]
    assert mlflow_tracker.begin(tmp_path / "first")._run == "r" and client.named("create_run")
