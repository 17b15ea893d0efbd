"""Recipes as they can be checked before the stages have run that they take something from."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.config.base import Location
from actors.config.model import FolderModel
from actors.config.pipeline import Pipeline, Stage
from actors.config.recipe import Recipe
from actors.config.stages import DistillationConfig
from actors.config.tasks import AdditionSource, AnySource


@dataclass(frozen=True)
class StandIns:
    """Stands in for what is yet to be made.

    A model that an earlier stage will leave has the architecture and the tokenizer of the one that it began with. For
    files there is one of a single line, for files of tasks there are sums, and for a reward model a folder that says
    that it is one.

    Args:
        pipeline: whose stages are checked.
        folder: an empty one to write into.
    """

    pipeline: Pipeline
    folder: Path

    def recipe(self, stage: Stage) -> Recipe:
        """The recipe of a stage, in which nothing is missing that will be there once the stage begins."""
        recipe = stage.recipe
        sources = [self._source(source) for source in recipe.tasks.sources]
        updates: dict[str, Any] = {"tasks": recipe.tasks.model_copy(update={"sources": sources})}
        if self.will_be_made(_place(recipe)):
            updates["model"] = self._origin(stage).recipe.model
        if (cold := recipe.cold_start) is not None and isinstance(cold.traces, Path) and self.will_be_made(cold.traces):
            updates["cold_start"] = cold.model_copy(update={"traces": self._line()})
        if (given := recipe.preferences) is not None:
            pending = {"pairs": self._line, "reward_model": self._reward_model}
            made = {key: make() for key, make in pending.items() if self.will_be_made(getattr(given, key))}
            updates["preferences"] = given.model_copy(update=made)
        if (taught := recipe.distillation) is not None and self.will_be_made(taught.teacher):
            updates["distillation"] = self._taught(taught, stage)
        if (drawn := recipe.sample) is not None and drawn.mix is not None and self.will_be_made(drawn.mix.path):
            updates["sample"] = drawn.model_copy(update={"mix": drawn.mix.model_copy(update={"path": self._line()})})
        return recipe.model_copy(update=updates)

    def _source(self, source: AnySource) -> AnySource:
        if not self.will_be_made(getattr(source, "path", None)):
            return source
        return AdditionSource(source="addition", digits=3, weight=source.weight, preferences=source.preferences)

    def will_be_made(self, path: Location | None) -> bool:
        """Whether a file is not there, and the pipeline's program or one of its stages makes it."""
        if not isinstance(path, Path) or path.exists():
            return False
        prepare = self.pipeline.config.prepare
        return path.is_relative_to(self.pipeline.folder) or (
            prepare is not None and path.is_relative_to(prepare.folder)
        )

    def _origin(self, stage: Stage) -> Stage:
        """The stage whose model this one's goes back to."""
        by_name = {other.name: other for other in self.pipeline.stages}
        while (name := stage.needs.get("model")) is not None:
            stage = by_name[name]
        return stage

    def _taught(self, given: DistillationConfig, stage: Stage) -> DistillationConfig | None:
        """With the model that the teacher goes back to; None where that is yet to be made, as the stage then checks."""
        teacher = next(other for other in self.pipeline.stages if other.name == stage.needs["teacher"])
        folder = _place(self._origin(teacher).recipe)
        return given.model_copy(update={"teacher": folder}) if folder is not None else None

    def _line(self) -> Path:
        texts = dict.fromkeys(("prompt", "response", "chosen"), "to be made by an earlier stage")
        path = self.folder / "line.jsonl"
        path.write_text(json.dumps({**texts, "rejected": "not yet"}) + "\n")
        return path

    def _reward_model(self) -> Path:
        folder = self.folder / "reward-model"
        folder.mkdir(exist_ok=True)
        config = {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
        (folder / "config.json").write_text(json.dumps(config))
        return folder


def _place(recipe: Recipe) -> Path | None:
    return Path(recipe.model.path) if isinstance(recipe.model, FolderModel) else None
