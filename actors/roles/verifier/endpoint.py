"""An OpenAI-compatible endpoint as a judge: one request, one deadline, and what went wrong in our words.

200 ─▶ Judgement
401, 403, 404, 3xx ─▶ RecipeError          what the recipe says is wrong
408, 429, 5xx, nothing, nonsense ─▶ JudgeError     may go well later
400, 413, 422 ─▶ JudgeRefusalError         this request never does
"""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, Field, ValidationError

from actors.config.judge import JudgeConfig, api_key
from actors.config.validation import short
from actors.errors import JudgeError, JudgeRefusalError, LeewayError, RecipeError
from actors.storage.uris import reason

#: Largest answer that is read (bytes).
MOST_BYTES = 8 << 20
#: Alternatives of each token that are asked for: as many as OpenAI's API gives, and vLLM by default.
TOP_LOGPROBS = 20
#: What to do about a judge for which the time of a group is too short.
MORE = "raise preferences.judge.concurrency, verifiers.count or verifiers.deadline_seconds"
_LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_LOCKED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_ELSEWHERE = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)

T = TypeVar("T", bound=BaseModel)

logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request


class Alternative(BaseModel):
    """A token that may stand somewhere, and its log-probability."""

    token: str
    logprob: float
    raw: list[int] | None = Field(None, alias="bytes")

    @property
    def written(self) -> bytes:
        """What it writes, which may be a part of a character."""
        return self.token.encode() if self.raw is None else bytes(self.raw)


class Position(Alternative):
    """A token of a completion, and what else may have stood there."""

    top_logprobs: list[Alternative] = Field(default_factory=list)


class _Logprobs(BaseModel):
    content: list[Position] | None = None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Answer(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge wrote.

    Attributes:
        text: without the reasoning that its server takes out.
        cut_off: whether it ran into its limit.
        positions: its tokens, the reasoning's too; None where the endpoint gives none.
    """

    text: str
    cut_off: bool
    positions: list[Position] | None


class Endpoint:
    """The judge of a recipe. Threads may share it."""

    def __init__(self, config: JudgeConfig) -> None:
        self._config = config
        self._key: str | None = None
        limits = httpx.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency)
        self._client = httpx.Client(limits=limits)

    def require_model(self) -> None:
        """Ask whether it serves the model, with the key as it now is.

        Raises:
            RecipeError: it does not, or not to whoever shows this key.
            JudgeError: it says neither yes nor no.
        """
        self._key = api_key(self._config)
        answer = self._parsed(_Models, "models", self._asked("GET", "models", self._config.timeout_seconds))
        served = [model.id for model in answer.data]
        if self._config.model not in served:
            raise RecipeError(
                f"preferences.judge.model: {self._config.url} serves {short(', '.join(served)) or 'no model'}, and no "
                f"{self._config.model}"
            )

    def complete(self, prompt: str, deadline: float) -> Judgement:
        """What it writes in answer to a prompt, at temperature 0.

        Args:
            prompt: one message of the user.
            deadline: of time.monotonic; an answer takes `timeout_seconds` at most, however much time is left.

        Raises:
            RecipeError: it does not take the key, or knows no such model or path.
            JudgeError: no answer in time, none that can be read, or word that it can give none now.
            JudgeRefusalError: it would refuse this prompt again.
        """
        config = self._config
        body: dict[str, Any] = {
            **config.extra_body,
            "model": config.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": config.max_tokens,
        }
        if config.score == "logprobs":
            body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        seconds = min(config.timeout_seconds, deadline - time.monotonic())
        if seconds <= 0:
            raise JudgeError(f"the judge at {config.url} was not asked in time; {MORE}")
        choice = self._parsed(_Answer, "chat/completions", self._asked("POST", "chat/completions", seconds, body))
        (first, *_) = choice.choices
        positions = first.logprobs.content if first.logprobs is not None else None
        return Judgement(first.message.content or "", first.finish_reason == "length", positions)

    def _asked(self, method: str, path: str, seconds: float, body: Mapping[str, Any] | None = None) -> bytes:
        """The body of a good answer. httpx limits each wait for bytes, so that the whole is watched here."""
        end = time.monotonic() + seconds
        url, headers = f"{self._config.url}/{path}", {"Authorization": f"Bearer {self._key}"} if self._key else {}
        content = bytearray()
        try:
            with self._client.stream(method, url, json=body, headers=headers, timeout=seconds) as answer:
                for chunk in answer.iter_bytes():
                    content += chunk
                    if len(content) > MOST_BYTES:
                        raise JudgeError(f"{self._who(path)} says more than {MOST_BYTES} bytes")
                    if time.monotonic() > end:
                        raise JudgeError(f"{self._who(path)} did not finish its answer in {seconds:.3g} s")
        except httpx.TimeoutException as error:
            raise JudgeError(f"{self._who(path)} did not answer in {seconds:.3g} s") from error
        except httpx.RequestError as error:
            raise JudgeError(f"{self._who(path)} does not answer ({self._unlocked(reason(error))})") from error
        if answer.is_success:
            return bytes(content)
        raise self._failure(answer, path, bytes(content))

    def _failure(self, answer: httpx.Response, path: str, content: bytes) -> LeewayError:
        status, said = answer.status_code, self._unlocked(_message(content))
        text = f"{self._who(path)} answered {status}" + (f" ({said})" if said else "")
        if status in _LOCKED:
            shown = "the key that it was shown" if self._key else "requests without a key"
            return RecipeError(
                f"{text}: it does not take {shown}; correct preferences.judge.api_key_env or "
                "preferences.judge.api_key_file"
            )
        if status in _ELSEWHERE or answer.is_redirect:
            return RecipeError(
                f"{text}: correct preferences.judge.url, which ends where /{path} begins (in /v1, for the most part), "
                "or preferences.judge.model"
            )
        if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return JudgeError(text, _pause(answer.headers.get("Retry-After", "")))
        return JudgeRefusalError(text)

    def _parsed(self, model: type[T], path: str, content: bytes) -> T:
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise JudgeError(f"{self._who(path)} says what is no answer ({where}: {first['msg']})") from error

    def _who(self, path: str) -> str:
        return f"the judge at {self._config.url}/{path}"

    def _unlocked(self, text: str) -> str:
        """A text of the endpoint's, which may repeat the key."""
        return text.replace(self._key, "***") if self._key else text


def _message(content: bytes) -> str:
    """What a failure says, as OpenAI's API and those like it put it, in one line."""
    text = content[:1000].decode("utf-8", "replace")
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if isinstance(found, dict):
        inner = found.get("error", found)
        text = str(inner.get("message") or inner.get("detail") or inner) if isinstance(inner, dict) else str(inner)
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:199]}…"


def _pause(retry_after: str) -> float:
    """Seconds of a Retry-After header, which has a number or a date; 0 where it has neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
