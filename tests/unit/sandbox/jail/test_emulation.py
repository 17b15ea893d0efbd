"""What the lockdown takes away and programs expect all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox import Pool, RewardConfig, SandboxConfig, Status, Submission

ADD = "sum(map(int, text.split()))"
ASYNC = "import asyncio, sys\n"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(SandboxConfig(workers=1, test_seconds=20.0, cpu_seconds=20.0), RewardConfig()) as made:
        yield made


def _status(pool: Pool, program: str) -> Status:
    submission = Submission("stdio", program, {"raw": True, "tests": [{"stdin": "4 5\n6\n", "stdout": "15"}]})
    [verdict] = pool.score([submission], 120)
    return verdict.status


@pytest.mark.parametrize(
    "program",
    [
        f"text = open('/dev/stdin').read()\nprint({ADD})",
        f"text = open('/dev/stdin', 'rb').read().decode()\nprint({ADD})",
        f"from pathlib import Path\ntext = Path('/dev/stdin').read_text()\nprint({ADD})",
        f"import io\nwith io.open('/dev/fd/0') as file: text = file.read()\nprint({ADD})",
        f"import os\nfd = os.open('/proc/self/fd/0', os.O_RDONLY)\ntext = os.read(fd, 99)\nos.close(fd)\nprint({ADD})",
        f"text = open('/dev/stdin').read()\nwith open('/dev/stdout', 'w') as out: print({ADD}, file=out)",
        "import os\nassert os.path.exists('/dev/stdin')\ntry: open('/dev/none')\nexcept OSError: print(15)",
    ],
)
def test_standard_streams_have_paths(pool: Pool, program: str) -> None:
    assert _status(pool, program) is Status.OK


@pytest.mark.parametrize(
    "program",
    [
        f"async def main():\n    await asyncio.sleep(0.001)\n    text = sys.stdin.read()\n    print({ADD})\n"
        "asyncio.run(main())",
        "async def one(x):\n    await asyncio.sleep(0)\n    return int(x)\n"
        "async def main():\n    print(sum(await asyncio.gather(*map(one, sys.stdin.read().split()))))\n"
        "asyncio.run(main())",
        "async def main():\n    return sum(map(int, (await asyncio.to_thread(sys.stdin.read)).split()))\n"
        "loop = asyncio.new_event_loop()\nprint(loop.run_until_complete(main()))\nloop.close()",
        "async def main():\n    try:\n        await asyncio.wait_for(asyncio.sleep(60), 0.01)\n"
        "    except asyncio.TimeoutError:\n        print(15)\nasyncio.run(main())",
        "import threading\nasync def main():\n    loop, done = asyncio.get_running_loop(), asyncio.Event()\n"
        "    threading.Timer(0.01, lambda: loop.call_soon_threadsafe(done.set)).start()\n"
        "    await done.wait()\n    print(15)\nasyncio.run(main())",
    ],
)
def test_event_loops_need_no_sockets(pool: Pool, program: str) -> None:
    assert _status(pool, ASYNC + program) is Status.OK


@pytest.mark.parametrize(
    "program",
    [
        "import locale\nlocale.setlocale(locale.LC_ALL, '')\nprint(15)",
        "import locale\nlocale.setlocale(locale.LC_ALL, 'C.UTF-8')\nlocale.getlocale()\nprint(15)",
        "\ufeffprint(15)",
        "# -*- coding: utf-8 -*-\nprint(15)",
        "import sys, io\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf-8')\nprint(15)",
    ],
)
def test_programs_find_their_locale_and_encoding(pool: Pool, program: str) -> None:
    assert _status(pool, program) is Status.OK


def test_files_of_programs_with_a_directory() -> None:
    program = (
        "import tempfile\nwith tempfile.TemporaryFile('w+') as f:\n    f.write('15')\n    f.seek(0)\n    print(*f)"
    )
    with Pool(SandboxConfig(workers=1, scratch_bytes=1 << 20, test_seconds=20.0), RewardConfig()) as pool:
        if not pool.runner(60).can_write():
            pytest.skip("no mount namespaces here")
        assert _status(pool, program) is Status.OK
