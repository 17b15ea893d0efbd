"""Events: stamped by the controller, and refused where they are none."""

import json
import math

import pytest
from pydantic import ValidationError

from actors.events import EVENT, Phase, StepDone, stamped


def test_only_the_controller_knows_when_something_happened() -> None:
    event = Phase(name="training")
    assert event.seconds == 0.0
    assert stamped(event, 3.5) == Phase(seconds=3.5, name="training")
    assert event.seconds == 0.0


def test_an_event_survives_json_with_its_nan() -> None:
    event = StepDone(step=1, version=1, statistics={"loss": math.nan}, staleness={0: 2}, step_seconds=0.1)
    line = json.loads(event.model_dump_json())
    assert line["statistics"] == {"loss": None}
    back = EVENT.validate_python(line)
    assert isinstance(back, StepDone)
    assert math.isnan(back.statistics["loss"])
    assert back.staleness == {0: 2}


@pytest.mark.parametrize("fields", [{}, {"kind": "nonsense"}, {"kind": "step", "step": 0}, {"kind": "phase"}, "phase"])
def test_what_is_no_event_is_refused(fields: object) -> None:
    with pytest.raises(ValidationError):
        EVENT.validate_python(fields)
