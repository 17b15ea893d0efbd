"""The secrets of a run: CURVE keys, and the token of its HTTP side. Each process reads them for itself.

in the folder LEEWAY_KEYS     or in the variable        what it is                           read by
server.public                 LEEWAY_SERVER_PUBLIC      whom a client must have before it    everyone
server.secret                 LEEWAY_SERVER_SECRET      what proves it                       replay, learner, scorer
client.secret                 LEEWAY_CLIENT_SECRET      who a client is                      everyone
authorized/NAME.public        LEEWAY_AUTHORIZED         who may connect                      replay, learner, scorer
token                         LEEWAY_TOKEN              who may change a run over HTTP       controller, `leeway scale`

A variable wins over its file. `leeway keys` makes the folder; LEEWAY_AUTHORIZED holds public keys with commas between.

A key whose NAME ends with a dot and a role, such as `east.verifier`, is for processes of that role alone: servers
refuse what these do not send. In LEEWAY_AUTHORIZED the role stands before the key, with a space: `verifier KEY`.
"""

import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from actors.errors import RecipeError, RunError
from actors.membership import ROLES
from sandbox.errors import InputError
from sandbox.secret_files import read_secret, require_word, write_secret

FOLDER = "LEEWAY_KEYS"
TOKEN = "LEEWAY_TOKEN"
#: In a run folder and in a folder of keys: the token of the run's HTTP side.
TOKEN_FILE = "token"
_KEY_BYTES = 32
_KEY_CHARACTERS = 40
_TOKEN_BYTES = 32
#: A changed list of authorized clients is noticed so soon (s); whoever asks more often reads no file by it.
REREAD_SECONDS = 1.0


def role_of(name: str) -> str | None:
    """The role that the key of this name is for; None: every one."""
    role = name.rpartition(".")[2]
    return role if role != name and role in ROLES else None


class Authorized:
    """Which clients may connect, by the name under which each key is listed. A changed folder is read anew."""

    def __init__(self, folder: Path | None, listed: Mapping[bytes, str]) -> None:
        self._folder, self._listed = folder, dict(listed)
        self._read_at = float("-inf")

    def name(self, public: bytes) -> str | None:
        """Of the client with this key of 32 bytes; None for one that may not connect."""
        if self._folder is not None and time.monotonic() - self._read_at > REREAD_SECONDS:
            self._listed, self._read_at = _authorized_in(self._folder), time.monotonic()
        return self._listed.get(public)


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """What a process needs to be a server."""

    secret: bytes = field(repr=False)
    authorized: Authorized


@dataclass(frozen=True, slots=True)
class Keys:
    """The CURVE keys of a process, each as 40 characters of Z85.

    Attributes:
        server_public: of all servers of the run.
        client_public: this process as a client.
        client_secret: proves it.
        server: None where this process was given nothing to be a server with.
    """

    server_public: bytes
    client_public: bytes
    client_secret: bytes = field(repr=False)
    server: ServerKeys | None


def folder() -> Path:
    """Where this user's keys are, or would be."""
    if given := os.environ.get(FOLDER):
        return Path(given).absolute()
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in the list of users
        home = Path("/")
    return home / ".config" / "leeway" / "keys"


def load() -> Keys:
    """This process's keys.

    Raises:
        RunError: one is missing, is none, or can be read by others.
    """
    where = folder()
    server_public = _public(where / "server.public", "LEEWAY_SERVER_PUBLIC")
    client = _secret(where / "client.secret", "LEEWAY_CLIENT_SECRET")
    server = None
    if "LEEWAY_SERVER_SECRET" in os.environ or (where / "server.secret").exists():
        secret = _secret(where / "server.secret", "LEEWAY_SERVER_SECRET")
        if zmq.curve_public(secret) != server_public:
            raise RunError(f"the server's secret and public key do not belong together; {_advice(where)}")
        server = ServerKeys(secret, _authorized(where))
    return Keys(server_public, zmq.curve_public(client), client, server)


def _authorized(where: Path) -> Authorized:
    if (listed := os.environ.get("LEEWAY_AUTHORIZED")) is not None:
        named = {}
        for number, entry in enumerate(listed.split(","), 1):
            role, _, key = entry.strip().rpartition(" ")
            if role and role not in ROLES:
                raise RunError(f"LEEWAY_AUTHORIZED: no role is called {role!r}; there are {', '.join(ROLES)}")
            public = z85.decode(_z85(key.encode(), "LEEWAY_AUTHORIZED"))
            named[public] = f"LEEWAY_AUTHORIZED {number}" + (f".{role}" if role else "")
        return Authorized(None, named)
    return Authorized(where / "authorized", {})


