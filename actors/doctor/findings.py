"""What a check has found, and how all of them are run: each with a deadline, none ends the others."""

from collections.abc import Callable, Mapping
from concurrent.futures import wait
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec

from actors.errors import ERRORS
from actors.weights.background import in_background

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
    """Run checks one after the other, since some of them measure. One that hangs is left behind, and so is a thread of
    its own, for which the end of the process does not wait."""
    found = {}
    for name, check in checks.items():
        checking = in_background(check, f"doctor-{name}")
        if not wait([checking], seconds).done:
            late = f"no answer within {seconds:g} s"
            found[name] = Finding(Fitness.FAILED, late, f"a run would wait for it as well: mend what hangs ({name})")
            continue
        try:
            found[name] = checking.result()
        except (*ERRORS, OSError) as error:
            found[name] = Finding(Fitness.FAILED, str(error), "see docs/operations.md, Before the first run")
        except Exception as error:  # noqa: BLE001 - whatever breaks one check, the others are made
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            found[name] = Finding(Fitness.FAILED, said, f"see what {name} needs in docs/operations.md")
    return found
