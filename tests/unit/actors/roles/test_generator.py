"""What a generator makes of its engine's completions."""

import numpy as np

from actors.engines.protocol import SampledCompletion
from actors.replay.payload import Payload
from actors.roles.generator import payload_of


def completion(spans: tuple[tuple[int, int], ...], truncated: bool = False) -> SampledCompletion:
    length = sum(tokens for _, tokens in spans)
    tokens = np.arange(length, dtype=np.int32)
    return SampledCompletion(tokens, np.full(length, -0.5, np.float32), spans, truncated, "text")


def test_a_group_travels_whole_and_every_token_keeps_its_version() -> None:
    sampled = [completion(((3, 2), (4, 1))), completion(((4, 5),), truncated=True)]
    arrived = Payload.of(payload_of([7, 8, 9], sampled).arrays(), group_size=2)
    assert arrived.prompt.tolist() == [7, 8, 9]
    assert arrived.lengths.tolist() == [3, 5]
    assert arrived.truncated.tolist() == [0, 1]
    assert arrived.token_versions().tolist() == [3, 3, 4, 4, 4, 4, 4, 4]
    assert (arrived.oldest, arrived.newest) == (3, 4)
