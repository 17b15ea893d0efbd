"""What is a URI, what must not stand in one, and errors that show no secret."""

import importlib.util

import pytest

from actors.errors import RecipeError, StorageError
from actors.storage.uris import Uri, file_system, is_uri, reason, secret_in, told


@pytest.mark.parametrize(
    "text", ["s3://bucket/a", "gs://b", "file:///a/b", "memory://a", "zip://a.jsonl::s3://b/c.zip"]
)
def test_a_text_that_names_its_protocol_is_a_uri(text: str) -> None:
    assert is_uri(text)


@pytest.mark.parametrize("text", ["/data/a", "data/a.jsonl", "Qwen/Qwen2.5-7B", "~/models/a", "s3:/a", "addition"])
def test_paths_and_names_on_the_hub_are_none(text: str) -> None:
    assert not is_uri(text)


@pytest.mark.parametrize(
    "uri",
    ["s3://KEY:SECRET@bucket/a", "https://user@host/a", "https://host/a?X-Amz-Signature=1", "https://h/a?x=1&sig=2"],
)
def test_what_lets_somebody_in_is_seen(uri: str) -> None:
    assert secret_in(uri)


@pytest.mark.parametrize("uri", ["s3://bucket/a@b/c", "https://host/a?download=true", "s3://bucket/tokens/a"])
def test_what_lets_nobody_in_may_stand_there(uri: str) -> None:
    assert not secret_in(uri)


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is not None, reason="s3fs is installed")
def test_a_missing_package_is_one_line_that_names_the_extra() -> None:
    with pytest.raises(RecipeError, match=r"^s3://bucket/a: the package for s3:// .* extra `s3`$"):
        file_system(Uri("s3://bucket/a"))


def test_a_protocol_that_nobody_knows_is_named() -> None:
    with pytest.raises(RecipeError, match=r"^nowhere://a: .*nowhere"):
        file_system(Uri("nowhere://a"))


class NoCredentialsError(Exception):
    """As botocore calls it."""


@pytest.mark.parametrize(
    ("raised", "error", "said"),
    [
        (FileNotFoundError("bucket/a"), RecipeError, "there is no such file or folder"),
        (PermissionError("Forbidden"), RecipeError, r"no access \(Forbidden\).*environment"),
        (NoCredentialsError("Unable to locate credentials"), RecipeError, r"no access \(Unable.*environment"),
        (TimeoutError(), StorageError, "TimeoutError"),
        (RuntimeError("503"), StorageError, "503"),
    ],
)
def test_errors_of_libraries_become_ours(raised: Exception, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=f"^s3://b/a: {said}"), told(Uri("s3://b/a")):
        raise raised


def test_what_an_error_says_shows_no_secret() -> None:
    said = reason(RuntimeError("GET https://user:hunter2@host/a?X-Amz-Signature=abcdef failed"))
    assert said == "GET https://…@host/a?… failed"
