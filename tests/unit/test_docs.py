"""What is generated is current."""

from pathlib import Path

from actors import docs

ROOT = Path(__file__).parents[2]


def test_options_are_current() -> None:
    assert (ROOT / docs.OPTIONS).read_text() == docs.options(), "run `leeway docs`"


def test_readme_is_current() -> None:
    text = (ROOT / docs.README).read_text()
    assert text == docs.readme(text), "run `leeway docs`"
