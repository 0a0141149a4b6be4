"""`python -m bench NAME [--data DIR] --json`: one measurement, one JSON object as the last line."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

import bench


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one benchmark; its progress goes to stderr, its figures to stdout."""
    names = sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_"))
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measurements; see docs/benchmarks.md.")
    subparsers = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    modules = {name: importlib.import_module(f"bench.{name}") for name in names if name in (arguments or sys.argv)}
    for name in names:
        subparser = subparsers.add_parser(name)
        subparser.add_argument("--data", type=Path, metavar="DIR", help="recordings, where the benchmark reads any")
        subparser.add_argument("--json", action="store_true", help="the object alone, on one line")
        if name in modules and hasattr(modules[name], "add_arguments"):
            modules[name].add_arguments(subparser)
    parsed = parser.parse_args(arguments)
    result = modules[parsed.name].run(parsed)
    print(json.dumps(result, indent=None if parsed.json else 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
