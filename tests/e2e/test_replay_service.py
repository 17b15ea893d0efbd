"""Real sockets: what a client of the replay can rely on."""

import json
import math
import sqlite3
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from actors.config.loading import load
from actors.config.network import NetworkConfig, PortsConfig
from actors.config.roles import JournalConfig
from actors.deadline import until
from actors.errors import PeerTimeoutError, ProtocolError
from actors.events import EVENT, Phase, StepDone
from actors.observability import metrics
from actors.replay import rows
from actors.replay import service as replay_service
from actors.replay.board import Board
from actors.replay.buffer import Buffer
from actors.replay.journal import Identity, Journal
from actors.replay.limits import ReplayLimits
from actors.replay.service import ReplayService
from actors.roles.role import RoleContext, Storage, build
from actors.transport.address import resolve
from actors.transport.client import Client
from actors.transport.codec import Message, decode, encode
from actors.transport.sockets import DealerSocket
from learner.extra import META
from tests.unit.actors.replay.buffer_world import Sums, payload

pytestmark = pytest.mark.e2e

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"


def service(port: int = 0, clock: Callable[[], float] = time.monotonic) -> ReplayService:
    buffer = Buffer(ReplayLimits(max_staleness=0, groups_per_batch=1), 2, Sums())
    node = resolve(NetworkConfig(ports=PortsConfig(replay=port)), in_cluster=False)
    started = ReplayService(buffer, Board(20.0), node, 2**20, metrics_address="127.0.0.1:9", clock=clock)
    started.start()
    return started


@pytest.fixture
def replay() -> Iterator[ReplayService]:
    started = service()
    yield started
    started.stop()


def client(replay: ReplayService, role: str) -> Client:
    return Client(replay.address, f"{role}-1", role)


def submit(generator: Client, task: dict[str, Any]) -> None:
    body = {"purpose": "train", "group_id": task["group_id"], "prompt": "", "texts": ["a", "b"]}
    assert generator.request("group_arrived", body, payload().arrays()).body["accepted"]


def test_a_long_poll_is_answered_when_there_is_something(replay: ReplayService) -> None:
    generator, verifier = client(replay, "generator"), client(replay, "verifier")
    (task,) = generator.request("lease", {"version": 0, "capacity": 4}).body["tasks"]
    answers: list[Any] = []
    waiting = threading.Thread(
        target=lambda: answers.append(verifier.request("lease_verification", {"capacity": 1}, wait_seconds=30))
    )
    waiting.start()
    submit(generator, task)
    waiting.join(60)
    assert answers[0].body["groups"][0]["group_id"] == task["group_id"]


def test_a_long_poll_without_news_ends_in_time() -> None:
    now = [0.0]
    replay = service(clock=lambda: now[0])
    verifier, answers = client(replay, "verifier"), list[Any]()
    waiting = threading.Thread(
        target=lambda: answers.append(verifier.request("lease_verification", {"capacity": 1}, wait_seconds=60))
    )
    waiting.start()
    assert until(lambda: len(replay._polls) == 1, 60)
    for now[0] in (30.0, 59.0):
        client(replay, "controller").request("status")  # a look at the clock later
    assert not answers and len(replay._polls) == 1
    now[0] = 61.0
    waiting.join(60)
    assert answers[0].body == {}
    replay.stop()


def test_a_rejection_reaches_the_caller_and_the_replay_goes_on(replay: ReplayService) -> None:
    generator = client(replay, "generator")
    with pytest.raises(ProtocolError, match="capacity"):
        generator.request("lease", {"version": 0, "capacity": 0})
    assert generator.request("lease", {"version": 0, "capacity": 1}).body["tasks"]


