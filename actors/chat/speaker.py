"""A model that answers: `transformers`, on whatever device there is, token by token."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from queue import Empty
from threading import Event, Thread
from typing import Any, Literal, Protocol

from actors.chat.parts import END, THINK
from actors.config.roles import SamplingConfig
from actors.config.tasks import AdditionSource, TasksConfig
from actors.engines.tokens import end_tokens
from actors.errors import EngineError, RecipeError
from actors.models.tokenizer import load_tokenizer
from actors.tasks.task import Messages, Task
from actors.tasks.templates import Renderer

#: Longest wait for one token (s): a model that is too large for the machine swaps rather than fails.
TOKEN_SECONDS = 600.0
#: Longest wait for the end of an answer that was stopped (s).
STOP_SECONDS = 60.0
Template = Literal["chat", "r1_zero", "raw"]


class Speaker(Protocol):
    """Whoever answers."""

    def opens_thinking(self, messages: Messages) -> bool:
        """Whether the prompt ends within the thinking."""
        ...

    def answer(self, messages: Messages) -> Iterator[str]:
        """The answer, piece by piece.

        Raises:
            EngineError: the model broke, or hangs.
        """
        ...

    def stop(self) -> None:
        """End the answer that is under way."""
        ...


class TransformersSpeaker:
    """See `Speaker`. Prompts are written as in training.

    Args:
        folder: the model.
        template: how a prompt is written; None: the chat template where there is one, else raw.
        sampling: how answers are sampled.

    Raises:
        RecipeError: there is no such model, or no such template in it.
    """

    def __init__(self, folder: Path, template: Template | None, sampling: SamplingConfig) -> None:
        if not (folder / "config.json").is_file():
            raise RecipeError(f"{folder} holds no config.json; name the folder of a model")
        import torch
        from transformers import AutoModelForCausalLM

        self._tokenizer = load_tokenizer(folder)
        chosen: Template = template or ("chat" if self._tokenizer.chat_template else "raw")
        tasks = TasksConfig(sources=[AdditionSource(source="addition")], template=chosen)  # its source is not asked
        self._renderer, self._sampling = Renderer(tasks, self._tokenizer), sampling
        self._ends = end_tokens(folder, self._tokenizer)
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", trust_remote_code=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise RecipeError(f"{folder} cannot be loaded ({' '.join(str(error).split())[:200]})") from error
        self._model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self._stopped = Event()
        self._thread: Thread | None = None
        self.forgets = chosen != "chat"

    def opens_thinking(self, messages: Messages) -> bool:
        text = self._renderer.text(_task(messages))
        return text.rstrip().endswith(THINK) and END not in text[text.rfind(THINK) :]

    def answer(self, messages: Messages) -> Iterator[str]:
        import torch
        from transformers import StoppingCriteriaList, TextIteratorStreamer

        ids = torch.tensor([self._renderer.render(_task(messages))], device=self._model.device)
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, timeout=TOKEN_SECONDS)
        streamer.decode_kwargs = {"skip_special_tokens": True}
        stopped = self._stopped = Event()  # of this answer: one that was stopped, and hangs, stays stopped
        failed: list[Exception] = []

        def generate() -> None:
            try:
                self._model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([partial(_where, stopped)]),
                    do_sample=True,
                    temperature=self._sampling.temperature,
                    top_p=self._sampling.top_p,
                    max_new_tokens=self._sampling.max_tokens,
                    eos_token_id=self._ends,
                    pad_token_id=self._ends[0],
                )
            except Exception as error:  # noqa: BLE001 - it belongs to whoever reads, who would wait for it
                failed.append(error)
                streamer.end()  # type: ignore[no-untyped-call]

        thread = self._thread = Thread(target=generate, name="answer", daemon=True)
        thread.start()
        try:
            yield from streamer
        except Empty as error:
            stopped.set()
            raise EngineError(
                f"the model gave no token for {TOKEN_SECONDS:g} s: it hangs, or is too large for this machine; take a "
                "smaller one, or a machine with more memory"
            ) from error
        thread.join(STOP_SECONDS)
        if failed:
            raise EngineError(f"the model broke: {' '.join(str(failed[0]).split())[:200]}") from failed[0]

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)


def _where(stopped: Event, ids: Any, scores: Any, **_: Any) -> Any:  # noqa: ARG001
    """Which rows are to end: all of them, once that is asked for."""
    import torch

    return torch.full((len(ids),), stopped.is_set(), dtype=torch.bool, device=ids.device)


def _task(messages: Sequence[tuple[str, str]]) -> Task:
    return Task("", tuple(messages), "exact", {})
