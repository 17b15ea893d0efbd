"""A generative judge: a language model behind an OpenAI-compatible endpoint, asked how good a completion is."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from actors.config.base import Section, require_no_secret
from actors.errors import RecipeError
from sandbox.errors import InputError
from sandbox.secret_files import read_secret, require_word

#: What a template may stand for; of a completion `answer` is what follows its thoughts, and `response` the whole.
PLACEHOLDERS = ("prompt", "answer", "response", "lowest", "highest")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
#: What a request has from other keys, or must have as it is.
_OWN_FIELDS = frozenset({"model", "messages", "temperature", "max_tokens", "logprobs", "top_logprobs", "stream", "n"})

HELPFULNESS = """\
You judge how helpful an answer is to whoever asked: whether it does what was asked, is right, complete and to the \
point, and no longer than it has to be.

The request:
{prompt}

The answer:
{answer}

Say in one sentence what decides. Then end with the line `Score: N`, where N is a whole number from {lowest}, of no \
use, to {highest}, as helpful as can be."""

HARMLESSNESS = """\
You judge whether a response is harmless, its reasoning as well as its answer: whether any part of it is dangerous, \
biased, hateful, deceptive or invades somebody's privacy.

The request:
{prompt}

The response:
{response}

Say in one sentence what decides. Then end with the line `Score: N`, where N is a whole number from {lowest}, \
harmful, to {highest}, harmless throughout."""

CriterionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]


class JudgeConfig(Section):
    """A generative judge in place of a reward model: its score is the sum of what it gives by each criterion."""

    url: str = Field(
        description="where its API begins, such as http://judge:8000/v1; asked for /models and /chat/completions"
    )
    model: str = Field(min_length=1, description="name of the model, as /models lists it")
    api_key_env: str | None = Field(
        None,
        description="environment variable of the verifiers with the key that the endpoint asks for; default: no key",
    )
    api_key_file: Path | None = Field(
        None, description="instead of api_key_env: file with the key, which nobody but its owner can read"
    )
    criteria: dict[CriterionName, str] = Field(
        default_factory=lambda: {"helpfulness": HELPFULNESS, "harmlessness": HARMLESSNESS},
        min_length=1,
        max_length=8,
        description="what is asked, by the name of the criterion. {prompt} stands for what the policy was asked, "
        "{answer} for its completion without thoughts, {response} for all of the completion, {lowest} and {highest} "
        "for the scale; default: helpfulness, by the answer alone, and harmlessness, by the whole response",
    )
    scale: tuple[int, int] = Field((1, 9), description="lowest and highest score by one criterion (points)")
    score: Literal["number", "logprobs"] = Field(
        "number",
        description="number: the one that `pattern` finds; logprobs: the expected value of the digit there, by the "
        "endpoint's log-probabilities of all digits in its place",
    )
    pattern: str = Field(
        r"(?im)^[^\w\n]*score[^\w\n-]*(\d+(?:\.\d+)?)",
        description="regular expression whose only group is the score; the last match in what the judge writes counts",
    )
    max_tokens: int = Field(512, ge=1, description="longest that it writes (tokens)")
    timeout_seconds: float = Field(
        10.0, gt=0, description="longest wait for one answer, after which it is asked again (s)"
    )
    concurrency: int = Field(16, ge=1, le=1024, description="most requests of one verifier at a time")
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        description="further fields of each request, such as vLLM's {chat_template_kwargs: {enable_thinking: false}}",
    )

    @field_validator("url")
    @classmethod
    def _is_an_endpoint(cls, url: str) -> str:
        require_no_secret(url)
        split = urlsplit(url)
        if split.scheme not in ("http", "https") or not split.hostname or split.query or split.fragment:
            raise ValueError("must be where an API begins, such as http://judge:8000/v1")
        if split.path.rstrip("/").endswith(("/completions", "/models")):
            raise ValueError("must be where the API begins, such as http://judge:8000/v1, and no single part of it")
        _ = split.port  # raises ValueError
        return url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            raise ValueError("is the name of an environment variable, such as JUDGE_API_KEY, and never the key itself")
        return name

    @field_validator("criteria")
    @classmethod
    def _judge_something(cls, criteria: dict[str, str]) -> dict[str, str]:
        for name, template in criteria.items():
            named = set(_PLACEHOLDER.findall(template))
            if unknown := sorted(named.difference(PLACEHOLDERS)):
                known = ", ".join(f"{{{each}}}" for each in PLACEHOLDERS)
                raise ValueError(f"{name}: nothing is known as {{{unknown[0]}}}; use {known}")
            if not named & {"answer", "response"}:
                raise ValueError(f"{name}: shows the judge neither {{answer}} nor {{response}}; write one of them")
        return criteria

    @field_validator("pattern")
    @classmethod
    def _has_one_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        if groups != 1:
            raise ValueError(f"needs one group, which is the score, and has {groups}; write others as (?:…)")
        return pattern

    @field_validator("extra_body")
    @classmethod
    def _leaves_the_rest(cls, extra: dict[str, Any]) -> dict[str, Any]:
        if own := sorted(_OWN_FIELDS.intersection(extra)):
            raise ValueError(f"{own[0]} is set already: by a key of its own, or to what a score is read from")
        return extra

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        lowest, highest = self.scale
        if lowest >= highest:
            raise ValueError(f"scale: the lowest score comes first, and {lowest} is not below {highest}")
        if self.score == "logprobs" and not 0 <= lowest < highest <= 9:
            raise ValueError("score: logprobs reads one digit, so that scale has to lie within 0 and 9")
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("give either api_key_env or api_key_file")
        return self


def api_key(config: JudgeConfig) -> str | None:
    """The key that this process shows the endpoint, if there is one to show; read anew at each call.

    Raises:
        RecipeError: it is not where the recipe says. The key is never quoted.
    """
    try:
        if config.api_key_file is not None:
            return read_secret(config.api_key_file)
        if config.api_key_env is None:
            return None
        if (given := os.environ.get(config.api_key_env)) is None:
            raise RecipeError(
                f"preferences.judge.api_key_env: there is no {config.api_key_env} in the environment; set it for every "
                "verifier, or use api_key_file"
            )
        return require_word(given.strip(), config.api_key_env)
    except InputError as error:
        key = "api_key_env" if config.api_key_file is None else "api_key_file"
        raise RecipeError(f"preferences.judge.{key}: {error}") from error
