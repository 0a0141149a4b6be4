"""The waveform codec: a SampleBlock as the few bytes that travel, are stored, and are drawn (docs/wire.md).

Every block stands alone. Lossless: each lead is predicted from its past, its neighbour or leads I and II; the errors go
through an adaptive binary range coder, and what is noise anyway goes beside it as plain bits.
"""

from __future__ import annotations

import binascii
import math
import struct
from typing import NamedTuple

import numpy as np

from wire.lead_coding import decode_leads, encode_leads
from wire.messages import DecodeError
from wire.range_coder import Ints
from wire.readings import Acquisition, Quality, SampleBlock

RAW, PREDICTIVE = 0, 1  # codec ids, the first byte of a block
MAX_LEADS = 64
# 43 s of a 12-lead ECG at 500 Hz. Silence packs a thousandfold, so the count is checked before anything is allocated.
MAX_VALUES = 262_144
MAX_EXACT = 2**53  # integers are exact in JavaScript up to here

# codec, flags, leads, samples, rate, first index, start: the compact form cuts the start into 32, 16 and 8 bits.
_COMPACT, _WIDE = struct.Struct("<BBBHHIIHb"), struct.Struct("<BBBIdQq")
_WIDE_HEADER = 0x01
_GAIN, _ONE_SCALE, _GAINS, _SCALES = range(4)  # flags bits 2-3
_NO_OFFSET, _ONE_OFFSET, _BASELINES, _OFFSETS, _BASELINE = range(5)  # flags bits 4-6
_UNUSED_FLAGS = 0x82
_CHECK_BYTES = 2

# A known lead is one byte: its place here, counted from 1. Only ever appended to.
_NAMES = (
    *("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"),
    *("AVR", "AVL", "AVF", "i", "ii", "iii", "avr", "avl", "avf", "v1", "v2", "v3", "v4", "v5", "v6"),
    *("V7", "V8", "V9", "V3R", "V4R", "V5R", "V6R", "MLII", "ECG", "ecg", "pleth", "resp"),
)
_NAME_ID = {name: place for place, name in enumerate(_NAMES, 1)}
# The usual sets are one byte in all; 0 means that the leads follow one by one.
_LEAD_SETS: tuple[tuple[str, ...], ...] = (
    (),
    _NAMES[:12],
    _NAMES[:3] + _NAMES[12:15] + _NAMES[6:12],
    _NAMES[15:27],
    _NAMES[:2] + _NAMES[6:12],
)


class BlockHeader(NamedTuple):
    """What `peek` reads: enough to index a block without decoding it."""

    codec: int
    lead_count: int
    sample_count: int
    sample_rate_hz: float
    first_index: int
    start_us: int


def peek(data: bytes) -> BlockHeader:
    """Reads the fixed header only. Raises DecodeError."""
    return _read_header(data)[0]


def _read_header(data: bytes) -> tuple[BlockHeader, int, int]:
    """The header, its flags, and where the rest starts."""
    if len(data) < 2:
        raise DecodeError("waveform: shorter than its header", data)
    layout = _WIDE if data[1] & _WIDE_HEADER else _COMPACT
    if len(data) < layout.size:
        raise DecodeError("waveform: shorter than its header", data)
    codec, flags, leads, samples, rate, first_index, *start = layout.unpack_from(data)
    start_us = start[0] if len(start) == 1 else start[0] | start[1] << 32 | start[2] << 48
    if codec not in (RAW, PREDICTIVE):
        raise DecodeError(f"waveform: unknown codec {codec}", data)
    if flags & _UNUSED_FLAGS or flags >> 4 > _BASELINE:
        raise DecodeError(f"waveform: unknown flags {flags:#x}", data)
    if not 1 <= leads <= MAX_LEADS:
        raise DecodeError(f"waveform: {leads} leads, 1 to {MAX_LEADS} allowed", data)
    if leads * samples > MAX_VALUES:
        raise DecodeError(f"waveform: {leads} x {samples} values, at most {MAX_VALUES} allowed", data)
    if not 0 < rate < math.inf:
        raise DecodeError(f"waveform: sample rate {rate}", data)
    if first_index >= MAX_EXACT or abs(start_us) >= MAX_EXACT:
        raise DecodeError("waveform: index or time beyond 2^53", data)
    return BlockHeader(codec, leads, samples, float(rate), first_index, start_us), flags, layout.size


