"""The servers that `benchmarks.replay` measures, each a process of its own.

    python -m benchmarks.replay_server ours FOLDER key=value ...   the replay as a run starts it
    python -m benchmarks.replay_server bare copy|view              a bare ROUTER that answers with what it was told to

Either prints its address, and ends with its standard input.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

import zmq

from actors.config.loading import load
from actors.roles.role import RoleContext, Storage, build

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "quickstart.yaml"
#: First frame of what a bare ROUTER is to remember: the answer to a kind of request.
REMEMBER = b"remember"


def ours(folder: Path, overrides: list[str]) -> None:
    """Serve a replay until standard input ends."""
    role = build("replay", RoleContext(load(RECIPE, overrides), "replay", Storage(folder)))
    print(role.describe().address, flush=True)

    def stop_at_the_end_of_input() -> None:
        sys.stdin.read()
        role.stop()

    threading.Thread(target=stop_at_the_end_of_input, daemon=True).start()
    role.run()


def bare(copy: bool) -> None:
    """Receive and send whole messages, and nothing else: what pyzmq alone can do.

    Args:
        copy: whether into and out of bytes, as pyzmq does by default, or where they are.
    """
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.SNDHWM, 0)
    print(f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}", flush=True)
    answers: dict[bytes, list[bytes]] = {}
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    while True:
        if sys.stdin.fileno() in dict(poller.poll()):
            break
        received = socket.recv_multipart(0, copy=copy)
        identity, kind = (frame if isinstance(frame, bytes) else frame.bytes for frame in received[:2])
        if kind == REMEMBER:
            frames = [frame if isinstance(frame, bytes) else frame.bytes for frame in received[2:]]
            answers[frames[0]] = frames[1:]
            socket.send_multipart([identity, kind])
        else:
            socket.send_multipart([identity, *answers[kind]], copy=copy)
    socket.close(0)
    context.term()


if __name__ == "__main__":
    if sys.argv[1] == "bare":
        bare(copy=sys.argv[2] == "copy")
    else:
        with tempfile.TemporaryDirectory(dir=sys.argv[2]) as place:
            ours(Path(place), sys.argv[3:])
