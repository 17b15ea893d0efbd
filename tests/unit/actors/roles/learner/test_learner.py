"""What the learner's actor makes of a recipe."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.config.loading import load
from actors.errors import RecipeError
from actors.roles.learner.learner import Learner, merging_of, require_length
from actors.roles.learner.sampling import model_hash
from actors.roles.learner.telling import Telling
from actors.roles.role import RoleContext, Storage
from actors.transport.codec import Message
from benchmarks.models import small_llama
from learner.extra import META, checkpoint_name, read_extra

QUICKSTART = Path(__file__).parents[5] / "recipes" / "quickstart.yaml"


class Stalled:
    """A client of a replay whose evaluation makes no progress, or has nothing left of it."""

    def __init__(self, standing: Mapping[str, Any]) -> None:
        self.standing = standing
        self.events: list[Mapping[str, Any]] = []

    def request(self, kind: str, body: Mapping[str, Any]) -> Message:
        if kind == "notice":
            self.events.append(body["event"])
        answers = {"evaluate": {"evaluation": 0}, "evaluation_result": self.standing}
        return Message("reply", 1, answers.get(kind, {}))


class Exports:
    version = 3

    def __init__(self) -> None:
        self.folders: list[Path] = []

    def export(self, folder: Path) -> None:
        self.folders.append(folder)


class NobodyReceives:
    """The learner's part in sending weights, of which nobody needs any."""

    senders = (0,)

    def publish(self, version: int, tensors: Any) -> None: ...

    def wait(self, version: int, deadline_seconds: float) -> bool:  # noqa: ARG002 - the publisher's
        return True


def telling(learner: Learner, client: Any) -> Telling:
    return Telling(client, client, learner._recipe.evaluation.stall_seconds, lambda: learner._stopping)


@pytest.mark.parametrize(
    ("standing", "missing"),
    [
        ({"progress": [0, 2], "waits_for": "generator-1 (6 of 8 held-out tasks)"}, ["generator-1 (6 of 8"]),
        ({"missing": "none of the 8 held-out tasks could be scored"}, []),  # which the replay has told by itself
    ],
)
def test_a_last_evaluation_without_a_result_costs_neither_the_model_nor_the_run(
    tmp_path: Path, standing: Mapping[str, Any], missing: list[str]
) -> None:
    recipe = load(QUICKSTART, ["evaluation.stall_seconds=0.01"])
    learner = Learner(RoleContext(recipe, "learner", Storage(tmp_path, model=tmp_path)))
    exports, client = Exports(), Stalled(standing)
    learner._trainer, learner._client, learner._weights = exports, client, NobodyReceives()  # type: ignore[assignment]
    learner._telling = telling(learner, client)
    learner._finish()
    assert exports.folders == [tmp_path / "model"]
    told = [event["reason"] for event in client.events if event["kind"] == "evaluation_missing"]
    assert len(told) == len(missing)
    assert all(words in reason for words, reason in zip(missing, told, strict=True))


class Untrained:
    """A trainer before its first step, and what is saved of it."""

    version, device, model = 0, torch.device("cpu"), None

    def __init__(self, extra: Mapping[str, Any]) -> None:
        self.extra = extra

    def load(self, _: Path) -> Mapping[str, Any]:
        return self.extra

    def snapshot(self, _: Any) -> list[Any]:
        return []

    def save_async(self, _: Path, extra: Mapping[str, Any]) -> "Future[None]":
        self.extra = extra
        saved: Future[None] = Future()
        saved.set_result(None)
        return saved


class Evaluates:
    """A client of a replay whose evaluations are over at once, or at which the learner is told to stop."""

    def __init__(self) -> None:
        self.learner: Learner | None = None
        self.evaluations: list[str] = []
        self.said: list[tuple[str, Mapping[str, Any]]] = []

    def request(self, kind: str, body: Mapping[str, Any]) -> Message:
        self.said.append((kind, body))
        if kind == "evaluate":
            self.evaluations.append(body["name"])
            if self.learner is not None:
                self.learner.stop()
        return Message("reply", 1, {"evaluation": 0, "result": {}, "snapshot": {}})


def started(
    tmp_path: Path,
    resume: Path | None,
    trainer: Untrained,
    client: Evaluates,
    change: str = "cold_start=null",
    stop: bool = False,
) -> None:
    """What a learner does before its first step."""
    storage = Storage(tmp_path, model=tmp_path, checkpoint=resume)
    learner = Learner(RoleContext(load(QUICKSTART, [change]), "learner", storage))
    learner._trainer, learner._client, learner._weights = trainer, client, NobodyReceives()  # type: ignore[assignment]
    learner._telling = telling(learner, client)
    client.learner = learner if stop else None
    with ThreadPoolExecutor(1) as learner._fetcher:
        learner._start()


def test_an_accuracy_before_training_that_was_not_measured_to_the_end_is_measured_by_the_resumed_run(
    tmp_path: Path,
) -> None:
    trainer, client = Untrained({}), Evaluates()
    started(tmp_path, None, trainer, client, stop=True)
    interrupted = trainer.extra
    started(tmp_path, tmp_path, Untrained(interrupted), client)
    assert client.evaluations == ["before", "before"]


def test_an_accuracy_before_training_that_is_known_is_not_measured_again(tmp_path: Path) -> None:
    trainer, client = Untrained({}), Evaluates()
    started(tmp_path, None, trainer, client)
    started(tmp_path, tmp_path, Untrained(trainer.extra), client)
    started(tmp_path, tmp_path, Untrained({"replay": {}}), client)  # a checkpoint of an earlier release
    assert client.evaluations == ["before"]


