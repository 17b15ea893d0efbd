"""A checkpoint holds the state that was there when it was begun, and waits for the one before it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import FileSystemWriter

from actors.deadline import until
from actors.planning.architectures import of_config
from actors.planning.memory import checkpoint as planned_bytes
from learner import CheckpointError, LearnerConfig, ObjectiveConfig, OptimizerConfig, Trainer, staging
from learner import checkpoint as writing
from learner.checkpoint import Writer
from learner.errors import SnapshotError
from learner.staging import PinnedStager
from tests.unit.learner.conftest import GroupFactory

CPU = torch.device("cpu")
CONFIG = LearnerConfig(
    dtype="float32",
    device="cpu",
    objective=ObjectiveConfig(kl="k3", kl_coefficient=0.01),
    optimizer=OptimizerConfig(learning_rate=1e-3),
    checkpoint_keep_last=9,
)
SECONDS = 120.0
#: The second is what GPUs have; on CPUs its copies are not pinned, but filled again all the same.
STAGERS: dict[str, Callable[[], PinnedStager | None]] = {
    "fresh copies": lambda: None,
    "copies that are filled again": lambda: PinnedStager(CPU),
}


class Held:
    """Nothing is written between `close` and `open`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self._open = threading.Event(), threading.Event()
        self._open.set()
        write = FileSystemWriter.write_data

        def held(writer: Any, *arguments: Any) -> Any:
            self.reached.set()
            assert self._open.wait(SECONDS)
            return write(writer, *arguments)

        monkeypatch.setattr(FileSystemWriter, "write_data", held)

    def close(self) -> None:
        self.reached.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(monkeypatch)
    yield held
    held.open()


def _trainer(model: Path, stager: PinnedStager | None = None) -> Trainer:
    trainer = Trainer(CONFIG, model, seed=0)
    trainer._writer = Writer(stager)
    return trainer


def _state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Weights, reference, moments and step counts."""
    assert trainer.reference is not None
    state = {f"model.{name}": p for name, p in trainer.model.named_parameters()}
    state |= {f"reference.{name}": p for name, p in trainer.reference.model.named_parameters()}
    for number, moments in enumerate(trainer.optimizer.state.values()):
        state |= {f"{number}.{key}": tensor for key, tensor in moments.items()}
    return {name: tensor.detach().clone() for name, tensor in state.items()}


@pytest.mark.parametrize("copies", STAGERS)
def test_a_step_right_after_the_beginning_changes_nothing_of_what_is_written(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path, disk: Held, copies: str
) -> None:
    trainer = _trainer(tiny_model, STAGERS[copies]())
    trainer.train_step(make_groups(seed=0))
    trainer.save(tmp_path / "step-000001", {})
    trainer.train_step(make_groups(seed=1))
    expected = _state(trainer)
    disk.close()
    saved = trainer.save_async(tmp_path / "step-000002", {})
    assert disk.reached.wait(SECONDS)
    trainer.train_step(make_groups(seed=2))
    trainer.refresh_reference()
    after = _state(trainer)
    assert not saved.done()
    disk.open()
    saved.result(SECONDS)
    reader = Trainer(CONFIG, tiny_model, seed=0)
    reader.load(tmp_path / "step-000002")
    found = _state(reader)
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    assert any(not torch.equal(after[name], expected[name]) for name in after), "the step changed nothing"


def test_copies_are_not_filled_again_before_the_checkpoint_that_is_written_from_them_is_durable(
    tiny_model: Path, make_groups: GroupFactory, tmp_path: Path, disk: Held
) -> None:
    stager = PinnedStager(CPU)
    trainer = _trainer(tiny_model, stager)
    states = {}
    trainer.train_step(make_groups(seed=0))
    states[1] = _state(trainer)
    disk.close()
    first = trainer.save_async(tmp_path / "step-000001", {})
    assert disk.reached.wait(SECONDS)
    trainer.train_step(make_groups(seed=1))
    states[2] = _state(trainer)

    waits, durable = threading.Event(), []
    exception, stage = first.exception, stager.stage

    def asked(timeout: float | None = None) -> BaseException | None:
        waits.set()
        return exception(timeout)

    def staged(state: dict[str, Any]) -> dict[str, Any]:
        durable.append(first.done())
        return stage(state)

    first.exception, stager.stage = asked, staged  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as other:
        second: Future[Future[None]] = other.submit(trainer.save_async, tmp_path / "step-000002", {})
        assert waits.wait(SECONDS)
        assert durable == []
        disk.open()
        second.result(SECONDS).result(SECONDS)
    assert durable == [True]
    reader = Trainer(CONFIG, tiny_model, seed=0)
    for step, expected in states.items():
        reader.load(tmp_path / f"step-{step:06d}")
        found = _state(reader)
        assert [name for name in found if not torch.equal(found[name], expected[name])] == [], step


def test_one_that_is_never_written_keeps_the_next_one_from_its_copies_and_is_named(
    tiny_model: Path, tmp_path: Path, disk: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also once it was given up: torch's thread may still write from them."""
    trainer = _trainer(tiny_model, PinnedStager(CPU))
    trainer.save(tmp_path / "step-000001", {})
    disk.close()
    with monkeypatch.context() as patch:
        patch.setattr(writing, "WRITE_TIMEOUT_SECONDS", 0.05)
        hung = trainer.save_async(tmp_path / "step-000002", {})
        with pytest.raises(CheckpointError, match="step-000002"):
            hung.result(SECONDS)
        said = r"step-000003: step-000002, the one before, is still being written after 0.05 s; earlier ones"
        with pytest.raises(CheckpointError, match=said):
            trainer.save_async(tmp_path / "step-000003", {})
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-000001"]
    disk.open()
    trainer.save(tmp_path / "step-000003", {"n": 3})
    assert trainer.load(tmp_path / "step-000003") == {"n": 3}


