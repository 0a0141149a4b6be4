"""The cloud process: builds the parts and starts them, nothing else.

broker → bus → ingest → store → receipts; bus → feed, fleet → screens; store → consumers → feed, fleet; store → api;
commands → bus, outcomes from the store; enrolment → broker's users.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

from cloud.api.audit import Audit
from cloud.api.auth import Access
from cloud.api.hasty import Doorway
from cloud.api.rates import Rates
from cloud.api.reach import Reach
from cloud.api.server import ApiServer, build_app, listen
from cloud.api.sign_in_desk import SignInDesk
from cloud.api.strangers import Strangers
from cloud.api.tokens import read_tokens
from cloud.api.unseen import UnseenAlerts
from cloud.audit_keeper import AuditKeeper
from cloud.bus.broker import Broker
from cloud.bus.broker_config import password_path
from cloud.bus.broker_watch import BrokerWatch
from cloud.bus.bus import Bus
from cloud.bus.jetstream import JetStreamBus
from cloud.bus.mqtt import MqttBus
from cloud.commands import Commands, unsigned
from cloud.config import INGEST_USER, STORE_FILE, BrokerKind, CloudConfig
from cloud.consumers import boards_consumer, fleet_consumer
from cloud.counters import Counters
from cloud.devices import open_devices
from cloud.enrolment.service import Enrolment, open_authority
from cloud.feed import Feed
from cloud.feed_keeper import FeedKeeper
from cloud.fleet import Fleet
from cloud.fleet_keeper import FleetKeeper
from cloud.ingest import Ingest
from cloud.oidc import open_provider
from cloud.passwords import PasswordDesk
from cloud.retention_keeper import RetentionKeeper
from cloud.sign_ins import SignIns
from cloud.store.append import Appender
from cloud.store.audit.head import head_file
from cloud.store.database import Database
from cloud.store.fleet import FleetReader
from cloud.store.location import ServerStore, StoreLocation, parse_store_url
from cloud.store.reader import StoreReader
from wire.clock import SystemClock
from wire.configuration import ConfigError
from wire.service import Service

# The thread that stores must not hold back the screens: Python hands the processor over this often instead of every
# 5 ms, and a live block needs it several times on its way.
_SWITCH_S = 0.0005


def store_location(config: CloudConfig) -> StoreLocation:
    """Where the store lies, with its password. Raises ConfigError."""
    if not config.store_url:
        return config.state_path / STORE_FILE
    location = parse_store_url(config.store_url)
    if isinstance(location, ServerStore) and config.store_password_file:
        try:
            password = Path(config.store_password_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"store_password_file = {config.store_password_file!r}: {error}") from None
        return ServerStore(location.url, password)
    return location


async def run(
    config: CloudConfig, *, ready: Callable[[str], None] | None = None, service: Service | None = None
) -> None:
    """Runs until cancelled; `ready` is told the screens' address once everything answers.

    The watchdog of `service` is fed while the store's writer and the ingest work.

    Raises BrokerUnavailable, ConfigError, StoreUnavailable, StoreTooNew or OSError, each naming what is wrong.
    """
    sys.setswitchinterval(_SWITCH_S)
    clock, counters = SystemClock(), Counters()
    tokens, location = read_tokens(config.access), store_location(config)
    oidc = config.access.oidc
    provider = None if oidc is None else open_provider(oidc, config.access.public_url, clock)
    # Before the broker, which shows its certificate.
    authority = await asyncio.to_thread(open_authority, config, clock) if config.enrolment else None
    listener = listen(config.api)
    is_embedded = config.broker.kind is BrokerKind.EMBEDDED
    try:
        async with Broker(config) if is_embedded else nullcontext() as broker:
            config.state_path.mkdir(mode=0o700, parents=True, exist_ok=True)
            database = await asyncio.to_thread(Database, location)
            audit = Audit(database, clock, counters)
            head = head_file(location, config.state_path)
            audit_keeper = AuditKeeper(database, audit, head, clock, counters, keep_days=config.audit_keep_days)
            try:
                async with (
                    audit_keeper,
                    provider or nullcontext(),
                    open_bus(config, counters) as bus,
                    asyncio.TaskGroup() as tasks,
                ):
                    gateways = [gateway.id for gateway in config.gateways]
                    fleet = Fleet(clock, counters, gateways)
                    feed, reader, fleet_reader = (
                        Feed(clock, counters, fleet),
                        StoreReader(database),
                        FleetReader(database),
                    )
                    keeper = FeedKeeper(feed, reader, bus, clock)
                    fleet_keeper = FleetKeeper(fleet, fleet_reader, clock)
                    boards = boards_consumer(database, counters, keeper.changed)
                    fleet_boards = fleet_consumer(database, counters, fleet_keeper.changed)
                    sign = authority.sign_command if authority else unsigned
                    commands = Commands(database, clock, counters, bus.send_command, gateways, sign)
                    ingest = Ingest(bus, database, Appender(database, clock), counters, boards.wake, keeper.stored)
                    sign_ins = SignIns(database, clock, counters, config.access)
                    passwords = PasswordDesk()
                    reach = Reach(database, clock, config.access, tokens.hospitals, tokens.screens)
                    unseen, strangers = UnseenAlerts(feed, reach), Strangers(audit, clock, counters)
                    access = Access(config.access, tokens, sign_ins)
                    app = build_app(
                        access=access,
                        desk=SignInDesk(
                            database,
                            clock,
                            counters,
                            audit,
                            strangers,
                            sign_ins,
                            passwords,
                            await asyncio.to_thread(open_devices, config.state_path),
                            config.access.mode,
                            provider,
                        ),
                        reach=reach,
                        unseen=unseen,
                        database=database,
                        audit=audit,
                        strangers=strangers,
                        reader=reader,
                        commands=commands,
                        feed=feed,
                        fleet_reader=fleet_reader,
                        counters=counters,
                        clock=clock,
                        rates=Rates(
                            clock,
                            per_source=config.api.requests_per_s_per_source,
                            per_identity=config.api.requests_per_s_per_identity,
                        ),
                    )
                    await boards.catch_up()
                    await reach.load()
                    await keeper.fill()
                    await fleet_keeper.fill()
                    await bus.listen_presence(commands.heard)
                    if authority is not None and broker is not None:
                        enrolment = Enrolment(
                            config, database, authority, clock, counters, access, audit, strangers, broker.certify
                        )
                        await enrolment.open()
                        tasks.create_task(enrolment.run(), name="enrolment")
                    if broker is not None:
                        watch = BrokerWatch(broker, audit.write, counters, clock)
                        await asyncio.to_thread(watch.open)
                        tasks.create_task(watch.run(), name="broker watch")
                        tasks.create_task(broker.run(), name="broker")
                    tasks.create_task(bus.run(), name="bus")
                    tasks.create_task(ingest.run(), name="ingest")
                    if service is not None:
                        tasks.create_task(service.feed_watchdog(database.answer, ingest.answer), name="watchdog")
                    tasks.create_task(boards.run(), name="boards")
                    tasks.create_task(fleet_boards.run(), name="fleet-boards")
                    tasks.create_task(commands.run(), name="commands")
                    tasks.create_task(sign_ins.run(), name="sign-ins")
                    tasks.create_task(keeper.run(), name="feed")
                    tasks.create_task(strangers.run(), name="strangers")
                    tasks.create_task(unseen.run(), name="unseen-alerts")
                    tasks.create_task(fleet_keeper.run(), name="fleet")
                    tasks.create_task(audit_keeper.keep_head(), name="audit-head")
                    tasks.create_task(audit_keeper.keep_rows(), name="audit-rows")
                    retention = RetentionKeeper(database, audit, clock, counters, config.retention)
                    tasks.create_task(retention.run(), name="retention")
                    tasks.create_task(ApiServer(app, config.api, listener, Doorway(counters)).run(), name="api")
                    if ready is not None:
                        ready(f"{'https' if config.api.tls else 'http'}://{config.api.listen}")
            finally:
                await asyncio.to_thread(database.close)
    finally:
        listener.close()


def open_bus(config: CloudConfig, counters: Counters) -> AbstractAsyncContextManager[Bus]:
    """The bus to the broker that the configuration names."""
    if config.broker.kind is BrokerKind.MQTT:
        return nullcontext(MqttBus(config.broker, counters))
    password = password_path(config.state_path, INGEST_USER).read_text(encoding="ascii").strip()
    return JetStreamBus(config.broker, password)
