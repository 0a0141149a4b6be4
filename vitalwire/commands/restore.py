"""Put a backup in the place of the stopped cloud's store; boxes then offer again everything they still hold.

`vitalwire restore FILE [-c CONFIG | --store FILE]`
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vitalwire.command import UsageError
from vitalwire.store_file import add_store_arguments, as_named, store_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which backup, and where to."""
    parser.add_argument("file", type=Path, metavar="FILE", help="as `vitalwire backup` wrote it, FILE.sha256 beside it")
    add_store_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints what was restored, and where the store lies that was there before."""
    from cloud.store.backup import BackupRefused, restore
    from wire.clock import SystemClock

    store = store_file(arguments)
    try:
        restored = restore(arguments.file, store, now_us=SystemClock().now_us())
    except BackupRefused as error:
        raise UsageError(str(error)) from None
    print(f"{store}: {restored.backup.records} records restored, under the new id {restored.store_id.hex()}")
    if restored.set_aside is not None:
        print(f"the store that was there: {restored.set_aside}")
    named = as_named(arguments, store)
    print(
        "Everybody is signed out. What was changed of accounts since the backup is undone: new ones, disabled ones, "
        "roles, hospitals, passwords. Do it again before the cloud starts: "
        f"vitalwire account list {named}"
    )
    _tell_of_audit(store, named)
    return 0


def _tell_of_audit(store: Path, named: str) -> None:
    """An older store has fewer audit rows than were noted: said now, since it will be said until it is accepted."""
    from cloud.store.audit.head import contradictions, head_file
    from cloud.store.audit.reading import ChainUnreadable, opened

    notes = head_file(store, store.parent).read()
    try:
        with opened(store) as connection:
            wrong = contradictions(connection, notes)
    except ChainUnreadable as error:
        print(f"audit: {error}")
        return
    for why in wrong.values():
        print(f"audit: {why}")
    if wrong:
        print(
            f"The cloud will say so at every start until you run: vitalwire audit head --accept --reason TEXT {named}"
        )
