"""Say which boxes the cloud knows: mint a one-time code, take a box's certificates back, list them.

`vitalwire enrolment -c CONFIG code GATEWAY`, `… revoke GATEWAY`, `… list`
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import os
from typing import TYPE_CHECKING

from vitalwire.command import UsageError
from vitalwire.store_file import add_store_anywhere, check_named

if TYPE_CHECKING:
    from cloud.enrolment.authority import Authority
    from cloud.enrolment.register import Register
    from cloud.store.database import Database


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of which cloud, what, and which box."""
    acts = parser.add_subparsers(dest="act", required=True, metavar="code|revoke|list")
    code = acts.add_parser("code", help="a code with which this box can enrol once, within the hour")
    code.add_argument("gateway", metavar="GATEWAY", help="as the cloud's configuration names it")
    revoke = acts.add_parser("revoke", help="cut a box off now: its connection ends and no certificate of it counts")
    revoke.add_argument("gateway", metavar="GATEWAY")
    listing = acts.add_parser("list", help="the last certificate of every box")
    add_store_anywhere(parser, (code, revoke, listing), config_only=True)


def run(arguments: argparse.Namespace) -> int:
    """Does it against the store of the cloud, which may be running meanwhile."""
    from cloud.app import store_location
    from cloud.config import read
    from cloud.enrolment.service import open_authority, open_register
    from cloud.fleet import UnknownGateway
    from cloud.store.database import Database, StoreTooNew, StoreUnavailable
    from wire.clock import SystemClock

    check_named(arguments, config_only=True)
    config = read(arguments.config)
    if config.enrolment is None:
        raise UsageError(f"{arguments.config}: has no [enrolment]")
    try:
        database = Database(store_location(config))
        try:
            authority = open_authority(config, clock := SystemClock())
            register = open_register(config, database, authority, clock)
            asyncio.run(_act(arguments, database, authority, register))
        finally:
            database.close()
    except UnknownGateway:
        raise UsageError(f"{arguments.config}: gateways: none has the id {arguments.gateway!r}") from None
    except (StoreUnavailable, StoreTooNew, OSError) as error:
        raise UsageError(f"{arguments.config}: {error}") from None
    return 0


async def _act(arguments: argparse.Namespace, database: Database, authority: Authority, register: Register) -> None:
    from cloud.api.audit import Audit
    from wire.clock import SystemClock

    if arguments.act == "list":
        for one in await register.newest():
            until = datetime.datetime.fromtimestamp(one.expires_us / 1e6, datetime.UTC)
            print(f"{one.gateway} {one.serial} {one.state} until {until:%Y-%m-%d %H:%M} UTC")
        return
    gateway: str = arguments.gateway
    if arguments.act == "code":
        code = await register.mint_code(gateway)
        act = "mint enrolment code"
        said = f"code: {code}\nca fingerprint: {authority.fingerprint}"
    else:
        ended = await register.revoke(gateway)
        act = "revoke certificates"
        said = f"{gateway}: {ended} certificates revoked; a running cloud drops the box within a second"
    who = f"uid {os.getuid()}"
    await Audit(database, SystemClock()).write(who, "", act, gateway, "command line", "done")
    print(said)
