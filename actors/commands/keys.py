"""`leeway keys`: make the secrets of a run, or those of one more machine that may join it."""

import re
from pathlib import Path
from typing import Annotated

import typer

from actors.errors import RecipeError

#: A name is part of a file's.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def keys(
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="Folder to make; default: $LEEWAY_KEYS, or else ~/.config/leeway/keys."),
    ] = None,
    add: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Authorize one more client, and make DIR/NAME for its machines. A name that ends with .generator, "
            ".verifier or .learner is for that role alone.",
        ),
    ] = None,
) -> None:
    """Make the keys with which `network.curve: required` lets processes talk, and the token of HTTP."""
    from actors.transport.keys import FOLDER, create, folder
    from actors.transport.keys import add as add_client

    where = (folder() if directory is None else directory).absolute()
    if add is None:
        create(where)
        typer.echo(f"{where}: give it to every machine of the run, and to nobody else; {FOLDER} names it there")
        return
    if not _NAME.fullmatch(add):
        raise RecipeError(f"--add: {add!r} is no name: use small letters, digits, dots and dashes")
    made = add_client(where, add)
    typer.echo(f"{made}: move it to the machines of {add}; its client may connect at once")
    typer.echo(f"delete {where / 'authorized' / add}.public, and it may no longer")
