"""How a task becomes the tokens of a prompt, and an answer to it those of a completion."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol

from actors.config.tasks import TasksConfig
from actors.errors import RecipeError
from actors.tasks.task import Task
from actors.tasks.turns import Conversation, end_of_turn, rendered, special_tokens

THINK = "<think>"
# Table 1 of DeepSeek-R1 (arXiv 2501.12948). It ends inside the assistant's turn, so that the model goes on there.
R1_ZERO = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. "
    "The assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
    "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, "
    "i.e., <think> reasoning process here </think> <answer> answer here </answer>. User: {prompt}. Assistant:"
)


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that rendering needs."""

    chat_template: Any
    eos_token_id: int | None
    name_or_path: str

    def encode(self, text: str, **options: Any) -> list[int]: ...

    def decode(self, token_ids: Any) -> Any: ...

    def apply_chat_template(self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool) -> Any: ...


class Renderer:
    """Prompts and completions in the format of one recipe, for one tokenizer.

    raw: the prompt alone. chat: the tokenizer's chat template over system message, shots and the task's messages, up
    to where the assistant speaks. r1_zero: the conversation of R1-Zero. Nothing is added but what the format writes,
    and before `raw` and `r1_zero` what the tokenizer begins every text with.

    In `chat` and `r1_zero` a special token that is written out in a task's text is text. A `raw` prompt is read as it
    stands, so that it may hold a conversation that was rendered before.

    Raises:
        RecipeError: if the template does not fit the tokenizer or the recipe, or later a task.
    """

    def __init__(self, config: TasksConfig, tokenizer: Tokenizer):
        if config.template == "chat" and not tokenizer.chat_template:
            raise RecipeError(
                "tasks.template is chat, but the model's tokenizer has no chat template; use `raw` or `r1_zero`"
            )
        self._config = config
        self._tokenizer = tokenizer
        if config.template == "chat":
            self._require_system()

    @cached_property
    def end(self) -> int:
        """The token that ends what the assistant says."""
        return end_of_turn(self._tokenizer, chat=self._config.template == "chat")

    def text(self, task: Task) -> str:
        """The prompt as text."""
        if self._config.template == "raw":
            return self._single_prompt(task)
        if self._config.template == "r1_zero":
            prompt = self._single_prompt(task).rstrip()
            # the template brings its own full stop
            return R1_ZERO.replace("{prompt}.", prompt if prompt.endswith((".", "?", "!")) else prompt + ".")
        return rendered(self._tokenizer, self._conversation(task))

    def render(self, task: Task) -> list[int]:
        """The prompt's token ids. They may be more than `max_prompt_tokens`: dropping is the caller's to count."""
        if self._config.template == "chat":
            return self._chat(task)
        literal = self._config.template == "r1_zero" and self._holds_special(self.text(task))
        return [*self._opening, *self._encode(self.text(task), literal)]

    def completion(self, task: Task, answer: str, *, literal: bool = False) -> list[int]:
        """Token ids of what the assistant says to a task, as they follow its prompt, with the end of its turn.

        Where the prompt already opens `<think>`, an answer that does so too opens it once.

        Args:
            task: what is answered.
            answer: may end in the end token's text.
            literal: whether special tokens that are written out in the answer are text.

        Raises:
            RecipeError: for an answer with the end token before its end.
        """
        prompt = self.text(task)
        answer = self.turn(_after(prompt, answer), literal=literal)
        literal = literal and self._holds_special(answer)
        ids = self.render(task)
        # A text by itself may begin with a space of the tokenizer's own; behind the prompt it does not.
        opening = [] if self._config.template == "chat" else self._opening
        whole = [*opening, *self._encode(prompt + answer, False)]
        own = self._encode(answer, literal) if literal or whole[: len(ids)] != ids else whole[len(ids) :]
        return [*own, self.end]

    def turn(self, answer: str, *, literal: bool = False) -> str:
        """The answer without the end token's text at its end. Raises RecipeError where that stands before it too."""
        end = str(self._tokenizer.decode([self.end]))
        bare = answer.removesuffix(end)
        if not literal and end and end in bare:
            raise RecipeError(f"the answer {bare!r:.60} holds the end token {end} before its end; give one turn alone")
        return bare

    # ---------------------------------------------------------------- text

    def _conversation(self, task: Task) -> Conversation:
        own_system = [content for role, content in task.messages if role == "system"]
        system = own_system or ([self._config.system] if self._config.system is not None else [])
        conversation = [{"role": "system", "content": content} for content in system]
        for shot in self._config.shots:
            conversation.append({"role": "user", "content": shot.prompt})
            conversation.append({"role": "assistant", "content": shot.response})
        conversation.extend({"role": role, "content": content} for role, content in task.messages if role != "system")
        return conversation

    def _single_prompt(self, task: Task) -> str:
        if len(task.messages) != 1:
            raise RecipeError(
                f"tasks.template is {self._config.template}, which takes a single prompt, but a task has "
                f"{len(task.messages)} messages, the last one {task.messages[-1][1]!r:.60}; use `template: chat`"
            )
        return task.messages[0][1]

    def _require_system(self) -> None:
        """Render a prompt of this recipe. Raises RecipeError where the template refuses or hides what it is given."""
        system, name = self._config.system, self._tokenizer.name_or_path
        try:
            shown = self.text(_SAMPLE)
        except RecipeError as error:
            if system is None or not _renders(self._tokenizer, self._conversation(_SAMPLE)[1:]):
                raise
            raise RecipeError(
                f"tasks.system: the chat template of {name} refuses a system message ({error}); leave it out"
            ) from error
        if system is not None and system.strip() not in shown:
            raise RecipeError(f"tasks.system: the chat template of {name} shows no system message; leave it out")

    # ---------------------------------------------------------------- tokens

    def _chat(self, task: Task) -> list[int]:
        """The template is read with its special tokens, a task's contents that hold some without."""
        if not any(self._holds_special(content) for _, content in task.messages):
            return self._encode(self.text(task), False)
        contents = {f"LEEWAY{i}CONTENT": content for i, (_, content) in enumerate(task.messages)}
        # A stand-in has the white space of its content, which a template may trim.
        messages = tuple(
            (role, content.replace(content.strip(), name))
            for (role, content), name in zip(task.messages, contents, strict=True)
        )
        pieces = re.split("(" + "|".join(contents) + ")", self.text(replace(task, messages=messages)))
        return [
            token
            for piece in pieces
            for token in self._encode(contents[piece].strip() if piece in contents else piece, piece in contents)
        ]

    @cached_property
    def _opening(self) -> list[int]:
        """What the tokenizer begins a text with; what some end it with would end a prompt before its completion."""
        bare = self._tokenizer.encode("0", add_special_tokens=False)
        whole = self._tokenizer.encode("0", add_special_tokens=True)
        starts = [i for i in range(len(whole)) if whole[i : i + len(bare)] == bare]
        return whole[: starts[0]] if starts else []

    @cached_property
    def _special(self) -> list[str]:
        return special_tokens(self._tokenizer)

    def _holds_special(self, text: str) -> bool:
        return any(token in text for token in self._special)

    def _encode(self, text: str, literal: bool) -> list[int]:
        options = {"split_special_tokens": True} if literal else {}
        return list(self._tokenizer.encode(text, add_special_tokens=False, **options))


