"""Task sources whose answers get no preference rewards."""

import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from actors.deadline import until
from actors.roles.role import RoleContext, Storage
from actors.roles.verifier.verifier import Verifier
from tests.unit.actors.roles.verifier.judge_stub import StubJudge, by_length, recipe_of
from tests.unit.actors.roles.verifier.test_judge import LEASED
from tests.unit.actors.transport.test_client import FakeReplay

SOURCES = "tasks.sources=[{source: addition, digits: 3}, {source: addition, digits: 2, preferences: false}]"
TALK = {"verifier": "none", "reference": "{}", "source": "addition:3", "texts": ["so", "so what"], "group_id": 2}


class Both(FakeReplay):
    """Leases a group of a source without preferences, and one that no rule decides."""

    @property
    def reply(self) -> dict[str, Any]:
        groups = [LEASED | {"source": "addition:2"}, LEASED | TALK]
        return {"groups": groups} if self.kinds[-1] == "lease_verification" else {}

    @reply.setter
    def reply(self, value: object) -> None:
        """What it answers follows from what it is asked."""

    def scores(self) -> dict[int, list[dict[str, Any]]]:
        told = [body for kind, body in zip(list(self.kinds), self.bodies, strict=False) if kind == "verdict"]
        return {body["group_id"]: body["scores"] for body in told}


def test_each_group_gets_the_parts_that_its_source_has(tmp_path: Path) -> None:
    with closing(StubJudge(by_length)) as judge, closing(Both()) as replay:
        recipe = recipe_of(judge.url, "sandbox.workers=1", SOURCES)
        verifier = Verifier(RoleContext(recipe, "verifier-1", Storage(tmp_path), replay.endpoint))
        thread = threading.Thread(target=verifier.run, daemon=True)
        thread.start()
        assert until(lambda: replay.scores().keys() >= {1, 2}, 120)
        verifier.stop()
        thread.join(120)
        assert not thread.is_alive()
        ruled, preferred = replay.scores()[1], replay.scores()[2]
    assert [score["parts"]["accuracy"] for score in ruled] == [1.0, 0.0]
    assert not any(name.startswith("preference") for score in ruled for name in score["parts"])
    assert [score["status"] for score in preferred] == ["unverified"] * 2
    assert all("accuracy" not in score["parts"] for score in preferred)
    assert [score["parts"]["preference/helpfulness"] for score in preferred] == [2.0, 7.0]
    assert [score["reward"] for score in preferred] == pytest.approx([-0.3, 0.3])  # of preferences.clip alone
