"""What a service manager hears, over a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from wire.service import Service


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as heard:
        heard.bind(str(tmp_path / "notify"))
        yield heard


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "30000", "WATCHDOG_PID": str(os.getpid()), **more}


async def hear(manager: socket.socket) -> str:
    async with asyncio.timeout(5):
        return (await asyncio.get_running_loop().sock_recv(manager, 100)).decode()


@asynccontextmanager
async def feeding(service: Service, answer: asyncio.Event) -> AsyncIterator[None]:
    async def answers() -> None:
        await answer.wait()

    task = asyncio.create_task(service.feed_watchdog(answers))
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_what_is_said_reaches_the_manager(manager: socket.socket) -> None:
    service = Service(environment(manager))
    service.ready()
    service.stopping()
    assert [await hear(manager), await hear(manager)] == ["READY=1", "STOPPING=1"]


async def test_an_abstract_socket_is_reached() -> None:
    name = f"vitalwire-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as heard:
        heard.bind(f"\0{name}")
        Service({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert await hear(heard) == "READY=1"


async def test_the_watchdog_is_fed_while_there_is_an_answer_and_not_while_it_hangs(manager: socket.socket) -> None:
    answer = asyncio.Event()
    async with feeding(Service(environment(manager)), answer):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await hear(manager)
        answer.set()
        assert [await hear(manager) for _ in range(3)] == ["WATCHDOG=1"] * 3


@pytest.mark.parametrize("more", [{"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_PID": "1"}])
async def test_who_is_not_watched_feeds_nothing(manager: socket.socket, more: dict[str, str]) -> None:
    async with asyncio.timeout(5):
        await Service(environment(manager, **more)).feed_watchdog()
    with pytest.raises(BlockingIOError):
        manager.recv(100)


async def test_without_a_manager_or_with_a_dead_one_nothing_happens(tmp_path: Path) -> None:
    for address in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}):
        service = Service(address)
        service.ready()
        await service.feed_watchdog()
