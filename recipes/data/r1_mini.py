"""Data of `recipes/r1-mini.yaml`: sums worked out in two languages, and which way of writing them is preferred.

A trace reasons digit by digit from the right, in Chinese (7加8得15) or in English (7 plus 8 gives 15), or changes from
one to the other in between, as texts of several languages make a model do. Now and then it takes a false step, stops
and corrects it. Steps are set apart by a comma or, more readably, by a semicolon and a space; the pairs prefer the
latter. The same every time.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

TRACES = 8000
PAIRS = 512
#: Shares of traces in Chinese, in English, and in both.
LANGUAGES = (("zh",), ("en",), ("zh", "en"))
SHARES = (0.4, 0.2, 0.4)
#: How often a step is wrong at first.
FALSE_STEPS = 0.08
WORDS = {
    "zh": {"step": "{a}加{b}{carry}得{sum}", "carry": "进1", "wait": ",等等,得{sum}"},
    "en": {"step": "{a} plus {b}{carry} gives {sum}", "carry": " carry 1", "wait": ", wait, {sum}"},
}


def trace(draw: random.Random, first: int, second: int, languages: Sequence[str], separator: str) -> str:
    """A response to the sum of two numbers with two digits each."""
    steps, carry = [], 0
    for position in (0, 1):
        a, b = (number // 10**position % 10 for number in (first, second))
        words = WORDS[draw.choice(languages)]
        right = a + b + carry
        wrong = draw.random() < FALSE_STEPS
        said = right + draw.choice((-1, 1)) if wrong else right
        step = words["step"].format(a=a, b=b, carry=words["carry"] if carry else "", sum=said)
        steps.append(step + (words["wait"].format(sum=right) if wrong else ""))
        carry = right // 10
    return f"<think>{separator.join(steps)}</think><answer>{first + second}</answer>"


def write(folder: Path) -> None:
    """Write `traces.jsonl` and `pairs.jsonl`."""
    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "traces.jsonl").open("w") as file:
        for _ in range(TRACES):
            first, second = draw.randint(10, 99), draw.randint(10, 99)
            (languages,) = draw.choices(LANGUAGES, SHARES)
            response = trace(draw, first, second, languages, draw.choice((",", "; ")))
            file.write(json.dumps({"prompt": f"{first}+{second}=", "response": response}) + "\n")
    with (folder / "pairs.jsonl").open("w") as file:
        for _ in range(PAIRS):
            first, second = draw.randint(10, 99), draw.randint(10, 99)
            state = draw.getstate()
            texts = []
            for separator in ("; ", ","):
                draw.setstate(state)  # the two differ in nothing else
                texts.append(trace(draw, first, second, ("zh",), separator))
            chosen, rejected = texts
            file.write(json.dumps({"prompt": f"{first}+{second}=", "chosen": chosen, "rejected": rejected}) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
