"""What nccl-tests has measured, judged: good enough, and no sender slower than the others."""

from collections.abc import Mapping

from actors.config.recipe import Recipe
from actors.doctor.findings import Finding, Fitness
from actors.weights.bandwidth import of_nccl_tests

#: A sender that is slower than this share of the fastest one is named: every update waits for its stripe.
SLOW = 0.8


def judged(reports: Mapping[str, bytes], recipe: Recipe, at_least: float) -> Finding:
    """What the senders can carry. The slowest one is kept where it is good enough: an update waits for its stripe.

    Args:
        reports: of `broadcast_perf`, by sender.
        recipe: of the run.
        at_least: the slowest broadcast that will do (GB/s).

    Raises:
        RecipeError: see `of_nccl_tests`.
    """
    found = {name: of_nccl_tests(data, recipe.weights.bucket_bytes, name) for name, data in reports.items()}
    slowest = min(found, key=lambda name: found[name].bytes_per_second)
    fastest = max(one.bytes_per_second for one in found.values())
    several = len(found) > 1
    said = ", ".join(f"{name}: {one.described()}" if several else one.described() for name, one in found.items())
    if found[slowest].bytes_per_second < 1e9 * at_least:
        which = f"{slowest} is the slowest, below" if several else ""
        advice = f"{which} --at-least {at_least:g}: look at NCCL_DEBUG=INFO for what it chose".strip()
        return Finding(Fitness.FAILED, said, advice)
    found[slowest].write(recipe.output)
    if found[slowest].bytes_per_second < SLOW * fastest:
        advice = f"every update waits for the stripe of {slowest}: look at NCCL_DEBUG=INFO for what it chose"
        return Finding(Fitness.WARNING, said, advice)
    return Finding(Fitness.OK, said)
