"""The life of a run as the controller leads it, with a real replay and everything else faked. No Ray."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from actors.deadline import until
from actors.errors import RunError
from actors.observability.exposition import CONTROLLER
from actors.transport.client import Client
from tests.unit.actors.control.controller_life import SECONDS, Life, up


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
