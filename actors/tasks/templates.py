"""How a task becomes the tokens of a prompt."""

from typing import Any, Protocol

from actors.config.tasks import TasksConfig
from actors.errors import RecipeError
from actors.tasks.task import Task

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

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def apply_chat_template(self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool) -> Any: ...


class Renderer:
    """Prompts in the format of one recipe, for one tokenizer.

    raw: the prompt alone. chat: the tokenizer's chat template over system message, shots and the task's messages, up
    to where the assistant speaks. r1_zero: the conversation of R1-Zero.

    Raises:
        RecipeError: if the template does not fit the tokenizer, or later a task.
    """

    def __init__(self, config: TasksConfig, tokenizer: Tokenizer):
        if config.template == "chat" and not tokenizer.chat_template:
            raise RecipeError(
                "tasks.template is chat, but the model's tokenizer has no chat template; use `raw` or `r1_zero`"
            )
        self._config = config
        self._tokenizer = tokenizer

    def text(self, task: Task) -> str:
        """The prompt as text."""
        if self._config.template == "raw":
            return self._single_prompt(task)
        if self._config.template == "r1_zero":
            prompt = self._single_prompt(task).rstrip()
            # the template brings its own full stop
            return R1_ZERO.replace("{prompt}.", prompt if prompt.endswith((".", "?", "!")) else prompt + ".")
        conversation = self._conversation(task)
        return str(self._tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True))

    def render(self, task: Task) -> list[int]:
        """The prompt's token ids. They may be more than `max_prompt_tokens`: dropping is the caller's to count."""
        # a chat template writes its special tokens itself
        return list(self._tokenizer.encode(self.text(task), add_special_tokens=self._config.template != "chat"))

    def _conversation(self, task: Task) -> list[dict[str, str]]:
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
