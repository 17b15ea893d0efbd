"""What an engine needs of the machine beside its packages."""

import ctypes

from actors.errors import EngineError

#: What vLLM's kernels for CPUs are linked with and its wheel does not bring. Without it they are passed over silently.
CPU_LIBRARY = "libnuma.so.1"


def require_library(name: str = CPU_LIBRARY) -> None:
    """Raises EngineError where this machine lacks what vLLM needs on CPUs."""
    try:
        ctypes.CDLL(name)
    except OSError as error:
        raise EngineError(
            f"vLLM on CPUs needs {name}, which this machine lacks: apt-get install libnuma1, or dnf install "
            "numactl-libs; the wheel of vLLM does not bring it"
        ) from error
