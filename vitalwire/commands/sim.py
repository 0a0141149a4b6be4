"""Run simulated devices by a scene.

`vitalwire sim SCENE [--monitor HOST:PORT] [--record PATH] [--truth DIR] [--for SECONDS]`
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from vitalwire.command import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The scene and where it connects."""
    parser.add_argument("scene", metavar="SCENE", help="a shipped scene such as first_light, or a file.toml")
    parser.add_argument("--monitor", default="127.0.0.1:2575", help="where the monitor finds its box")
    parser.add_argument("--radio", default="127.0.0.1:9001", help="where the virtual radio is offered")
    parser.add_argument("--record", type=Path, help="play this WFDB record once through the first monitor")
    parser.add_argument("--truth", type=Path, help="folder for an independent account of what was sent")
    parser.add_argument("--for", dest="for_s", type=float, help="seconds from the first sample, then drain and end")


def run(arguments: argparse.Namespace) -> int:
    """Runs the scene to its end. Exit 1 when a message was never answered."""
    from firmware_sim import scene
    from firmware_sim.replay import ReplayError

    async def play() -> int:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        ends = await scene.run(
            arguments.scene,
            record=arguments.record,
            truth=arguments.truth,
            monitor_address=arguments.monitor,
            radio_address=arguments.radio,
            stop=stop,
            for_s=arguments.for_s,
        )
        return 1 if any(end.unanswered for end in ends.values()) else 0

    try:
        return asyncio.run(play())
    except ReplayError as error:
        raise UsageError(str(error)) from None
