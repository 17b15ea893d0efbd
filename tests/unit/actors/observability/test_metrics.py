"""A process's metrics over HTTP."""

import urllib.error
import urllib.request

import pytest

from actors.observability import metrics
from sandbox.gate import Token


def test_they_are_shown_to_everybody_or_to_whoever_has_the_token() -> None:
    for admits, expected in ((lambda _: True, [200, 200]), (Token("s3cret").matches, [401, 200])):
        server = metrics.serve("127.0.0.1", 0, admits)
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        found = []
        for headers in ({}, {"Authorization": "Bearer s3cret"}):
            try:
                with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as response:
                    assert b"leeway_restarts_total" in response.read()
                    found.append(response.status)
            except urllib.error.HTTPError as error:
                assert b"leeway" not in error.read()
                found.append(error.code)
        assert found == expected
        server.shutdown()


@pytest.mark.parametrize("header", [b"", b"Bearer ", b"Bearer s3cre", b"bearer s3cret", b"Basic s3cret", b"\xff"])
def test_only_the_whole_token_matches(header: bytes) -> None:
    assert not Token("s3cret").matches(header)
