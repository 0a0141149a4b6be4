"""Enrolment put together: authority, register, the keeper of the broker's users, and the listener for boxes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from cloud.api.audit import Audit
from cloud.api.auth import Access
from cloud.api.hasty import Doorway
from cloud.api.server import ApiServer, listen
from cloud.api.strangers import Strangers
from cloud.bus.broker_config import Certified
from cloud.config import ApiConfig, CloudConfig, TlsConfig
from cloud.counters import Counters
from cloud.enrolment.authority import Authority
from cloud.enrolment.keeper import EnrolmentKeeper
from cloud.enrolment.register import Register
from cloud.enrolment.routes import build_enrolment_app
from cloud.store.database import Database
from wire.clock import Clock

# Boxes ask seldom; half may be one address: a hospital whose boxes renew at once. cloud/api/hasty.py reckons with them.
_MOST_CONNECTIONS = 200


def open_authority(config: CloudConfig, clock: Clock) -> Authority:
    """The authority of a cloud, whose keys are there once this returns. Raises ConfigError."""
    assert config.enrolment is not None
    return Authority(config.authority_path, config.enrolment.names, clock)


def open_register(config: CloudConfig, database: Database, authority: Authority, clock: Clock) -> Register:
    """The register of a cloud, for it or for a command beside it."""
    assert config.enrolment is not None
    gateways = [gateway.id for gateway in config.gateways]
    days, late_days = config.enrolment.certificate_days, config.enrolment.late_renewal_days
    return Register(database, authority, clock, gateways, days=days, late_days=late_days)


class Enrolment:
    """All of it around an authority; listens at once when built. Raises OSError."""

    def __init__(
        self,
        config: CloudConfig,
        database: Database,
        authority: Authority,
        clock: Clock,
        counters: Counters,
        access: Access,
        audit: Audit,
        strangers: Strangers,
        certify: Callable[[Iterable[Certified]], None],
    ) -> None:
        assert config.enrolment is not None
        self.register = open_register(config, database, authority, clock)
        self._keeper = EnrolmentKeeper(
            self.register, authority, certify, clock, renewed=lambda: self._server.reload_certificate()
        )
        app = build_enrolment_app(
            access=access,
            audit=audit,
            strangers=strangers,
            register=self.register,
            authority=authority,
            keeper=self._keeper,
            counters=counters,
            clock=clock,
        )
        server_file = str(authority.server_file)
        served = ApiConfig(listen=config.enrolment.listen, tls=TlsConfig(server_file, server_file))
        doorway = Doorway(counters, most_connections=_MOST_CONNECTIONS)
        self._server = ApiServer(app, served, listen(served, "enrolment.listen"), doorway)

    async def open(self) -> None:
        """Tells the broker who is valid. Raises StoreUnavailable, OSError."""
        await self._keeper.look()

    async def run(self) -> None:
        """Keeps and serves until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keeper.run(), name="enrolment keeper")
            tasks.create_task(self._server.run(), name="enrolment api")
