"""Whether a run that resumes can go on with its journals, or has to begin at the position in its checkpoint."""

import secrets
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from actors.config.roles import JournalConfig
from actors.errors import JournalError, JournalHeldError
from actors.replay.buffer import Buffer
from actors.replay.journal import Identity, Journal, aside, place_of
from actors.replay.records import ReplayState
from actors.replay.source import TaskSource

#: What is wrong where one shard has a journal, and another has none.
ABSENT = ("that of another shard is not there", 0)


def settle_journals(
    folder: Path, identities: Sequence[Identity], config: JournalConfig, version: int, tasks: Callable[[], TaskSource]
) -> str:
    """Put the journals of a run's shards aside where one of them does not fit the checkpoint.

    It fits where it has every batch that is to be trained again, under the same limits.

    Args:
        folder: the run folder.
        identities: of the journals that the run would write, by shard.
        config: how it is kept.
        version: of the checkpoint.
        tasks: makes what the task numbers stand for.

    Returns:
        What whoever resumes the run must know; empty where there is no journal.

    Raises:
        OSError: it cannot be put aside.
        JournalHeldError: another process has it.
        JournalBlockedError: what the checkpoint contains cannot be noted in it; it stays where it is.
    """
    journals = [(place_of(folder, identity.limits.shard), identity) for identity in identities]
    there = [place for place, _ in journals if place.exists()]
    if not there:
        return ""
    why, groups = "replay.journal.durability is off", 0
    if config.durability != "off":
        why, groups = _misfits(journals, config, version)
        if not why:
            return f"{groups} groups are in the journal, and are not generated anew"
    name = f"{version:06d}-{secrets.token_hex(2)}"
    for place in there:
        if config.keep == "all":
            _commit(place, config, version, tasks)
        place.rename(aside(place, name))
    names = ", ".join(aside(place, name).name for place in there)
    return f"the journal is called {names} now ({why}): what no checkpoint contains is generated anew"


def _misfits(journals: Sequence[tuple[Path, Identity]], config: JournalConfig, version: int) -> tuple[str, int]:
    """Why a run cannot go on with its journals, which it does with all or with none, and how many groups they hold."""
    found = [_misfit(place, identity, config, version) if place.exists() else ABSENT for place, identity in journals]
    return next((why for why, _ in found if why), ""), sum(groups for _, groups in found)


def _misfit(place: Path, identity: Identity, config: JournalConfig, version: int) -> tuple[str, int]:
    """Why a journal does not fit, and how many groups are in it if it does."""
    try:
        journal = Journal(place, identity, config)
    except JournalHeldError:
        raise
    except JournalError as error:
        return str(error), 0
    try:
        if journal.past is None:
            return "", 0
        state = ReplayState.restored(journal.past, identity.limits)
        records = state.records(journal.past, lambda *_: {}, 0.0)
    except JournalError as error:
        return str(error), 0
    finally:
        journal.close()
    ledger = state.ledger
    missing = [v for v in range(version, ledger.version) if v not in ledger.batches]
    if ledger.version < version or missing:
        return f"it ends at step {ledger.version}" if not missing else "it is ahead of the checkpoint", 0
    return "", sum(record.payload is not None for record in records.values())


def _commit(place: Path, config: JournalConfig, version: int, tasks: Callable[[], TaskSource]) -> None:
    """Commit in a journal that goes out of use what the checkpoint contains. The run may have died before anybody could
    tell the replay that the checkpoint is durable, and the journal after this one begins at its version: batches in
    between would be in neither.
    """
    try:
        if (identity := Journal.identity_of(place)) is None:
            return
        with closing(Journal(place, identity, config)) as journal:
            if journal.past is not None:
                buffer = Buffer(identity.limits, identity.group_size, tasks(), past=journal.past)
                buffer.commit(version)
                journal.write(buffer.state.take_changes(), (), 0, buffer.state.state)
    except JournalHeldError:
        raise
    except JournalError:
        return  # it is damaged, which is why it goes out of use
