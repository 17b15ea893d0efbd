"""What a run finds where it is started: what cannot work is one line, and what merely misleads libraries is put right.

describe() ──▶ Environment ──┬──▶ problems(): what ends the run before anything starts
                             └──▶ variables(): environment variables of the run's processes
"""

import os
import pwd
import resource
import secrets
import socket
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from actors.errors import RunError
from actors.transport import keys

#: Unix socket paths have 107 bytes; Ray appends up to 66 to its folder, vLLM and multiprocessing less.
SOCKET_FOLDER_BYTES = 40
#: Below this many Ray's own processes run out of descriptors as soon as a few roles are up.
OPEN_FILES = 1024
#: Longest wait for a cluster to take a connection (s).
CONNECT_SECONDS = 10.0
#: The file with the secret of the run's own cluster, in the run's temporary folder.
TOKEN = "ray-token"
_PREFIX = "leeway-"
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")
#: Variables that describe a cluster or job of Ray's which is not the run's own.
FOREIGN_CLUSTER = (
    "RAY_ADDRESS",
    "RAY_NAMESPACE",
    "RAY_RUNTIME_ENV",
    "RAY_RUNTIME_ENV_HOOK",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_AUTH_TOKEN",
    "RAY_TMPDIR",
)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: Where Python looks for the name of the user before it asks the list of users.
_USER = ("LOGNAME", "USER", "LNAME", "USERNAME")


@dataclass(frozen=True, slots=True)
class Environment:
    """A machine and a user, as far as a run depends on them.

    Attributes:
        variables: environment variables.
        home: the user's folder, where files can be made; None where there is no such folder.
        user: name of the user; None where the machine does not know the user's number.
        open_files: most descriptors that a process may have.
        cluster: `ray.address`; None for a cluster of the run's own.
        refusal: why no connection to the cluster can be made; None where one can.
    """

    variables: Mapping[str, str]
    home: str | None
    user: str | None
    open_files: int
    cluster: str | None = None
    refusal: str | None = None


def describe(cluster: str | None) -> Environment:
    """This process's environment; connects to the cluster, if there is an address of one."""
    return Environment(
        variables=dict(os.environ),
        home=_usable_home(),
        user=_user(),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        cluster=cluster,
        refusal=_refusal(cluster) if cluster else None,
    )


def problems(environment: Environment) -> list[str]:
    """What a run cannot work with, each as one line that says what to do."""
    found = []
    limit = environment.open_files
    if limit != resource.RLIM_INFINITY and limit < OPEN_FILES:
        found.append(
            f"a process may open {limit} files, and a run needs {OPEN_FILES}: raise the hard limit (`ulimit -Hn`, "
            "LimitNOFILE of systemd, --ulimit nofile of Docker)"
        )
    if environment.refusal:
        found.append(
            f"ray.address: no cluster answers at {environment.cluster} ({environment.refusal}); start one there, or "
            "leave ray.address out for one on this machine"
        )
    return found


def variables(environment: Environment, folder: Path) -> dict[str, str | None]:
    """What to set for the run's processes, and what to take away (None).

    Args:
        environment: as it was found.
        folder: the run's temporary folder, a short path.
    """
    given = environment.variables
    # libraries put their sockets where these say
    changed: dict[str, str | None] = {"TMPDIR": str(folder), "VLLM_RPC_BASE_PATH": str(folder)}
    if environment.cluster is None:
        changed |= dict.fromkeys(FOREIGN_CLUSTER) | {"RAY_AUTH_TOKEN_PATH": str(folder / TOKEN)}
    if environment.home is None:  # caches of Hugging Face, torch and vLLM, which then last as long as the run
        changed["HOME"] = str(folder)
    if environment.user is None and not any(given.get(name) for name in _USER):
        changed["USER"] = f"uid-{os.getuid()}"
    if any(given.get(name) or given.get(name.upper()) for name in _PROXIES):
        direct = ",".join(_without_repeats([given.get("no_proxy") or given.get("NO_PROXY") or "", *_LOOPBACK]))
        changed |= {"no_proxy": direct, "NO_PROXY": direct}
    return changed


def place_of_keys() -> dict[str, str]:
    """Where this user's keys are, for processes whose HOME and current directory may be others."""
    return {keys.FOLDER: str(keys.folder())}


def temporary_folder() -> Path:
    """A new folder for sockets, in TMPDIR where its path is short enough for them.

    Raises:
        RunError: nowhere can such a folder be made.
    """
    for place in _without_repeats([*_temporary(), *_SHORT]):
        if len(os.fsencode(place)) + len(f"/{_PREFIX}xxxxxxxx") > SOCKET_FOLDER_BYTES:
            continue
        try:
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        except OSError:
            continue
    raise RunError(
        f"no folder for sockets can be made in TMPDIR or in {', '.join(_SHORT)}; set TMPDIR to a folder that can be "
        f"written, with a path of at most {SOCKET_FOLDER_BYTES - len(_PREFIX) - 9} bytes"
    )


def models_folder(here: Path, output: Path) -> Path:
    """Where models that are made are kept: `models` in the current directory, or beside the run folders where nothing
    can be written there, as in an image with a read-only root."""
    models = here / "models"
    return models if _can_be_written(models if models.is_dir() else here) else output / "models"


def write_token(folder: Path) -> None:
    """A secret for the run's own cluster, which Ray would else keep in the home folder, one for all runs."""
    path = folder / TOKEN
    path.touch(0o600)
    path.write_text(_secret())


@cache
def _secret() -> str:
    """One for all runs of this process, since Ray reads it once in a process."""
    return secrets.token_hex(32)


def _usable_home() -> str | None:
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in the list of users
        return None
    return str(home) if home.is_absolute() and _can_be_written(home) else None


def _user() -> str | None:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return None


def _can_be_written(folder: Path) -> bool:
    """Permissions say nothing of read-only disks, and root has all of them."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _temporary() -> list[str]:
    try:
        return [tempfile.gettempdir()]
    except FileNotFoundError:  # none can be written
        return []


def _refusal(address: str) -> str | None:
    """Why nobody takes a connection at `host:port` or `ray://host:port`; None for other forms, which Ray looks up."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdecimal():
        return None
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS):
            return None
    except (OSError, OverflowError) as error:
        return getattr(error, "strerror", None) or str(error)


def _without_repeats(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(item for item in items if item))
