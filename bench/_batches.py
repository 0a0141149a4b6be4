"""Batches as boxes send them, for `bench ingest`."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import msgspec

from bench._ambulances import Template, gateway_id
from wire.clock import SystemClock, anchor
from wire.messages import EPOCH_BYTES, Batch, Lane, encode_frame, encode_record
from wire.readings import Numeric, Origin
from wire.vocabulary import Metric


def batches(gateways: int, count: int) -> Iterator[tuple[str, Lane, bytes]]:
    """That many frames, of every gateway in turn: a 12-lead block or two of half a second, now and then a numeric."""
    clock, template = SystemClock(), Template()
    epochs = [secrets.token_bytes(EPOCH_BYTES) for _ in range(gateways)]
    next_seq = [dict.fromkeys(Lane, 0) for _ in range(gateways)]
    for number in range(count):
        gateway = number % gateways
        lane = Lane.ROUTINE if number % 5 == 4 else Lane.BULK
        seq = next_seq[gateway][lane]
        records = []
        for index in range(1 + number % 2):
            body = (
                Numeric(Metric.HEART_RATE, 80.0, clock.now_us())
                if lane is Lane.ROUTINE
                else template.block((seq + index) * template.sample_count, clock.now_us())
            )
            raw = encode_record(
                body,
                device_id="monitor",
                session_id=f"{gateway:016x}",
                origin=Origin.TEST,
                boot_id=clock.boot_id(),
                mono_us=clock.monotonic_us(),
            )
            records.append(msgspec.Raw(raw))
        next_seq[gateway][lane] += len(records)
        yield gateway_id(gateway), lane, encode_frame(Batch(epochs[gateway], lane, seq, (anchor(clock),), records))