def _write_header(block: SampleBlock, codec: int) -> bytes:
    count, leads = block.samples.shape[0], len(block.leads)
    scale_form, scales = _scale_bytes(block.scale)
    offset_form, offsets = _offset_bytes(block.offset, block.scale)
    flags = scale_form << 2 | offset_form << 4
    rate, start = block.sample_rate_hz, block.start_us
    if count < 1 << 16 and rate < 1 << 16 and rate == int(rate) and block.first_index < 1 << 32:
        when = (start & 0xFFFFFFFF, start >> 32 & 0xFFFF, start >> 48)
        head = _COMPACT.pack(codec, flags, leads, count, int(rate), block.first_index, *when)
    else:
        head = _WIDE.pack(codec, flags | _WIDE_HEADER, leads, count, rate, block.first_index, start)
    return head + _lead_bytes(block.leads) + scales + offsets


def _lead_bytes(leads: tuple[str, ...]) -> bytes:
    if leads in _LEAD_SETS:
        return bytes((_LEAD_SETS.index(leads),))
    out = bytearray(1)
    for lead in leads:
        if lead in _NAME_ID:
            out.append(_NAME_ID[lead])
            continue
        name = lead.encode()
        if len(name) > 255:
            raise ValueError(f"lead name of {len(name)} bytes, at most 255 allowed")
        out += bytes((0, len(name))) + name
    return bytes(out)


def _gain(scale: float) -> int:
    """The whole number of counts in a unit, if the scale is exactly its inverse and it fits 16 bits; otherwise 0."""
    if not 1e-5 < scale <= 1:
        return 0
    gain = round(1 / scale)
    return gain if gain < 1 << 16 and 1 / gain == scale else 0


def _scale_bytes(scale: tuple[float, ...]) -> tuple[int, bytes]:
    gains = [_gain(value) for value in scale]
    if len(set(scale)) == 1:
        return (_GAIN, struct.pack("<H", gains[0])) if gains[0] else (_ONE_SCALE, struct.pack("<d", scale[0]))
    if all(gains):
        return _GAINS, struct.pack(f"<{len(gains)}H", *gains)
    return _SCALES, struct.pack(f"<{len(scale)}d", *scale)


def _offset_bytes(offset: tuple[float, ...], scale: tuple[float, ...]) -> tuple[int, bytes]:
    """Offsets as the count that means zero, where that is exact; otherwise as they are."""
    if not any(offset):
        return _NO_OFFSET, b""
    counts = [value / step if step else math.inf for value, step in zip(offset, scale, strict=True)]
    if all(abs(count) < 32_767 for count in counts):
        baselines = [-round(count) for count in counts]
        if all(-low * step == value for low, step, value in zip(baselines, scale, offset, strict=True)):
            if len(set(baselines)) == 1:
                return _BASELINE, struct.pack("<h", baselines[0])
            return _BASELINES, struct.pack(f"<{len(baselines)}h", *baselines)
    if len(set(offset)) == 1:
        return _ONE_OFFSET, struct.pack("<d", offset[0])
    return _OFFSETS, struct.pack(f"<{len(offset)}d", *offset)


def _read_leads(data: bytes, at: int, count: int) -> tuple[tuple[str, ...], int]:
    lead_set, at = data[at], at + 1
    if lead_set:
        if lead_set >= len(_LEAD_SETS) or len(_LEAD_SETS[lead_set]) != count:
            raise DecodeError(f"waveform: lead set {lead_set} for {count} leads", data)
        return _LEAD_SETS[lead_set], at
    leads = []
    for _ in range(count):
        place, at = data[at], at + 1
        if place > len(_NAMES):
            raise DecodeError(f"waveform: unknown lead id {place}", data)
        if place:
            leads.append(_NAMES[place - 1])
        else:
            end = at + 1 + data[at]
            leads.append(data[at + 1 : end].decode())
            at = end
    return tuple(leads), at


def _read_scales(data: bytes, at: int, count: int, flags: int) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    scale_form, offset_form = flags >> 2 & 3, flags >> 4 & 7
    layout = ("<H", "<d", f"<{count}H", f"<{count}d")[scale_form]
    scale = struct.unpack_from(layout, data, at)
    at += struct.calcsize(layout)
    if scale_form in (_GAIN, _GAINS):
        scale = tuple(1 / gain for gain in scale)
    if len(scale) < count:
        scale *= count
    layout = ("<", "<d", f"<{count}h", f"<{count}d", "<h")[offset_form]
    offset = struct.unpack_from(layout, data, at) or (0.0,)
    at += struct.calcsize(layout)
    if len(offset) < count:
        offset *= count
    if offset_form in (_BASELINE, _BASELINES):
        offset = tuple(-low * step for low, step in zip(offset, scale, strict=True))
    if not all(map(math.isfinite, scale + offset)):
        raise DecodeError("waveform: scale or offset is not a number", data)
    return scale, offset, at


