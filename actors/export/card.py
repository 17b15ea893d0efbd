"""The model card of a run: README.md of the exported folder, as the Hugging Face hub reads it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.config import yaml_core
from actors.config.model import FolderModel, SmolLm2Model
from actors.config.recipe import Recipe
from actors.config.stages import PreferencesConfig
from actors.events import EvaluationDone
from actors.export.redaction import redacted
from actors.report.text import visible

#: Licenses of the base models that a run can name without asking the hub; of others nothing is said.
LICENSES = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": "apache-2.0",
    "Qwen/Qwen2.5-1.5B": "apache-2.0",
    "Qwen/Qwen2.5-7B": "apache-2.0",
    "Qwen/Qwen2.5-32B": "apache-2.0",
    "deepseek-ai/DeepSeek-V3-Base": "other",
}
#: Columns of the table of evaluations that are shown where any of them has a value: field, heading, whether a share.
COLUMNS = (
    ("pass_at_1", "pass@1", True),
    ("pass_at_k", "pass@k", True),
    ("maj_at_k", "maj@k", True),
    ("format", "format", True),
    ("language", "language", True),
    ("mean_length", "mean length (tokens)", False),
)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a card is written from.

    Attributes:
        recipe: of the run, resolved.
        step: of the weights.
        finished: whether the run has ended, or this is one of its checkpoints.
        evaluations: in order.
        inputs: hashes of the data files, by key of the recipe.
        files: hashes of the exported files, by name.
        versions: of packages, at the export.
    """

    recipe: Recipe
    step: int
    finished: bool
    evaluations: Sequence[EvaluationDone]
    inputs: Mapping[str, str]
    files: Mapping[str, str]
    versions: Mapping[str, str]


def card(found: Provenance) -> str:
    """The text of README.md."""
    parts = [
        f"---\n{yaml_core.write(_front_matter(found.recipe)).strip()}\n---",
        f"# {found.recipe.name}",
        _what_was_done(found),
        _evaluations(found.evaluations),
        _data(found),
        _limitations(found),
        _use(),
        _files(found),
        f"## Recipe\n\n```yaml\n{yaml_core.write(redacted(found.recipe.model_dump(mode='json'))).strip()}\n```",
    ]
    return visible("\n\n".join(parts) + "\n")


def base_model(recipe: Recipe) -> str | None:
    """The name of the base model on the hub; None where it was made from scratch, or is a folder of this machine."""
    if isinstance(recipe.model, SmolLm2Model):
        return "HuggingFaceTB/SmolLM2-135M-Instruct"
    if isinstance(recipe.model, FolderModel) and recipe.model.may_be_on_hub:
        return recipe.model.path
    return None


def _front_matter(recipe: Recipe) -> dict[str, Any]:
    base = base_model(recipe)
    found: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if base is not None:
        found["base_model"] = base
        if base in LICENSES:
            found["license"] = LICENSES[base]
    return found | {"tags": ["leeway", "reinforcement-learning", recipe.learner.objective.name]}


def _what_was_done(found: Provenance) -> str:
    recipe, objective = found.recipe, found.recipe.learner.objective
    base = base_model(recipe)
    began = f"[{base}](https://huggingface.co/{base})" if base else f"a model of kind `{recipe.model.kind}`"
    lines = [
        f"Trained with Leeway from {began}, seed {recipe.seed}:",
        "",
        *(["- a cold start: supervised training on worked examples"] if recipe.cold_start else []),
        f"- {found.step} optimizer steps of reinforcement learning with `{objective.name}` (loss {objective.loss}, "
        f"advantage {objective.advantage}, aggregation {objective.aggregation}), "
        f"{recipe.replay.groups_per_batch} prompts a step with {recipe.replay.group_size} completions each, learning "
        f"rate {recipe.learner.optimizer.learning_rate:g}, completions at most {recipe.replay.max_staleness} versions "
        "old",
        _learned_from(recipe),
        *([f"- {_preferences(recipe.preferences)} beside the rules"] if recipe.preferences else []),
    ]
    if not found.finished:
        lines += ["", f"**This is a checkpoint of step {found.step} of {recipe.steps}, not the end of the run.**"]
    return "\n".join(lines)


