"""List the devices this version can read.

`vitalwire devices [--json]`
"""

from __future__ import annotations

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="as [{name, kind, provides, tried_on_hardware}]")


def run(arguments: argparse.Namespace) -> int:
    """Prints the catalogue."""
    from drivers import catalog

    found = [catalog.find(name) for name in sorted(catalog.drivers())]
    if arguments.json:
        rows = [
            {
                "name": driver.name,
                "title": driver.title,
                "kind": driver.link.value,
                "provides": [str(metric) for metric in driver.provides],
                "tried_on_hardware": driver.tried_on_hardware,
            }
            for driver in found
        ]
        print(json.dumps(rows, ensure_ascii=False))
        return 0
    for driver in found:
        tried = "" if driver.tried_on_hardware else "  (not yet tried on hardware)"
        print(f"{driver.name:24} {driver.link.value:6} {driver.title}{tried}")
    return 0
