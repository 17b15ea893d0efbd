"""After any history of crashes the weights are those of training the journal's committed batches in order."""

import random
import shutil
from pathlib import Path

import pytest

from actors.commands.replay import replay
from actors.errors import RunError
from tests.e2e.exactly_once import check_law, torment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_weights_after_random_kills_are_those_of_the_committed_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # shown where it fails
    run = torment(tmp_path / "run", steps=16, kills=3, seed=seed)
    assert check_law(run, seed) >= 4
    monkeypatch.chdir(tmp_path)  # where the run's model is
    replay(run.folder, "7:13")
    assert "bit-identical to the checkpoints of the steps 8, 12" in " ".join(capsys.readouterr().out.split())
    replay(run.folder, "6:9", ["learner.objective.name=gspo"])
    report = next(path for path in run.folder.glob("replays/*/report.md") if "gspo" in path.read_text())
    assert [line.split()[1] for line in report.read_text().splitlines() if line.startswith("|")][2:] == list("6789")
    recorded = run.folder / "checkpoints" / "step-000012"
    shutil.rmtree(recorded)
    shutil.copytree(recorded.with_name("step-000008"), recorded)
    with pytest.raises(RunError, match="step 12 differs from its checkpoint, first in model"):
        replay(run.folder, "9:13")