def _learned_from(recipe: Recipe) -> str:
    if recipe.distillation is not None:
        return "- on-policy distillation: a teacher's log-probabilities of the sampled tokens, in place of rewards"
    return f"- rewards: {', '.join(f'{part} x {weight:g}' for part, weight in _weights(recipe).items()) or 'none'}"


def _preferences(config: PreferencesConfig) -> str:
    if config.judge is None:
        return "a learned reward from preference pairs"
    return f"what {_cell(config.judge.model)} judges by {', '.join(config.judge.criteria)}"


def _weights(recipe: Recipe) -> dict[str, float]:
    return {part: weight for part, weight in recipe.rewards.weights.model_dump().items() if weight}


def _evaluations(done: Sequence[EvaluationDone]) -> str:
    if not done:
        return "## Evaluation\n\nThe run has recorded no evaluation."
    rows = [event.model_dump() for event in done]
    columns = [column for column in COLUMNS if any(_known(row.get(column[0])) for row in rows)]
    header = ["evaluation", "tasks", "samples a task", *(name for _, name, _ in columns)]
    table = [header, ["---", *["---:"] * (len(header) - 1)]]
    for row in rows:
        table.append([_cell(row["name"]), str(row["n"]), str(row["k"]), *(_score(row, *column) for column in columns)])
    text = "\n".join(f"| {' | '.join(line)} |" for line in table)
    return f"## Evaluation\n\nOn held-out tasks of the training's own sources, in brackets 95 % intervals.\n\n{text}"


def _score(row: Mapping[str, Any], field: str, heading: str, share: bool) -> str:
    del heading
    if not _known(value := row.get(field)):
        return "–"
    text = f"{value:.1%}" if share else f"{value:.0f}"
    interval = row.get(f"{field}_interval")
    return text if interval is None else f"{text} [{interval[0]:.1%}, {interval[1]:.1%}]"


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _data(found: Provenance) -> str:
    lines = [f"- {_cell(_source(source))}" for source in found.recipe.model_dump(mode="json")["tasks"]["sources"]]
    hashes = [f"- `{key}`: sha256 `{value}`" for key, value in found.inputs.items()]
    held_out = f"{found.recipe.tasks.held_out} tasks were held out, and never trained on."
    return "\n".join(["## Data", "", *lines, *hashes, "", held_out])


def _source(source: Mapping[str, Any]) -> str:
    kept = redacted({"tasks": source})["tasks"]
    named = [f"{key} {kept[key]}" for key in ("name", "family", "path", "subset", "split") if kept.get(key)]
    return ", ".join([f"`{kept['source']}`", *named])


def _limitations(found: Provenance) -> str:
    lines = [
        "It was trained to be right where a rule can tell, on the tasks above, and evaluated on tasks of the same "
        "kind; nothing is known of others.",
        "No training against harmful output is part of it, unless the recipe below says so.",
        "What stands between `<think>` and `</think>` is not evidence of how the model came to its answer.",
    ]
    if base_model(found.recipe) not in LICENSES:
        lines.append("Its license is not known to the run: that of the base model and of the data applies.")
    return "\n".join(["## Limitations", "", *(f"- {line}" for line in lines)])


def _use() -> str:
    return "## Use\n\n```\nvllm serve FOLDER\nleeway chat FOLDER\n```"


def _files(found: Provenance) -> str:
    hashes = "\n".join(f"| `{name}` | `{value}` |" for name, value in found.files.items())
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    return f"## Files\n\n| file | sha256 |\n|---|---|\n{hashes}\n\nExported with {versions}."
