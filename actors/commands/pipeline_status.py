"""`leeway status` of a pipeline: its stages, and the page of the one that runs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.errors import RunError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from actors.report.progress import PipelineProgress


def is_pipeline_folder(where: str) -> bool:
    """Whether a path is the folder of a pipeline that has begun."""
    from actors.config.pipeline import PIPELINE

    return (Path(where) / PIPELINE).is_file()


def progress_in(where: str) -> "PipelineProgress":
    """How far the pipeline in a folder is.

    Raises:
        RecipeError: its pipeline.yaml cannot be read.
        RunError: the files of a stage are damaged.
    """
    from actors.config.pipeline import PIPELINE, load_pipeline
    from actors.report.progress import progress

    folder = Path(where).absolute()
    pipeline = load_pipeline(folder / PIPELINE, (), folder)
    stages = [(stage.name, stage.kind, stage.folder) for stage in pipeline.stages]
    return progress(pipeline.config.name, folder, stages)


def told_of(found: "PipelineProgress", ask: Callable[[str], Mapping[str, Any] | None]) -> dict[str, Any]:
    """What is known, for other programs: the stages, the name of the one that runs, and what its controller says.

    Args:
        found: how far the pipeline is.
        ask: the controller of the run in a folder; it may raise RunError where that does not answer.
    """
    told, silent = None, None
    if (running := found.running) is not None:
        try:
            told = ask(str(Path(found.folder) / running.folder))
        except RunError as error:
            silent = str(error)
    seen = found.model_dump(mode="json")
    return {**seen, "running": running.name if running else None, "run": told, "silent": silent}


def page(found: "PipelineProgress", told: Mapping[str, Any]) -> "RenderableType":
    """The stages, and below them the page of the one that runs."""
    from rich.console import Group
    from rich.text import Text

    from actors.report.live import live
    from actors.report.progress import table
    from actors.report.text import visible

    head = Text(visible(f"{found.name}  {_said(found)}\n{found.folder}"), "bold")
    blocks: list[RenderableType] = [head, Text("\n".join(table(found)))]
    if told["run"] is not None:
        blocks += [Text(""), live(told["run"])]
    elif told["silent"] is not None:
        blocks += [Text(""), Text(visible(told["silent"]))]
    return Group(*blocks)


def _said(found: "PipelineProgress") -> str:
    done = sum(stage.state == "done" for stage in found.stages)
    if found.is_done:
        return f"all {len(found.stages)} stages are done"
    running = f", {found.running.name} runs" if found.running is not None else ""
    return f"{done} of {len(found.stages)} stages done{running}"


def require_well(found: "PipelineProgress") -> None:
    """Raises RunError where nobody carries the pipeline out, and not all of it is done."""
    if found.alive or found.is_done:
        return
    left = next(stage for stage in found.stages if stage.state != "done")
    stands = {"to come": "has not begun", "killed": "was killed", "running": "still runs without its driver"}
    raise RunError(
        f"{found.folder}: this pipeline is not alive, and its stage {left.summary.name} "
        f"{stands.get(left.state, f'is {left.state}' if left.state == 'interrupted' else left.state)}; go on with "
        f"`leeway run --resume {found.folder}`"
    )
