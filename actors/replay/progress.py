"""What an unfinished group consists of so far: reported by its generator, continued by another where that one is lost.

A report holds what is new since the one before. `offsets` says of each completion where that begins, so that a report
may come twice, or be lost, and what is put together of them is still what was sampled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from actors.errors import ProtocolError
from actors.replay.bundle import unbundled
from actors.transport.codec import Array
from learner.batch import LOGPROB_TOLERANCE, RoutedExperts

Spans = tuple[tuple[int, int], ...]
DTYPES = {"logprobs": ("<f4",), "ends": ("|u1",), "routed_experts": ("|u1", "<u2")}
NAMES = frozenset(
    {"offsets", "lengths", "ends", "tokens", "logprobs", "spans", "span_versions", "span_tokens"}
    | {"routed_tokens", "routed_experts"}
)


class End(IntEnum):
    """How far a completion is."""

    RUNNING = 0
    STOPPED = 1
    TRUNCATED = 2


@dataclass(frozen=True, slots=True)
class Partial:
    """The tokens of a completion from some position on, T of them.

    Attributes:
        tokens: int32 [T].
        logprobs: float32 [T], under the distribution that was sampled from (nats).
        spans: (policy version, number of tokens) in order; the numbers add up to T.
        end: whether more is to come.
        routed_experts: of a completion that has ended, whatever position these tokens begin at: where each token went
            that its engine read, as `SampledCompletion` has it; None where the engine does not say.
    """

    tokens: npt.NDArray[np.int32]
    logprobs: npt.NDArray[np.float32]
    spans: Spans
    end: End = End.RUNNING
    routed_experts: RoutedExperts | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def oldest(self) -> int | None:
        """Version of the oldest token; None where there is no token."""
        return min((version for version, _ in self.spans), default=None)

    @property
    def nbytes(self) -> int:
        routed = 0 if self.routed_experts is None else self.routed_experts.nbytes
        return self.tokens.nbytes + self.logprobs.nbytes + routed

    def since(self, position: int) -> "Partial":
        """What comes after the first `position` tokens."""
        spans, routed = _dropped(self.spans, position), self.routed_experts
        return Partial(self.tokens[position:], self.logprobs[position:], spans, self.end, routed)

    def plus(self, rest: "Partial") -> "Partial":
        """The two after each other."""
        tokens = np.concatenate([self.tokens, rest.tokens])
        logprobs = np.concatenate([self.logprobs, rest.logprobs])
        routed = self.routed_experts if rest.routed_experts is None else rest.routed_experts
        return Partial(tokens, logprobs, joined(self.spans, rest.spans), rest.end, routed)


#: Nothing yet.
NOTHING = Partial(np.empty(0, np.int32), np.empty(0, np.float32), ())


def joined(spans: Spans, more: Spans) -> Spans:
    """Spans after each other; neighbours of one version become one."""
    by_version = groupby((*spans, *more), key=lambda span: span[0])
    return tuple((version, sum(tokens for _, tokens in group)) for version, group in by_version)


def _dropped(spans: Spans, count: int) -> Spans:
    """Spans without the first `count` tokens."""
    left: list[tuple[int, int]] = []
    for version, tokens in spans:
        gone = min(count, tokens)
        count -= gone
        if tokens > gone:
            left.append((version, tokens - gone))
    return tuple(left)


def encode_progress(parts: Sequence[Partial], offsets: Sequence[int]) -> dict[str, Array]:
    """Arrays of a report: completion i from its token number `offsets[i]` on.

    Where the tokens of one that has ended went is told with its last token: `routed_tokens` rows of `routed_experts`.
    """
    fresh = [part.since(offset) for part, offset in zip(parts, offsets, strict=True)]
    spans = [span for part in fresh for span in part.spans]
    routed = [part.routed_experts if len(part) and part.end is not End.RUNNING else None for part in fresh]
    told = [rows.reshape(-1) for rows in routed if rows is not None]
    return {
        "offsets": np.asarray(offsets, np.int32),
        "lengths": np.asarray([len(part) for part in fresh], np.int32),
        "ends": np.asarray([part.end for part in fresh], np.uint8),
        "tokens": np.concatenate([part.tokens for part in fresh]),
        "logprobs": np.concatenate([part.logprobs for part in fresh]),
        "spans": np.asarray([len(part.spans) for part in fresh], np.int32),
        "span_versions": np.asarray([version for version, _ in spans], np.int32),
        "span_tokens": np.asarray([tokens for _, tokens in spans], np.int32),
        "routed_tokens": np.asarray([0 if rows is None else len(rows) for rows in routed], np.int32),
        "routed_experts": np.concatenate(told) if told else np.empty(0, np.uint8),
    }


def leased_parts(arrays: Mapping[str, Array], tasks: Sequence[Mapping[str, Any]]) -> list[list[Partial]]:
    """For each task of a lease what is known of its completions; empty where they begin anew.

    Raises:
        ProtocolError: see `decode_progress`.
    """
    own = unbundled(arrays, len(tasks))
    return [decode_progress(mine, task["samples"])[0] if mine else [] for task, mine in zip(tasks, own, strict=True)]


def decode_progress(
    arrays: Mapping[str, Array], samples: int, vocabulary: int | None = None
) -> tuple[list[Partial], list[int]]:
    """The parts of a report, and where each begins.

    Args:
        arrays: as they came.
        samples: number of completions.
        vocabulary: number of the model's token ids, where it is known.

    Raises:
        ProtocolError: unless the arrays are a consistent report on `samples` completions.
    """
    if set(arrays) != NAMES:
        raise ProtocolError(f"a report of progress has the arrays {sorted(NAMES)}, not {sorted(arrays)}")
    for name, array in arrays.items():
        wanted = DTYPES.get(name, ("<i4",))
        if array.dtype.str not in wanted or array.ndim != 1:
            expected = " or ".join(wanted)
            raise ProtocolError(f"{name} is {array.dtype} with {array.ndim} dimensions; expected {expected} with one")
    _require_consistent(arrays, samples, vocabulary)
    lengths, spans = arrays["lengths"].tolist(), arrays["spans"].tolist()
    pairs = list(zip(arrays["span_versions"].tolist(), arrays["span_tokens"].tolist(), strict=True))
    parts, token, span = [], 0, 0
    ends, routed = arrays["ends"].tolist(), _routed(arrays)
    for length, count, end, experts in zip(lengths, spans, ends, routed, strict=True):
        own = slice(token, token + length)
        versions = tuple(pairs[span : span + count])
        if sum(tokens for _, tokens in versions) != length:
            raise ProtocolError("the progress is inconsistent: version spans do not cover its tokens")
        tokens, logprobs = arrays["tokens"][own].copy(), arrays["logprobs"][own].copy()
        parts.append(Partial(tokens, logprobs, versions, End(end), experts))
        token, span = token + length, span + count
    return parts, arrays["offsets"].tolist()


def _routed(arrays: Mapping[str, Array]) -> list[RoutedExperts | None]:
    """Where the tokens of each completion went, [R, L K]; None where nothing is said."""
    rows = arrays["routed_tokens"].astype(np.int64)
    if not rows.any():
        return [None] * len(rows)
    each = np.split(arrays["routed_experts"].reshape(int(rows.sum()), -1), np.cumsum(rows)[:-1])
    return [own.copy() if len(own) else None for own in each]


def _require_consistent(arrays: Mapping[str, Array], samples: int, vocabulary: int | None) -> None:
    def require(holds: object, what: str) -> None:
        if not holds:
            raise ProtocolError(f"the progress is inconsistent: {what}")

    for name in ("offsets", "lengths", "ends", "spans", "routed_tokens"):
        require(len(arrays[name]) == samples, f"{len(arrays[name])} {name} for {samples} completions")
    for name in ("offsets", "lengths", "spans", "span_versions", "tokens", "routed_tokens"):
        require((arrays[name] >= 0).all(), f"a negative number in {name}")
    require(vocabulary is None or (arrays["tokens"] < vocabulary).all(), f"a token over the {vocabulary} of the model")
    require((arrays["span_tokens"] > 0).all(), "an empty version span")
    require((arrays["ends"] <= max(End)).all(), "an unknown end")
    tokens = int(arrays["lengths"].sum(dtype=np.int64))
    require(len(arrays["tokens"]) == len(arrays["logprobs"]) == tokens, "lengths do not add up to the tokens")
    spans = int(arrays["spans"].sum(dtype=np.int64))
    require(len(arrays["span_versions"]) == len(arrays["span_tokens"]) == spans, "spans do not add up")
    routed, experts = arrays["routed_tokens"], len(arrays["routed_experts"])
    require(not routed[(arrays["ends"] == End.RUNNING) | (arrays["lengths"] == 0)].any(), "experts before the end")
    read = int(routed.sum(dtype=np.int64))
    require(experts and experts % read == 0 if read else not experts, "not as many experts of each token")
    logprobs = arrays["logprobs"]
    require(np.isfinite(logprobs).all() and (logprobs <= LOGPROB_TOLERANCE).all(), "a log-probability is out of range")
