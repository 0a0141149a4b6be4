"""The waveform codec over a folder of WFDB records: how small, how fast, whether lossless, beside FLAC and zstd."""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import wfdb
import zstandard
from numpy.typing import NDArray

from wire.readings import SampleBlock
from wire.waveform import decode, encode

BLOCK_S = 0.5  # what the edge sends
BLOCKS_S = (0.25, 0.5, 1.0, 2.0)
# Block lengths are compared on records spread evenly over the folder: all would take minutes and say the same.
BY_BLOCK_RECORDS = 12
# A long record (MIT-BIH is half an hour) is measured by its beginning.
RECORD_S = 60.0
START_US = 1_795_000_000_000_000
# FLAC holds 8 channels and looks for likeness only within pairs; the best of these for each record counts.
FLAC_GROUPS = (8, 2)
FLAC_BLOCKS = (1024, 4096)
Counts = NDArray[np.int32]


class Recording(NamedTuple):
    """One record as a driver would deliver it; `counts` is int32, shape (n, leads)."""

    name: str
    leads: tuple[str, ...]
    counts: Counts
    sample_rate_hz: float
    scale: tuple[float, ...]
    offset: tuple[float, ...]


class Tally:
    """Bytes and seconds summed over blocks."""

    def __init__(self) -> None:
        self.raw_bytes = 0
        self.coded_bytes = 0
        self.signal_s = 0.0
        self.encode_s = 0.0
        self.decode_s = 0.0
        self.lossless = True

    def add(self, recording: Recording, block_s: float) -> None:
        """Encodes and decodes a record block by block."""
        length = max(1, round(block_s * recording.sample_rate_hz))
        for first in range(0, len(recording.counts), length):
            block = SampleBlock(
                stream="ecg",
                leads=recording.leads,
                samples=recording.counts[first : first + length],
                sample_rate_hz=recording.sample_rate_hz,
                scale=recording.scale,
                offset=recording.offset,
                first_index=first,
                start_us=START_US + round(first / recording.sample_rate_hz * 1e6),
            )
            began = time.perf_counter()
            data = encode(block)
            encoded = time.perf_counter()
            again = decode(data, stream="ecg")
            self.decode_s += time.perf_counter() - encoded
            self.encode_s += encoded - began
            self.signal_s += len(block.samples) / recording.sample_rate_hz
            self.raw_bytes += block.samples.size * 2
            self.coded_bytes += len(data)
            same = np.array_equal(again.samples, block.samples) and again.leads == block.leads
            self.lossless &= same and again._replace(samples=block.samples) == block

    @property
    def ratio(self) -> float:
        """Raw 16-bit bytes over coded bytes."""
        return self.raw_bytes / self.coded_bytes if self.coded_bytes else 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--records: a quick look at fewer of them."""
    parser.add_argument("--records", type=int, default=0, metavar="N", help="only N records, spread over the folder")


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """Measures every record of the folder."""
    folder = arguments.data or Path(os.environ.get("VITALWIRE_DATA", "../shared/data")) / "ptbxl"
    paths = _spread(sorted(folder.glob("*.hea")), getattr(arguments, "records", 0))
    if not paths:
        raise SystemExit(f"bench codec: no WFDB records in {folder}")
    total = Tally()
    by_block = {seconds: Tally() for seconds in BLOCKS_S}
    sampled = set(_spread(paths, BY_BLOCK_RECORDS))
    peers = _peers()
    peer_bytes = dict.fromkeys(peers, 0)
    measured = 0
    for recording, path in _recordings(paths):
        total.add(recording, BLOCK_S)
        for seconds, tally in by_block.items():
            if path in sampled:
                tally.add(recording, seconds)
        for name, size in peers.items():
            peer_bytes[name] += size(recording)
        measured += 1
        print(f"\r{measured} of {len(paths)} records, ratio {total.ratio:.3f}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    ratios = {name: round(total.raw_bytes / size, 4) for name, size in peer_bytes.items() if size}
    flac = ratios.get("flac")
    result: dict[str, object] = {
        "lossless": total.lossless and all(tally.lossless for tally in by_block.values()),
        "ratio": round(total.ratio, 4),
        "ratio_to_flac": round(total.ratio / flac, 4) if flac else None,
        "by_block": {str(seconds): round(tally.ratio, 4) for seconds, tally in by_block.items()},
        "encode_x_realtime": round(total.signal_s / total.encode_s, 1) if total.encode_s else None,
        "decode_x_realtime": round(total.signal_s / total.decode_s, 1) if total.decode_s else None,
        "peers": ratios,
        "records": measured,
        "by_block_records": len(sampled),
        "first_s_of_each_record": RECORD_S,
    }
    if "flac" not in peers:
        result["left_out"] = "flac: neither pyflac nor soundfile is installed (pip install vitalwire[bench])"
    return result


def _spread(paths: list[Path], count: int) -> list[Path]:
    """At most `count` of the paths, evenly spread; all of them for 0."""
    if not 0 < count < len(paths):
        return paths
    return [paths[k * len(paths) // count] for k in range(count)]


def _recordings(paths: list[Path]) -> Iterator[tuple[Recording, Path]]:
    for path in paths:
        stem = str(path.with_suffix(""))
        header = wfdb.rdheader(stem)
        end = min(header.sig_len, int(RECORD_S * header.fs))
        record = wfdb.rdrecord(stem, physical=False, sampto=end)
        counts = record.d_signal
        if counts is None or counts.min() < -(2**15) or counts.max() >= 2**15:
            print(f"\n{path.name}: not 16-bit samples of one rate, left out", file=sys.stderr)
            continue
        scale = tuple(1 / gain for gain in record.adc_gain)
        offset = tuple(-low * step for low, step in zip(record.baseline, scale, strict=True))
        leads = tuple(record.sig_name)
        yield Recording(path.stem, leads, counts.astype(np.int32), float(record.fs), scale, offset), path


def _peers() -> dict[str, Callable[[Recording], int]]:
    peers: dict[str, Callable[[Recording], int]] = {"zstd_19_differences": _zstd_bytes, "zstd_19": _zstd_plain_bytes}
    if importlib.util.find_spec("pyflac"):
        peers["flac"] = _pyflac_bytes
    elif importlib.util.find_spec("soundfile"):
        peers["flac"] = _soundfile_bytes
    return peers


def _zstd_bytes(recording: Recording) -> int:
    differences = np.diff(recording.counts, axis=0, prepend=0).astype("<i2").T
    return len(zstandard.ZstdCompressor(level=19).compress(differences.tobytes()))


def _zstd_plain_bytes(recording: Recording) -> int:
    return len(zstandard.ZstdCompressor(level=19).compress(recording.counts.astype("<i2").T.tobytes()))


def _groups(counts: Counts, size: int) -> list[NDArray[np.int16]]:
    leads = counts.shape[1]
    return [np.ascontiguousarray(counts[:, k : k + size], dtype=np.int16) for k in range(0, leads, size)]


def _pyflac_bytes(recording: Recording) -> int:
    import pyflac

    def size_of(channels: NDArray[np.int16], block: int) -> int:
        sizes: list[int] = []
        encoder = pyflac.StreamEncoder(
            sample_rate=8000,  # a number in the header; ECG rates are no audio rates
            write_callback=lambda piece, *_: sizes.append(len(piece)),
            compression_level=8,
            blocksize=block,
            streamable_subset=False,
        )
        encoder.process(channels)
        encoder.finish()
        return sum(sizes)

    return min(
        sum(size_of(channels, block) for channels in _groups(recording.counts, size))
        for size in FLAC_GROUPS
        for block in FLAC_BLOCKS
    )


def _soundfile_bytes(recording: Recording) -> int:
    import soundfile  # type: ignore[import-untyped]

    def size_of(channels: NDArray[np.int16]) -> int:
        out = io.BytesIO()
        soundfile.write(out, channels, 8000, format="FLAC", subtype="PCM_16", compression_level=1.0)  # 1.0 is level 8
        return len(out.getvalue())

    return min(sum(size_of(channels) for channels in _groups(recording.counts, size)) for size in FLAC_GROUPS)
