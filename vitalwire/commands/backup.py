"""Copy the cloud's store into a file, also while the cloud runs, and check the copy.

`vitalwire backup FILE [-c CONFIG | --store FILE]`
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vitalwire.command import UsageError
from vitalwire.store_file import add_store_arguments, store_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, and of which store."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a new file; FILE.sha256 is written beside it")
    add_store_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints what was copied."""
    from cloud.store.backup import BackupRefused, back_up

    try:
        backup = back_up(store_file(arguments), arguments.file)
    except BackupRefused as error:
        raise UsageError(str(error)) from None
    print(f"{backup.path}: {backup.records} records, schema {backup.revision}, sha256 {backup.sha256}")
    return 0
