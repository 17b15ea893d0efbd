"""docs/configuration.md: every key of a recipe, section by section."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from actors.config.keys import rows
from actors.config.observables import REFLECTION_WORDS
from actors.config.pipeline import PipelineConfig
from actors.config.recipe import Recipe
from actors.config.resuming import APPLIED, FIXED
from actors.storage.uris import Uri
from docs.generate.markdown import MADE, anchor, line, table

#: What a section's own docstring does not say, because it is about another document.
NOTES = {
    "tasks.sources": "How to write them: [recipes](recipes.md#tasks).",
    "rewards": "A verifier's own score is one part of it: [sandbox](sandbox.md).",
    "observables": "What it shows: [recipes](recipes.md#what-the-model-shows).",
    "preferences": "What it does: [recipes](recipes.md#preferences).",
    "preferences.judge": "What it is asked, and what if it fails: [recipes](recipes.md#a-generative-judge).",
    "cold_start": "What it does: [recipes](recipes.md#cold-start).",
    "replay": "What the bound on staleness means: [recipes](recipes.md#staleness).",
    "learner.objective": "What each `name` sets, whose defaults below are those of `grpo`: "
    "[recipes](recipes.md#objectives).",
    "learner.lora": "What it does: [recipes](recipes.md#adapters).",
    "network": "Which address is bound and which is told: [operations](operations.md#network).",
    "membership": "What follows where a heartbeat is missed: [operations](operations.md#membership-and-timeouts).",
    "ray": "One machine or several: [operations](operations.md#clusters).",
}

CONFIGURATION = f"""\
# Configuration

One YAML file, a *recipe*, configures one run; every key of it is on this page. `leeway check RECIPE` prints the
resolved tree and starts nothing, and `-s key=value` overrides a key of any command that takes a recipe:

    leeway run recipes/quickstart.yaml -s replay.max_staleness=0 -s seed=3

A key that does not exist, or a value that cannot stand there, ends with exit code 2 and one line that names it. Units
stand in parentheses. `a[b].c` is the key `c` of an entry of `a` whose `kind` or `source` is `b`.

{MADE}"""


@dataclass(frozen=True)
class Part:
    """A section of the tree: its dotted key, the tag that chooses it among several, its class, what holds it."""

    key: str
    tag: str
    model: type[BaseModel]
    holder: FieldInfo | None

    @property
    def prefix(self) -> str:
        """What precedes the names of its keys."""
        return f"{self.title}." if self.key else ""

    @property
    def title(self) -> str:
        return f"{self.key}[{self.tag}]" if self.tag else self.key

    @property
    def keys(self) -> dict[str, FieldInfo]:
        """Its keys that are no sections themselves."""
        fields = self.model.model_fields.items()
        return {self.prefix + name: field for name, field in fields if not models(field.annotation)}

    def intro(self, shared: bool) -> str:
        """What its own docstring says, or what holds it where it is one of several of its class; and a link."""
        said = line(self.model.__doc__)
        if shared and self.holder is not None and self.holder.description:
            said = f"{self.holder.description[0].upper()}{self.holder.description[1:]}."
        optional = "Absent unless the recipe has it." if self.holder and self.holder.default is None else ""
        return line(" ".join([said, optional, NOTES.get(self.key, "")]))


def configuration() -> str:
    """Every key of a recipe with its values, default and meaning, section by section."""
    parts = list(_parts(Part("", "", Recipe, None)))
    tops = dict.fromkeys(part.key.split(".")[0] for part in parts)
    counts = {top: sum(len(p.keys) for p in parts if p.key.split(".")[0] == top) for top in tops}
    overview = ([f"[{_heading(top)}](#{anchor(_heading(top))})", str(counts[top]), _purpose(top)] for top in tops)
    text, begun = [CONFIGURATION, table(["section", "keys", "what it is"], overview)], set[str]()
    uses = Counter(part.model for part in parts)
    for part in parts:
        top = part.key.split(".")[0]
        if top not in begun:
            text.append(f"## {_heading(top)}")
        if part.title != top:
            text.append(f"### `{part.title}`")
        begun.add(top)
        keys = ([f"`{key}`", values(f), _default(f), f.description or ""] for key, f in part.keys.items())
        text += [part.intro(shared=uses[part.model] > 1), table(["key", "values", "default", "meaning"], keys)]
    return "\n\n".join(text) + "\n"


def resuming_table() -> str:
    """What a run that resumes keeps, and why."""
    excepted = {name: [key for key in sorted(APPLIED) if key.startswith(f"{name}.")] for name in FIXED}
    lines = (
        [f"`{name}`" + (f", but for {', '.join(f'`{key}`' for key in excepted[name])}" if excepted[name] else ""), why]
        for name, why in FIXED.items()
    )
    return table(["key, and all under it", "why it stays"], lines)


def pipeline_table() -> str:
    """Every key of a pipeline; what stands under `common` and `recipe` are keys of a recipe."""
    found = [(key, f) for key, f in rows(PipelineConfig) if not models(f.annotation)]
    return table(
        ["key", "values", "default", "meaning"],
        ([f"`{key}`", values(f), _default(f), f.description or ""] for key, f in found),
    )


def reflection_table() -> str:
    """The words that count as reflection by default."""
    return table(["language", "words"], ([f"`{code}`", ", ".join(words)] for code, words in REFLECTION_WORDS.items()))


def _parts(part: Part) -> Iterator[Part]:
    """A section and all below it, in the order of the tree."""
    yield part
    for name, field in part.model.model_fields.items():
        for section in models(field.annotation):
            yield from _parts(Part(part.prefix + name, _tag(section), section, field))


def _heading(top: str) -> str:
    return f"`{top}`" if top else "The recipe itself"


def _purpose(top: str) -> str:
    return Recipe.model_fields[top].description or "" if top else "name, seed, steps, output, checkpoints"


def models(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field can hold: one, one of several, or a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for argument in get_args(annotation) for section in models(argument)]


def _tag(section: type[BaseModel]) -> str:
    """The value of `source` or `kind` that chooses this section among several."""
    fields = (section.model_fields.get(name) for name in ("source", "kind"))
    return next((str(get_args(field.annotation)[0]) for field in fields if field is not None), "")


_WORDS = {int: "integer", float: "number", str: "text", Path: "path", Uri: "URI", bool: "`true`, `false`"}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def values(field: FieldInfo) -> str:
    """What may stand there, such as `integer ≥ 1 or null`."""
    bounds = [
        f"{sign} {getattr(c, name):g}" for c in field.metadata for name, sign in _BOUNDS.items() if hasattr(c, name)
    ]
    kinds = [argument for argument in get_args(field.annotation) if argument is not type(None)]
    if type(None) in get_args(field.annotation):
        return f"{' or '.join(map(_kind, kinds))} {', '.join(bounds)}".strip() + " or `null`"
    return f"{_kind(field.annotation)} {', '.join(bounds)}".strip()


def _kind(annotation: Any) -> str:
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _kind(arguments[0])
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if get_origin(annotation) is dict:
        return "mapping"
    if get_origin(annotation) in (list, tuple):
        alone = len(arguments) == 1 or ... in arguments
        return f"list of {_kind(arguments[0])}" if alone else f"[{', '.join(map(_kind, arguments))}]"
    return _WORDS.get(annotation) or " or ".join(map(_kind, arguments))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    text = value if isinstance(value, str) else json.dumps(value, default=str).strip('"')
    mebibytes = f" ({value >> 20} MiB)" if isinstance(value, int) and value and value % 2**20 == 0 else ""
    return f"`{text}`{mebibytes}"
