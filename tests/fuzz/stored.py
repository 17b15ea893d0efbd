"""A journal on a disk that an enemy has: what `python -m tests.fuzz journal` calls with its inputs.

A failure is anything but a JournalError, or a journal that is opened and says something else than was written.
"""

import shutil
from pathlib import Path
from typing import Any

from actors.errors import JournalBlockedError, JournalError
from tests.unit.actors.replay.journal_world import Kept, with_a_log, without_deadlines


class StoredTarget:
    """Opens copies of one journal, whose process was killed, after their bytes were changed.

    Args:
        folder: for the journal and its copies.
    """

    def __init__(self, folder: Path) -> None:
        self._source, self._copy = folder / "written", folder / "copy"
        world = with_a_log(folder / "alive", keep="all")
        self._contents = _lasting(world)
        shutil.copytree(folder / "alive", self._source)
        self._files = sorted(path.name for path in self._source.iterdir())
        self.answered = self.refused = 0

    def take(self, choose: Any) -> None:
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._source, self._copy)
        for _ in range(choose.ConsumeIntInRange(1, 3)):
            self._harm(self._copy / choose.PickValueInList(self._files), choose)
        if not any(path.stat().st_size for path in self._copy.iterdir()):
            return  # as if there had never been one, which only the run's checkpoints can tell
        try:
            world = Kept(self._copy, keep="all")
        except (JournalError, JournalBlockedError) as error:
            assert str(self._copy) in str(error)
            self.refused += 1
            return
        try:
            assert _lasting(world) == self._contents
        finally:
            world.journal.close()
        self.answered += 1

    def _harm(self, path: Path, choose: Any) -> None:
        """Bytes are changed, cut off, moved, or put behind the end."""
        content = bytearray(path.read_bytes())
        place = choose.ConsumeIntInRange(0, len(content))
        match choose.ConsumeIntInRange(0, 5):
            case 0:
                del content[place:]
            case 1:
                content += choose.ConsumeBytes(choose.ConsumeIntInRange(0, 64))
            case 2:
                other, count = choose.ConsumeIntInRange(0, len(content)), choose.ConsumeIntInRange(0, 4096)
                content[place : place + count] = content[other : other + count]
            case _:
                new = choose.ConsumeBytes(choose.ConsumeIntInRange(1, 16))
                content[place : place + len(new)] = new
        path.write_bytes(content)


def _lasting(world: Kept) -> dict[str, Any]:
    """What a journal holds; deadlines begin anew with every process."""
    contents = world.contents()
    return contents | {"state": without_deadlines(contents["state"])}
