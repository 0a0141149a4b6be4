"""List the Bluetooth devices near, and which driver takes each.

`vitalwire scan [--adapter bluez] [--for SECONDS]`
"""

from __future__ import annotations

import argparse
import asyncio
import json

from vitalwire.command import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which radio and how long."""
    parser.add_argument("--adapter", default="bluez", help='"bluez", "bluez:hci1" or "bumble:<transport>"')
    parser.add_argument("--for", dest="for_s", type=float, default=10.0, metavar="SECONDS", help="how long to listen")
    parser.add_argument("--json", action="store_true", help="as [{address, name, rssi_dbm, services, driver}]")


def run(arguments: argparse.Namespace) -> int:
    """Prints what advertises."""
    from drivers import catalog
    from drivers.driver import LinkLost
    from drivers.links.adapter import Advertisement
    from drivers.links.gatt import scan

    by_service = {driver.advertises: driver.name for driver in catalog.drivers().values() if driver.advertises}

    def taker(advertisement: Advertisement) -> str | None:
        return next((name for service, name in by_service.items() if advertisement.offers(service)), None)

    try:
        found = asyncio.run(scan(arguments.adapter, arguments.for_s))
    except (LinkLost, ValueError) as error:
        raise UsageError(f"--adapter {arguments.adapter}: {error}") from None
    rows = [
        {
            "address": one.address,
            "name": one.name,
            "rssi_dbm": one.rssi_dbm,
            "services": list(one.services),
            "driver": taker(one),
        }
        for one in found
    ]
    if arguments.json:
        print(json.dumps(rows, ensure_ascii=False))
        return 0
    for row in rows:
        print(f"{row['address']}  {row['rssi_dbm']:>4} dBm  {row['driver'] or '(no driver)':20} {row['name'] or ''}")
    print(f"{len(rows)} device(s)")
    return 0
