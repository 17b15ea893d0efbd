"""The configuration file of the command line, read strictly: one clear line about the first thing that is wrong."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from sandbox.config import RewardConfig, SandboxConfig
from sandbox.errors import ConfigError

# No recipe is without these, and no other file has them.
_RECIPE_KEYS = {"model", "tasks"}


class Settings(BaseModel):
    """The file's content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sandbox: SandboxConfig = Field(default=SandboxConfig(), description="processes, deadlines and limits")
    rewards: RewardConfig = Field(default=RewardConfig(), description="parts and weights of the reward")


def load(path: Path | None, workers: int | None = None) -> Settings:
    """The settings in a YAML file, or the defaults.

    Args:
        path: the file; None: the defaults.
        workers: replaces `sandbox.workers`.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or has a key or value that cannot be used.
    """
    content = {} if path is None else _read(path)
    if isinstance(content, dict) and content.keys() >= _RECIPE_KEYS:
        raise ConfigError(f"{path}: this is a recipe; give a file with only `sandbox` and `rewards`")
    try:
        settings = Settings.model_validate(content)
    except ValidationError as error:
        first, *others = error.errors(include_url=False, include_input=False)
        more = f" (and {len(others)} more)" if others else ""
        raise ConfigError(f"{path}: {_described(first)}{more}") from None
    if workers is None:
        return settings
    return settings.model_copy(update={"sandbox": settings.sandbox.model_copy(update={"workers": workers})})


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, except that no key of a mapping may occur twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} occurs twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = yaml.load(text, _StrictLoader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from None
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise ConfigError(f"{path}{line}: {error.problem or error.context}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        # Beside its own errors PyYAML lets those through that its constructors of dates, numbers and so on meet.
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())[:200]}") from None
    return {} if content is None else content


def _described(error: ErrorDetails) -> str:
    key = ".".join(map(str, error["loc"]))
    if not key:
        return "expected a mapping with the keys `sandbox` and `rewards`"
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"{key}: must be a section with keys of its own"
    if error["type"] != "extra_forbidden":
        return f"{key}: {error['msg']}"
    *sections, name = map(str, error["loc"])
    near = [".".join([*sections, key]) for key in difflib.get_close_matches(name, _keys(sections), n=1)]
    if not sections:
        near = [f"{section}.{name}" for section in _keys([]) if name in _keys([section])] or near
    return f"{key}: there is no such key" + (f"; did you mean `{near[0]}`?" if near else "")


def _keys(sections: list[str]) -> list[str]:
    """The keys of a section of the file."""
    model: Any = Settings
    for section in sections:
        model = model.model_fields[section].annotation
    return list(model.model_fields)
