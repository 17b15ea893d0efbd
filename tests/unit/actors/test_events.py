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


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan])
def test_what_can_be_recorded_can_be_read_back(odd: float) -> None:
    """JSON knows neither NaN nor infinity, and a run reads its own lines when it resumes."""
    event = StepDone(step=1, version=1, statistics={"loss": odd}, staleness={}, step_seconds=0.1)
    back = EVENT.validate_json(event.model_dump_json())
    assert isinstance(back, StepDone) and math.isnan(back.statistics["loss"])
    sync = {
        "kind": "weight_sync",
        "version": 1,
        "members": 1,
        "bytes": 1,
        "transfer_seconds": 1.0,
        "pause_seconds": 0.1,
    }
    for fields in (
        {"kind": "step", "step": 1, "version": 1, "statistics": {}, "staleness": {}, "step_seconds": odd},
        sync | {"total_seconds": odd},
        {"kind": "phase", "name": "training", "seconds": odd},
        {"kind": "tick", "interval_seconds": odd},
        {"kind": "tick", "interval_seconds": 1.0, "tokens_per_second": {"generation": odd}},
    ):
        with pytest.raises(ValidationError):
            EVENT.validate_python(fields)


@pytest.mark.parametrize("fields", [{}, {"kind": "nonsense"}, {"kind": "step", "step": 0}, {"kind": "phase"}, "phase"])
def test_what_is_no_event_is_refused(fields: object) -> None:
    with pytest.raises(ValidationError):
        EVENT.validate_python(fields)
