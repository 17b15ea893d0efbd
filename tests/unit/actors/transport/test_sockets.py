"""Servers and clients over real sockets, of both families; and that nobody else opens one."""

import asyncio
import gc
import threading

import pytest

from actors.config.network import NetworkConfig, PortsConfig
from actors.deadline import until
from actors.errors import RunError
from actors.transport.address import Node, resolve, split
from actors.transport.codec import ZERO_COPY_BYTES, Frame
from actors.transport.sockets import AsyncDealerSocket, DealerSocket, RouterSocket, open_router

LIMIT = 2**20


def on(address: str) -> Node:
    return resolve(NetworkConfig(advertise=address), in_cluster=False)


def received(router: RouterSocket) -> tuple[bytes, list[Frame]]:
    assert router.poll(60)
    found = router.receive()
    assert found is not None
    return found


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_client_is_answered(address: str) -> None:
    router = open_router(on(address), 0, LIMIT)
    assert split(router.endpoint)[0] == address
    client = DealerSocket(router.endpoint, LIMIT)
    client.send([b"one", b"two"])
    identity, frames = received(router)
    assert frames == [b"one", b"two"]
    assert router.send(identity, [b"three"])
    assert client.poll(60)
    assert client.receive() == [b"three"]
    client.close()
    router.close()


@pytest.mark.filterwarnings("ignore:.*nclosed:ResourceWarning")
def test_a_client_that_nobody_has_closed_holds_up_no_thread_that_collects_garbage() -> None:
    gc.disable()
    try:
        owner: list[object] = [DealerSocket("tcp://127.0.0.1:9", LIMIT)]
        owner.append(owner)
        del owner
        collecting = threading.Thread(target=gc.collect, daemon=True)
        collecting.start()
        collecting.join(60)
        assert not collecting.is_alive()
    finally:
        gc.enable()


def test_large_frames_arrive_whole_and_cannot_be_changed() -> None:
    router = open_router(on("127.0.0.1"), 0, LIMIT)
    client = DealerSocket(router.endpoint, LIMIT)
    large = memoryview(bytearray(range(256)) * (ZERO_COPY_BYTES // 128))
    client.send([b"small", large])
    identity, (small, found) = received(router)
    assert (small, found) == (b"small", large)
    assert isinstance(found, memoryview) and found.readonly
    assert router.send(identity, [found])
    assert client.poll(60)
    assert client.receive() == [large]
    client.close()
    router.close()


def test_a_client_in_an_event_loop_still_says_what_it_said_last() -> None:
    router = open_router(on("127.0.0.1"), 0, LIMIT)

    async def scenario() -> None:
        client = AsyncDealerSocket(router.endpoint, LIMIT)
        await client.send([b"farewell"])
        client.close()

    asyncio.run(scenario())
    assert received(router)[1] == [b"farewell"]
    router.close()


def test_a_client_that_reconnects_gets_no_answer_to_an_earlier_request() -> None:
    router = open_router(on("127.0.0.1"), 0, LIMIT)
    client = DealerSocket(router.endpoint, LIMIT)
    client.send([b"early"])
    identity, _ = received(router)
    client.reconnect()
    router.send(identity, [b"late"])
    client.send([b"again"])
    assert received(router)[1] == [b"again"]
    assert not client.poll(0.2)
    client.close()
    router.close()


def test_a_message_over_the_limit_does_not_arrive_and_harms_nobody_else() -> None:
    router = open_router(on("127.0.0.1"), 0, 1000)
    rude, polite = (DealerSocket(router.endpoint, LIMIT) for _ in range(2))
    rude.send([b"x" * 2000])
    polite.send([b"hello"])
    assert received(router)[1] == [b"hello"]
    for client in (rude, polite):
        client.close()
    router.close()


def test_ports_come_from_the_range_or_are_refused() -> None:
    probe = open_router(on("127.0.0.1"), 0, LIMIT)
    port = split(probe.endpoint)[1]
    full = Node("127.0.0.1", "127.0.0.1", PortsConfig(range=(port, port)))
    with pytest.raises(RunError, match=r"network\.ports\.range"):
        open_router(full, 0, LIMIT)
    with pytest.raises(RunError, match=r"network\.ports\.replay"):
        open_router(full, port, LIMIT, "network.ports.replay")
    probe.close()

    def free() -> bool:
        try:
            open_router(full, 0, LIMIT).close()
        except RunError:
            return False
        return True

    assert until(free, 30)


def test_what_is_bound_is_not_what_is_advertised() -> None:
    router = open_router(Node("127.0.0.1", "192.0.2.7", PortsConfig()), 0, LIMIT)
    host, port = split(router.endpoint)
    assert host == "192.0.2.7"
    client = DealerSocket(f"tcp://127.0.0.1:{port}", LIMIT)
    client.send([b"by another name"])
    assert received(router)[1] == [b"by another name"]
    client.close()
    router.close()
