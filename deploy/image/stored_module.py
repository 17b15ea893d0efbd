#!/opt/leeway/bin/python -I
"""Stands where Triton looks for a C compiler (CC), in an image that has none.

Triton compiles kernels by itself, but for one module of C that talks to the driver. Its source comes with Triton and is
always the same, so the module is built with the image, in a stage that has a compiler, and handed out here. Whatever
else is asked for is refused by name.

CC SOURCE ... -o OUTPUT ...
"""

import shutil
import sys
from pathlib import Path

#: Where the image keeps the source that was compiled and the module it gave.
STORE = Path("/opt/leeway/share/leeway/triton")


def main(arguments: list[str], store: Path = STORE) -> None:
    source = next((Path(word) for word in arguments if word.endswith(".c")), None)
    known = (store / "driver.c").read_text()
    if source is None or "-o" not in arguments[:-1] or not source.is_file() or source.read_text() != known:
        raise SystemExit(
            f"this image holds no compiler, and {source or 'what was asked for'} is not the module of Triton's that "
            "was built with it: set CC to a compiler, in an image of your own (FROM this one)"
        )
    shutil.copyfile(store / "cuda_utils.so", arguments[arguments.index("-o") + 1])


if __name__ == "__main__":
    main(sys.argv[1:])