def header(**changes: Any) -> bytes:
    fields = {"schema": 1, "kind": "status", "id": 1, "body": {"worker": "x", "role": "learner"}, "arrays": []}
    return bytes(msgpack.packb(fields | changes))


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\xc1" * 50],
        [b"a", b"b", b"c"],
        [b"\x80"],
        [header(schema=2)],
        [header(kind="nonsense")],
        [header(kind=7)],
        [header(body={})],
        [header(body={1: 2})],
        [header(body={"worker": "x", "role": "pirate"})],
        [header(arrays=[["tokens", "<i4", [3]]]), b"123"],
        [header(arrays=[["tokens", "<f8", [1]]]), b"12345678"],
        [header(), b"one frame too many"],
        [header(kind="trained", body={"worker": "x", "role": "learner", "version": 0, "statistics": {"a": None}})],
    ],
)
def test_noise_on_the_socket_is_counted_and_does_no_harm(replay: ReplayService, frames: list[bytes]) -> None:
    before = rejected()
    context = zmq.Context()
    noise = context.socket(zmq.DEALER)
    noise.setsockopt(zmq.LINGER, 0)
    noise.connect(replay.address)
    noise.send_multipart(frames)
    assert noise.poll(60_000), "noise is answered with an error"
    assert msgpack.unpackb(noise.recv_multipart()[0])["kind"] == "error"
    noise.close()
    context.term()
    assert rejected() == before + 1
    assert client(replay, "generator").request("lease", {"version": 0, "capacity": 1}).body["tasks"]


def rejected() -> float:
    (family,) = metrics.MALFORMED.collect()
    return next(sample.value for sample in family.samples if sample.name.endswith("_total"))


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "nonsense"},
        {"name": "training"},
        {"kind": "phase", "name": None},
        {"kind": "phase", "name": "training", "seconds": math.nan},
        {"kind": "step", "step": 0, "version": 1, "statistics": {}, "staleness": {}, "step_seconds": 1.0},
        "training",
    ],
)
def test_a_malformed_event_is_counted_and_ends_nothing(replay: ReplayService, event: Any) -> None:
    before, learner = rejected(), client(replay, "learner")
    with pytest.raises(ProtocolError, match="event"):
        learner.request("notice", {"event": event})
    assert rejected() == before + 1
    learner.request("notice", {"event": Phase(name="training").model_dump(mode="json")})
    (told,) = client(replay, "controller").request("events", {"after": 0}).body["events"]
    assert (told["kind"], told["name"]) == ("phase", "training")


@pytest.mark.parametrize("answer", ["half \ud83d", 2**70, {1, 2}])
def test_an_answer_that_no_message_holds_ends_nothing(replay: ReplayService, answer: Any) -> None:
    class Odd(Sums):
        def train(self, index: int) -> Mapping[str, Any]:
            return {**super().train(index), "reference": {"answer": answer}}

    replay._buffer.tasks = Odd()
    generator, verifier = client(replay, "generator"), client(replay, "verifier")
    (task,) = generator.request("lease", {"version": 0, "capacity": 1}).body["tasks"]
    submit(generator, task)
    if isinstance(answer, str):
        (group,) = verifier.request("lease_verification", {"capacity": 1}).body["groups"]
        assert group["reference"] == {"answer": "half ?"}
    else:
        with pytest.raises(ProtocolError, match="cannot be written as MessagePack"):
            verifier.request("lease_verification", {"capacity": 1})
    assert verifier.request("status").body["refusals"] == {}, "the replay goes on"


def test_a_statistic_that_is_not_a_number_reaches_the_watcher(replay: ReplayService) -> None:
    generator, verifier, learner = (client(replay, role) for role in ("generator", "verifier", "learner"))
    (task,) = generator.request("lease", {"version": 0, "capacity": 1}).body["tasks"]
    submit(generator, task)
    verifier.request("lease_verification", {"capacity": 1})
    scores = [{"status": "ok", "reward": reward} for reward in (1.0, 0.0)]
    verifier.request("verdict", {"purpose": "train", "group_id": task["group_id"], "scores": scores})
    learner.request("take_batch", {"version": 0})
    body = {"version": 0, "statistics": {"loss": math.nan}, "staleness": {0: 6}, "step_seconds": 1.0}
    learner.request("trained", body)
    step, *samples = client(replay, "controller").request("events", {"after": 0}).body["events"]
    found = EVENT.validate_python(step)
    assert isinstance(found, StepDone) and math.isnan(found.statistics["loss"])
    assert [sample["source"] for sample in samples] == ["even", "even"]


