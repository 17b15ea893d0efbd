"""What a check has found, and how all of them are run: each with a deadline, none ends the others."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec

from actors.errors import ERRORS

#: Longest time of one check (s).
CHECK_SECONDS = 120.0


class Fitness(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's table.

    Attributes:
        fitness: whether this machine is fit for it.
        measured: what was seen.
        advice: what to do; empty where all is well.
    """

    fitness: Fitness
    measured: str
    advice: str = ""


Check = Callable[[], Finding]


def without(package: str) -> Check | None:
    """What stands for a check that needs a package; None where the package is installed."""
    if find_spec(package) is not None:
        return None
    return lambda: Finding(Fitness.WARNING, f"not checked: {package} is not installed", "see packages")


def examine(checks: Mapping[str, Check], seconds: float = CHECK_SECONDS) -> dict[str, Finding]:
    """Run checks one after the other, since some of them measure."""
    found = {}
    for name, check in checks.items():
        threads = ThreadPoolExecutor(1, thread_name_prefix=f"doctor-{name}")
        try:
            found[name] = threads.submit(check).result(seconds)
        except LateError:
            found[name] = Finding(Fitness.FAILED, f"no answer within {seconds:g} s", "look at what it waits for")
        except (*ERRORS, OSError) as error:
            found[name] = Finding(Fitness.FAILED, str(error), "see docs/operations.md, Before the first run")
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
    return found