def encode(block: SampleBlock) -> bytes:
    """The block as bytes, the smaller of predictive and raw. Raises ValueError for a block the format cannot hold."""
    _check(block)
    columns = np.ascontiguousarray(block.samples.T, dtype=np.int32)
    body = b""
    codec = RAW
    if columns.size:
        codec = PREDICTIVE
        body = encode_leads(block.leads, block.scale, columns.astype(np.int64))
        width = next(w for w in (1, 2, 4) if -(1 << 8 * w - 1) <= columns.min() and columns.max() < 1 << 8 * w - 1)
        if len(body) > columns.size * width:
            codec, body = RAW, bytes((width,)) + columns.astype(f"<i{width}").tobytes()
    out = _write_header(block, codec) + body
    return out + binascii.crc_hqx(out, 0xFFFF).to_bytes(_CHECK_BYTES, "little")


def _check(block: SampleBlock) -> None:
    count = len(block.leads)
    if block.samples.ndim != 2 or block.samples.dtype != np.int32 or block.samples.shape[1] != count:
        raise ValueError(f"samples {block.samples.dtype} {block.samples.shape}, int32 (n, {count}) expected")
    if not 1 <= count <= MAX_LEADS or len(block.scale) != count or len(block.offset) != count:
        raise ValueError(f"{count} leads, {len(block.scale)} scales, {len(block.offset)} offsets")
    if block.samples.size > MAX_VALUES:
        raise ValueError(f"{block.samples.size} values, at most {MAX_VALUES} allowed")
    if not 0 < block.sample_rate_hz < math.inf or not all(map(math.isfinite, block.scale + block.offset)):
        raise ValueError("rate, scales and offsets are finite numbers, the rate above 0")
    if not 0 <= block.first_index < MAX_EXACT or abs(block.start_us) >= MAX_EXACT:
        raise ValueError("index or time beyond 2^53")


def decode(
    data: bytes,
    *,
    stream: str,
    acquisition: Acquisition | None = None,
    quality: Quality = Quality.GOOD,
    quality_reason: str = "",
) -> SampleBlock:
    """The block that was encoded, for the stream its envelope names. Raises DecodeError."""
    header, flags, at = _read_header(data)
    content = data[:-_CHECK_BYTES]
    if binascii.crc_hqx(content, 0xFFFF) != int.from_bytes(data[-_CHECK_BYTES:], "little"):
        raise DecodeError("waveform: checksum differs", data)
    try:
        leads, at = _read_leads(content, at, header.lead_count)
        scale, offset, at = _read_scales(content, at, header.lead_count, flags)
    except (IndexError, UnicodeDecodeError, ZeroDivisionError, struct.error) as error:
        raise DecodeError(f"waveform: leads or scales: {error}", data) from error
    count = header.sample_count
    if not count:
        if at != len(content):
            raise DecodeError("waveform: bytes after an empty block", data)
        columns = np.zeros((header.lead_count, 0), np.int64)
    elif header.codec == RAW:
        columns = _decode_raw(content, at, header)
    else:
        columns = decode_leads(content[at:], leads, scale, count)
    return SampleBlock(
        stream=stream,
        leads=leads,
        samples=np.ascontiguousarray(columns.T, dtype=np.int32),
        sample_rate_hz=header.sample_rate_hz,
        scale=scale,
        offset=offset,
        first_index=header.first_index,
        start_us=header.start_us,
        acquisition=acquisition,
        quality=quality,
        quality_reason=quality_reason,
    )


def _decode_raw(content: bytes, at: int, header: BlockHeader) -> Ints:
    values = header.lead_count * header.sample_count
    width = content[at] if at < len(content) else 0
    if width not in (1, 2, 4) or len(content) - at - 1 != values * width:
        raise DecodeError(f"waveform: {len(content) - at} raw bytes for {values} values", content)
    samples = np.frombuffer(content, f"<i{width}", values, at + 1).astype(np.int64)
    return samples.reshape(header.lead_count, header.sample_count)
