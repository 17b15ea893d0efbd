"""Runs attacks against a pool, and reports which of them got through."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import escaping  # noqa: F401 - importing it adds its attacks
import forging  # noqa: F401
import handles  # noqa: F401
import kernel  # noqa: F401
import oracles  # noqa: F401
import poisoning  # noqa: F401
import posing  # noqa: F401
import pretending  # noqa: F401
import reaching  # noqa: F401
import reading  # noqa: F401
import starving  # noqa: F401
import tampering  # noqa: F401
import twisting  # noqa: F401
from cases import ATTACKS, Attack
from world import World, planted

from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission

CONFIG = SandboxConfig(workers=1, test_seconds=2.0, cpu_seconds=0.6, memory_bytes=128 * 1024 * 1024, cache_entries=0)
# A machine that is too busy gives no verdict; an attack that makes it so would do it again.
ATTEMPTS = 3
# After every attack this must still be right: nothing of the attack lives on in the fork server.
HONEST = Submission(
    "stdio", "```python\nprint(sum(map(int, input().split())))\n```", {"tests": [{"stdin": "2 3", "stdout": "5"}]}
)


def submission_of(attack: Attack, world: World) -> Submission:
    """The attack as a model answer, with the placeholders filled in."""
    reference = json.loads(world.fill(json.dumps(attack.reference()).replace('"@NUMBER@"', "@NUMBER@")))
    return Submission(attack.kind, f"```python\n{world.fill(attack.source)}```", reference)


def faults(attack: Attack, pool: Pool, world: World) -> list[str]:
    """What is wrong after an attack; nothing if it failed as it should."""
    for _ in range(ATTEMPTS):
        verdict, honest = pool.score([submission_of(attack, world), HONEST], 60)
        found = world.damage()
        if found or not verdict.retryable:
            break
    if verdict.status in (Status.OK, Status.INFRA_ERROR) or verdict.reward != 0.0:
        found.append(f"verdict {verdict.status}: {verdict.detail}")
    if honest.status is not Status.OK:
        found.append(f"the honest program after it: {honest.status}: {honest.detail}")
    return found


def main() -> None:
    """Run one of several shares of the attacks as the current user and print, as JSON, what got through."""
    share, shares = map(int, sys.argv[1:])
    attacks = ATTACKS[share::shares]
    with planted() as world, Pool(CONFIG, RewardConfig()) as pool:
        through = {attack.name: found for attack in attacks if (found := faults(attack, pool, world))}
    print(json.dumps({"attacks": len(attacks), "through": through}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    main()
