"""`leeway scale`: change how many generators, verifiers or scorers a run has, while it goes on."""

import json
import urllib.error
from pathlib import Path
from typing import Annotated, Literal

import typer

from actors.commands.page import UNANSWERED, asked, newest, require_instance
from actors.errors import RecipeError, RunError


def scale(
    pool: Annotated[Literal["generators", "verifiers", "scorers"], typer.Argument(help="The pool.")],
    count: Annotated[int, typer.Argument(help="How many processes there are to be.")],
    run: Annotated[
        Path | None, typer.Option(help="The run folder; default: the newest one in ./runs.", file_okay=False)
    ] = None,
    url: Annotated[str | None, typer.Option(help="Address of the run's status page, from elsewhere.")] = None,
) -> None:
    """Change the size of a pool. Those who are too many finish what they work on, and leave.

    It needs the run's token: that of the run folder, of the folder of keys, or LEEWAY_TOKEN.
    """
    from actors.control.whereabouts import whereabouts
    from actors.transport.keys import read_token

    folder, instance = run, ""
    if url is None:
        folder = run or newest(Path("runs"))
        found = whereabouts(folder)
        if found is None:
            raise RecipeError(f"{folder}: no run is under way there; name its folder with --run, or its page by --url")
        url, instance = found.url, found.instance
    token = read_token(folder)
    if token is None:
        raise RecipeError("the run's token is needed: name its folder with --run, or set LEEWAY_TOKEN")
    counts = ask(url, token, {"pool": pool.removesuffix("s"), "count": count}, instance)
    typer.echo(", ".join(f"{name}s: {wanted}" for name, wanted in counts.items()))


def ask(url: str, token: str, wanted: dict[str, object], instance: str = "") -> dict[str, int]:
    """The controller's answer: the sizes of all pools.

    Args:
        url: of its page.
        token: of the run.
        wanted: of which pool, and how many.
        instance: see `require_instance`.

    Raises:
        RecipeError: it refuses.
        RunError: it cannot be reached.
    """
    try:
        require_instance(url, instance)
        counts: dict[str, int] = asked(f"{url.rstrip('/')}/scale", token, wanted)
        return counts
    except urllib.error.HTTPError as error:
        said = error.read(1000).decode(errors="replace")
        raise RecipeError(f"the run at {url} refuses: {_detail(said)}") from error
    except UNANSWERED as error:
        raise RunError(f"the run at {url} does not answer ({error}); is it still there?") from error


def _detail(said: str) -> str:
    try:
        return str(json.loads(said)["detail"])
    except (ValueError, KeyError, TypeError):
        return said or "no reason given"
