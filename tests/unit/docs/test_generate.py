"""What is generated is current, and whole."""

import pytest
from pydantic import BaseModel, Field

from docs.generate.configuration import NOTES, configuration, values
from docs.generate.exported import exported_page
from docs.generate.markdown import anchor, table
from docs.generate.pages import current, renewed


def test_generated_documents_are_current() -> None:
    stale = [path.name for path, text in current().items() if path.read_text() != text]
    assert not stale, "run `python -m docs.generate`"


def test_every_key_has_one_row_under_its_section() -> None:
    page = configuration()
    keys = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert len(keys) == len(set(keys)) > 200
    assert {"steps", "model[tiny].layers", "tasks.sources[jsonl].path", "learner.lora.rank"} <= set(keys)
    assert page.index("### `learner.lora`") < page.index("`learner.lora.rank`") < page.index("## `weights`")


def test_every_note_stands_in_a_section_that_exists() -> None:
    page = configuration()
    assert all(note in page for note in NOTES.values())


def test_values_say_kind_bounds_and_whether_null_will_do() -> None:
    class Section(BaseModel):
        share: float | None = Field(None, gt=0, le=1)
        betas: tuple[float, float] = (0.9, 0.99)
        names: list[str] = []
        count: int = Field(1, ge=1)

    found = {name: values(field) for name, field in Section.model_fields.items()}
    assert found == {
        "share": "number > 0, ≤ 1 or `null`",
        "betas": "[number, number]",
        "names": "list of text",
        "count": "integer ≥ 1",
    }


def test_every_metric_stands_under_the_process_that_exports_it() -> None:
    page = exported_page()
    learner, generator = page.index("## Learner"), page.index("## Generator")
    assert page.index("`leeway_weight_sync_bytes_total`") > learner
    assert generator < page.index("`leeway_weight_sync_pause_seconds`") < learner
    assert "| `leeway_groups_dropped_total` | counter | number | `reason` |" in page


def test_a_part_that_nothing_makes_is_an_error() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        renewed("<!-- nonsense: generated -->\nold\n<!-- /nonsense -->")


def test_tables_escape_what_would_end_a_cell() -> None:
    assert table(["a"], [["KL(p || q)\nin nats"]]).splitlines()[2] == r"| KL(p \|\| q) in nats |"


def test_anchors_are_those_of_github() -> None:
    assert anchor("`model[tiny]`: a first, small one") == "modeltiny-a-first-small-one"
