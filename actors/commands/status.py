"""`leeway status`: how a run that is alive is doing, from its controller's page."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actors.commands import pipeline_status
from actors.commands.page import UNANSWERED, looked, newest
from actors.errors import RecipeError, RunError

if TYPE_CHECKING:
    from rich.console import RenderableType

#: How often a run that is watched is asked (s).
WATCH_SECONDS = 2.0
#: A page of which only the address is known may be silent for so long, while its controller is replaced (s).
SILENT_SECONDS = 60.0


class AwayError(RunError):
    """The run has a controller that does not answer, or none yet."""


def status(
    run: Annotated[
        str | None,
        typer.Argument(
            help="Folder of a run or a pipeline, or the URL of a status page; default: the newest in runs/."
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every two seconds, until the run ends.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the controller says, as JSON.")] = False,
) -> None:
    """Show what a run does and what it waits for: pools, versions, queues, stuck calls, faults and recoveries. Of a
    pipeline, its stages before that.

    Where `network.http_token` is for everything, it needs the run's token, as `leeway scale` does.

    The exit code is 0 for a run or pipeline that is alive or has finished, and 1 for one that has failed, was
    interrupted, or cannot be reached. While the controller is replaced --watch goes on.
    """
    from rich.console import Console
    from rich.live import Live

    from sandbox.terminal import lasting

    console, where = lasting(Console()), run or str(newest(Path("runs"), pipelines=True))
    if watch:
        with Live(console=console, auto_refresh=False) as screen:
            follow(where, lambda page: screen.update(page, refresh=True))
    elif (found := _look(where, even_over=True)) is not None:
        told, page = found
        if as_json:
            typer.echo(json.dumps(told, indent=2))
        else:
            console.print(page)
        if _is_pipeline(where):
            pipeline_status.require_well(pipeline_status.progress_in(where))
        return
    console.print(_ended(where), highlight=False, markup=False, soft_wrap=True)


def follow(
    where: str,
    show: Callable[["RenderableType"], None],
    silent_seconds: float = SILENT_SECONDS,
    interval_seconds: float = WATCH_SECONDS,
) -> None:
    """Show a run until it is over. A controller that does not answer, or is not there yet, is asked again for as long
    as a process has the run's lock; where that is not to be seen, for a while after its latest answer.

    Raises:
        RecipeError: there is no such run.
        RunError: the controller does not answer any more.
    """
    from rich.text import Text

    heard: float | None = None
    while True:
        try:
            if (found := _look(where)) is None:
                return
            show(found[1])
            heard = time.monotonic()
        except AwayError as error:
            if not _alive(where) and (_local(where) or heard is None or time.monotonic() - heard > silent_seconds):
                raise
            show(Text(f"{error}; asking again"))
        time.sleep(interval_seconds)


def _look(where: str, *, even_over: bool = False) -> tuple[dict[str, Any], "RenderableType"] | None:
    """What is known of a run or a pipeline, as programs and as people read it; None where it is over, unless of a
    pipeline that is asked for, too. Raises as `_told`."""
    from actors.report.live import live

    if _is_pipeline(where):
        found = pipeline_status.progress_in(where)
        if not (found.alive or even_over):
            return None
        known = pipeline_status.told_of(found, _told)
        return known, pipeline_status.page(found, known)
    told = _told(where)
    return None if told is None else (told, live(told))


def _is_pipeline(where: str) -> bool:
    return _local(where) and pipeline_status.is_pipeline_folder(where)


def _local(where: str) -> bool:
    return not where.startswith(("http://", "https://"))


def _alive(where: str) -> bool:
    """Whether a process on a machine with this file system runs the run in a folder."""
    from actors.report.writer import LOCK, is_locked

    return _local(where) and is_locked(Path(where) / LOCK)


def _told(where: str) -> dict[str, Any] | None:
    """What the controller of a run says; None where the run in this folder is over.

    Raises:
        RecipeError: there is no such run.
        AwayError: the controller does not answer, or is not there yet.
    """
    if not _local(where):
        return _asked(where, None, f"no controller answers at {where}")
    from actors.config.loading import RECIPE
    from actors.control.whereabouts import whereabouts

    folder = Path(where).absolute()
    if not (folder / RECIPE).exists():
        raise RecipeError(f"{where}: not a run folder (it has no {RECIPE}), and no URL")
    found = whereabouts(folder)
    if found is None and _alive(where):
        raise AwayError(f"{where}: this run is alive, and its controller is not there: it begins or ends just now")
    if found is None:
        return None
    return _asked(
        found.url,
        folder,
        f"{where}: the controller at {found.url} does not answer: it is being replaced, hangs, is on a machine that "
        f"this one does not reach, or the run was killed; see {folder}/logs/controller.log",
        found.instance,
    )


def _asked(url: str, folder: Path | None, refusal: str, instance: str = "") -> dict[str, Any]:
    try:
        return looked(url, folder, instance)
    except UNANSWERED as error:
        reason = getattr(error, "reason", None) or error
        raise AwayError(f"{refusal} ({reason})") from error


def _ended(where: str) -> str:
    """One line about a run that is over.

    Raises:
        RunError: it did not finish, and the line says so.
    """
    if _is_pipeline(where):
        found = pipeline_status.progress_in(where)
        pipeline_status.require_well(found)
        return f"{where}: this pipeline is over: all {len(found.stages)} stages are done"
    path = Path(where) / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{where}: this run is not alive, and has not come to a summary; see its logs/") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error})") from error
    outcome, reason, steps = summary.get("outcome", "over"), summary.get("reason"), summary["steps"]
    line = f"{where}: this run is over: {outcome} after {steps} steps"
    if outcome != "finished":
        raise RunError(f"{line}{f': {reason}' if reason else ''}")
    return line
