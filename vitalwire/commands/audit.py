"""Check the trail of who saw or changed what, write it into a file, or tell its head, also while the cloud runs.

`vitalwire audit verify [FILE]`, `vitalwire audit export FILE`, `vitalwire audit head [--accept --reason TEXT]`
"""

from __future__ import annotations

import argparse
import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vitalwire.command import UsageError
from vitalwire.store_file import as_named, check_is_there
from wire.configuration import ConfigError

if TYPE_CHECKING:
    from cloud.store.audit.head import HeadFile
    from cloud.store.audit.reading import Verdict
    from cloud.store.location import StoreLocation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, with which cloud's trail."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verify|export|head")
    verify = verbs.add_parser("verify", help="reads every row; exit 1 naming the first wrong one and why")
    verify.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a file that was exported, not a store")
    verify.add_argument("--noted", action="append", default=[], metavar="HEAD", help="as `audit head` told it earlier")
    export = verbs.add_parser("export", help="writes every row as JSON Lines")
    export.add_argument("file", type=Path, metavar="FILE", help="a new file")
    head = verbs.add_parser("head", help="the last row's number and hash: note it where the cloud cannot reach")
    head.add_argument("--accept", action="store_true", help="the chain as it is, which what was noted contradicts")
    head.add_argument(
        "--reason", default="", metavar="TEXT", help="why that is right, such as which backup was restored"
    )
    for verb in (verify, export, head):
        which = verb.add_mutually_exclusive_group()
        which.add_argument("-c", "--config", type=Path, help="the cloud's configuration")
        which.add_argument(
            "--store", metavar="URL", help="store.sqlite, a backup, or a URL as store_url; default: the last demo's"
        )


def run(arguments: argparse.Namespace) -> int:
    """Prints or writes. Raises ConfigError and UsageError."""
    from cloud.store.audit.reading import ChainUnreadable
    from cloud.store.database import StoreTooNew, StoreUnavailable

    try:
        if arguments.verb == "verify" and arguments.file is not None:
            return _verify_file(arguments.file, arguments.noted)
        location, heads = _where(arguments)
        match arguments.verb:
            case "verify":
                return _verify(location, heads, arguments.noted, as_named(arguments, location))
            case "export":
                return _export(location, arguments.file)
            case _:
                return _accept(location, heads, arguments.reason) if arguments.accept else _head(location)
    except (ChainUnreadable, StoreUnavailable, StoreTooNew) as error:
        raise UsageError(str(error)) from None


def _where(arguments: argparse.Namespace) -> tuple[StoreLocation, HeadFile | None]:
    """The store, and the head file where it can be told. Raises ConfigError."""
    from cloud.app import store_location
    from cloud.config import STORE_FILE, read
    from cloud.store.audit.head import head_file
    from cloud.store.location import parse_store_url
    from vitalwire.stage import demo_home

    if arguments.config is not None:
        config = read(arguments.config)
        location = store_location(config)
        if isinstance(location, Path):
            check_is_there(location, f"{arguments.config}: store")
        return location, head_file(location, config.state_path)
    try:
        named = arguments.store or str(demo_home() / "cloud" / STORE_FILE)
        location = parse_store_url(named) if "://" in named or named.startswith("sqlite:") else Path(named)
    except ValueError as error:
        raise ConfigError(f"--store: {error}") from None
    if isinstance(location, Path):
        check_is_there(location)
    return location, head_file(location, location.parent) if isinstance(location, Path) else None


def _verify(location: StoreLocation, heads: HeadFile | None, noted: list[str], named: str) -> int:
    from cloud.store.audit.reading import opened, verify

    _check_noted(noted)
    notes = heads.read() if heads is not None else []
    with opened(location) as connection:
        verdict = verify(connection, [*notes, *noted])
    status = _tell(verdict)
    if notes or noted:
        print(f"compared with {len(notes) + len(noted)} noted rows{f', in {heads.path}' if heads and notes else ''}")
    else:
        print("no noted row to compare with: had the end been cut off, it would not be seen")
    if verdict.problems and notes:
        print(
            f"when that is explained, such as by a restored backup: vitalwire audit head --accept --reason TEXT {named}"
        )
    return status


def _verify_file(path: Path, noted: list[str]) -> int:
    from cloud.store.audit.reading import verify_file

    _check_noted(noted)
    try:
        return _tell(verify_file(path, noted))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _check_noted(noted: list[str]) -> None:
    from cloud.store.audit.chain import parse_head

    try:
        for text in noted:
            parse_head(text)
    except ValueError as error:
        raise UsageError(f"--noted {error}") from None


def _tell(verdict: Verdict) -> int:
    for problem in verdict.problems:
        print(problem)
    if verdict.problems:
        print(f"{verdict.rows} rows before the first wrong one are as they were written")
        return 1
    print(
        f"{verdict.rows} rows are as they were written, from {verdict.start.number + 1} on; the head is {verdict.last}"
    )
    return 0


def _export(location: StoreLocation, out: Path) -> int:
    """A broken chain is exported as it is, up to a row that is none; exit 1 tells that it is broken."""
    from cloud.store.audit import export, table
    from cloud.store.audit.chain import ChainBroken
    from cloud.store.audit.reading import opened, verify

    try:
        with opened(location) as connection:
            # Who saw which patient: nobody else on the machine may look.
            with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                for line in export.lines(table.rows(connection)):
                    file.write(line)
            verdict = verify(connection, [])
    except FileExistsError:
        raise UsageError(f"{out}: is there already; name a new file") from None
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}") from None
    except ChainBroken as error:
        raise UsageError(f"{out} ends before a row that is none: {error}") from None
    return _tell(verdict)


def _head(location: StoreLocation) -> int:
    from cloud.store.audit import table
    from cloud.store.audit.reading import opened

    with opened(location) as connection:
        print(table.newest(connection))
    return 0


def _accept(location: StoreLocation, heads: HeadFile | None, reason: str) -> int:
    """Says in the chain who accepted which contradiction, then notes the chain as it is."""
    from cloud.store.audit import table
    from cloud.store.audit.chain import Entry
    from cloud.store.audit.head import contradictions
    from cloud.store.audit.reading import opened
    from cloud.store.database import Database
    from wire.clock import SystemClock

    if heads is None:
        raise UsageError("--accept needs -c CONFIG, which says where the head is noted")
    if not reason.strip():
        raise UsageError("--accept needs --reason TEXT: it stands in the trail for whoever asks later")
    notes = heads.read()
    with opened(location) as connection:
        wrong = contradictions(connection, notes)
    if not wrong:
        raise UsageError("nothing contradicts the chain: there is nothing to accept")
    now_us, who = SystemClock().now_us(), getpass.getuser()
    entries = [
        Entry(now_us, who, "operator", "accept audit chain", note, "command line", "done", reason) for note in wrong
    ]
    database = Database(location)
    try:
        head = database.transaction(lambda connection: table.append(database.engine, connection, entries))
    finally:
        database.close()
    heads.write(head)
    heads.settle()
    print(f"accepted by {who} in the last of the chain's rows, {head}")
    return 0
