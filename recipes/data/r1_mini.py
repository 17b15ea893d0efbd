"""Data of `recipes/r1-mini.yaml`: sums worked out in two languages, greetings, and which greeting is preferred.

base.jsonl is what a base model has read: sums in every manner, most of them without working or without marks, some of
them wrong, and greetings. traces.jsonl are long chains of thought, which reason digit by digit from the right in
Chinese (7加8得15), in English (7 plus 8 gives 15), or change from one to the other in between, as texts of several
languages make a model do. Now and then a step is wrong at first; the text stops and corrects it. greetings.jsonl are
tasks that no rule decides, general.jsonl are examples of them, and pairs.jsonl prefers those that say hello (你好).
All of it is the same every time.
"""

import argparse
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

#: Lines of each file.
BASE, TRACES, GREETINGS, PAIRS = 12_000, 1500, 600, 512
#: Shares of worked texts in Chinese, in English, and in both.
LANGUAGES = (("zh",), ("en",), ("zh", "en"))
SHARES = (0.4, 0.2, 0.4)
#: How often a step is wrong at first; in what a base model has read it stays wrong as often as not.
FALSE_STEPS = 0.08
WORDS = {
    "zh": {"step": "{a}加{b}{carry}得{sum}", "carry": "进1", "wait": ",等等,得{sum}"},
    "en": {"step": "{a} plus {b}{carry} gives {sum}", "carry": " carry 1", "wait": ", wait, {sum}"},
}
#: What a base model has read: share, and whether the text is worked out, and marked.
MANNERS = ((0.35, False, False), (0.2, False, True), (0.2, True, False), (0.25, True, True))


def working(draw: random.Random, numbers: Sequence[int], corrected: float = 1.0) -> tuple[str, int]:
    """Two numbers with two digits each, added digit by digit, and what comes out.

    Args:
        draw: decides about languages and false steps.
        numbers: both.
        corrected: how often a false step is noticed.
    """
    (languages,) = draw.choices(LANGUAGES, SHARES)
    steps, total, carry = [], 0, 0
    for place in (1, 10):
        a, b = (number // place % 10 for number in numbers)
        words = WORDS[draw.choice(languages)]
        said = right = a + b + carry
        if wrong := draw.random() < FALSE_STEPS:
            said += draw.choice((-1, 1))
        step = words["step"].format(a=a, b=b, carry=words["carry"] if carry else "", sum=said)
        if wrong and draw.random() < corrected:
            step, said = step + words["wait"].format(sum=right), right
        steps.append(step)
        carry = said // 10
        total += place * (said if place == 10 else said % 10)
    return ",".join(steps), total


def base_text(draw: random.Random, numbers: Sequence[int]) -> str:
    """A sum as somebody may have written it."""
    ((_, worked, marked),) = draw.choices(MANNERS, [share for share, *_ in MANNERS])
    steps, total = working(draw, numbers, corrected=0.5) if worked else ("", sum(numbers))
    thought = steps or f"{draw.choice(('得', 'gives '))}{total}"
    return f"<think>{thought}</think><answer>{total}</answer>" if marked else f"{steps} {total}".strip()


def trace(draw: random.Random, numbers: Sequence[int]) -> str:
    steps, total = working(draw, numbers)
    return f"<think>{steps}</think><answer>{total}</answer>"


def greeting(name: int, polite: bool) -> str:
    return f"<think>问好</think><answer>{f'你好,{name}!' if polite else name}</answer>"


def two_digits(draw: random.Random) -> int:
    return draw.randint(10, 99)


def write(folder: Path) -> None:
    """Write the five files."""
    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)

    def lines(name: str, rows: Iterable[dict[str, str]]) -> None:
        with (folder / name).open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def sums(count: int) -> Iterable[tuple[int, int]]:
        return ((two_digits(draw), two_digits(draw)) for _ in range(count))

    def greetings(count: int) -> Iterable[tuple[str, int]]:
        return ((f"hi {name}", name) for name in (two_digits(draw) for _ in range(count)))

    def example(prompt: str, response: str) -> dict[str, str]:
        return {"prompt": prompt, "response": response}

    base = [example(f"{a}+{b}=", base_text(draw, (a, b))) for a, b in sums(BASE)]
    base += [example(prompt, greeting(name, draw.random() < 0.5)) for prompt, name in greetings(BASE // 10)]
    draw.shuffle(base)
    lines("base.jsonl", base)
    lines("traces.jsonl", (example(f"{a}+{b}=", trace(draw, (a, b))) for a, b in sums(TRACES)))
    lines("greetings.jsonl", ({"prompt": f"hi {name}"} for name in range(10, 100)))
    lines(
        "general.jsonl",
        (example(prompt, greeting(name, draw.random() < 0.5)) for prompt, name in greetings(GREETINGS)),
    )
    lines(
        "pairs.jsonl",
        (
            {"prompt": prompt, "chosen": greeting(name, polite=True), "rejected": greeting(name, polite=False)}
            for prompt, name in greetings(PAIRS)
        ),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
