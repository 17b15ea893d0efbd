"""URIs of files and folders: which texts are one, what is behind them, and what went wrong in a user's words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NewType

from actors.errors import LeewayError, RecipeError, StorageError

#: A text for which `is_uri` holds, such as `s3://bucket/models/a`.
Uri = NewType("Uri", str)

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
#: `user:password@`, and queries by which whoever holds the URI is let in.
_USER = re.compile(r"(?<=://)[^/@\s]+@")
_SECRET = re.compile(r"[?&][^=&\s]*(?:sig|token|key|secret|password|credential)[^=&\s]*=", re.IGNORECASE)
_QUERY = re.compile(r"\?\S+")
#: The extra of this package that installs what a protocol needs; fsspec names the package of all others.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
#: Errors of cloud libraries about credentials that are not there; those that are refused are a PermissionError.
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
#: Longest silence of a web server (s). aiohttp's own limit is five minutes for a whole file, however large.
_SILENCE_SECONDS = 60.0


def is_uri(text: str) -> bool:
    """Whether a text names its protocol, as in `s3://bucket/key`; all else is a path, or a name on the hub."""
    return _SCHEME.match(text) is not None


def secret_in(uri: str) -> bool:
    """Whether whoever reads a URI could use somebody's account: a recipe is shown, logged and kept."""
    return _USER.search(uri) is not None or _SECRET.search(uri) is not None


def file_system(uri: Uri) -> tuple[Any, str]:
    """fsspec's file system of a URI, and the path in it. Raises RecipeError where there is none, or its package is not
    installed.
    """
    import fsspec

    protocol = uri.partition("://")[0].lower()
    options: dict[str, Any] = {}
    if protocol in ("http", "https") and "client_kwargs" not in fsspec.config.conf.get(protocol, {}):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE_SECONDS, sock_read=_SILENCE_SECONDS)
        options["client_kwargs"] = {"timeout": timeout}
    try:
        files, path = fsspec.url_to_fs(uri, **options)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        wanted = f"install leeway-rl with its extra `{extra}`" if extra else reason(error)
        raise RecipeError(f"{uri}: the package for {protocol}:// is not installed here; {wanted}") from error
    except ValueError as error:
        raise RecipeError(f"{uri}: {reason(error)}") from error
    return files, path


@contextmanager
def told(uri: Uri) -> Iterator[None]:
    """What the libraries behind fsspec raise, in our words.

    Raises:
        RecipeError: there is nothing at the URI, or no access to it.
        StorageError: anything else, which may go well another time.
    """
    try:
        yield
    except LeewayError:
        raise
    except FileNotFoundError as error:
        raise RecipeError(f"{uri}: there is no such file or folder") from error
    except Exception as error:  # each of the libraries has errors of its own, of no common base
        if isinstance(error, PermissionError) or type(error).__name__ in _NO_CREDENTIALS:
            raise RecipeError(
                f"{uri}: no access ({reason(error)}); give every process its credentials in the environment, as the "
                "provider's own tools take them"
            ) from error
        raise StorageError(f"{uri}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """What an error says, in one line, without what lets somebody in."""
    text = _QUERY.sub("?…", _USER.sub("…@", " ".join(str(error).split())))
    return text[:300] or type(error).__name__
