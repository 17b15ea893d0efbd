"""`leeway eval`: a model on tasks, as an ordinary run without a step."""

import json
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actors.commands.options import Overrides
from actors.errors import RecipeError, RunError

if TYPE_CHECKING:
    from actors.config.recipe import Recipe

#: The longest completion in the evaluations of the R1 paper (tokens); a model's positions may allow less.
PAPER_TOKENS = 32_768
#: Positions of a model that does not say how many it has.
POSITIONS = 4096
#: Sections that an evaluation has no use for.
_LEFT_OUT = ("cold_start", "preferences", "sample", "autoscale")


def evaluate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Model folder, run folder, name on the hub, or smollm2.")],
    tasks: Annotated[
        str,
        typer.Argument(help="File of tasks (JSON lines, or GSM8K's), recipe (its held-out tasks), or a standard set."),
    ],
    samples: Annotated[int, typer.Option("--samples", min=1, max=4096, help="Completions a task.")] = 4,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the result to this file, too.")] = None,
    overrides: Overrides = None,
) -> None:
    """Measure a model on tasks: pass@1, pass@k and maj@k with 95 % confidence intervals, by task source.

    It is a run with steps: 0 on the same fleet, sampled as in the R1 paper (temperature 0.6, top-p 0.95) unless -s
    says otherwise. Every completion with its verdict is in evaluation-after.jsonl of the run folder.
    """
    if find_spec("ray") is None:
        raise RecipeError("an evaluation needs Ray, torch and more: install leeway-rl with its extra `cpu` or `cuda`")
    recipe = recipe_of(model, tasks, samples, overrides or ())
    folder = _run(context, recipe)
    done = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["held_out"]["after"]
    if done["n"] is None:
        raise RunError(f"{folder}: no result: {done['missing'] or 'the run ended before it'}")
    if as_json is not None:
        found = {"model": model, "tasks": tasks, "run": str(folder), **done}
        try:
            as_json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise RunError(f"{as_json}: cannot be written ({error.strerror}); {folder} has the result") from error


def _run(context: typer.Context, recipe: "Recipe") -> Path:
    from rich.console import Console

    from actors.folder import locked, new_folder
    from actors.run import show, surroundings
    from sandbox.terminal import lasting

    found = surroundings(recipe)
    folder = new_folder(recipe)
    with locked(folder) as lock:
        show(recipe, folder, None, 0, lasting(Console()), found, context.obj, [lock])
    return folder


def recipe_of(model: str, tasks: str, samples: int, overrides: Sequence[str]) -> "Recipe":
    """The recipe of an evaluation: what the run that made the model said of prompts, rewards and processes, or else
    what the recipe of the tasks says, or else defaults.

    Raises:
        RecipeError: model or tasks are nothing that can be evaluated, or an override does not fit.
    """
    from actors.config.loading import RECIPE, absolute, load, override, parse

    folder = Path(model).expanduser()
    of_run = _plain(load(folder / RECIPE)) if (folder / RECIPE).is_file() else None
    of_tasks = _plain(load(Path(tasks))) if tasks.endswith((".yaml", ".yml")) else None
    tree = of_run or of_tasks or {}
    tree |= {"steps": 0, "name": _name(model, tasks), "model": _model(model, folder, of_run is not None)}
    tree.setdefault("output", "runs")
    tree["evaluation"] = {"samples": samples, "keep_completions": True, "every_steps": 0}
    tree = {key: value for key, value in tree.items() if key not in _LEFT_OUT}
    _set_tasks(tree, tasks, of_tasks)
    if of_run is None and of_tasks is None:
        _fit(tree, tree["model"])
    changed = override(tree, overrides)
    recipe: Recipe = absolute(parse(tree, "", changed), Path.cwd())
    if any(source.source == "datasets" for source in recipe.tasks.sources):
        from actors.tasks import TaskStream

        TaskStream(recipe.tasks, recipe.seed)  # one that cannot be loaded is refused here, and not in the run
    return recipe


def _plain(recipe: "Recipe") -> dict[str, Any]:
    return recipe.model_dump(mode="json")


def _name(model: str, tasks: str) -> str:
    words = re.sub(r"[^a-z0-9._-]+", "-", f"{Path(model).name}-{Path(tasks).stem}".lower())
    return f"eval-{words}"[:80]


def _model(model: str, folder: Path, is_run: bool) -> dict[str, Any]:
    if is_run:
        if not (folder / "model").is_dir():
            raise RecipeError(
                f"{folder}: this run has left no model yet; finish it with `leeway run --resume {folder}`"
            )
        return {"kind": "folder", "path": str(folder / "model")}
    return {"kind": "smollm2"} if model == "smollm2" else {"kind": "folder", "path": model}


def _set_tasks(tree: dict[str, Any], tasks: str, of_tasks: dict[str, Any] | None) -> None:
    """A recipe's held-out tasks as it splits them; of anything else all."""
    if of_tasks is not None:
        tree["tasks"] = of_tasks["tasks"]
        return
    from actors.tasks.standard import source_of

    before = tree.get("tasks", {})
    kept = {key: before[key] for key in ("template", "system", "shots", "max_prompt_tokens") if key in before}
    tree["tasks"] = {**kept, "sources": [source_of(tasks)], "held_out": "all", "development": 0}


def _fit(tree: dict[str, Any], model: dict[str, Any]) -> None:
    """Lengths, template and devices for a model of which no recipe says them."""
    import torch

    from actors.config.model import FolderModel, SmolLm2Model
    from actors.control.environment import models_folder
    from actors.models import prepare

    config = SmolLm2Model(kind="smollm2") if model["kind"] == "smollm2" else FolderModel(path=model["path"])
    folder = prepare(config, models_folder(Path.cwd(), Path("runs").absolute()), 0)
    found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    positions = found.get("max_position_embeddings")
    positions = positions if isinstance(positions, int) else POSITIONS
    prompt = min(1024, positions // 2)
    tree["tasks"]["max_prompt_tokens"] = prompt
    tree["tasks"]["template"] = "chat" if _has_chat_template(folder) else "raw"
    tree["generators"] = {"sampling": {"max_tokens": min(PAPER_TOKENS, positions - prompt)}}
    if torch.cuda.is_available():
        tree["generators"]["gpus"] = 1


def _has_chat_template(folder: Path) -> bool:
    from actors.models.tokenizer import load_tokenizer

    return bool(load_tokenizer(folder).chat_template)
