"""`leeway chat`: a prompt in the terminal, for a model that was trained."""

import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from sandbox.interrupts import Interrupts
from sandbox.terminal import lasting


def chat(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="Hugging Face folder, such as `leeway export` or a run leaves it.")],
    template: Annotated[
        Literal["chat", "r1_zero", "raw"] | None,
        typer.Option(help="How a prompt is written; default: the chat template, where there is one, else raw."),
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.01, help="Softmax temperature.")] = 0.6,
    top_p: Annotated[float, typer.Option(min=0.01, max=1.0, help="Nucleus that is sampled from.")] = 0.95,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer (tokens).")] = 1024,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampling; default: another each time.")] = None,
) -> None:
    """Talk to a model. Its thinking is shown apart from its answer.

    Ctrl-C ends an answer, and at the prompt the chat. Over a pipe every line is a prompt of its own; answers go to
    standard output, thinking to standard error.
    """
    from transformers import set_seed

    from actors.chat.conversation import Conversation
    from actors.chat.speaker import TransformersSpeaker
    from actors.config.roles import SamplingConfig

    sampling = SamplingConfig(temperature=temperature, top_p=top_p, max_tokens=max_tokens)
    speaker = TransformersSpeaker(model, template, sampling)
    if seed is not None:
        set_seed(seed)
    console, aside = lasting(Console(highlight=False)), lasting(Console(stderr=True, highlight=False))
    if not sys.stdin.isatty():
        Conversation(speaker, console, aside, remembers=False).read(sys.stdin)
        return
    talk = Conversation(speaker, console, aside, remembers=not speaker.forgets)
    interrupts: Interrupts = context.obj
    # the command line's own would end the process at the second Ctrl-C, whatever the first one ended
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        talk.talk(lambda: input("> "))
    finally:
        interrupts.take_back()
