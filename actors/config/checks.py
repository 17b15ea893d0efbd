"""What can be known to be wrong with a recipe before a process starts, from the recipe and the files it names.

Every check is a function from a recipe to the problems that it finds; each problem names the keys and what to do.
"""

import difflib
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import sandbox.verifiers  # noqa: F401 - registers the verifiers that come with the sandbox
from actors.config import engine_arguments, speculation
from actors.config.base import Location
from actors.config.judge import api_key
from actors.config.model import EXPERT_COUNTS, FolderModel, TinyModel
from actors.config.recipe import Recipe
from actors.config.tasks import AdditionSource, CodeSource, DatasetSource, GpqaSource, Gsm8kSource, JsonlSource
from actors.errors import LeewayError, RecipeError
from actors.storage.inputs import below, local
from sandbox import language
from sandbox.errors import SandboxError, UnknownVerifierError
from sandbox.registry import lookup


def problems(recipe: Recipe, *, resumed: bool = False) -> list[str]:
    """Everything that is wrong, each as one line.

    Args:
        recipe: with absolute paths, as `actors.config.loading.load` gives it.
        resumed: the run resumes from a checkpoint: it has its folder, and its cold start is behind it.
    """
    checks = [_bind, _verifiers, _language, _data_files, _model, _lengths, _objective, _signal, _trackers, _judge]
    checks += [_success, _experts, engine_arguments.problems, speculation.problems]
    return [
        problem
        for check in [*checks, *([] if resumed else [_output, _cold_start, _pairs])]
        for problem in check(recipe)
    ]


def _trackers(recipe: Recipe) -> Iterator[str]:
    """Each is imported under the name by which it is asked for."""
    for name in recipe.trackers:
        if find_spec(name) is None:
            yield f"trackers: {name} is not installed; pip install 'leeway-rl[{name}]', or leave it out"


def unknown_verifier(name: str) -> str | None:
    """Why there is no such verifier; None where there is."""
    try:
        lookup(name)
    except UnknownVerifierError as error:
        return str(error)
    return None


def unusable_verifier(name: str) -> str | None:
    """Why no task with an answer alone can be verified by `name`; None where one can."""
    if unknown := unknown_verifier(name):
        return unknown
    keys = lookup(name).reference_keys
    if keys is None or "answer" in keys:
        return None
    if not keys:
        return f"{name} is for tasks without an answer, and those of such a source have one; use `source: jsonl`"
    read = ", ".join(sorted(keys))
    return f"{name} reads {read}, and a task of such a source has an `answer` alone; use math, numeric or exact"


def _output(recipe: Recipe) -> Iterator[str]:
    there = next(folder for folder in [recipe.output, *recipe.output.parents] if os.access(folder, os.F_OK))
    try:
        with tempfile.TemporaryDirectory(dir=there):  # permissions say nothing of /proc and the like
            return
    except OSError as error:
        yield f"output: no folder can be made in {there} ({error.strerror}); set it to a folder that can be written"


def _bind(recipe: Recipe) -> Iterator[str]:
    """On a cluster it is other machines' address too, and nothing can be known of it here."""
    bind = recipe.network.bind
    if bind is None or recipe.ray.address is not None:
        return
    try:
        with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
            probe.bind((bind, 0))
    except OSError as error:
        yield f"network.bind: {bind} cannot be bound on this machine ({error.strerror}); use one of its addresses"


def _verifiers(recipe: Recipe) -> Iterator[str]:
    for number, source in enumerate(recipe.tasks.sources):
        if not isinstance(source, JsonlSource | Gsm8kSource | GpqaSource | DatasetSource):
            continue
        known = unknown_verifier if isinstance(source, JsonlSource) else unusable_verifier
        if unusable := known(source.verifier):
            yield f"tasks.sources.{number}.verifier: {unusable}"


def _language(recipe: Recipe) -> Iterator[str]:
    if recipe.rewards.language is not None:
        try:
            language.require(recipe.rewards.language)
        except SandboxError as error:
            yield f"rewards.language: {error}"


def _data_files(recipe: Recipe) -> Iterator[str]:
    for number, source in enumerate(recipe.tasks.sources):
        if isinstance(source, JsonlSource | Gsm8kSource | GpqaSource | CodeSource) and source.path is not None:
            yield from _unreadable(f"tasks.sources.{number}.path", source.path)


