"""Say what is wrong with this box: software, adapters, permissions, ports, clock, disk, certificates, broker.

`vitalwire doctor [-c FILE]`
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """-c FILE."""
    parser.add_argument("-c", "--config", type=Path, help="check what this edge configuration needs, too")


def run(arguments: argparse.Namespace) -> int:
    """Prints a line a finding; exit 1 when something must be mended."""
    from vitalwire.doctor import Level, examine

    findings = examine(arguments.config)
    for finding in findings:
        print(f"{finding.level.value:5} {finding.what}: {finding.why}")
    return 1 if any(finding.level is Level.BAD for finding in findings) else 0
