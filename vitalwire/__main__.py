"""`vitalwire COMMAND …`: reads the arguments, runs one command, turns named errors into one sentence and a code."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from vitalwire import log
from vitalwire.command import UsageError
from wire.configuration import ConfigError

# Each is a module of vitalwire.commands: its docstring's first line is the help, `add_arguments` and `run` do the rest.
COMMANDS = (
    "demo",
    "edge",
    "cloud",
    "sim",
    "check",
    "doctor",
    "scan",
    "devices",
    "decode",
    "export",
    "command",
    "audit",
    "account",
    "enrol",
    "enrolment",
    "backup",
    "restore",
    "spool",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0 done, 1 the answer is no, 2 it could not be asked that way."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((word for word in arguments if word in COMMANDS), None)
    parser = argparse.ArgumentParser(prog="vitalwire", description="Gateway for vital signs.")
    parser.add_argument("--verbose", action="store_true", help="log debugging words too")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        # A box at the bedside has not installed the cloud: only the chosen command's module is loaded.
        if chosen in (None, name):
            module = importlib.import_module(f"vitalwire.commands.{name}")
            summary = (module.__doc__ or "").splitlines()[0]
            module.add_arguments(subparsers.add_parser(name, help=summary, description=summary))
    parsed = parser.parse_args(arguments)
    log.begin(verbose=parsed.verbose)
    try:
        return int(importlib.import_module(f"vitalwire.commands.{parsed.command}").run(parsed))
    except (ConfigError, UsageError) as error:
        print(f"vitalwire: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"vitalwire: {parsed.command} needs {error.name}, which is not installed here", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
