"""What is generated is current."""

from pathlib import Path

from docs import generate as docs

ROOT = Path(__file__).parents[3]


def test_options_are_current() -> None:
    assert (ROOT / docs.OPTIONS).read_text() == docs.options(), "run `python -m docs.generate`"


def test_readme_is_current() -> None:
    text = (ROOT / docs.README).read_text()
    assert text == docs.readme(text), "run `python -m docs.generate`"
