"""Show what a driver reads from one packet, as JSON.

`vitalwire decode DRIVER HEX`
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from vitalwire.command import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The driver and the packet."""
    parser.add_argument("driver", metavar="DRIVER", help="a name from `vitalwire devices`")
    parser.add_argument("hex", metavar="HEX", help="the packet's bytes")


def run(arguments: argparse.Namespace) -> int:
    """Prints the readings; exit 1 with the reason when the driver rejects the packet."""
    from drivers import catalog
    from wire.messages import DecodeError

    try:
        driver = catalog.find(arguments.driver)
        packet = bytes.fromhex(arguments.hex)
    except catalog.UnknownDriverError as error:
        raise UsageError(str(error.args[0])) from None
    except ValueError:
        raise UsageError(f"HEX: {arguments.hex[:40]!r} is not pairs of 0-9 and a-f") from None
    try:
        readings = driver.decode(packet)
    except DecodeError as error:
        print(f"{driver.name} rejects it: {error}", file=sys.stderr)
        return 1
    print(json.dumps([_plain(reading) for reading in readings], ensure_ascii=False))
    return 0


def _plain(reading: Any) -> dict[str, Any]:
    """A reading as JSON; Any because readings are several types and JSON has none."""
    import msgspec

    from wire.readings import SampleBlock

    if isinstance(reading, SampleBlock):
        fields = reading._asdict() | {"samples": reading.samples.tolist()}
        return {"type": "samples"} | {name: msgspec.to_builtins(value) for name, value in fields.items()}
    return {"type": type(reading).__name__.lower()} | {
        field: msgspec.to_builtins(getattr(reading, field)) for field in reading.__struct_fields__
    }
