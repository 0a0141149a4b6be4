"""Make this box known to its cloud: a key that stays here, and a certificate for a one-time code.

`vitalwire enrol -c CONFIG --url https://HOST:PORT (--ca FILE | --ca-fingerprint HEX)`; the code is read from the input
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vitalwire.command import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which box, which cloud, and how that is known."""
    parser.add_argument("-c", "--config", type=Path, required=True, help="the box's configuration, with identity_dir")
    parser.add_argument("--url", required=True, help="where the cloud enrols boxes: https://HOST:PORT")
    known = parser.add_mutually_exclusive_group(required=True)
    known.add_argument("--ca", type=Path, metavar="FILE", help="the cloud's authority/ca.crt, carried here")
    known.add_argument("--ca-fingerprint", metavar="HEX", help="as `vitalwire enrolment code` prints it with the code")


def run(arguments: argparse.Namespace) -> int:
    """Prints until when the certificate holds."""
    import msgspec

    from edge.config import EdgeConfig
    from edge.enrolment import EnrolmentFailed, check_url, enrol, fetch_authority
    from edge.identity import Identity, IdentityError
    from wire.configuration import ConfigError, load

    config = load(arguments.config, EdgeConfig)
    if config.identity_dir is None:
        raise ConfigError(f"{arguments.config}: identity_dir: name the folder that is to hold this box's keys")
    folder = Path(config.identity_dir)
    try:
        url = check_url(arguments.url)
        if arguments.ca is not None:
            authority = arguments.ca.read_text(encoding="ascii")
        else:
            authority = fetch_authority(url, arguments.ca_fingerprint)
        enrol(folder, config.gateway, url, _code(), authority)
    except (EnrolmentFailed, IdentityError, ValueError, OSError, msgspec.MsgspecError) as error:
        raise UsageError(str(error)) from None
    validity = Identity(folder, config.gateway).validity()
    print(f"{config.gateway} is enrolled: certificate {validity.serial} in {folder}, renewed by the agent")
    return 0


def _code() -> str:
    """Not an argument, which every user of the box could read in the list of processes."""
    if sys.stdin.isatty():
        print("one-time code: ", end="", flush=True)
    return sys.stdin.readline().strip()
