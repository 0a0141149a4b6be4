"""Look at what a box keeps on its disk.

`vitalwire spool show|verify -c FILE`, `vitalwire spool export OUT -c FILE [--pending]`, `vitalwire spool key OUT`
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitalwire.command import UsageError

if TYPE_CHECKING:
    from edge.spool.chunk import Chunk
    from edge.spool.cipher import Cipher
    from edge.spool.inspection import SegmentView


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, with which box's spool."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="show|verify|export|key")
    show = verbs.add_parser("show", help="its segments: size, records, how many wait, times, keys")
    verify = verbs.add_parser("verify", help="reads every record; exit 1 when one cannot be read")
    export = verbs.add_parser("export", help="writes the records as JSON lines")
    export.add_argument("out", type=Path, metavar="OUT", help="a new file")
    export.add_argument("--pending", action="store_true", help="only what waits for its receipt")
    key = verbs.add_parser("key", help="makes a key for spool.key_file")
    key.add_argument("out", type=Path, metavar="OUT", help="a new file, readable by its owner alone")
    for verb in (show, verify, export):
        verb.add_argument("-c", "--config", type=Path, required=True, help="the box's configuration")


def run(arguments: argparse.Namespace) -> int:
    """Prints or writes. Raises ConfigError and UsageError."""
    if arguments.verb == "key":
        return _make_key(arguments.out)
    from edge import config
    from edge.spool import spool_folder
    from edge.spool.cipher import load_cipher

    settings = config.read(arguments.config).config
    folder = spool_folder(settings.state_dir)
    if not folder.is_dir():
        raise UsageError(f"{arguments.config}: state_dir: no spool in {settings.state_dir} yet")
    cipher = load_cipher(settings.spool.key_file)
    match arguments.verb:
        case "show":
            return _show(folder)
        case "verify":
            return _verify(folder, cipher)
        case _:
            return _export(folder, cipher, arguments.out, pending_only=arguments.pending)


def _show(folder: Path) -> int:
    from edge.spool.inspection import segments

    print(f"{'lane':8} {'segment':24} {'MiB':>8} {'records':>9} {'waiting':>9}  {'from':19}  {'to':19}  keys")
    for view in segments(folder):
        line = f"{view.lane.value:8} {view.path.name:24} {view.bytes / 2**20:8.2f} {view.records:9} {view.pending:9}"
        keys = ", ".join(key or "plain" for key in view.keys)
        print(f"{line}  {_local(view.oldest_us):19}  {_local(view.newest_us):19}  {view.problem or keys}")
    return 0


def _local(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6).astimezone().strftime("%Y-%m-%d %H:%M:%S") if time_us else "-"


def _verify(folder: Path, cipher: Cipher) -> int:
    from edge.spool.inspection import segments
    from edge.spool.segment import SegmentCorrupt
    from wire.messages import DecodeError

    records = problems = 0
    for view in segments(folder):
        where = f"{view.lane.value}/{view.path.name}"
        try:
            if view.problem:
                raise SegmentCorrupt(view.problem)
            for _record in _records(view, cipher):
                records += 1
        except (SegmentCorrupt, DecodeError) as error:
            problems += 1
            print(f"{where}: {error}")
        if sys.stderr.isatty():
            print(f"\r{records} records read", end="", file=sys.stderr, flush=True)
    print(f"{records} records can be read, {problems} segments cannot")
    return 1 if problems else 0


def _export(folder: Path, cipher: Cipher, out: Path, *, pending_only: bool) -> int:
    from edge.spool.inspection import segments
    from edge.spool.segment import SegmentCorrupt

    count = 0
    try:
        # Readings of patients: nobody else on the box may look.
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            for view in segments(folder):
                if view.problem:
                    print(f"{view.lane.value}/{view.path.name}: {view.problem}", file=sys.stderr)
                    continue
                for record in _records(view, cipher, pending_only=pending_only):
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
                    count += 1
    except FileExistsError:
        raise UsageError(f"{out}: is there already; name a new file") from None
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}") from None
    except SegmentCorrupt as error:
        raise UsageError(f"after {count} records: {error}; `vitalwire spool verify` names every such segment") from None
    print(f"{count} records written to {out}")
    return 0


def _records(view: SegmentView, cipher: Cipher, *, pending_only: bool = False) -> Iterator[dict[str, Any]]:
    """Each record as JSON (Any); waveform blocks and other bytes as Base64. Raises DecodeError, SegmentCorrupt."""
    from edge.spool.inspection import chunks

    for chunk in chunks(view, cipher, pending_only=pending_only):
        for offset, raw in enumerate(chunk.records):
            yield _as_json(chunk, chunk.first_seq + offset, raw)


def _as_json(chunk: Chunk, seq: int, raw: bytes) -> dict[str, Any]:
    import msgspec

    from wire.messages import decode_body, decode_record

    record = decode_record(raw)
    body = decode_body(record.body)
    return {
        "lane": chunk.lane.value,
        "epoch": chunk.epoch.hex(),
        "seq": seq,
        "device_id": record.device_id,
        "session_id": record.session_id,
        "origin": record.origin.name,
        "kind": type(body).__name__,
        "body": {name: msgspec.to_builtins(getattr(body, name)) for name in body.__struct_fields__},
    }


def _make_key(out: Path) -> int:
    from edge.spool.cipher import new_key

    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(new_key() + "\n")
    except FileExistsError:
        raise UsageError(f"{out}: is there already; a key in use must not be overwritten") from None
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}") from None
    print(f"A new key is in {out}. Without it nothing encrypted with it can be read: keep a copy elsewhere.")
    return 0
