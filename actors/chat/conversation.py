"""A conversation in a terminal, or over a pipe: one prompt a line, each answered by itself."""

from collections.abc import Callable, Iterable

from rich.console import Console
from rich.text import Text

from actors.chat.parts import Parts
from actors.chat.speaker import Speaker
from actors.tasks.task import Messages

#: How thinking is shown in a terminal.
THINKING = "dim italic"


class Conversation:
    """Asks, shows, and remembers what was said where `remembers`.

    Thinking is dim in a terminal. Elsewhere it goes to `aside`, so that a pipe carries answers alone.

    Args:
        speaker: who answers.
        console: where answers go.
        aside: where thinking goes that is not shown among them.
        remembers: whether a prompt follows on what was said before.
    """

    def __init__(self, speaker: Speaker, console: Console, aside: Console, remembers: bool) -> None:
        self._speaker, self._console, self._aside = speaker, console, aside
        self._remembers = remembers
        self._said: Messages = ()

    def read(self, lines: Iterable[str]) -> None:
        """Answer every line that is not empty."""
        for line in lines:
            if prompt := line.strip():
                self.ask(prompt)

    def talk(self, read: Callable[[], str]) -> None:
        """Ask for prompts until the input ends. Ctrl-C ends an answer, and while nothing is answered the chat."""
        while True:
            try:
                prompt = read().strip()
            except EOFError:
                return
            if not prompt:
                continue
            try:
                self.ask(prompt)
            except KeyboardInterrupt:
                self._speaker.stop()
                self._console.print("(ended)", style="dim")

    def ask(self, prompt: str) -> str:
        """Answer one prompt; returns the answer, without the thinking."""
        messages = (*self._said, ("user", prompt))
        parts, answer = Parts(self._speaker.opens_thinking(messages)), ""
        shown = None
        for piece in self._speaker.answer(messages):
            for part in parts.feed(piece):
                answer += part.text if part.kind == "answer" else ""
                shown = self._show(part.kind, part.text, shown)
        for part in parts.end():
            answer += part.text if part.kind == "answer" else ""
            shown = self._show(part.kind, part.text, shown)
        self._console.print()
        if self._remembers:
            self._said = (*messages, ("assistant", answer.strip()))
        return answer.strip()

    def _show(self, kind: str, text: str, before: str | None) -> str:
        if before is not None and before != kind and self._console.is_terminal:
            self._console.print("\n")
        if kind == "thinking" and not self._console.is_terminal:
            self._aside.print(Text(text), end="", soft_wrap=True)
        else:
            style = THINKING if kind == "thinking" else ""
            self._console.print(Text(text, style), end="", soft_wrap=True)
        return kind