def test_copies_that_are_filled_again_stay_where_they_are_until_they_are_given_back() -> None:
    stager, state = PinnedStager(CPU), {"w": torch.arange(6.0).view(2, 3), "steps": [torch.tensor(1.0), 7]}
    first = stager.stage(state)
    place = first["w"].data_ptr()
    state["w"].add_(1)
    assert torch.equal(first["w"], torch.arange(6.0).view(2, 3))
    second = stager.stage(state)
    assert torch.equal(second["w"], state["w"]) and second["steps"] == [torch.tensor(1.0), 7]
    assert second["w"].data_ptr() == place
    writer = Writer(stager)
    writer.close()
    assert until(lambda: not len(stager._copies._cached_storage_mapping), SECONDS), "they were not given back"


class Event:
    """Over after some questions."""

    def __init__(self, questions: float) -> None:
        self.left = questions

    def query(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> PinnedStager:
    """A stager of a GPU that is not there, to which the host's memory stands for pinned."""
    stager = PinnedStager(CPU)
    monkeypatch.setattr(stager, "_device", torch.device("cuda"))
    return stager


def test_the_copies_of_a_gpu_are_waited_for(gpu: PinnedStager, monkeypatch: pytest.MonkeyPatch) -> None:
    event = Event(3)
    monkeypatch.setattr(staging, "behind_copies", lambda _: event)
    gpu.stage({"w": torch.ones(2)})
    assert event.left == -1


def test_a_gpu_that_hangs_is_named(gpu: PinnedStager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learner.model.snapshot.COPY_SECONDS", 0.01)
    monkeypatch.setattr(staging, "behind_copies", lambda _: Event(float("inf")))
    with pytest.raises(SnapshotError, match=r"copy of the state .* GPU hangs; resume"):
        gpu.stage({"w": torch.ones(2)})


def test_where_memory_cannot_be_pinned_checkpoints_are_written_all_the_same(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: Any) -> None:
        raise RuntimeError("cudaErrorMemoryAllocation")

    monkeypatch.setattr("torch.cuda._pin_memory_utils.pin_memory", refused)
    stager = PinnedStager(CPU)
    stager._copies.pin_memory = True
    trainer = _trainer(tiny_model, stager)
    trainer.save(tmp_path / "step-000001", {"n": 1})
    assert trainer.load(tmp_path / "step-000001") == {"n": 1}
    assert "cannot be pinned (cudaErrorMemoryAllocation)" in caplog.text


def test_the_memory_table_counts_what_is_copied(tiny_model: Path) -> None:
    trainer = _trainer(tiny_model)
    model = trainer.model.config
    shape = of_config(model.to_dict(), "tiny")
    tensors = [tensor for _, tensor in writing._tensors(trainer._state())]
    copied = sum(tensor.numel() * tensor.itemsize for tensor in tensors)
    beside = sum(t.numel() * t.itemsize for t in tensors if t.dim() == 0 or t.dtype == torch.uint8)
    assert copied - beside == planned_bytes(shape, CONFIG) == 16 * sum(p.numel() for p in trainer.model.parameters())
    assert beside < 8192, "the random state and the counts of steps"
