"""The demo's stage: broker and cloud, boxes and simulated devices as separate processes over real sockets.

A part that dies is started again, so that the promise can be watched under kill -9. Every part ends with this process,
even when this process is killed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx

from cloud.bus.broker import die_with
from cloud.bus.broker_config import password_path
from cloud.config import INGEST_USER, STORE_FILE
from vitalwire import mosquitto
from vitalwire.command import UsageError
from wire.backoff import Backoff

_log = logging.getLogger(__name__)

T = TypeVar("T")

_READY_S = 60.0
_STOP_S = 10.0
_PROBE_S = 0.1
DEMO_MARK = "vitalwire-demo"
MONITOR_ID = "monitor"


def demo_home() -> Path:
    """Where the demo keeps its state unless told otherwise: $VITALWIRE_HOME or the user's data folder."""
    home = os.environ.get("VITALWIRE_HOME")
    return Path(home) if home else Path.home() / ".local" / "share" / "vitalwire" / "demo"


def check_port(port: int) -> None:
    """Raises UsageError when the screens cannot have this port."""
    try:
        with socket.create_server(("127.0.0.1", port)):
            pass
    except (OSError, OverflowError) as error:
        raise UsageError(f"--port {port}: cannot be listened on: {error}; 0 takes a free one") from None


def free_port() -> int:
    """A TCP port of the loopback address that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Part:
    """One process of the stage."""

    name: str
    command: Sequence[str]
    log_file: Path
    restarts: int = 0
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    async def start(self) -> None:
        """Starts it, its words going to its log."""
        with self.log_file.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the stage alone, which then stops its parts in order
                preexec_fn=die_with(os.getpid()),
            )

    async def keep(self) -> None:
        """Starts it again whenever it dies, until cancelled."""
        backoff = Backoff(first_s=0.2, cap_s=5.0)
        while True:
            assert self.process is not None
            code = await self.process.wait()
            _log.warning("%s ended with %d, started again", self.name, code)
            self.restarts += 1
            await asyncio.sleep(backoff.next_s())
            await self.start()

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()

    def rss_mb(self) -> float | None:
        """Its resident memory now, None when it has ended."""
        if self.process is None or self.process.returncode is not None:
            return None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log_file.read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"

    async def stop(self) -> None:
        """Asks it to end, and insists after a while."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_S):
                await self.process.wait()
        except TimeoutError:
            _log.warning("%s did not stop within %g s and is killed", self.name, _STOP_S)
            self.process.kill()
            await self.process.wait()


