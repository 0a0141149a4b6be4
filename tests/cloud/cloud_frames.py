"""Frames as a gateway would send them."""

from __future__ import annotations

from collections.abc import Sequence

import aiomqtt
import msgspec
import numpy as np

from cloud.bus.broker_config import password_path
from cloud.config import BrokerKind, CloudConfig, parse_address, parse_endpoint
from wire.clock import ClockAnchor
from wire.messages import Batch, Lane, encode_frame, encode_record
from wire.readings import Body, Numeric, Origin, SampleBlock, WaveformBlock
from wire.vocabulary import Metric
from wire.waveform import encode

NOW_US = 1_800_000_000_000_000
BOOT = bytes(range(16))
EPOCH = bytes(range(100, 116))


class FakeClock:
    def __init__(self, now_us: int = NOW_US) -> None:
        self.us = now_us

    def now_us(self) -> int:
        return self.us

    def monotonic_us(self) -> int:
        return self.us

    def boot_id(self) -> bytes:
        return BOOT

    def state(self):  # type: ignore[no-untyped-def]
        raise NotImplementedError


def record(body: Body, *, session_id: str = "s1", mono_us: int = 5, origin: Origin = Origin.DEMO) -> bytes:
    return encode_record(body, device_id="monitor", session_id=session_id, origin=origin, boot_id=BOOT, mono_us=mono_us)


def heart_rate(value: float, time_us: int = NOW_US, *, session_id: str = "s1") -> bytes:
    return record(Numeric(Metric.HEART_RATE, value, time_us), session_id=session_id)


def frame(
    records: Sequence[bytes],
    first_seq: int = 1,
    *,
    lane: Lane = Lane.ROUTINE,
    epoch: bytes = EPOCH,
    anchors: tuple[ClockAnchor, ...] = (),
) -> bytes:
    return encode_frame(Batch(epoch, lane, first_seq, anchors, [msgspec.Raw(one) for one in records]))


def gateway_client(config: CloudConfig, gateway: str, *, password: str = "") -> aiomqtt.Client:
    """As a box connects to either kind of broker."""
    broker = config.broker
    is_mqtt = broker.kind is BrokerKind.MQTT
    address = parse_endpoint(broker.endpoint) if is_mqtt else parse_address(broker.mqtt_listen)
    return aiomqtt.Client(
        address.host,
        address.port,
        username=gateway,
        password=password or password_path(config.state_path, gateway).read_text().strip(),
        identifier=gateway,
        timeout=3,
    )


def wave(
    first_index: int, start_us: int = NOW_US, *, block: SampleBlock | None = None, session_id: str = "s1"
) -> bytes:
    if block is None:
        samples = np.arange(first_index, first_index + 100, dtype=np.int32).reshape(50, 2)
        block = SampleBlock("ecg", ("I", "II"), samples, 500.0, (0.001, 0.001), (0.0, 0.0), first_index, start_us)
    body = WaveformBlock(block.stream, encode(block), block.acquisition, block.quality)
    return record(body, session_id=session_id)