def _authorized_in(where: Path) -> dict[bytes, str]:
    """A file that holds no key authorizes nobody, and keeps nobody else out."""
    found = {}
    for path in sorted(where.glob("*.public")):
        try:
            found[z85.decode(_z85(path.read_bytes().strip(), str(path)))] = path.stem
        except (OSError, RunError):
            continue
    return found


def _secret(path: Path, variable: str) -> bytes:
    if (given := os.environ.get(variable)) is not None:
        return _z85(given.strip().encode(), variable)
    try:
        return _z85(read_secret(path).encode(), str(path))
    except InputError as error:
        raise RunError(f"network.curve: {error}; {_advice(path.parent)}") from error


def _public(path: Path, variable: str) -> bytes:
    if (given := os.environ.get(variable)) is not None:
        return _z85(given.strip().encode(), variable)
    try:
        return _z85(path.read_bytes().strip(), str(path))
    except OSError as error:
        raise RunError(f"network.curve: {path}: {error.strerror}; {_advice(path.parent)}") from error


def _z85(key: bytes, where: str) -> bytes:
    try:
        if len(key) == _KEY_CHARACTERS and len(z85.decode(key)) == _KEY_BYTES:
            return key
    except (ValueError, KeyError, OverflowError):  # a character that Z85 lacks, five that are too much
        pass
    raise RunError(f"network.curve: {where} does not hold a CURVE key of {_KEY_CHARACTERS} characters")


def _advice(where: Path) -> str:
    return f"make keys with `leeway keys {where}`, or name their folder in {FOLDER}"


# ---------------------------------------------------------------- made


def create(where: Path) -> None:
    """Make a folder with everything that a run needs.

    Raises:
        RecipeError: there is something already, or it cannot be written.
    """
    server_public, server_secret = zmq.curve_keypair()
    client_public, client_secret = zmq.curve_keypair()
    fresh = where.with_name(f".{where.name}-{secrets.token_hex(4)}")
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir(0o700)
        (fresh / "authorized").mkdir(0o700)
        write_secret(fresh / "server.secret", server_secret.decode())
        write_secret(fresh / "client.secret", client_secret.decode())
        write_secret(fresh / TOKEN_FILE, secrets.token_urlsafe(_TOKEN_BYTES))
        _write_public(fresh / "server.public", server_public)
        _write_public(fresh / "authorized" / "client.public", client_public)
        fresh.rename(where)  # onto a folder only where that is empty
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        taken = "holds something already, and is left as it is; name another folder" if where.exists() else None
        raise RecipeError(f"{where}: {taken or error.strerror}") from error


def add(where: Path, name: str) -> Path:
    """Authorize one more client, and make the folder that its machines are given.

    Returns:
        That folder, `where`/`name`.

    Raises:
        RecipeError: there are no keys in `where`, the name is taken, or nothing can be written there.
    """
    public, secret = zmq.curve_keypair()
    try:
        server_public = (where / "server.public").read_bytes().strip()
        made = where / name
        made.mkdir(0o700)
        write_secret(made / "client.secret", secret.decode())
        _write_public(made / "server.public", server_public)
        _write_public(where / "authorized" / f"{name}.public", public)
    except OSError as error:
        raise RecipeError(f"{error.filename}: {error.strerror}; nobody was authorized") from error
    return made


def _write_public(path: Path, key: bytes) -> None:
    with path.open("x") as file:
        file.write(f"{key.decode()}\n")


# ---------------------------------------------------------------- the HTTP token


def read_token(run: Path | None = None) -> str | None:
    """The token of the HTTP side: that of the environment, of the folder of keys, or of a run's own; None for none.

    Args:
        run: a run folder.

    Raises:
        InputError: it can be read by others, or is no token.
    """
    if (given := os.environ.get(TOKEN)) is not None:
        return require_word(given.strip(), TOKEN)
    for place in filter(None, (folder(), run)):
        if (place / TOKEN_FILE).exists():
            return read_secret(place / TOKEN_FILE)
    return None


def ensure_token(run: Path) -> str:
    """`read_token`, or else a new one in the run folder, for this user's own commands."""
    token = read_token(run)
    if token is None:
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        write_secret(run / TOKEN_FILE, token)
    return token
