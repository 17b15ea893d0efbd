"""How a process of a test becomes one of two ranks, and what it trains with."""

import datetime
import socket

import torch
import torch.distributed as dist

from learner import LearnerConfig, OptimizerConfig

PLAIN = LearnerConfig(
    dtype="float32",
    device="cpu",
    micro_batch_tokens=60,
    optimizer=OptimizerConfig(learning_rate=1e-3, epsilon=1e-6),
)


def free_port() -> int:
    """A port that the first rank can listen at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def join(rank: int, port: int, seconds: float) -> None:
    """Meet the other rank over Gloo; nothing between them may take longer than `seconds`."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=seconds),
    )