def _cold_start(recipe: Recipe) -> Iterator[str]:
    cold = recipe.cold_start
    if cold is None:
        return
    if cold.traces != "addition":
        for problem in _unreadable("cold_start.traces", cold.traces):
            meant = difflib.get_close_matches(str(cold.traces).rpartition("/")[2], ["addition"])
            yield f"{problem}; did you mean addition?" if meant else problem
    elif not any(isinstance(source, AdditionSource) for source in recipe.tasks.sources):
        yield "cold_start.traces: addition is for sums, and tasks.sources has no source `addition`; name a file"
    if cold.stop_at_accuracy is not None and cold.development > recipe.tasks.development:
        yield (
            f"cold_start.development: {cold.development} tasks are asked for, and tasks.development holds out "
            f"{recipe.tasks.development}; raise that, or lower this"
        )


def _pairs(recipe: Recipe) -> Iterator[str]:
    if recipe.preferences is not None and recipe.preferences.pairs is not None:
        yield from _unreadable("preferences.pairs", recipe.preferences.pairs)


def _judge(recipe: Recipe) -> Iterator[str]:
    """The key is the verifiers': in a cluster, and where they join, it is on other machines."""
    judge = recipe.judge
    if judge is None or not recipe.verifiers.count or recipe.ray.address is not None:
        return
    try:
        api_key(judge)
    except RecipeError as error:
        yield str(error)


def _unreadable(key: str, location: Location) -> Iterator[str]:
    try:
        path = local(location)
    except LeewayError as error:
        yield f"{key}: {error}"
        return
    if not os.access(path, os.F_OK):
        yield f"{key}: there is no file {path}"
    elif not path.is_file():
        yield f"{key}: {path} is no file"
    elif not os.access(path, os.R_OK):
        yield f"{key}: {path} cannot be read; change its permissions"


def _model(recipe: Recipe) -> Iterator[str]:
    model = recipe.model
    if not isinstance(model, FolderModel):
        return
    folder = model.uri or model.folder
    if folder:
        try:
            _configuration(folder)
        except (OSError, ValueError) as error:
            yield f"model.path: {model.path} holds no config.json that can be read ({error}); give a model folder"
        except LeewayError as error:
            yield f"model.path: {error}"
    elif not model.may_be_on_hub:
        yield f"model.path: there is no folder {model.path}; give an existing one, or a name on the hub"


def _lengths(recipe: Recipe) -> Iterator[str]:
    """Prompt and completion against what engine and model can hold. The synthetic engine runs no model."""
    if recipe.generators.engine == "synthetic":
        return
    known = dict(_contexts(recipe))
    for engine, longest in known.items():
        for name, tokens in known.items():
            if engine.startswith("generators.") and name != engine and longest > tokens:
                yield f"{engine} is {longest}, and {name} {tokens}; lower it"
    if not known:
        return
    name, limit = min(known.items(), key=lambda item: item[1])
    prompt = recipe.tasks.max_prompt_tokens
    samplings = {"generators": recipe.generators.sampling}
    if recipe.evaluation.sampling.max_tokens is not None:
        samplings["evaluation"] = recipe.evaluation_sampling
    role, longest = max(((role, sampling.max_tokens) for role, sampling in samplings.items()), key=lambda item: item[1])
    if longest >= limit:
        yield (
            f"{role}.sampling.max_tokens is {longest}, which leaves no room for a prompt: {name} is {limit}; lower "
            f"{role}.sampling.max_tokens"
        )
    elif prompt + longest > limit:
        yield (
            f"tasks.max_prompt_tokens is {prompt} and {role}.sampling.max_tokens {longest}, together more than "
            f"{limit}, which is {name}; lower tasks.max_prompt_tokens to {limit - longest}"
        )


def _contexts(recipe: Recipe) -> Iterator[tuple[str, int]]:
    """(what bounds the length of a sequence, tokens), as far as it is known without loading the model."""
    vllm = recipe.generators.vllm
    if recipe.generators.engine == "vllm":
        if isinstance(given := vllm.engine_args.get("max_model_len"), int):  # it wins over the key of its own
            yield "generators.vllm.engine_args.max_model_len", given
        elif vllm.max_model_len is not None:
            yield "generators.vllm.max_model_len", vllm.max_model_len
    if isinstance(recipe.model, TinyModel):
        yield "model.max_length", recipe.model.max_length
    elif isinstance(recipe.model, FolderModel) and (folder := recipe.model.uri or recipe.model.folder):
        try:
            found = _configuration(folder)
        except (OSError, ValueError, LeewayError):
            return  # which `_model` says
        positions = found.get("max_position_embeddings")
        # scaled positions reach further, by rules that each kind of scaling has of its own
        if isinstance(positions, int) and not _scales(found):
            yield f"max_position_embeddings of {folder}", positions


