"""Run the cloud: broker, ingest, store, screens.

`vitalwire cloud -c FILE`
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vitalwire.command import UsageError, run_until_stopped
from wire.service import Service


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """-c FILE."""
    parser.add_argument("-c", "--config", type=Path, required=True, help="configuration (see configs/cloud.toml)")


def run(arguments: argparse.Namespace) -> int:
    """Runs until stopped. Raises ConfigError before anything starts."""
    from cloud import app
    from cloud.bus.broker import BrokerUnavailable
    from cloud.config import read
    from cloud.store.database import StoreTooNew, StoreUnavailable, StoreUnreadable

    config, service = read(arguments.config), Service()
    try:
        return run_until_stopped(
            lambda: app.run(config, ready=lambda address: service.ready(), service=service), service
        )
    except* (BrokerUnavailable, StoreUnavailable, StoreTooNew, StoreUnreadable, OSError) as group:
        raise UsageError(f"{arguments.config}: {group.exceptions[0]}") from None