def test_a_silent_worker_loses_its_leases_and_is_taken_back() -> None:
    now = [0.0]
    replay = service(clock=lambda: now[0])
    suspended, other = Client(replay.address, "generator-1", "generator"), client(replay, "controller")
    (task,) = suspended.request("lease", {"version": 0, "capacity": 1}).body["tasks"]

    def alive() -> list[str]:
        return [member["name"] for member in other.request("members").body["members"]]

    for moment in (7.0, 14.0, 20.0):
        now[0] = moment
        assert "generator-1" in alive()
    now[0] = 21.0
    assert until(lambda: "generator-1" not in alive(), 30)
    body = {"purpose": "train", "group_id": task["group_id"], "prompt": "", "texts": ["a", "b"]}
    assert not suspended.request("group_arrived", body, payload().arrays()).body["accepted"]
    assert "generator-1" in alive()
    (again,) = suspended.request("lease", {"version": 0, "capacity": 1}).body["tasks"]
    assert again["key"] == task["key"]
    submit(suspended, again)
    replay.stop()


def test_a_replay_that_stood_still_takes_nobody_for_dead() -> None:
    now = [0.0]
    replay = service(clock=lambda: now[0])
    generator, other = client(replay, "generator"), client(replay, "controller")
    (task,) = generator.request("lease", {"version": 0, "capacity": 1}).body["tasks"]
    now[0] = 500.0
    assert "generator-1" in [member["name"] for member in other.request("members").body["members"]]
    submit(generator, task)
    replay.stop()


def test_every_request_of_a_full_tick_is_answered(replay: ReplayService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_service, "TICK_BYTES", 1)
    wire = DealerSocket(replay.address, 2**20)
    sender = {"worker": "controller-1", "role": "controller"}
    for number in range(1, 9):
        wire.send(encode(Message("status", number, sender)))
    answered = set()
    while len(answered) < 8 and wire.poll(60):
        answered.add(decode(wire.receive(), 2**20).id)
    wire.close()
    assert answered == set(range(1, 9))


def test_a_process_that_has_exited_is_replaced_at_once(replay: ReplayService) -> None:
    exited, fresh = (Client(replay.address, f"generator-{number}", "generator") for number in (1, 2))
    controller = client(replay, "controller")
    (task,) = exited.request("lease", {"version": 0, "capacity": 1}).body["tasks"]
    assert not fresh.request("lease", {"version": 0, "capacity": 1}).body.get("tasks"), "the staleness bound"
    assert controller.request("remove_member", {"name": "generator-1"}).body == {"removed": True}
    (again,) = fresh.request("lease", {"version": 0, "capacity": 1}).body["tasks"]
    assert again["key"] == task["key"]


def test_no_work_is_leased_to_a_long_poll_of_a_process_that_has_exited(replay: ReplayService) -> None:
    generator, exited = client(replay, "generator"), Client(replay.address, "verifier-1", "verifier")
    answers: list[Any] = []
    body = {"capacity": 1}
    waiting = threading.Thread(
        target=lambda: answers.append(exited.request("lease_verification", body, wait_seconds=30))
    )
    waiting.start()
    controller = client(replay, "controller")
    assert until(lambda: controller.request("remove_member", {"name": "verifier-1"}).body["removed"], 30)
    waiting.join(60)
    assert answers[0].body == {}
    (task,) = generator.request("lease", {"version": 0, "capacity": 1}).body["tasks"]
    submit(generator, task)
    assert Client(replay.address, "verifier-2", "verifier").request("lease_verification", body).body["groups"]


def test_the_replay_is_on_its_own_list(replay: ReplayService) -> None:
    def own() -> Any:
        members = client(replay, "controller").request("members").body["members"]
        return next((member for member in members if member["role"] == "replay"), None)

    assert until(own, 30)
    assert (own()["name"], own()["report"]["metrics"]) == ("replay", "127.0.0.1:9")


def test_a_replay_that_is_gone_is_named() -> None:
    gone = service()
    address = gone.address
    gone.stop()
    with pytest.raises(PeerTimeoutError, match=address):
        Client(address, "learner", "learner").request("status", deadline_seconds=0.2)


