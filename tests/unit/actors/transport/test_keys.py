"""Where keys and the token come from, what is refused, and that nothing prints them."""

import os
import stat
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85

from actors.errors import RecipeError, RunError
from actors.transport import keys
from sandbox.errors import InputError

VARIABLES = ("LEEWAY_SERVER_PUBLIC", "LEEWAY_SERVER_SECRET", "LEEWAY_CLIENT_SECRET", "LEEWAY_AUTHORIZED", keys.TOKEN)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(keys.FOLDER, str(tmp_path / "keys"))
    return tmp_path / "keys"


def test_what_is_made_is_found_and_nobody_else_can_read_it(folder: Path) -> None:
    keys.create(folder)
    found = keys.load()
    assert found.server is not None
    assert found.server.authorized.name(z85.decode(found.client_public)) == "client"
    assert found.server.authorized.name(bytes(32)) is None
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("server.secret", "client.secret", "token"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    secrets = [(folder / name).read_text().strip() for name in ("server.secret", "client.secret")]
    assert not any(secret in repr(found) for secret in secrets)


def test_keys_are_never_made_over_others(folder: Path) -> None:
    keys.create(folder)
    before = (folder / "server.secret").read_text()
    with pytest.raises(RecipeError, match="left as it is"):
        keys.create(folder)
    assert (folder / "server.secret").read_text() == before
    assert [path.name for path in folder.parent.iterdir()] == ["keys"]


def test_another_client_gets_what_it_needs_and_no_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.create(folder)
    server = keys.load().server
    made = keys.add(folder, "elsewhere")
    assert sorted(path.name for path in made.iterdir()) == ["client.secret", "server.public"]
    with pytest.raises(RecipeError, match="nobody was authorized"):
        keys.add(folder, "elsewhere")
    monkeypatch.setenv(keys.FOLDER, str(made))
    joined = keys.load()
    assert joined.server is None
    assert server is not None and server.authorized.name(z85.decode(joined.client_public)) == "elsewhere"


def test_the_list_is_read_anew_while_a_server_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "REREAD_SECONDS", 0.0)
    keys.create(folder)
    found = keys.load()
    client, server = z85.decode(found.client_public), found.server
    assert server is not None and server.authorized.name(client) == "client"
    (folder / "authorized" / "damaged.public").write_text("no key")
    (folder / "authorized" / "client.public").rename(folder / "authorized" / "renamed.public")
    assert server.authorized.name(client) == "renamed"
    (folder / "authorized" / "renamed.public").unlink()
    assert server.authorized.name(client) is None


def test_variables_are_enough_as_kubernetes_sets_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (server_public, server_secret), (client_public, client_secret) = zmq.curve_keypair(), zmq.curve_keypair()
    monkeypatch.setenv("LEEWAY_SERVER_PUBLIC", server_public.decode())
    monkeypatch.setenv("LEEWAY_CLIENT_SECRET", client_secret.decode())
    assert keys.load().server is None
    monkeypatch.setenv("LEEWAY_SERVER_SECRET", server_secret.decode())
    monkeypatch.setenv("LEEWAY_AUTHORIZED", f"{server_public.decode()}, {client_public.decode()}")
    found = keys.load()
    assert not folder.exists()
    assert found.client_public == client_public
    assert found.server is not None and found.server.authorized.name(z85.decode(client_public)) is not None


@pytest.mark.usefixtures("folder")
def test_the_end_of_a_name_says_which_role_the_key_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("client", "elsewhere", "east.verifier", "a.b.learner", "verifier", "east.nobody")
    assert [keys.role_of(name) for name in names] == [None, None, "verifier", "learner", None, None]
    (server_public, server_secret), (public, secret) = zmq.curve_keypair(), zmq.curve_keypair()
    monkeypatch.setenv("LEEWAY_SERVER_PUBLIC", server_public.decode())
    monkeypatch.setenv("LEEWAY_SERVER_SECRET", server_secret.decode())
    monkeypatch.setenv("LEEWAY_CLIENT_SECRET", secret.decode())
    monkeypatch.setenv("LEEWAY_AUTHORIZED", f"{server_public.decode()},verifier {public.decode()}")
    server = keys.load().server
    assert server is not None
    found = [server.authorized.name(z85.decode(key)) for key in (server_public, public)]
    assert [keys.role_of(name) for name in found if name] == [None, "verifier"]
    monkeypatch.setenv("LEEWAY_AUTHORIZED", f"judge {public.decode()}")
    with pytest.raises(RunError, match="no role is called 'judge'"):
        keys.load()


@pytest.mark.parametrize("name", ["server.public", "client.secret", "server.secret"])
@pytest.mark.parametrize("content", ["", "short", "~" * 40, "x" * 41, "é" * 20])
def test_what_is_no_key_is_named_and_not_quoted(folder: Path, name: str, content: str) -> None:
    keys.create(folder)
    (folder / name).write_text(content)
    with pytest.raises(RunError, match=name) as refused:
        keys.load()
    assert not content or content not in str(refused.value)


def test_what_is_missing_or_open_to_others_says_what_to_do(folder: Path) -> None:
    with pytest.raises(RunError, match="leeway keys"):
        keys.load()
    keys.create(folder)
    (folder / "client.secret").chmod(0o644)
    with pytest.raises(RunError, match="chmod 600"):
        keys.load()


def test_keys_of_two_servers_do_not_go_together(folder: Path) -> None:
    keys.create(folder)
    (folder / "server.public").write_text(zmq.curve_keypair()[0].decode())
    with pytest.raises(RunError, match="belong together"):
        keys.load()


def test_a_run_has_the_token_of_the_environment_or_of_the_keys_or_its_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert keys.read_token(run) is None
    own = keys.ensure_token(run)
    assert keys.ensure_token(run) == own == keys.read_token(run)
    assert stat.S_IMODE((run / "token").stat().st_mode) == 0o600
    keys.create(folder)
    shared = keys.read_token(run)
    assert shared == (folder / "token").read_text().strip() != own
    monkeypatch.setenv(keys.TOKEN, "given")
    assert keys.ensure_token(run) == "given"
    monkeypatch.setenv(keys.TOKEN, "two words")
    with pytest.raises(InputError, match=keys.TOKEN):
        keys.read_token(run)


def test_the_folder_is_the_users_or_the_one_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(keys.FOLDER, "mine")
    assert keys.folder() == tmp_path / "mine"
    monkeypatch.delenv(keys.FOLDER)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert keys.folder() == Path("/home/somebody/.config/leeway/keys")

    def unknown() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", unknown)
    assert not keys.folder().exists()
    assert keys.read_token() == os.environ.get(keys.TOKEN)
