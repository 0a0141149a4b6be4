"""The units that start edge and cloud, and what both say to the service manager while they run."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import configs
from cloud import app
from cloud.config import CloudConfig
from cloud.store.database import Database
from edge import agent
from edge.commands import RestartWanted
from edge.spool import Spool
from tests.cloud.conftest import config as config
from tests.wire.test_service import environment, hear
from tests.wire.test_service import manager as manager
from wire.service import Service

UNITS = sorted((configs.ROOT / "systemd").glob("*.service"))
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze here: apt-get install systemd"
)


@asynccontextmanager
async def running(part: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(part())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=10)


async def heard_in(manager: socket.socket, seconds: float) -> set[str]:
    heard = set()
    try:
        async with asyncio.timeout(seconds):
            while True:
                heard.add(await hear(manager))
    except TimeoutError:
        return heard


class Hang:
    """Occupies a part's one thread for as long as a disk that does not answer would."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def __call__(self) -> None:
        self._over.wait(10)

    def end(self) -> None:
        self._over.set()


@pytest.fixture
def hang() -> Hang:
    return Hang()


async def watch(manager: socket.socket, start: Callable[[Hang], object], hang: Hang) -> None:
    """Fed, then nothing while the thread hangs, then fed again."""
    while await hear(manager) != "WATCHDOG=1":
        pass
    start(hang)
    await heard_in(manager, 0.2)  # what was on its way
    assert await heard_in(manager, 0.4) == set()
    hang.end()
    assert await hear(manager) == "WATCHDOG=1"


async def test_the_box_is_ready_and_feeds_the_watchdog_only_while_its_disk_answers(
    manager: socket.socket, tmp_path: Path, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(f'gateway = "gw-1"\nstate_dir = "{tmp_path / "state"}"\n')
    spools: list[Spool] = []
    open_spool = Spool.open

    async def opening(spool: Spool) -> None:
        spools.append(spool)
        await open_spool(spool)

    monkeypatch.setattr(Spool, "open", opening)  # to reach into it, as the disk would
    service = Service(environment(manager))
    async with running(lambda: agent.keep(path, ready=service.ready, service=service)):
        while await hear(manager) != "READY=1":
            pass
        await watch(manager, lambda hang: spools[0]._thread.submit(hang), hang)


async def test_the_box_feeds_the_watchdog_while_it_opens_its_spool_again_and_no_longer_than_that_may_take(
    manager: socket.socket, tmp_path: Path, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(f'gateway = "gw-1"\nstate_dir = "{tmp_path / "state"}"\n')
    changed, opened = asyncio.Event(), 0
    open_spool = Spool.open

    async def opening(spool: Spool) -> None:
        nonlocal opened
        opened += 1
        if opened == 2:
            spool._thread.submit(hang)  # much to read anew
        await open_spool(spool)

    async def another_configuration(*_: object) -> None:
        await changed.wait()
        changed.clear()
        raise RestartWanted

    monkeypatch.setattr(Spool, "open", opening)
    monkeypatch.setattr("edge.commands.Commands.watch_trial", another_configuration)
    monkeypatch.setattr(agent, "_OPENING_S", 0.8)
    service = Service(environment(manager))
    async with running(lambda: agent.keep(path, ready=service.ready, service=service)):
        while await hear(manager) != "READY=1":
            pass
        changed.set()
        while opened < 2:
            await hear(manager)
        await heard_in(manager, 0.1)  # what was on its way
        assert await heard_in(manager, 0.3) == {"WATCHDOG=1"}
        await heard_in(manager, 0.6)
        assert await heard_in(manager, 0.3) == set()
        hang.end()
        assert {await hear(manager), await hear(manager)} <= {"READY=1", "WATCHDOG=1"}


@pytest.mark.timeout(60)
async def test_the_cloud_is_ready_and_feeds_the_watchdog_only_while_its_store_answers(
    manager: socket.socket, config: CloudConfig, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores: list[Database] = []
    build_app = app.build_app

    def building(**parts: object) -> object:
        assert isinstance(parts["database"], Database)
        stores.append(parts["database"])
        return build_app(**parts)  # type: ignore[arg-type]

    monkeypatch.setattr(app, "build_app", building)
    service = Service(environment(manager))
    async with running(lambda: app.run(config, ready=lambda address: service.ready(), service=service)):
        while await hear(manager) != "READY=1":
            pass
        await watch(manager, lambda hang: stores[0].queue_on_writer(hang), hang)


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_nothing_to_say_about_a_unit_and_little_it_is_exposed_to(unit: Path, tmp_path: Path) -> None:
    installed = tmp_path / unit.name
    installed.write_text(unit.read_text().replace("/opt/vitalwire/bin/vitalwire", shutil.which("true") or "/bin/true"))
    said = subprocess.run(["systemd-analyze", "verify", installed], capture_output=True, text=True, timeout=15)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    # Of 100; what is left is the network, which they are for, and on the box the radio and the serial ports.
    judged = ["systemd-analyze", "security", "--offline=true", "--threshold=27", installed]
    said = subprocess.run(judged, capture_output=True, text=True, timeout=15)
    assert said.returncode == 0, said.stdout[-500:]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_watched_and_takes_away_nothing_we_need(unit: Path) -> None:
    lines = [line for line in unit.read_text().splitlines() if line and not line.startswith("#")]
    for needed in ("Type=notify", "Restart=always", "LoadCredential=secrets:/etc/vitalwire/secrets", "DynamicUser=yes"):
        assert needed in lines
    keys = {line.partition("=")[0] for line in lines}
    assert {"WatchdogSec", "MemoryMax", "StateDirectory", "SystemCallFilter", "RestrictAddressFamilies"} <= keys
    # The kernel's word on the clock, and the boot id in /proc/sys.
    assert "SystemCallFilter=@system-service adjtimex clock_adjtime" in lines
    assert not keys & {"ProtectClock", "ProcSubset"}
    assert ("AF_BLUETOOTH" in unit.read_text()) == ("edge" in unit.name)
    assert f"StateDirectory={unit.stem}" in lines
    assert os.path.basename(unit) in {"vitalwire-edge.service", "vitalwire-cloud.service"}
