"""A pipeline is a list of runs: a YAML file with `stages:`, each of which resolves to a recipe of its own.

    common ──┐
             ├─ merged ── what its kind asks for ── what earlier stages leave ──▶ Recipe
    recipe ──┘

What stages hand on are files: the folder `model` that every run leaves, `reward-model` of one that trained one, and
`curated.jsonl` of one that sampled.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from actors.config import keys
from actors.config.base import Section
from actors.config.loading import STAGES, absolute, override, parse, parse_as, read
from actors.config.recipe import Recipe
from actors.errors import RecipeError

#: Name of the pipeline in its folder, by which the folder is known.
PIPELINE = "pipeline.yaml"
#: What a run leaves in its folder for later ones.
MODEL, REWARD_MODEL = "model", "reward-model"

Kind = Literal["sft", "rl", "sample", "reward_model", "distill", "evaluate"]
#: The sections of a recipe that make a run of a kind, and without which it would not be one.
_NEEDS: Mapping[Kind, tuple[str, ...]] = {
    "sft": ("cold_start",),
    "rl": (),
    "sample": ("sample",),
    "reward_model": ("preferences",),
    "distill": ("cold_start",),
    "evaluate": (),
}
_MAY_HAVE: Mapping[Kind, tuple[str, ...]] = {"rl": ("preferences", "distillation")}
_OF_A_KIND = ("cold_start", "sample", "preferences", "distillation")


class StageConfig(Section):
    """One run of a pipeline."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="name of the stage, unique; its folder is NN-name")
    kind: Kind = Field(
        description="sft: a cold start on traces; rl: steps of reinforcement learning; sample: completions of training "
        "tasks, verified and curated; reward_model: a reward model from pairs; distill: the sft of a student on what "
        "another model sampled; evaluate: accuracy alone. All but rl have steps: 0"
    )
    model: str | None = Field(
        None, description="earlier stage whose model this one begins with; default: what `recipe` or `common` says"
    )
    data: list[str] = Field(
        default_factory=list,
        description="in place of cold_start.traces: earlier stages of kind sample whose curated samples are learned "
        "from, and JSONL files beside them, one after the other (sft, distill)",
    )
    reward_model: str | None = Field(
        None,
        description="in place of preferences.pairs: earlier stage that trained the reward model of this one (rl)",
    )
    teacher: str | None = Field(
        None,
        description="in place of distillation.teacher: earlier stage whose model teaches this one, on policy (rl)",
    )
    recipe: dict[str, Any] = Field(
        default_factory=dict, description="keys of a recipe, merged over `common`; a list or a `model` replaces it"
    )


class PrepareConfig(Section):
    """A program that makes files which the stages read."""

    script: Path = Field(description="a Python program, which gets the folder as its only argument")
    folder: Path = Field(description="what it writes to; it runs again once the program is another one")