def test_a_learner_that_dies_after_its_cold_start_does_not_learn_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is there before a generator is; the accuracy is noted in it later, its weights being the same."""
    monkeypatch.setattr("actors.roles.learner.learner.cold_start", lambda *_: None)
    folder = tmp_path / "checkpoints" / checkpoint_name(0)

    class Saved(Untrained):
        def save_async(self, place: Path, extra: Mapping[str, Any]) -> "Future[None]":
            place.mkdir(parents=True)  # a second checkpoint of this step would fail here
            (place / META).write_text(json.dumps({"extra": extra}))
            return super().save_async(place, extra)

    class Dies(Evaluates):
        def request(self, kind: str, body: Mapping[str, Any]) -> Message:
            if kind == "evaluate":
                assert read_extra(folder)["evaluated"] is False
                raise KeyboardInterrupt
            return super().request(kind, body)

    with pytest.raises(KeyboardInterrupt):
        started(tmp_path, None, Saved({}), Dies(), "cold_start.examples=8")
    client = Evaluates()
    started(tmp_path, folder, Untrained(read_extra(folder)), client, "cold_start.examples=8")
    assert client.evaluations == ["before"]
    assert client.said.count(("committed", {"version": 0})) == 1
    assert read_extra(folder) == {"replay": {}, "evaluated": True}


class Written:
    """Takes down what a learner asks of its checkpoints."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def settle(self, wait: bool = False) -> None:
        self.asked.append("wait" if wait else "look")

    def begin(self, version: int) -> None:
        self.asked.append(f"begin {version}")


def test_no_checkpoint_is_begun_while_another_one_is_written(tmp_path: Path) -> None:
    recipe = load(QUICKSTART, ["checkpoint_every_steps=2", "evaluation.every_steps=0"])
    learner = Learner(RoleContext(recipe, "learner", Storage(tmp_path, model=tmp_path)))
    written = learner._checkpoints = Written()  # type: ignore[assignment]
    learner._after_step(3)
    assert written.asked == ["look"]
    learner._after_step(4)
    assert written.asked[2:] == ["wait", "begin 4"]


@pytest.mark.parametrize(
    ("learner", "generators", "merged"),
    [
        ("float32", "float32", "float32"),
        ("float32", "bfloat16", "bfloat16"),
        ("bfloat16", "float32", "bfloat16"),
        ("bfloat16", "bfloat16", "bfloat16"),
    ],
)
def test_merged_weights_are_rounded_as_if_they_had_travelled(
    tmp_path: Path, learner: str, generators: str, merged: str
) -> None:
    keys = ["learner.lora.rank=8", "learner.lora.alpha=4", "learner.lora.broadcast=adapters"]
    recipe = load(QUICKSTART, [*keys, f"learner.dtype={learner}", f"generators.dtype={generators}"])
    merging = merging_of(recipe, small_llama(tmp_path / "model", 64))
    assert (merging.dtype, merging.scale) == (merged, 0.5)


def test_answers_beyond_what_a_models_positions_allow_are_refused_at_the_start() -> None:
    recipe = load(QUICKSTART, ["tasks.max_prompt_tokens=100", "generators.sampling.max_tokens=28"])
    require_length(recipe, None)
    require_length(recipe, 128)
    with pytest.raises(RecipeError, match="are 128 together, and beyond 127 the positions"):
        require_length(recipe, 127)


def test_a_run_without_a_step_is_not_evaluated_before_and_after(tmp_path: Path) -> None:
    client = Evaluates()
    started(tmp_path, tmp_path, Untrained({"evaluated": False}), client, "steps=0")
    assert client.evaluations == []


def test_a_sampling_run_samples_training_tasks_and_curates_instead_of_evaluating(tmp_path: Path) -> None:
    recipe = load(QUICKSTART, ["steps=0", "sample={tasks: 5, samples: 2}"])
    learner = Learner(RoleContext(recipe, "learner", Storage(tmp_path, model=tmp_path)))
    exports, client = Exports(), Evaluates()
    learner._trainer, learner._client, learner._weights = exports, client, NobodyReceives()  # type: ignore[assignment]
    learner._telling = telling(learner, client)
    row = {"task": "t", "number": 0, "sample": 0, "messages": [], "response": "8", "reward": 1.0, "parts": {}}
    (tmp_path / "samples-drawn.jsonl").write_text(json.dumps(row | {"truncated": False}) + "\n")
    learner._finish()
    (asked,) = [body for kind, body in client.said if kind == "evaluate"]
    assert asked.items() >= {"name": "sample", "samples": 2, "training": 5, "keep": True}.items()
    assert asked["provenance"].keys() == {"run", "seed", "model"}
    (event,) = [body["event"] for kind, body in client.said if kind == "notice" and body["event"]["kind"] == "curation"]
    assert (event["sampled"], event["kept"], event["dropped"]) == (1, 1, {})
    assert json.loads((tmp_path / "curated.jsonl").read_text())["response"] == "8"


def test_the_hash_of_a_model_is_that_of_its_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    one = model_hash(tmp_path)
    assert one == hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "more.safetensors").write_bytes(b"weights")
    both = model_hash(tmp_path)
    lines = f"{one}  model.safetensors\n{one}  more.safetensors\n"
    assert both == hashlib.sha256(lines.encode()).hexdigest()
