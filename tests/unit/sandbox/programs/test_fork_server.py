"""What children inherit of their fork server."""

from __future__ import annotations

from collections.abc import Callable


def test_children_see_no_frame_module_or_descriptor_of_a_judge(output_of: Callable[[str], str]) -> None:
    source = "import sys\nprint(sorted(name for name in sys.modules if 'sandbox' in name or 'pydantic' in name))"
    assert output_of(source).strip() == "[]"