class PipelineConfig(Section):
    """Several runs, one after the other."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="name of the pipeline's folder")
    output: Path = Field(Path("runs"), description="folder in which the pipeline's folder is")
    base: Path | None = Field(
        None, description="folder that paths are relative to; default: where the command is started"
    )
    prepare: PrepareConfig | None = Field(None, description="data that is made before the first stage")
    common: dict[str, Any] = Field(default_factory=dict, description="keys of a recipe, for all stages")
    stages: list[StageConfig] = Field(min_length=1, description="the runs, in their order")

    @model_validator(mode="after")
    def _refers_backwards(self) -> "PipelineConfig":
        before: dict[str, StageConfig] = {}
        for stage in self.stages:
            if stage.name in before:
                raise ValueError(f"two stages are called {stage.name}; give one of them another name")
            for problem in _wrong_references(stage, before):
                raise ValueError(f"stage {stage.name}: {problem}")
            before[stage.name] = stage
        return self


def _wrong_references(stage: StageConfig, before: Mapping[str, StageConfig]) -> Iterator[str]:
    earlier = f"the stages before it are {', '.join(before) or 'none'}"
    if stage.model is not None and stage.model not in before:
        yield f"model: there is no earlier stage {stage.model}; {earlier}"
    for name in stage.data:
        if name in before and before[name].kind != "sample":
            yield f"data: {name} is of kind {before[name].kind}, and samples come from one of kind sample"
        if name not in before and not _is_file(name):
            yield f"data: there is no earlier stage {name}; {earlier}, and a file is written with its ending"
    if stage.data and stage.kind not in ("sft", "distill"):
        yield f"data: only sft and distill learn from data, and it is of kind {stage.kind}"
    if stage.kind == "distill" and not stage.data:
        yield "data: distill needs the samples of another model; name a stage of kind sample, or a file"
    if stage.reward_model is not None:
        if stage.kind != "rl":
            yield f"reward_model: only rl is scored by one, and it is of kind {stage.kind}"
        if stage.reward_model not in before:
            yield f"reward_model: there is no earlier stage {stage.reward_model}; {earlier}"
    if stage.teacher is not None:
        if stage.kind != "rl":
            yield f"teacher: only rl is taught by one, on policy, and it is of kind {stage.kind}"
        if stage.teacher not in before:
            yield f"teacher: there is no earlier stage {stage.teacher}; {earlier}"


def _is_file(name: str) -> bool:
    return "." in name or "/" in name


@dataclass(frozen=True)
class Stage:
    """One run of a pipeline, resolved.

    Attributes:
        number: its place, from 1.
        name: its name.
        kind: what it does.
        recipe: of the run, with absolute paths.
        folder: the run folder.
        needs: names of the earlier stages that it takes something from, by what.
        data: files whose lines are its traces, where there are several.
    """

    number: int
    name: str
    kind: Kind
    recipe: Recipe
    folder: Path
    needs: Mapping[str, str] = field(default_factory=dict)
    data: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """A pipeline, resolved.

    Attributes:
        config: as it was written, with what was overridden and with absolute paths of its own.
        folder: the pipeline's folder.
        stages: in their order.
    """

    config: PipelineConfig
    folder: Path
    stages: tuple[Stage, ...]


def is_pipeline(path: Path) -> bool:
    """Whether a file, or the folder of what has begun, is of a pipeline. Raises RecipeError for an unreadable file."""
    return (path / PIPELINE).is_file() if path.is_dir() else STAGES in read(path)


def load_pipeline(path: Path, overrides: Sequence[str] = (), folder: Path | None = None) -> Pipeline:
    """The pipeline in a YAML file, with overrides such as `common.seed=1` or `stages.NAME.recipe.steps=5`.

    Args:
        path: of the file.
        overrides: keys and their values.
        folder: the pipeline's folder, where it is there already; default: what `output` and `name` say.

    Raises:
        RecipeError: one line that names the file or the override, the stage, the key and what is wrong with it.
    """
    tree = read(path)
    changed = override(tree, overrides)
    config = parse_as(PipelineConfig, tree, str(path), changed)
    base = Path.cwd() / (config.base or "")
    config = absolute(config, base).model_copy(update={"base": base})
    folder = folder or config.output / config.name
    stages: dict[str, Stage] = {}
    for number, stage in enumerate(config.stages, 1):
        stages[stage.name] = _resolved(config, number, stage, folder, stages, str(path), changed)
    return Pipeline(config, folder, tuple(stages.values()))


def _resolved(
    config: PipelineConfig,
    number: int,
    stage: StageConfig,
    folder: Path,
    before: Mapping[str, Stage],
    origin: str,
    changed: Mapping[str, str],
) -> Stage:
    origin = f"{origin}: stage {stage.name}"
    own = folder / f"{number:02d}-{stage.name}"
    tree = merged(config.common, stage.recipe)
    tree = _of_its_kind(stage, tree, origin)
    tree |= {"name": f"{config.name}-{stage.name}", "output": str(folder)}
    needs, data = {}, tuple(_data(stage, before))
    if stage.model is not None:
        needs["model"] = stage.model
        tree["model"] = {"kind": "folder", "path": str(before[stage.model].folder / MODEL)}
    if data:
        needs |= {f"data.{place}": name for place, name in enumerate(stage.data) if name in before}
        traces = data[0] if len(data) == 1 else own.with_name(f"{own.name}.data.jsonl")
        tree["cold_start"] = {**(tree.get("cold_start") or {}), "traces": str(traces)}
    if stage.reward_model is not None:
        needs["reward_model"] = stage.reward_model
        trained = before[stage.reward_model].recipe.preferences
        if trained is None or trained.pairs is None:
            raise RecipeError(f"{origin}: reward_model: {stage.reward_model} trains none; name a stage with pairs")
        scored = {"reads": trained.reads, **(tree.get("preferences") or {}), "pairs": None}
        tree["preferences"] = {**scored, "reward_model": str(before[stage.reward_model].folder / REWARD_MODEL)}
    if stage.teacher is not None:
        needs["teacher"] = stage.teacher
        teacher = {"teacher": str(before[stage.teacher].folder / MODEL)}
        tree["distillation"] = {**(tree.get("distillation") or {}), **teacher}
    recipe = absolute(parse(tree, origin, _of_stage(changed, number - 1)), config.base or Path.cwd())
    files = tuple((config.base or Path.cwd()) / path for path in data)
    return Stage(number, stage.name, stage.kind, recipe, own, needs, files if len(files) > 1 else ())


def merged(under: Mapping[str, Any], over: Mapping[str, Any], sections: Iterable[type[BaseModel]] = (Recipe,)) -> Any:
    """`over` laid upon `under`, section by section; lists, and sections with variants by `kind`, are replaced."""
    result = dict(under)
    for key, value in over.items():
        fields = [found for section in sections if (found := section.model_fields.get(key)) is not None]
        below = [section for found in fields for section in keys.sections(found.annotation)]
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping) and len(below) < 2:
            result[key] = merged(result[key], value, below)
        else:
            result[key] = value
    return result


def _of_its_kind(stage: StageConfig, tree: dict[str, Any], origin: str) -> dict[str, Any]:
    """Without the sections that only other kinds of stages use, and without steps where it takes none."""
    needs = _NEEDS[stage.kind]
    has = (*needs, *_MAY_HAVE.get(stage.kind, ()))
    for section in _OF_A_KIND:
        if section in has:
            continue
        if stage.recipe.get(section) is not None:
            raise RecipeError(f"{origin}: {section}: a stage of kind {stage.kind} has none; make another stage of it")
        tree.pop(section, None)
    for section in needs:
        if tree.get(section) is None and not (section == "cold_start" and stage.data):
            raise RecipeError(f"{origin}: {section}: is missing; a stage of kind {stage.kind} needs it")
    if stage.kind == "reward_model" and "pairs" not in tree["preferences"]:
        raise RecipeError(f"{origin}: preferences.pairs: is missing; the reward model is trained from them")
    if stage.kind == "rl":
        if not tree.get("steps", 1):
            raise RecipeError(f"{origin}: steps: is 0, so that nothing is learned; set 1 or more, or kind: evaluate")
        return tree
    if stage.recipe.get("steps"):
        raise RecipeError(f"{origin}: steps: only rl takes steps of reinforcement learning; leave it out")
    return {**tree, "steps": 0}


def _data(stage: StageConfig, before: Mapping[str, Stage]) -> Iterator[Path]:
    for name in stage.data:
        if name in before and (sample := before[name].recipe.sample) is not None:
            yield before[name].folder / sample.curated
        else:
            yield Path(name)


def _of_stage(changed: Mapping[str, str], index: int) -> dict[str, str]:
    """The overrides by the keys of one stage's recipe."""
    stems = ("common.", f"stages.{index}.recipe.")
    return {key.removeprefix(stem): text for stem in stems for key, text in changed.items() if key.startswith(stem)}
