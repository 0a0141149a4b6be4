"""Show the whole way: simulated devices, boxes, broker, cloud and the ER screen.

`vitalwire demo [--for SECONDS --report FILE] [--scene NAME] [--record PATH] [--broker embedded|mosquitto]`
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How long, what, and where the report goes."""
    parser.add_argument("--for", dest="for_s", type=float, metavar="SECONDS", help="end by itself, then judge")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the verdict as JSON")
    parser.add_argument("--scene", default="first_light", help="what is simulated")
    parser.add_argument("--record", type=Path, metavar="PATH", help="play a WFDB record through the monitor")
    parser.add_argument(
        "--broker", choices=("embedded", "mosquitto"), default="embedded", help="the cloud's own, or a Mosquitto"
    )
    parser.add_argument("--port", type=int, default=8080, help="of the screens; 0 takes a free one")
    parser.add_argument("--state", type=Path, metavar="DIR", help="where the demo keeps its store and logs")


def run(arguments: argparse.Namespace) -> int:
    """Exit 0 when nothing was lost or doubled, 1 when something was, 2 when it could not start."""
    from vitalwire import demo

    return demo.run(
        demo.Plan(
            scene=arguments.scene,
            record=arguments.record,
            for_s=arguments.for_s,
            report=arguments.report,
            port=arguments.port,
            state=arguments.state,
            broker=arguments.broker,
        )
    )