class Stage:
    """The running demo, its broker "embedded" or "mosquitto". `mutant` replaces how a part is started, for tests that
    break it on purpose."""

    def __init__(
        self,
        folder: Path,
        scene: str,
        *,
        port: int,
        broker: str = "embedded",
        mutant: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.folder = folder
        self.scene = scene
        self.url = f"http://127.0.0.1:{port}"
        self.parts: dict[str, Part] = {}
        self.monitors: dict[str, str] = {}  # the twin's name and its gateway
        self.gateways: list[str] = []
        self._port = port
        self._broker = broker
        self._mutant = mutant or {}
        self.mqtt_port = free_port()
        self._client_port = free_port()
        self._monitor = f"127.0.0.1:{free_port()}"
        self._radio = f"127.0.0.1:{free_port()}"

    @property
    def cloud_state(self) -> Path:
        """Where the cloud keeps its store."""
        return self.folder / "cloud"

    @property
    def store_file(self) -> Path:
        """The cloud's database."""
        return self.cloud_state / STORE_FILE

    def ledgers(self) -> list[Path]:
        """The independent accounts of what each box accepted."""
        return [self.folder / gateway / "ledger.jsonl" for gateway in self.gateways]

    @property
    def truth(self) -> Path:
        """The twins' account of what they sent."""
        return self.folder / "truth"

    def broker_pid(self) -> int:
        """The pid of the broker now running, or of the one just ended."""
        if "broker" in self.parts:
            process = self.parts["broker"].process
            assert process is not None
            return process.pid
        return int((self.cloud_state / "broker.pid").read_text())

    async def running_broker_pid(self) -> int:
        """Its pid, once there is one again."""
        while True:
            try:
                pid = self.broker_pid()
                os.kill(pid, 0)
            except (FileNotFoundError, ValueError, ProcessLookupError):
                await asyncio.sleep(_PROBE_S)
            else:
                return pid

    async def running_cloud(self) -> asyncio.subprocess.Process:
        """The cloud's process, once it answers; one just killed is being started again. Raises TimeoutError."""
        async with asyncio.timeout(2 * _READY_S):
            while True:
                cloud = self.parts["cloud"]
                try:
                    await is_answering(self.url, cloud)
                except UsageError:
                    await asyncio.sleep(_PROBE_S)
                    continue
                if cloud.process is not None and cloud.process.returncode is None:
                    return cloud.process

    def _command(self, part: str, *arguments: str) -> list[str]:
        return [sys.executable, *self._mutant.get(part, ("-m", "vitalwire")), *arguments]

    async def _start(self, name: str, *arguments: str) -> Part:
        return await self.start_part(name, self._command(name, *arguments))

    async def start_part(self, name: str, command: Sequence[str]) -> Part:
        """Starts one more process, its words going to a log of its own."""
        part = Part(name, command, self.folder / "logs" / f"{name}.log")
        self.parts[name] = part
        await part.start()
        return part

    async def start_cloud_and_boxes(self) -> None:
        """Starts the broker, if it is not the cloud's own, and the cloud, waits until it answers, then starts one box
        for every vehicle and home of the scene."""
        from firmware_sim.scene import load_scene

        scene = load_scene(self.scene)
        vehicles = {twin.vehicle.lower(): twin.vehicle for twin in scene.monitor}
        straps = {twin.home.lower(): twin.name for twin in scene.strap}
        self.monitors = {twin.name: twin.vehicle.lower() for twin in scene.monitor}
        self.gateways = [*vehicles, *straps]
        (self.folder / "logs").mkdir(parents=True)
        if self._broker == "mosquitto":
            folder = self.folder / "mosquitto"
            mosquitto.write(folder, self.mqtt_port, self.cloud_state, self.gateways)
            await self.start_part("broker", mosquitto.command(folder))
        await self._start("cloud", "cloud", "-c", str(self._write_cloud()))
        await is_answering(self.url, self.parts["cloud"])
        for gateway, vehicle in vehicles.items():
            device = {"id": MONITOR_ID, "driver": "network.hl7_monitor", "link": {"listen": self._monitor}}
            await self._start(gateway, "edge", "-c", str(self._write_edge(gateway, "mission", vehicle, device)))
        for gateway, strap in straps.items():
            link = {"adapter": f"bumble:tcp-client:{self._radio}", "name": strap}
            device = {"id": "strap", "driver": "ble.heart_rate", "link": link}
            await self._start(gateway, "edge", "-c", str(self._write_edge(gateway, "home", gateway, device)))

    async def start_simulator(self, *, record: Path | None, for_s: float | None) -> Part:
        """Starts the simulated devices; with `for_s` the process ends by itself when all is answered."""
        arguments = ["sim", self.scene, "--monitor", self._monitor, "--radio", self._radio, "--truth", str(self.truth)]
        if record is not None:
            arguments += ["--record", str(record)]
        if for_s is not None:
            arguments += ["--for", str(for_s)]
        return await self._start("sim", *arguments)

    def _write_cloud(self) -> Path:
        tables: list[tuple[str, Mapping[str, object]]] = [
            ("", {"state_dir": str(self.cloud_state)}),
            ("access", {"mode": "demo"}),
            ("broker", self._broker_table()),
            ("api", {"listen": f"127.0.0.1:{self._port}"}),
            *(("[gateways]", {"id": gateway}) for gateway in self.gateways),
        ]
        return write_toml(self.folder / "cloud.toml", tables)

    def _broker_table(self) -> Mapping[str, object]:
        if self._broker == "embedded":
            return {
                "mqtt_listen": f"127.0.0.1:{self.mqtt_port}",
                "client_listen": f"127.0.0.1:{self._client_port}",
            }
        return {
            "kind": "mqtt",
            "endpoint": f"mqtt://127.0.0.1:{self.mqtt_port}",
            "user": INGEST_USER,
            "password_file": str(password_path(self.cloud_state, INGEST_USER)),
        }

    def box_settings(self, _gateway: str) -> Mapping[str, Mapping[str, object]]:
        """Settings of a box beside or instead of the usual ones, by table; for harder stages."""
        return {}

    def _write_edge(self, gateway: str, kind: str, label: str, device: Mapping[str, object]) -> Path:
        state = self.folder / gateway
        uplink = {
            "endpoints": [f"mqtt://127.0.0.1:{self.mqtt_port}"],
            "password_file": str(password_path(self.cloud_state, gateway)),
            "backoff_first_s": 1.0,  # two boxes are no herd
            "backoff_cap_s": 2.0,
        }
        tables: dict[str, Mapping[str, object]] = {
            "": {"gateway": gateway, "state_dir": str(state), "ledger_file": str(state / "ledger.jsonl")},
            "session": {"kind": kind, "label": label},
            "uplink": uplink,
        }
        for name, settings in self.box_settings(gateway).items():
            tables[name] = {**tables.get(name, {}), **settings}
        tables["[device]"] = {**device, "origin": "demo"}
        return write_toml(self.folder / f"{gateway}.toml", list(tables.items()))

    async def stop(self) -> None:
        """Stops every part: what sends first, what stores and what carries last."""
        order = {"sim": 0, "cloud": 2, "broker": 3}
        for name in sorted(self.parts, key=lambda name: order.get(name, 1)):
            await self.parts[name].stop()

    def errors(self) -> list[str]:
        """What the parts logged as ERROR or worse, each line with its part."""
        found: list[str] = []
        for name, part in self.parts.items():
            for line in part.log_file.read_text(errors="replace").splitlines():
                if " ERROR " in line or " CRITICAL " in line or line.startswith("Traceback"):
                    found.append(f"{name}: {line}")
        return found


async def on_stage(stage: Stage, act: Callable[[], Awaitable[T]]) -> T:
    """Starts cloud and boxes, keeps them alive while `act` runs, and leaves no process behind."""
    try:
        await stage.start_cloud_and_boxes()
        async with asyncio.TaskGroup() as tasks:
            keepers = [tasks.create_task(part.keep(), name=f"keep {name}") for name, part in stage.parts.items()]
            result = await act()
            for keeper in keepers:
                keeper.cancel()
        return result
    finally:
        await stage.stop()


def prepare_folder(folder: Path) -> None:
    """Empties a folder of an earlier demo; refuses one that holds anything else. Raises UsageError."""
    import shutil

    if folder.exists() and any(folder.iterdir()) and not (folder / DEMO_MARK).exists():
        raise UsageError(f"--state {folder}: not an empty folder and not an earlier demo's; name another one")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / DEMO_MARK).write_text("Written by `vitalwire demo`, emptied by the next one.\n")


async def is_answering(url: str, cloud: Part) -> None:
    """Waits until a cloud just started answers. Raises UsageError with its last words."""
    try:
        async with asyncio.timeout(_READY_S), httpx.AsyncClient(base_url=url) as client:
            while not await _is_healthy(client):
                if cloud.process is not None and cloud.process.returncode is not None:
                    raise UsageError(f"the cloud did not start: {cloud.last_words()}")
                await asyncio.sleep(_PROBE_S)
    except TimeoutError:
        raise UsageError(f"the cloud did not answer within {_READY_S:g} s: {cloud.last_words()}") from None


async def _is_healthy(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/healthz")).is_success
    except httpx.TransportError:
        return False


def write_toml(path: Path, tables: Sequence[tuple[str, Mapping[str, object]]]) -> Path:
    """Writes tables by name, "" being the top level and "[name]" an entry of a list."""
    lines: list[str] = []
    for name, table in tables:
        if name:
            lines.append(f"\n[{name}]")
        lines += [f"{key} = {_toml(value)}" for key, value in table.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _toml(value: object) -> str:
    """A TOML value: JSON's strings, numbers and lists are TOML's too, tables are not."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
