"""The load of `bench live`: many boxes in a process, each with a spool and an uplink of its own, or bare clients.

`python -m bench._ambulances boxes|bare CLOUD.toml FIRST END`
"""

from __future__ import annotations

import asyncio
import binascii
import itertools
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench._box import Box
from bench._enrolled import HOST, client
from cloud.config import CloudConfig
from vitalwire.stage import free_port, write_toml
from wire import topics, waveform
from wire.clock import MICROSECONDS, Clock, SystemClock
from wire.configuration import load
from wire.messages import Lane
from wire.readings import Numeric, SampleBlock, WaveformBlock
from wire.vocabulary import TWELVE_LEADS, Metric

STAMP = struct.Struct("<q")  # a bare frame starts with the time it was sent
FIRST_INDEX = 1 << 40  # where the numbering of samples begins: as high as those of real boxes, so as wide
_RATE_HZ = 500
_PERIOD_S = 0.5


def gateway_id(number: int) -> str:
    """Name of one ambulance of the load."""
    return f"bench-{number:04d}"


def write_cloud(folder: Path, ambulances: int, *, api_port: int, is_tls: bool = False) -> Path:
    """A cloud's configuration with that many gateways, which have to enrol where TLS is on."""
    enrolment = ("enrolment", {"names": [HOST], "listen": f"127.0.0.1:{free_port()}"})
    folder.mkdir(parents=True)
    return write_toml(
        folder / "cloud.toml",
        [
            ("", {"state_dir": str(folder / "cloud")}),
            ("access", {"mode": "demo"}),
            (
                "broker",
                {"mqtt_listen": f"127.0.0.1:{free_port()}", "client_listen": f"127.0.0.1:{free_port()}"},
            ),
            ("api", {"listen": f"127.0.0.1:{api_port}"}),
            *([enrolment] if is_tls else []),
            *(("[gateways]", {"id": gateway_id(number)}) for number in range(ambulances)),
        ],
    )


def _samples() -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    """Half a second that resembles an ECG's statistics: smooth waves and a few counts of noise."""
    chance = np.random.default_rng(1)
    time_s = np.arange(int(_RATE_HZ * _PERIOD_S)) / _RATE_HZ
    waves = 400 * np.exp(-(((time_s - 0.25) / 0.02) ** 2)) + 60 * np.sin(2 * np.pi * 2 * time_s)
    leads = np.outer(waves, np.linspace(-1, 1, 12)) + chance.normal(0, 3, (len(time_s), 12))
    return leads.astype(np.int32)


class Template:
    """A block encoded once; each next one differs in its place and time alone (docs/wire.md, wide header)."""

    _PLACE = struct.Struct("<Qq")
    _PLACE_AT = 15

    def __init__(self) -> None:
        samples = _samples()
        scale, offset = (0.001,) * 12, (0.0,) * 12
        block = SampleBlock("ecg", TWELVE_LEADS, samples, _RATE_HZ, scale, offset, FIRST_INDEX, 0)
        self.sample_count = len(samples)
        self._data = bytearray(waveform.encode(block))

    def block(self, first_index: int, start_us: int) -> WaveformBlock:
        """The block as the pipeline would hand it over."""
        self._PLACE.pack_into(self._data, self._PLACE_AT, FIRST_INDEX + first_index, start_us)
        self._data[-2:] = binascii.crc_hqx(self._data[:-2], 0xFFFF).to_bytes(2, "little")
        return WaveformBlock("ecg", bytes(self._data))


async def _box(config: CloudConfig, number: int, folder: Path, template: Template) -> None:
    """One spool → uplink path sending a block every half second, as the bare clients do."""
    box = Box(config, gateway_id(number), folder / gateway_id(number))

    async def act() -> None:
        await box.open_session()
        phase_s = number % 50 * _PERIOD_S / 50  # ambulances do not tick together
        await feed(box, template, phase_s=phase_s, with_numerics=False)

    await box.live(act)


async def feed(
    box: Box, template: Template, *, first_block: int = 0, phase_s: float = 0.0, with_numerics: bool = True
) -> None:
    """Appends a block each half second and, if asked to, a numeric each second, until cancelled."""
    loop = asyncio.get_running_loop()
    due_s = loop.time() + phase_s
    for number in itertools.count(first_block):
        due_s += _PERIOD_S
        await asyncio.sleep(due_s - loop.time())
        now_us = box.clock.now_us()
        # Stamped so that the last sample is "now": the screen's delay is then the way's alone.
        block = template.block(number * template.sample_count, now_us - round(_PERIOD_S * MICROSECONDS))
        await box.outbox.append(box.source, [block])
        if with_numerics and number % 2 == 1:
            await box.outbox.append(box.source, [Numeric(Metric.HEART_RATE, 80, now_us)])


async def _bare_client(config: CloudConfig, number: int, clock: Clock, template: Template) -> None:
    """A plain MQTT client sending frames of the same size at the same rate."""
    gateway = gateway_id(number)
    body = template.block(0, 0).data
    loop = asyncio.get_running_loop()
    async with client(config, gateway) as connected:
        due_s = loop.time() + number % 50 * _PERIOD_S / 50
        while True:
            due_s += _PERIOD_S
            await asyncio.sleep(due_s - loop.time())
            await connected.publish(topics.up(gateway, Lane.BULK), STAMP.pack(clock.now_us()) + body, qos=1)


async def _main(mode: str, config_path: str, first: int, end: int) -> None:
    config, clock, template = load(Path(config_path), CloudConfig), SystemClock(), Template()
    with tempfile.TemporaryDirectory() as folder:
        async with asyncio.TaskGroup() as tasks:
            for number in range(first, end):
                if mode == "bare":
                    tasks.create_task(_bare_client(config, number, clock, template))
                else:
                    tasks.create_task(_box(config, number, Path(folder), template))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
