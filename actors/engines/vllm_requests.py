"""What a group asks of vLLM, and how far it is.

A group that begins anew is one request for all its completions. One that is continued is a request for each completion
that has not ended, whose prompt has the tokens that it has already.

vLLM tells of log-probabilities and versions where a request ends, or of tokens alone as they come. What there is of a
request that is under way stands in its output processor, which runs in this process and on this event loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from actors.engines.protocol import Job
from actors.replay.progress import End, Partial

ENDS = {None: End.RUNNING, "length": End.TRUNCATED}


@dataclass(slots=True)
class CompletionRequest:
    """`indexes` are the positions of its completions in the group; `done` are those that have ended.

    A request that continues a completion has its `prefix` after the prompt.
    """

    name: str
    indexes: Sequence[int]
    prefix: list[int] = field(default_factory=list)
    seed: int | None = None
    done: dict[int, Partial] = field(default_factory=dict)

    def so_far(self, processor: Any) -> dict[int, Partial]:
        """What was sampled by this request, by the completion's position in the group."""
        found = dict(self.done)
        for state in self._states(processor):
            if state.parent_req is not None:
                found |= self._ended_before(state.parent_req)
            tokens = state.detokenizer.output_token_ids
            starts = [*state.weight_version_starts, (None, len(tokens))]
            spans = tuple((int(v), end - start) for (v, start), (_, end) in pairwise(starts))
            logprobs = state.logprobs_processor.logprobs.logprobs
            found[self.indexes[state.request_index]] = partial(tokens, logprobs, spans, None)
        return found

    def end(self, outputs: Sequence[Any]) -> None:
        """Keep the completions of vLLM's outputs, which have ended."""
        for output in outputs:
            self.done[self.indexes[output.index]] = partial_of(output)

    def lengths(self, processor: Any) -> dict[int, int]:
        """How many tokens were sampled by this request, by the completion's position in the group."""
        found = {index: len(part) for index, part in self.done.items()}
        for state in self._states(processor):
            if state.parent_req is not None:
                ended = [output for output in state.parent_req.output_aggregator if output is not None]
                found |= {self.indexes[output.index]: len(output.token_ids) for output in ended}
            found[self.indexes[state.request_index]] = state.detokenizer.num_output_tokens()
        return found

    def _states(self, processor: Any) -> list[Any]:
        return [processor.request_states[child] for child in processor.external_req_ids.get(self.name, ())]

    def _ended_before(self, parent: Any) -> dict[int, Partial]:
        """Completions that have ended while others of the request go on."""
        ended = [output for output in parent.output_aggregator if output is not None]
        return {self.indexes[output.index]: partial_of(output) for output in ended}


def requests_of(job: Job, name: str) -> list[CompletionRequest]:
    """The requests that complete a group."""
    left = [index for index, part in enumerate(job.begun) if part.end is End.RUNNING]
    if not any(map(len, job.begun)):
        return [CompletionRequest(name, left, seed=job.seed)]
    return [CompletionRequest(f"{name}.{i}", [i], job.begun[i].tokens.tolist(), job.seed_of(i)) for i in left]


def partial_of(output: Any) -> Partial:
    """A completion that vLLM has ended, as far as this request sampled it.

    Raises:
        RuntimeError: vLLM lacks the log-probability of a token.
    """
    spans = tuple((int(span.version), span.end - span.start) for span in output.weight_versions)
    # With logprobs=0 the flat list holds exactly the sampled token of each position.
    logprobs = output.logprobs.logprobs
    if len(logprobs) != len(output.token_ids):
        raise RuntimeError(f"vLLM returned {len(logprobs)} logprobs for {len(output.token_ids)} tokens")
    ended = partial(output.token_ids, logprobs, spans, output.finish_reason)
    if (routed := output.routed_experts) is None:
        return ended
    return replace(ended, routed_experts=routed.reshape(len(routed), -1))


def partial(tokens: Sequence[int], logprobs: Sequence[float], spans: tuple[tuple[int, int], ...], end: Any) -> Partial:
    """What vLLM says of a completion, as arrays."""
    values = np.minimum(np.asarray(logprobs, np.float32), 0.0)
    return Partial(np.asarray(tokens, np.int32), values, spans, ENDS.get(end, End.STOPPED))
