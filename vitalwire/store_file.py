"""Which store file a command means: one named, that of a cloud's configuration, or the last demo's."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vitalwire.command import UsageError

if TYPE_CHECKING:
    from cloud.store.database import Database
    from cloud.store.location import StoreLocation


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """-c FILE or --store FILE."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-c", "--config", type=Path, help="the cloud's configuration, which says where its store lies")
    which.add_argument("--store", type=Path, metavar="FILE", help="the cloud's store.sqlite; default: the last demo's")


def add_store_anywhere(
    parser: argparse.ArgumentParser, acts: Iterable[argparse.ArgumentParser], *, config_only: bool = False
) -> None:
    """-c FILE or, unless `config_only`, --store FILE, before the sub-command or behind it; then `check_named`."""
    # Behind it nothing is the default: it would take away what was said before.
    for each, default in ((parser, None), *((act, argparse.SUPPRESS) for act in acts)):
        each.add_argument("-c", "--config", type=Path, default=default, help="the cloud's configuration")
        if not config_only:
            each.add_argument("--store", type=Path, metavar="FILE", default=default, help="the cloud's store.sqlite")


def check_named(arguments: argparse.Namespace, *, config_only: bool = False) -> None:
    """Raises UsageError unless one store is named, by one way."""
    if config_only:
        if arguments.config is None:
            raise UsageError("which cloud? name its configuration: -c CONFIG")
    elif arguments.config is None and arguments.store is None:
        raise UsageError("which store? name one: -c CONFIG or --store FILE")
    elif arguments.config is not None and arguments.store is not None:
        raise UsageError("-c and --store: give one of them")


def as_named(arguments: argparse.Namespace, default: object) -> str:
    """The store in words for the next command: as it was named in this one, else `--store` and the default."""
    key, name = ("-c", arguments.config) if arguments.config else ("--store", arguments.store or default)
    return f"{key} {shlex.quote(str(name))}"


def check_is_there(store: Path, key: str = "--store") -> None:
    """Only the configured store may be made by opening it: a mistyped name must not be. Raises UsageError."""
    try:
        is_there = store.is_file()
    except OSError as error:
        raise UsageError(f"{key} {store}: {error.strerror}") from None
    if not is_there:
        raise UsageError(f"{key} {store}: no such file; name the store.sqlite of a cloud or of a demo's --state")


@contextmanager
def opened_store(location: StoreLocation) -> Iterator[Database]:
    """The store, closed at the end; what is wrong with it is one sentence. Raises UsageError."""
    from cloud.store.database import Database, StoreTooNew, StoreUnavailable, StoreUnreadable

    try:
        database = Database(location)
    except (StoreUnavailable, StoreTooNew, StoreUnreadable) as error:
        raise UsageError(f"{location}: {error}") from None
    try:
        yield database
    except StoreUnavailable as error:
        raise UsageError(f"{location}: {error}") from None
    finally:
        database.close()


def store_file(arguments: argparse.Namespace) -> Path:
    """The file. Raises ConfigError, and UsageError when the store is no file."""
    from cloud.app import store_location
    from cloud.config import STORE_FILE, read
    from vitalwire.stage import demo_home

    if arguments.config is None:
        return arguments.store or demo_home() / "cloud" / STORE_FILE
    location = store_location(read(arguments.config))
    if not isinstance(location, Path):
        raise UsageError(
            f"{arguments.config}: the store lies on a PostgreSQL server: use pg_dump and pg_restore; in a restored one "
            "take the row 'store_id' out of the table meta before the cloud starts, so that boxes offer again"
        )
    return location
