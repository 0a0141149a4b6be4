"""The cloud process: builds the parts and starts them, nothing else.

broker → bus → ingest → store → receipts; bus → feed → screens; store → consumers → feed; store → api;
commands → bus, outcomes from the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cloud.api.audit import Audit
from cloud.api.auth import Access
from cloud.api.server import ApiServer, build_app, listen
from cloud.bus.broker import Broker
from cloud.bus.broker_config import password_path
from cloud.bus.jetstream import STATUS_SUBJECTS, Bus
from cloud.commands import Commands
from cloud.config import INGEST_USER, STORE_FILE, CloudConfig
from cloud.consumers import boards_consumer
from cloud.counters import Counters
from cloud.feed import Feed
from cloud.feed_keeper import FeedKeeper
from cloud.ingest import Ingest
from cloud.store.append import Appender
from cloud.store.database import Database
from cloud.store.reader import StoreReader
from wire.clock import SystemClock


async def run(config: CloudConfig, *, ready: Callable[[str], None] | None = None) -> None:
    """Runs until cancelled; `ready` is told the screens' address once everything answers.

    Raises BrokerUnavailable, ConfigError, StoreUnavailable or OSError, each naming what is wrong.
    """
    clock, counters = SystemClock(), Counters()
    access = Access(config.access)
    listener = listen(config.api)
    try:
        async with Broker(config) as broker:
            database = await asyncio.to_thread(Database, config.state_path / STORE_FILE)
            try:
                password = password_path(config.state_path, INGEST_USER).read_text(encoding="ascii").strip()
                async with Bus(config.broker, password) as bus, asyncio.TaskGroup() as tasks:
                    feed, reader = Feed(clock, counters), StoreReader(database)
                    keeper = FeedKeeper(feed, reader, bus, clock)
                    boards = boards_consumer(database, counters, keeper.changed)
                    gateways = [gateway.id for gateway in config.gateways]
                    commands = Commands(database, clock, counters, bus.send_command, gateways)
                    ingest = Ingest(bus, database, Appender(database, clock), counters, boards.wake, feed.stored)
                    app = build_app(
                        access=access,
                        audit=Audit(database, clock),
                        reader=reader,
                        commands=commands,
                        feed=feed,
                        counters=counters,
                        clock=clock,
                    )
                    await boards.catch_up()
                    await keeper.fill()
                    await bus.listen(commands.heard, [STATUS_SUBJECTS])
                    tasks.create_task(broker.run(), name="broker")
                    tasks.create_task(bus.run(), name="bus")
                    tasks.create_task(ingest.run(), name="ingest")
                    tasks.create_task(boards.run(), name="boards")
                    tasks.create_task(commands.run(), name="commands")
                    tasks.create_task(keeper.run(), name="feed")
                    tasks.create_task(ApiServer(app, config.api, listener).run(), name="api")
                    if ready is not None:
                        ready(f"{'https' if config.api.tls else 'http'}://{config.api.listen}")
            finally:
                await asyncio.to_thread(database.close)
    finally:
        listener.close()
