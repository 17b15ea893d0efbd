"""`leeway up`: one role alone, which joins a run that others have started."""

import os
import re
import secrets
import socket
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from actors.commands.options import Overrides
from actors.errors import RecipeError

if TYPE_CHECKING:
    from actors.config.recipe import Recipe

#: Seeds of the processes that a run starts itself are below this, beyond `seed * 1000`.
_SEEDS = 2**20


def up(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="Recipe of the run (YAML): its recipe.yaml, or a copy.")],
    role: Annotated[
        Literal["replay", "generator", "verifier", "scorer", "learner"],
        typer.Option(help="What this process shall be."),
    ],
    join: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://HOST:PORT",
            help="Replay of the run to join: its first shard, or all with commas between; none for the replay itself.",
        ),
    ] = None,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Unique name in the run; default: ROLE-HOST-RANDOM.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Its logs and checkpoints; default: a folder in the recipe's output.")
    ] = None,
    rank: Annotated[int, typer.Option(min=0, help="Of a learner among its peers, of a shard of the replay.")] = 0,
    patience: Annotated[
        float, typer.Option(min=1, help="It ends where the replay has not answered for so long (s).")
    ] = 600.0,
) -> None:
    """Start one role alone, without Ray: under systemd or Slurm, or in another cluster.

    SIGTERM ends it gracefully, with exit code 0; exit code 1 means that it may be started again.
    """
    from actors.config.loading import RECIPE, dump, load
    from actors.control import environment
    from actors.control.cluster import guarded
    from actors.folder import locked
    from actors.models import prepare
    from actors.report.writer import RunFolder
    from actors.roles.role import RoleContext, Storage
    from actors.roles.up import Alone, StuckError, every_shard
    from actors.run import surroundings
    from actors.transport import keys
    from actors.transport.sockets import use_keys
    from learner.files import write_atomically

    tree = load(recipe, overrides or ())
    _require({"learner": tree.learner.ranks, "replay": tree.replay.shards}, role, join, rank)
    if role == "scorer":
        _require_reward_model(tree)
    name = name_of(role, rank, name)
    found = surroundings(tree.model_copy(update={"ray": tree.ray.model_copy(update={"address": None})}))
    folder = (folder or tree.output / f"{tree.name}-{name}").absolute()
    if (folder / RunFolder.METRICS).exists():
        raise RecipeError(f"{folder}: is the folder of a run; give this process one of its own with --folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / RECIPE).exists():
            write_atomically(folder / RECIPE, dump(tree))
    except OSError as error:
        raise RecipeError(f"{folder}: cannot be written ({error.strerror})") from error
    interrupts = context.obj

    def stopped() -> bool:
        return interrupts.received is not None

    with locked(folder), interrupts.deferred(), guarded(found):
        write_atomically(folder / RECIPE, dump(tree))
        model = prepare(tree.model, environment.models_folder(Path.cwd(), tree.output), tree.seed)
        storage = Storage(folder, model)
        seed = tree.seed * 1000 + _SEEDS + zlib.crc32(name.encode()) % _SEEDS
        replay = join or ""
        if join is not None and tree.replay.shards > 1:
            use_keys(keys.load() if tree.network.curve == "required" else None)
            replay = every_shard(join, tree.replay.shards, name, role, patience, stopped)
            if stopped():
                return
        alone = Alone(role, RoleContext(tree, name, storage, replay, seed, rank), patience)
        typer.echo(f"{name}: {alone.describe()}; its log is {folder}/logs/{name}.log")
        try:
            alone.run(stopped)
        except StuckError as error:
            print(f"leeway: {error}", file=sys.stderr, flush=True)
            os._exit(error.exit_code)  # whatever its threads wait for


def _require(ranks: Mapping[str, int], role: str, join: str | None, rank: int) -> None:
    if (join is None) != (role == "replay"):
        raise RecipeError("--join: every role but the replay joins one, as in --join tcp://10.0.0.1:5555")
    shards = join.split(",") if join is not None else []
    for address in shards:
        if not re.fullmatch(r"tcp://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}", address):
            raise RecipeError(f"--join: {address!r} is no address such as tcp://10.0.0.1:5555")
    if shards and len(shards) not in (1, ranks["replay"]):
        raise RecipeError(f"--join: {len(shards)} addresses, and replay.shards is {ranks['replay']}")
    if rank and rank >= ranks.get(role, 1):
        counts = f"learner.ranks is {ranks['learner']}, and replay.shards {ranks['replay']}"
        raise RecipeError(f"--rank: {rank} is no rank of a {role}; {counts}")


def _require_reward_model(tree: "Recipe") -> None:
    if not tree.has_scorers:
        raise RecipeError(
            "--role scorer: this recipe has no reward model and no teacher; name one in preferences.reward_model, or "
            "in distillation.teacher"
        )
    if tree.preferences is not None and tree.preferences.pairs is not None:
        raise RecipeError(
            "preferences: a scorer that joins does not see the run's folder; name a trained model in "
            "preferences.reward_model"
        )


def name_of(role: str, rank: int, given: str | None) -> str:
    """A name that no other process of the run has; learner and replay are one service each, whoever serves it.

    Raises:
        RecipeError: the given one is no name.
    """
    from actors.control import supervisor
    from actors.membership import NAME

    if given is not None:
        if not re.fullmatch(NAME, given):
            raise RecipeError(f"--name: {given!r} is no name: use letters, digits, dots and dashes")
        return given
    if role in ("learner", "replay"):
        return supervisor.name_of(role, rank, 0)
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname().partition(".")[0])[:40]
    return f"{role}-{host}-{secrets.token_hex(3)}"
