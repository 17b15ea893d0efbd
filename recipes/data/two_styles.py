"""Traces and preference pairs for `recipes/preferences.yaml`: sums worked out in a terse and in a readable style.

The cold start sees both styles equally often; the pairs prefer the readable one, whose steps are separated by "; ".
"""

import argparse
import json
import random
from pathlib import Path

from actors.tasks import Task
from actors.tasks.traces import addition_trace

TRACES = 8000
PAIRS = 512


def styles(draw: random.Random) -> tuple[str, str, str]:
    """A random sum of two three-digit numbers, its terse trace, and its readable one."""
    prompt = f"{draw.randint(100, 999)}+{draw.randint(100, 999)}="
    terse = addition_trace(Task("", (("user", prompt),), "none", {}))
    assert terse is not None
    return prompt, terse, terse.replace(",", "; ")


def write(folder: Path) -> None:
    """Write `traces.jsonl` and `pairs.jsonl`; the same every time."""
    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "traces.jsonl").open("w") as file:
        for _ in range(TRACES):
            prompt, *both = styles(draw)
            file.write(json.dumps({"prompt": prompt, "response": draw.choice(both)}) + "\n")
    with (folder / "pairs.jsonl").open("w") as file:
        for _ in range(PAIRS):
            prompt, terse, readable = styles(draw)
            file.write(json.dumps({"prompt": prompt, "chosen": readable, "rejected": terse}) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/two-styles"))
    write(parser.parse_args().folder)
