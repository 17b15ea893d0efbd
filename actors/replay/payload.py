"""A group of completions as it travels: flat arrays, validated before use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from actors.errors import ProtocolError
from learner.batch import LOGPROB_TOLERANCE, RoutedExperts

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

#: Arrays that are no int32.
DTYPES = {
    "logprobs": ("<f4",),
    "truncated": ("|u1",),
    "loss_mask": ("|u1",),
    "teacher_logprobs": ("<f4",),
    "routed_experts": ("|u1", "<u2"),
}
#: Arrays that travel only where they say something.
OPTIONAL = frozenset({"loss_mask", "teacher_logprobs", "routed_experts"})


def logprobs_are_valid(logprobs: Float32) -> bool:
    """Whether log-probabilities are finite and not positive, but for rounding."""
    # Of what holds a NaN both are NaN, and nothing compares with it.
    return bool(logprobs.min() > -np.inf and logprobs.max() <= LOGPROB_TOLERANCE)


@dataclass(frozen=True, slots=True)
class Payload:
    """G completions of one prompt, N tokens in all, S spans of one policy version each.

    prompt        int32 [P]    token ids
    tokens        int32 [N]    sampled token ids, completion after completion
    logprobs      float32 [N]  of the sampled tokens, under the distribution that was sampled from
    lengths       int32 [G]    tokens of each completion
    truncated     uint8 [G]    1 where a completion ran into its length limit
    spans         int32 [G]    number of version spans of each completion
    span_versions int32 [S]    policy version of each span
    span_tokens   int32 [S]    tokens of each span
    loss_mask     uint8 [N]    1 where a token counts in the loss, 0 for one that the policy did not choose, such as a
                               tool's output; absent where all of them count
    teacher_logprobs float32 [N]  of the sampled tokens under the teacher, at the sampling temperature; absent where
                               there is none, and until the group is verified
    routed_experts uint8 or uint16 [(P + N - G) L K]  the K experts in each of L layers that a token went to: of the
                               prompt, as read for the first completion, then of every completion without its last
                               token, which no engine reads; absent where they are not known of all
    """

    prompt: Int32
    tokens: Int32
    logprobs: Float32
    lengths: Int32
    truncated: UInt8
    spans: Int32
    span_versions: Int32
    span_tokens: Int32
    loss_mask: UInt8 | None = None
    teacher_logprobs: Float32 | None = None
    routed_experts: RoutedExperts | None = None

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by name, as they travel; absent ones do not."""
        return {f.name: array for f in fields(self) if (array := getattr(self, f.name)) is not None}

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]], group_size: int) -> "Payload":
        """The payload that `arrays` hold.

        Raises:
            ProtocolError: unless the arrays are a whole and consistent group of `group_size` completions.
        """
        names = {f.name for f in fields(cls)}
        if set(arrays) | OPTIONAL != names:
            raise ProtocolError(f"a group has the arrays {sorted(names)}, not {sorted(arrays)}")
        for name, array in arrays.items():
            wanted = DTYPES.get(name, ("<i4",))
            if array.dtype.str not in wanted or array.ndim != 1:
                raise ProtocolError(
                    f"{name} is {array.dtype} with {array.ndim} dimensions; expected {' or '.join(wanted)} with one"
                )
        payload = cls(**arrays)
        payload._check(group_size)
        return payload

    def _check(self, group_size: int) -> None:
        def reject(what: str) -> None:
            raise ProtocolError(f"the group is inconsistent: {what}")

        if not len(self.lengths) == len(self.truncated) == len(self.spans) == group_size:
            reject(f"{len(self.lengths)} completions; expected {group_size}")
        if len(self.prompt) < 1 or (self.lengths < 1).any() or (self.spans < 1).any() or (self.span_tokens < 1).any():
            reject("an empty prompt, completion or version span")
        if not len(self.tokens) == len(self.logprobs) == int(self.lengths.sum(dtype=np.int64)):
            reject("lengths do not add up to the number of tokens")
        if not len(self.span_versions) == len(self.span_tokens) == int(self.spans.sum(dtype=np.int64)):
            reject("spans do not add up to the number of version spans")
        starts = np.cumsum(self.spans) - self.spans
        if (np.add.reduceat(self.span_tokens.astype(np.int64), starts) != self.lengths).any():
            reject("the version spans of a completion do not cover its tokens")
        if min(self.prompt.min(), self.tokens.min(), self.span_versions.min()) < 0:
            reject("a negative token or version")
        for logprobs in (self.logprobs, self.teacher_logprobs):
            if logprobs is not None and len(logprobs) != len(self.tokens):
                reject("there is not one log-probability a token")
            if logprobs is not None and not logprobs_are_valid(logprobs):
                reject("a log-probability is positive or not finite")
        self._check_loss_mask(reject)
        if (routed := self.routed_experts) is not None and (not len(routed) or len(routed) % self._read):
            reject("there are not as many experts of each token that the engine read")

    def _check_loss_mask(self, reject: Callable[[str], None]) -> None:
        mask = self.loss_mask
        if mask is None:
            return
        if len(mask) != len(self.tokens):
            reject("the loss mask has not one entry a token")
        if (mask > 1).any() or not np.maximum.reduceat(mask, np.cumsum(self.lengths) - self.lengths).all():
            reject("the loss mask has other values than 0 and 1, or masks a completion as a whole")

    def taught(self, arrays: Mapping[str, npt.NDArray[Any]]) -> "Payload":
        """With the logprobs of a teacher that come with a verdict. Raises ProtocolError where they are none of its."""
        if (logprobs := arrays.get("teacher_logprobs")) is None:
            raise ProtocolError("the verdict lacks the teacher's logprobs; stop verifiers of another recipe or release")
        return Payload.of(self.arrays() | {"teacher_logprobs": logprobs}, len(self.lengths))

    def require_vocabulary(self, size: int) -> None:
        """Raises ProtocolError for a token id that a model of `size` token ids does not have."""
        largest = max(int(self.prompt.max()), int(self.tokens.max()))
        if largest >= size:
            raise ProtocolError(f"the group is inconsistent: token {largest} of a model with {size} token ids")

    @property
    def oldest(self) -> int:
        """Version of the oldest token."""
        return int(self.span_versions.min())

    @property
    def newest(self) -> int:
        """Version of the newest token."""
        return int(self.span_versions.max())

    @property
    def longest(self) -> int:
        """Tokens of the longest completion."""
        return int(self.lengths.max())

    def tokens_below(self, version: int) -> int:
        """How many tokens are of older versions."""
        return int(self.span_tokens[self.span_versions < version].sum(dtype=np.int64))

    @property
    def _read(self) -> int:
        """Tokens that the engine read."""
        return len(self.prompt) + len(self.tokens) - len(self.lengths)

    def experts_by_token(self) -> RoutedExperts | None:
        """`routed_experts` with a row a token, [P + N - G, L K]."""
        return None if self.routed_experts is None else self.routed_experts.reshape(self._read, -1)

    def spans_of(self, completion: int) -> list[tuple[int, int]]:
        """Policy version and number of tokens of each version span of a completion, in order."""
        end = int(self.spans[: completion + 1].sum(dtype=np.int64))
        span = slice(end - int(self.spans[completion]), end)
        return list(zip(self.span_versions[span].tolist(), self.span_tokens[span].tolist(), strict=True))

    def token_versions(self) -> Int32:
        """Policy version of every token, int32 [N]."""
        return np.repeat(self.span_versions, self.span_tokens)
