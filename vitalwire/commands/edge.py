"""Run the agent on this box.

`vitalwire edge -c FILE`
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vitalwire.command import run_until_stopped
from wire.service import Service


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """-c FILE."""
    parser.add_argument("-c", "--config", type=Path, required=True, help="configuration (see configs/edge.toml)")


def run(arguments: argparse.Namespace) -> int:
    """Runs until stopped. Raises ConfigError before anything starts."""
    from edge import agent

    service = Service()
    return run_until_stopped(lambda: agent.keep(arguments.config, ready=service.ready, service=service), service)
