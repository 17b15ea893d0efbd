"""A model that answers in a terminal, and one that hangs instead."""

import threading
from pathlib import Path
from typing import Any

import pytest

from actors.chat import speaker
from actors.chat.speaker import TransformersSpeaker
from actors.config.model import TinyModel
from actors.config.roles import SamplingConfig
from actors.errors import EngineError
from actors.models import prepare


def test_a_model_that_hangs_is_said_and_its_answer_stays_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepare(TinyModel(kind="tiny", hidden_size=32, layers=1, heads=1), tmp_path, 0)
    speaking = TransformersSpeaker(folder, "raw", SamplingConfig(max_tokens=8))
    speaking._ends = [10**6]
    goes_on = threading.Event()

    def hang(*_: Any) -> None:
        goes_on.wait(60)

    assert len("".join(speaking.answer([("user", "1+1=")]))) > 0
    monkeypatch.setattr(speaker, "TOKEN_SECONDS", 0.2)
    hook = speaking._model.register_forward_pre_hook(hang)
    try:
        with pytest.raises(EngineError, match=r"no token for 0\.2 s: it hangs, or is too large .*; take a smaller one"):
            list(speaking.answer([("user", "1+1=")]))
        hung, stopped = speaking._thread, speaking._stopped
        assert hung is not None and hung.is_alive() and stopped.is_set()
    finally:
        goes_on.set()
        hook.remove()
    monkeypatch.setattr(speaker, "TOKEN_SECONDS", 60.0)
    assert len("".join(speaking.answer([("user", "1+1=")]))) > 0
    assert stopped.is_set() and not speaking._stopped.is_set()
    hung.join(60)
    assert not hung.is_alive()
