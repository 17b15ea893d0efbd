"""A run's page as commands ask it: with the run's token, and an answer in JSON."""

import json
import urllib.error
import urllib.request
from http import HTTPStatus
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


def looked(url: str, folder: Path | None, instance: str = "") -> dict[str, Any]:
    """What the controller says of its run. The token travels only where it is asked for.

    Args:
        url: of its page.
        folder: the run folder, where it is known.
        instance: see `require_instance`.

    Raises:
        InputError: the token cannot be read.
        UNANSWERED: as `asked` and `require_instance` raise it.
    """
    from actors.transport.keys import read_token

    require_instance(url, instance)
    path = f"{url.rstrip('/')}/status"
    try:
        told: dict[str, Any] = asked(path, None)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.UNAUTHORIZED or (token := read_token(folder)) is None:
            raise
        told = asked(path, token)
    return told


def require_instance(url: str, instance: str) -> None:
    """Raises UNANSWERED where another controller answers than the one that wrote `instance` into its run folder: that
    one may have been killed, and another run's may have its address by now. Empty for any.
    """
    if instance and asked(f"{url.rstrip('/')}/healthz", None).get("instance") != instance:
        raise ValueError("another controller has this address now")


def newest(runs: Path, *, pipelines: bool = False) -> Path:
    """The folder of the run that was begun last, or with `pipelines` of the run or pipeline; those of roles that have
    joined one do not count.

    Raises:
        RecipeError: there is none.
    """
    from actors.config.loading import RECIPE
    from actors.config.pipeline import PIPELINE
    from actors.folder import INPUTS

    inside = list(runs.iterdir()) if runs.is_dir() else []
    begun = {path: path / RECIPE for path in inside if (path / INPUTS).is_file()}
    begun |= {path: path / PIPELINE for path in inside if pipelines and (path / PIPELINE).is_file()}
    if not begun:
        raise RecipeError(f"there is no run in {runs}; name a run folder")
    return max(begun, key=lambda path: begun[path].stat().st_mtime)
