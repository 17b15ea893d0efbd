"""Beside a damaged newest checkpoint a learner goes on from an older one, or says what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from actors.config.loading import dump, load
from actors.folder import reopen
from actors.replay.batch import decode_batch
from actors.roles.learner.resuming import resume
from actors.roles.replay import brought_back
from actors.roles.role import RoleContext, Storage
from benchmarks.models import small_llama
from learner import CheckpointError, LearnerConfig, OptimizerConfig, Trainer
from learner.extra import META, checkpoint_name
from tests.unit.actors.replay.buffer_world import World
from tests.unit.learner.distributed.two_ranks import free_port, join

QUICKSTART = Path(__file__).parents[5] / "recipes" / "quickstart.yaml"
CONFIG = LearnerConfig(
    dtype="float32", device="cpu", optimizer=OptimizerConfig(learning_rate=1e-3), checkpoint_keep_last=9
)
SHARD = "__0_0.distcp"
OTHER_BYTES = f"step-000004 ({SHARD} holds other bytes than were written) is damaged"


def flip(shard: Path) -> None:
    """Change a byte; name and size are what they were."""
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return small_llama(tmp_path_factory.mktemp("model"), 64, num_hidden_layers=1, num_attention_heads=2)


class Past:
    """A run of four steps: its replay, its folder with checkpoints of the steps 2 and 4, and the weights after them."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model, self.replay = folder, model, World()
        trainer = Trainer(CONFIG, model, seed=0)
        for version in range(4):
            (task,) = self.replay.lease(version=version)
            self.replay.submit(task, version)
            self.replay.score([1.0, 0.0])
            self.train(trainer)
            if trainer.version % 2 == 0:
                snapshot = self.replay.say("snapshot", "learner", version=trainer.version)["snapshot"]
                trainer.save(self.place(trainer.version), {"replay": snapshot})
        self.weights = dict(trainer.snapshot())

    def train(self, trainer: Trainer) -> None:
        version = trainer.version
        batch = self.replay.say("take_batch", "learner", version=version)
        statistics = trainer.train_step(decode_batch(batch, batch["arrays"], 2))
        self.replay.say("trained", "learner", version=version, statistics=statistics, staleness={}, step_seconds=1.0)

    def place(self, step: int) -> Path:
        return self.folder / "checkpoints" / checkpoint_name(step)

    def committed(self, version: int) -> None:
        self.replay.say("committed", "learner", version=version)

    def left(self) -> set[str]:
        return {path.name.partition("-damaged-")[0] for path in (self.folder / "checkpoints").iterdir()}


@pytest.fixture
def past(tmp_path: Path, model: Path) -> Past:
    return Past(tmp_path, model)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "holds other bytes": lambda place: flip(place / SHARD),
    "bytes of": lambda place: (place / SHARD).write_bytes(b"short"),
    "is missing": lambda place: (place / SHARD).unlink(),
    f"{META} is missing": lambda place: (place / META).unlink(),
    f"{META} cannot be read": lambda place: (place / META).write_text("{"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_what_was_never_committed_is_trained_again_on_the_same_batches(past: Past, what: str) -> None:
    past.committed(2)
    DAMAGES[what](past.place(4))
    trainer = Trainer(CONFIG, past.model, seed=1)
    resumed = resume(trainer, past.folder, None, past.committed)
    assert resumed is not None and trainer.version == 2
    ((line,), extra) = resumed[1], resumed[0]
    assert "step-000004 is damaged" in line and what in line and "goes on from step 2" in line
    assert extra["replay"]["version"] == 2
    (aside,) = (past.folder / "checkpoints").glob("step-000004-damaged-*")
    assert aside.name in line and not past.place(4).exists()
    for _ in range(2):
        past.train(trainer)
    assert all(torch.equal(tensor, past.weights[name]) for name, tensor in trainer.snapshot())


def test_what_was_committed_is_not_trained_on_other_batches_and_a_line_says_what_to_do(past: Past) -> None:
    past.committed(4)
    flip(past.place(4) / SHARD)
    status = past.replay.buffer.state.status()
    with pytest.raises(CheckpointError) as raised:
        resume(Trainer(CONFIG, past.model, seed=1), past.folder, None, past.committed)
    text = str(raised.value)
    assert OTHER_BYTES in text and "what came after step-000002 is committed" in text
    assert "put a whole copy in its place, or begin again at step 2" in text and len(text.splitlines()) == 1
    assert f"`leeway run --resume {past.folder}`" in text
    assert past.left() == {"step-000002", "step-000004"}, "it may be needed for a comparison"
    assert past.place(4).is_dir() and past.replay.buffer.state.status() == status


def test_what_the_line_says_can_be_done(past: Past) -> None:
    """Also in the folder of a learner that `leeway up` started."""
    flip(past.place(4) / SHARD)
    (past.folder / "recipe.yaml").write_text(dump(load(QUICKSTART, ["steps=8"])))
    assert reopen(past.folder, []).step == 2


def test_a_replay_without_a_journal_begins_where_the_learner_does(past: Past) -> None:
    """A controller that lets it start again names the newest by size, whose bytes are damaged."""
    flip(past.place(4) / SHARD)
    recipe = load(QUICKSTART, ["replay.journal.durability=off"])
    buffer, _, journal = brought_back(RoleContext(recipe, "replay", Storage(past.folder, checkpoint=past.place(4))))
    assert journal is None and buffer.ledger.version == 2
    trainer = Trainer(CONFIG, past.model, seed=1)
    assert resume(trainer, past.folder, past.place(4), buffer.commit) is not None
    assert trainer.version == buffer.ledger.version


def test_where_all_are_damaged_nothing_is_touched(past: Past) -> None:
    for step in (2, 4):
        flip(past.place(step) / SHARD)
    with pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged: step-000004 \(.*\), step-000002 \("):
        resume(Trainer(CONFIG, past.model, seed=1), past.folder, None, past.committed)
    assert past.place(2).is_dir() and past.place(4).is_dir()


def test_whole_ones_are_left_alone_and_without_any_a_run_begins(past: Past) -> None:
    trainer = Trainer(CONFIG, past.model, seed=1)
    assert resume(trainer, past.folder, None, past.committed) == ({"replay": past_snapshot(past, 4)}, [])
    assert trainer.version == 4 and past.left() == {"step-000002", "step-000004"}
    shutil.rmtree(past.folder / "checkpoints")
    assert resume(trainer, past.folder, None, past.committed) is None


def past_snapshot(past: Past, step: int) -> object:
    return json.loads((past.place(step) / META).read_text())["extra"]["replay"]


def _rank(rank: int, port: int, folder: Path, model: Path) -> None:
    join(rank, port, 120)
    told: list[int] = []
    resumed = resume(Trainer(CONFIG, model, seed=1), folder, None, told.append)
    assert resumed is not None
    (folder / f"rank-{rank}.json").write_text(json.dumps([told, resumed[1]]))
    dist.barrier()
    dist.destroy_process_group()


def test_all_ranks_go_on_from_the_same_one(past: Past) -> None:
    flip(past.place(4) / SHARD)  # which the first rank alone reads
    mp.spawn(_rank, (free_port(), past.folder, past.model), nprocs=2)  # type: ignore[no-untyped-call]
    (first, said), (second, silent) = (json.loads((past.folder / f"rank-{rank}.json").read_text()) for rank in range(2))
    assert first == second == [2]
    assert len(said) == 1 and silent == [], "one of them renames it"