def test_a_client_outlives_a_restart_of_the_replay() -> None:
    first = service()
    port = int(first.address.rpartition(":")[2])
    generator = Client(first.address, "generator-1", "generator")
    generator.request("status")
    first.stop()
    with pytest.raises(PeerTimeoutError):
        generator.request("status", deadline_seconds=0.2)
    second = service(port)

    def answered() -> bool:
        try:
            return "groups" in generator.request("status", deadline_seconds=1).body
        except PeerTimeoutError:
            return False

    assert until(answered, 30)
    second.stop()


def test_while_the_disk_is_full_whoever_changes_nothing_is_answered_and_the_others_wait(tmp_path: Path) -> None:
    made: list[sqlite3.Connection] = []

    def connect(path: str) -> sqlite3.Connection:
        made.append(rows.connect(path))
        return made[-1]

    limits = ReplayLimits(max_staleness=0, groups_per_batch=1)
    journal = Journal(tmp_path, Identity("run", 2, limits), JournalConfig(), connect)
    node = resolve(NetworkConfig(), in_cluster=False)
    replay = ReplayService(Buffer(limits, 2, Sums()), Board(20.0), node, 2**24, journal=journal)
    pages = made[0].execute("PRAGMA page_count").fetchone()[0]
    made[0].execute(f"PRAGMA max_page_count = {pages}")
    replay.start()
    generator, controller = Client(replay.address, "generator-1", "generator", 600.0), client(replay, "controller")
    answers: list[Any] = []

    def work() -> None:
        (task,) = generator.request("lease", {"version": 0, "capacity": 1}).body["tasks"]
        body = {"purpose": "train", "group_id": task["group_id"], "prompt": "p" * 200_000, "texts": ["a", "b"]}
        answers.append(generator.request("group_arrived", body, payload().arrays()).body)

    working = threading.Thread(target=work, daemon=True)
    working.start()

    def told() -> bool:
        try:  # what is asked in the very tick that could not be written is not answered: it might tell what is lost
            events = controller.request("events", {"after": 0}, deadline_seconds=2.0).body.get("events", ())
        except PeerTimeoutError:
            return False
        return [event["reason"] != "" for event in events][:1] == [True]

    assert until(told, 60)
    for seconds in (0.1, 1.0, 10.0, 60.0):  # a busy machine takes longer to say why
        with pytest.raises(PeerTimeoutError) as refused:
            controller.request("remove_member", {"name": "generator-9"}, deadline_seconds=seconds)
        if "full" in str(refused.value):
            break
    assert "full" in str(refused.value)
    assert controller.request("status").body["conserved"]
    assert controller.request("members").body["members"]
    assert not answers and working.is_alive()
    made[0].execute("PRAGMA max_page_count = 100000")
    working.join(60)
    assert answers == [{"accepted": True}]
    events = controller.request("events", {"after": 0}).body["events"]
    assert [event["reason"] != "" for event in events] == [True, False]
    replay.stop()


def test_the_role_serves_until_it_is_told_to_stop_and_resumes_from_a_checkpoint(tmp_path: Path) -> None:
    snapshot = {"version": 2, "cursor": 40, "committed": 8, "pending": [3], "dropped": {"stale": 1}}
    (tmp_path / META).write_text(json.dumps({"extra": {"replay": snapshot}}))
    storage = Storage(tmp_path / "run", checkpoint=tmp_path)
    role = build("replay", RoleContext(load(QUICKSTART), "replay-1", storage))
    running = threading.Thread(target=role.run)
    running.start()
    described = role.describe()
    controller = Client(described.address, "controller", "controller")
    status = controller.request("status").body
    assert (status["version"], status["groups"]["committed"], status["groups"]["dropped"]) == (2, 8, {"stale": 1})

    def own() -> Any:
        return next((m for m in controller.request("members").body["members"] if m["name"] == "replay-1"), None)

    assert until(own, 30)
    assert own()["report"]["metrics"] == described.metrics
    with urllib.request.urlopen(f"http://{described.metrics}/metrics", timeout=10) as page:
        assert b'leeway_workers{role="generator"} 0.0' in page.read()
    role.stop()
    running.join(60)
    assert not running.is_alive()
