"""What a run makes of the machine that it finds, for machines that are described."""

import getpass
import os
import resource
import socket
from pathlib import Path

import pytest

from actors.control import environment
from actors.control.environment import OPEN_FILES, SOCKET_FOLDER_BYTES, Environment
from actors.errors import RunError

ORDINARY = Environment(variables={}, home="/home/someone", user="someone", open_files=resource.RLIM_INFINITY)


def found(**changes: object) -> Environment:
    fields = {name: getattr(ORDINARY, name) for name in Environment.__slots__}
    return Environment(**(fields | changes))


def test_an_ordinary_machine_needs_nothing_but_short_paths(tmp_path: Path) -> None:
    assert environment.problems(ORDINARY) == []
    changed = environment.variables(ORDINARY, tmp_path)
    assert {name: value for name, value in changed.items() if value is not None} == {
        "TMPDIR": str(tmp_path),
        "VLLM_RPC_BASE_PATH": str(tmp_path),
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "ray-token"),
    }


def test_few_descriptors_are_said_with_the_way_to_more() -> None:
    assert environment.problems(found(open_files=OPEN_FILES)) == []
    (problem,) = environment.problems(found(open_files=256))
    assert "256" in problem and "ulimit" in problem


def test_another_cluster_is_left_alone_unless_it_is_asked_for(tmp_path: Path) -> None:
    elsewhere = {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_memory_monitor_refresh_ms": "0"}
    own = environment.variables(found(variables=elsewhere), tmp_path)
    assert own["RAY_ADDRESS"] is None
    assert "RAY_memory_monitor_refresh_ms" not in own
    assert "RAY_ADDRESS" not in environment.variables(found(variables=elsewhere, cluster="auto"), tmp_path)


def test_a_cluster_that_does_not_answer_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        assert environment.problems(environment.describe(address)) == []
    (problem,) = environment.problems(environment.describe(address))
    assert address in problem and "ray.address" in problem


def test_without_a_home_or_a_name_libraries_get_some(tmp_path: Path) -> None:
    changed = environment.variables(found(home=None, user=None), tmp_path)
    assert changed["HOME"] == str(tmp_path)
    assert changed["USER"] == f"uid-{os.getuid()}"
    assert "USER" not in environment.variables(found(user=None, variables={"LOGNAME": "me"}), tmp_path)


def test_a_user_whom_the_machine_does_not_know(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31)
    described = environment.describe(None)
    assert (described.home, described.user) == (None, None)
    for name, value in environment.variables(described, tmp_path).items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
    assert getpass.getuser() == f"uid-{2**31}"


def test_this_machine_is_never_reached_through_a_proxy(tmp_path: Path) -> None:
    assert "no_proxy" not in environment.variables(ORDINARY, tmp_path)
    changed = environment.variables(
        found(variables={"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "example.org"}), tmp_path
    )
    assert changed["no_proxy"] == changed["NO_PROXY"] == "example.org,127.0.0.1,localhost,::1"


@pytest.mark.parametrize("length", [10, 60, 120])
def test_the_folder_for_sockets_is_short(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    place = Path(f"/tmp/{'x' * length}")
    place.mkdir()
    try:
        monkeypatch.setattr("tempfile.tempdir", str(place))
        made = environment.temporary_folder()
        made.rmdir()
    finally:
        place.rmdir()
    assert len(os.fsencode(made)) <= SOCKET_FOLDER_BYTES
    assert (made.parent == place) == (length == 10)


def test_nowhere_to_put_sockets_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    monkeypatch.setattr(environment, "_SHORT", ("/proc",))
    with pytest.raises(RunError, match="set TMPDIR"):
        environment.temporary_folder()


def test_models_are_kept_where_they_can_be_written(tmp_path: Path) -> None:
    output = tmp_path / "runs"
    assert environment.models_folder(tmp_path, output) == tmp_path / "models"
    assert environment.models_folder(Path("/proc"), output) == output / "models"


def test_the_token_of_a_cluster_is_for_its_owner_alone(tmp_path: Path) -> None:
    environment.write_token(tmp_path)
    path = environment.variables(ORDINARY, tmp_path)["RAY_AUTH_TOKEN_PATH"]
    assert path is not None
    assert Path(path).stat().st_mode & 0o077 == 0
    assert len(Path(path).read_text()) >= 32
    assert "RAY_AUTH_TOKEN_PATH" not in environment.variables(found(cluster="auto"), tmp_path)
