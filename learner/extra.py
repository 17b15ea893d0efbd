"""What a checkpoint holds beside the tensors, for those who must read it without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from learner.errors import CheckpointError

META = "learner.json"


def read_extra(folder: Path) -> dict[str, Any]:
    """What the caller of `Trainer.save` stored beside the tensors, without loading them.

    Raises:
        CheckpointError: if `folder` is no checkpoint.
    """
    try:
        meta = json.loads((folder / META).read_text())
        return dict(meta["extra"])
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder} is not a checkpoint ({error}); name a folder that Trainer.save wrote"
        ) from error