def _scales(found: dict[str, Any]) -> bool:
    """Whether the positions are scaled, by what transformers writes since version 5, or before it."""
    rope = found.get("rope_parameters") or found.get("rope_scaling")
    return bool(rope) and not (isinstance(rope, dict) and rope.get("rope_type", rope.get("type")) == "default")


def _configuration(folder: Location) -> dict[str, Any]:
    found = json.loads(local(below(folder, "config.json")).read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def _signal(recipe: Recipe) -> Iterator[str]:
    """What would run, and could not learn whatever the model writes."""
    taught = recipe.learner.objective.advantage == "teacher"
    if recipe.preferences is None and not taught and not any(recipe.rewards.weights.model_dump().values()):
        yield "rewards.weights: all are 0, so that every reward is 0; give rewards.weights.accuracy another weight"
    joining = recipe.network.joining
    if recipe.steps and not recipe.generators.count and "generator" not in joining:
        yield (
            "generators.count is 0, so that nothing is ever generated; set 1 or more, or name generator in "
            "network.joining where they join with `leeway up`"
        )
    if recipe.steps and not recipe.verifiers.count and "verifier" not in joining:
        yield (
            "verifiers.count is 0, so that nothing is ever scored; set 1 or more, or name verifier in network.joining "
            "where they join with `leeway up`"
        )
    if recipe.has_scorers and not recipe.scorers.count and "scorer" not in joining:
        yield (
            "scorers.count is 0, so that nobody holds the reward model of preferences, or the teacher of distillation; "
            "set 1 or more, or name scorer in network.joining where they join with `leeway up`"
        )


def _experts(recipe: Recipe) -> Iterator[str]:
    """Routing is replayed where an engine says what it was, and where there is any."""
    if not recipe.learner.router_replay:
        return
    generators = recipe.generators
    if generators.engine != "vllm":
        yield (
            f"learner.router_replay: the {generators.engine} engine does not say which experts tokens went to; set "
            "generators.engine: vllm, or leave it out"
        )
    elif generators.vllm.prefix_cache == "off":
        yield (
            "learner.router_replay: vLLM keeps routing by the blocks of its prefix cache; set "
            "generators.vllm.prefix_cache: per_version or across_versions"
        )
    if _is_dense(recipe):
        yield "learner.router_replay: the model has no experts; leave it out"


def _is_dense(recipe: Recipe) -> bool:
    """Whether it is known of the model that it has no experts."""
    if not isinstance(recipe.model, FolderModel):
        return True
    folder = recipe.model.uri or recipe.model.folder
    try:
        return folder is not None and _configuration(folder).keys().isdisjoint(EXPERT_COUNTS.values())
    except (OSError, ValueError, LeewayError):
        return False  # which `_model` says


def _objective(recipe: Recipe) -> Iterator[str]:
    advantage = recipe.learner.objective.advantage
    if recipe.replay.group_size == 1 and (recipe.replay.drop_zero_variance or advantage not in ("none", "teacher")):
        yield (
            "replay.group_size is 1, and nothing is learned from a group without another completion to compare with; "
            "set 2 or more, or learner.objective.advantage: none and replay.drop_zero_variance: false"
        )


def _success(recipe: Recipe) -> Iterator[str]:
    """MaxRL divides by a group's mean reward, as its rate of success."""
    weights = recipe.rewards.weights
    negative = {
        "preferences": recipe.preferences is not None,
        "rewards.weights.overlong": weights.overlong > 0,  # the part itself is 0 at most
        "rewards.weights.repetition": weights.repetition > 0,
        **{f"rewards.weights.{part}": getattr(weights, part) < 0 for part in ("accuracy", "format", "language")},
    }
    found = [key for key, below_zero in negative.items() if below_zero]
    if found and recipe.steps and recipe.learner.objective.advantage == "mean_normalised":
        yield (
            "learner.objective.advantage: mean_normalised (MaxRL) divides by the mean reward of a group, which "
            f"{' and '.join(found)} can make negative; set learner.objective.name: grpo, or leave the other out"
        )
