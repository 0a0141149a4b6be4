"""Validate a configuration without connecting to anything.

`vitalwire check FILE`
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

from wire.configuration import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a configuration of an edge or a cloud")


def run(arguments: argparse.Namespace) -> int:
    """Prints what the file is; ConfigError says what is wrong with it."""
    kind = _check(arguments.file)
    print(f"{arguments.file}: a valid {kind} configuration")
    return 0


def _check(path: Path) -> str:
    from wire.configuration import load

    # Which of the two it is shows in a key that each must have.
    try:
        keys = set(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        keys = set()  # load() says it better
    if "access" in keys or "broker" in keys:
        from cloud import config as cloud_config

        cloud_config.read(path)
        return "cloud"
    if "population" in keys:
        from clinical.alarm_limits import AlarmLimits

        load(path, AlarmLimits)
        return "alarm limits"
    from edge import config

    try:
        config.check_identity(config.read(path), path)
    except ConfigError as error:
        if "gateway" in keys or not path.is_file():
            raise
        raise ConfigError(f"{error} (an edge configuration has `gateway`, a cloud configuration `access`)") from None
    return "edge"
