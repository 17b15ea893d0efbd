"""Options that several commands have."""

from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Option("-s", "--set", metavar="KEY=VALUE", help="Override a key, as in learner.threads=2; may be repeated."),
]
