"""A run's page as commands ask it: with the run's token, and an answer in JSON."""

import json
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from actors.errors import RecipeError

#: Longest wait for the controller's answer (s).
ANSWER_SECONDS = 10.0
#: What `asked` raises where nobody answers as a controller does.
UNANSWERED = (OSError, ValueError, HTTPException)


def asked(url: str, token: str | None, body: dict[str, Any] | None = None) -> Any:
    """The answer to a GET, or with a body to a POST.

    Raises:
        urllib.error.HTTPError: the controller refuses.
        UNANSWERED: it cannot be reached, or what answers is no controller.
    """
    headers = {"content-type": "application/json"} | ({} if token is None else {"authorization": f"Bearer {token}"})
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=ANSWER_SECONDS) as answer:
        return json.load(answer)


def newest(runs: Path) -> Path:
    """The run folder that was begun last. Raises RecipeError where there is none."""
    from actors.config.loading import RECIPE

    folders = [path for path in runs.iterdir() if (path / RECIPE).is_file()] if runs.is_dir() else []
    if not folders:
        raise RecipeError(f"there is no run in {runs}; name a run folder")
    return max(folders, key=lambda path: (path / RECIPE).stat().st_mtime)
