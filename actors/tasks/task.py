"""One problem: what the model is asked, and what its answer is compared with."""

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.verifiers.absent import NO_RULE

Messages = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Task:
    """A problem and its verifier.

    `key` identifies the problem: equal problems have equal keys, whichever source they come from.
    `messages` are (role, content) pairs; a bare prompt is one message of the role "user".
    `verifier` names an entry of the sandbox's registry, and `reference` is what it compares with; the reference holds
    JSON types only and is the same after a round trip through MessagePack. The verifier `none` compares with nothing.
    `source` is the label of the entry of `tasks.sources` that the task was taken from; empty for one from elsewhere.
    """

    key: str
    messages: Messages
    verifier: str
    reference: Mapping[str, Any]
    source: str = ""

    @property
    def has_rule(self) -> bool:
        """Whether a rule decides if an answer is right; accuracy can be measured on no other task."""
        return self.verifier != NO_RULE


def problem_key(messages: Messages) -> str:
    """The identity of a problem: 32 hexadecimal digits, blind to white space, Unicode's compatible forms and system
    messages.

    The source is left out on purpose: a question that stands in two files is one problem, and must not be trained on
    in one of them while the other holds it out.
    """
    text = "\x1f".join(
        f"{role}\x1e{' '.join(unicodedata.normalize('NFKC', content).split())}"
        for role, content in messages
        if role != "system"
    )
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def with_instruction(messages: Messages, instruction: str) -> Messages:
    """`instruction` appended to the last message."""
    *earlier, (role, content) = messages
    return (*earlier, (role, content + instruction))


def without_instruction(messages: Messages, instruction: str) -> Messages:
    """The inverse of `with_instruction`, where the instruction is there."""
    *earlier, (role, content) = messages
    return (*earlier, (role, content.removesuffix(instruction)))


def split_hash(key: str) -> float:
    """A number in [0, 1), uniform over keys, that decides on which side of a split a problem falls, see `hold_out`."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8, person=b"leeway split").digest()) / 2.0**64
