"""Whether a run that resumes can go on with its journal, or has to begin at the position in its checkpoint."""

import secrets
from pathlib import Path

from actors.config.roles import JournalConfig
from actors.errors import JournalError, JournalHeldError
from actors.replay.journal import ASIDE, FOLDER, Identity, Journal
from actors.replay.records import ReplayState


def settle_journal(folder: Path, identity: Identity, config: JournalConfig, version: int) -> str:
    """Put the journal aside where it does not fit the checkpoint.

    It fits where it has every batch that is to be trained again, under the same limits.

    Args:
        folder: the run folder.
        identity: of the journal that the run would write.
        config: how it is kept.
        version: of the checkpoint.

    Returns:
        What whoever resumes the run must know; empty where there is no journal.

    Raises:
        OSError: it cannot be put aside.
        JournalError: another process has it.
    """
    place = folder / FOLDER
    if not place.exists():
        return ""
    why = "replay.journal.durability is off"
    if config.durability != "off":
        why, groups = _misfit(place, identity, config, version)
        if not why:
            return f"{groups} groups are in the journal, and are not generated anew"
    aside = folder / f"{ASIDE}{version:06d}-{secrets.token_hex(2)}"
    place.rename(aside)
    return f"the journal is called {aside.name} now ({why}): what no checkpoint contains is generated anew"


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
