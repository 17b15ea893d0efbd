"""What benchmarks print: lines that fit the terminal, and nothing that third parties say beside them."""

import logging
import os
import textwrap
import warnings

from rich.console import Console

console = Console(highlight=False)

_LOGGERS = ("datasets", "latex2sympy2_extended", "math_verify", "transformers", "urllib3", "uvicorn", "vllm")


def quiet() -> None:
    """Silence third parties in this process and in those that it starts. Call it before they are imported."""
    warnings.simplefilter("ignore")
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ |= {
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONWARNINGS": "ignore",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }


def say(text: str, indent: int = 0) -> None:
    """Print a line, broken between words where the terminal is narrower; what is broken off stands further in."""
    first, rest = " " * indent, " " * (indent + 2)
    wrapper = textwrap.TextWrapper(
        console.width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        replace_whitespace=False,
    )
    print(wrapper.fill(text), flush=True)
