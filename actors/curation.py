"""Which sampled completions become training examples (DeepSeek-R1, section 2.3.3), and the file that they go into.

What is kept and in which order depends on the completions and the seed, and not on the order in which they came: every
completion has a rank, a hash of the seed, its task and its place among the task's completions. Of duplicates the one of
the lowest rank stays, the cap of a task keeps its lowest ranks, and the file is in the order of ranks.
"""

import hashlib
import json
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from actors.config.base import Location
from actors.config.stages import CurationConfig, MixConfig
from actors.tasks.parquet import is_parquet, write_examples
from actors.tasks.records import messages_of, read_records, text_field
from learner.files import staging_of
from sandbox import Status
from sandbox.code_blocks import all_blocks

Row = Mapping[str, Any]

#: What of a sampled completion is in its example, beside its messages and its response.
PROVENANCE = (
    "task", "number", "sample", "source", "verifier", "status", "reward", "parts", "answer", "tokens",
    "version_min", "version_max", "run", "seed", "model",
)  # fmt: skip
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n")
_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Selection:
    """What was kept.

    Attributes:
        kept: positions of the completions that were kept, in the order in which they are written, with their ranks.
        tasks: how many tasks they are of.
        sampled: how many completions there were.
        dropped: how many were not kept, by reason.
    """

    kept: list[tuple[bytes, int]]
    tasks: int
    sampled: int
    dropped: Counter[str]


def select(rows: Iterable[Row], config: CurationConfig, seed: int) -> Selection:
    """Choose among completions: lines of samples-drawn.jsonl, of which no more than a hash each is held."""
    dropped: Counter[str] = Counter()
    # of each task, by what makes two responses the same: (rank, position)
    found: dict[str, dict[bytes, tuple[bytes, int]]] = defaultdict(dict)
    sampled = 0
    for position, row in enumerate(rows):
        sampled += 1
        if (reason := flaw(row, config)) is not None:
            dropped[reason] += 1
            continue
        same = _same(row["response"], config)
        ranked = (_hash(seed, row["task"], row["number"], row["sample"]), position)
        of_task = found[row["task"]]
        if same in of_task:
            dropped["duplicate"] += 1
        of_task[same] = min(ranked, of_task.get(same, ranked))
    kept: list[tuple[bytes, int]] = []
    for distinct in found.values():
        ranks = sorted(distinct.values())
        kept += ranks[: config.max_per_task]
        dropped["over_cap"] += len(ranks) - len(ranks[: config.max_per_task])
    return Selection(sorted(kept), len(found), sampled, +dropped)


def flaw(row: Row, config: CurationConfig) -> str | None:
    """Why a completion is not worth learning from, the first reason that holds; None where it is."""
    parts, response = row["parts"], row["response"]
    if row.get("status") == Status.UNVERIFIED or parts.get("accuracy", row["reward"]) < config.min_accuracy:
        return "not_verified"
    if not response.strip():
        return "empty"
    if config.require_format and row["truncated"]:
        return "truncated"
    if config.require_format and parts.get("format", 1.0) < 1.0:
        return "format"
    if parts.get("language", 1.0) < config.min_language:
        return "language"
    reasoning = response.partition("</think>")[0]
    longest = max(map(len, _PARAGRAPH.split(reasoning)))
    if config.max_paragraph_chars is not None and longest > config.max_paragraph_chars:
        return "long_paragraph"
    if config.code_blocks != "any":
        blocks = list(all_blocks(reasoning))
        if config.code_blocks == "none" and blocks:
            return "code_block"
        if any(not block.closed or not block.text.strip() for block in blocks):
            return "code_block"
    return None


def normalised(response: str) -> str:
    """A response without what two may differ in and be the same: case, white space, punctuation, Unicode's forms."""
    tokens = _TOKEN.findall(unicodedata.normalize("NFKC", response).casefold())
    return " ".join(token for token in tokens if not unicodedata.category(token[0]).startswith("P"))


def _same(response: str, config: CurationConfig) -> bytes:
    return _hash(normalised(response) if config.deduplicate == "normalised" else response)


def _hash(*parts: object) -> bytes:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()


# -------------------------------------------------------------------- examples from elsewhere


def to_mix(examples: Iterable[Row], config: MixConfig, kept: int, seed: int) -> list[tuple[bytes, Row]]:
    """Examples from elsewhere with their ranks: as many as asked for of those of the lowest ranks, each once.

    Args:
        examples: with `messages` and `response`.
        config: how many.
        kept: completions that they are mixed with.
        seed: of the ranks.
    """
    ranked = {_hash(seed, "mix", row["messages"], row["response"]): row for row in examples}
    count = config.examples
    if count is None:
        assert config.share is not None
        count = round(kept * config.share / (1 - config.share))
    return sorted(ranked.items())[:count]


def read_mix(path: Location) -> Iterator[Row]:
    """The examples of a file.

    Raises:
        RecipeError: for a file or a line that cannot be read.
    """
    for place, record in read_records(path, "sample.mix.path"):
        messages = [{"role": role, "content": content} for role, content in messages_of(record, place)]
        yield {
            "messages": messages,
            "response": text_field(record, "response", place),
            "source": f"mix:{PurePosixPath(path).name}",
        }


# -------------------------------------------------------------------- files


def curate(samples: Path, curated: Path, config: CurationConfig, seed: int) -> tuple[Selection, int]:
    """Write what is kept of a file of completions, whole or not at all, for `cold_start.traces` to read.

    Args:
        samples: samples-drawn.jsonl of a run.
        curated: the file to write, JSON lines or, where its name ends in .parquet, Parquet.
        config: what is kept.
        seed: of the ranks.

    Returns:
        What was kept, and how many examples from elsewhere were mixed in.

    Raises:
        RecipeError: for a file of examples from elsewhere that cannot be read.
        OSError: it cannot be written.
    """
    places: list[int] = []  # the byte at which each line begins
    selection = select(_lines(samples, places), config, seed)
    mixed = to_mix(read_mix(config.mix.path), config.mix, len(selection.kept), seed) if config.mix else []
    draft = staging_of(curated)
    of_samples: list[tuple[bytes, int | Row]] = [(rank, places[position]) for rank, position in selection.kept]
    ranked = sorted([*of_samples, *mixed], key=lambda each: each[0])
    with samples.open("rb") as file:
        rows = (_example(file, found) if isinstance(found, int) else found for _, found in ranked)
        (write_examples if is_parquet(curated) else _write_lines)(draft, rows)
    with draft.open("rb") as written:
        os.fsync(written.fileno())
    draft.replace(curated)
    return selection, len(mixed)


def _write_lines(path: Path, rows: Iterable[Row]) -> None:
    with path.open("wb") as out:
        for row in rows:
            out.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace"))


def _lines(path: Path, places: list[int]) -> Iterator[Row]:
    with path.open("rb") as file:
        place = 0
        for line in file:
            places.append(place)
            place += len(line)
            yield json.loads(line)


def _example(file: Any, place: int) -> Row:
    file.seek(place)
    row = json.loads(file.readline())
    provenance = {name: row[name] for name in PROVENANCE if name in row}
    return {"messages": row["messages"], "response": row["response"], **provenance}
