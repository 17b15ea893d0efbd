"""Child interpreters start without anything of ours."""

from __future__ import annotations

import json
import os

import pytest

from sandbox import launch


def test_a_child_sees_no_variable_of_ours_and_leads_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEEWAY_SANDBOX_TOKEN", "secret")
    reader, writer = os.pipe()
    boot = "import json, os, sys\nfound = [dict(os.environ), os.getsid(0) == os.getpid(), os.getcwd()]\n"
    boot += "os.write(int(sys.argv[1]), json.dumps(found).encode())"
    process = launch.interpreter(["-I"], boot, [str(writer)], writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
        environment, leader, directory = json.load(stream)
    launch.end(process)
    assert "secret" not in str(environment)
    assert environment.keys() <= launch.environment().keys() | {"LC_CTYPE"}
    assert (leader, directory) == (True, "/")


def test_a_child_finds_the_sandbox_first() -> None:
    first = launch.import_path()[0]
    assert os.path.samefile(os.path.join(first, "sandbox", "launch.py"), launch.__file__)  # noqa: PTH118, PTH121