_SAMPLE = Task("", (("user", "1+1="),), "none", {})


def notes(config: TasksConfig, tokenizer: Tokenizer) -> Iterator[str]:
    """What a chat template does that its user may not expect, each as one line."""
    if config.template != "chat":
        return
    renderer, name = Renderer(config, tokenizer), tokenizer.name_or_path
    shown = renderer.text(_SAMPLE)
    if any(shot.response.strip() not in shown for shot in config.shots):
        yield (
            f"tasks.shots: the chat template of {name} shortens earlier answers, as many do with thoughts; the model "
            "does not see the worked examples whole"
        )
    if config.system is None and (own := _system_of_its_own(tokenizer)):
        yield f"the chat template of {name} writes a system message of its own: {own!r}; tasks.system replaces it"


def _system_of_its_own(tokenizer: Tokenizer) -> str:
    """What a template writes where a system message would stand; empty where it takes none."""
    mark = "LEEWAY SYSTEM"
    user = [{"role": "user", "content": "1+1="}]
    with_system = [{"role": "system", "content": mark}, *user]
    if not (_renders(tokenizer, with_system) and mark in (text := rendered(tokenizer, with_system))):
        return ""
    before, after = text.split(mark, 1)
    bare = rendered(tokenizer, user)
    fits = bare.startswith(before) and bare.endswith(after) and len(bare) > len(before) + len(after)
    return bare[len(before) : len(bare) - len(after)].strip() if fits else ""


def _renders(tokenizer: Tokenizer, conversation: Sequence[dict[str, str]]) -> bool:
    try:
        rendered(tokenizer, list(conversation))
    except RecipeError:
        return False
    return True


def _after(prompt: str, answer: str) -> str:
    """The answer without the `<think>` that the prompt has opened."""
    if not prompt.rstrip().endswith(THINK):
        return answer
    opened = prompt[prompt.rindex(THINK) :]
    return answer.removeprefix(opened) if answer.startswith(opened) else answer.removeprefix(THINK)
