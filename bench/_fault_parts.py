"""A part with a hand inside: `python -m bench._fault_parts FOLDER PART -c FILE …` runs a part whose clock can be bent,
whose records can be poisoned or whose store can be slowed by files in FOLDER, while it runs.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vitalwire.__main__ import main
from wire.clock import ClockState, SystemClock

SLOW_INGEST = "slow_ingest"
# Beyond what any database's integer holds, and still what MessagePack can say.
_UNSTORABLE_US = 2**64 - 1
_LOOK_S = 0.1


class BentClock(msgspec.Struct, frozen=True):
    """What a box's wall clock does: `offset_us` beside the truth since `since_us`, and drifting from there.

    `boot_id` names the boot the box starts into, read once at its start; `is_synchronised` is the kernel's word on the
    clock. Empty and None: the machine's own.
    """

    offset_us: int = 0
    drift_ppm: float = 0.0
    since_us: int = 0
    boot_id: bytes = b""
    is_synchronised: bool | None = None

    def bend(self, true_us: int) -> int:
        """The box's time."""
        return true_us + self.offset_us + round((true_us - self.since_us) * self.drift_ppm / 1e6)

    def state(self, true: ClockState) -> ClockState:
        """How far the box's kernel trusts it."""
        return true if self.is_synchronised is None else ClockState(self.is_synchronised, 0)


def clock_file(folder: Path, box: str) -> Path:
    """Where a box's clock is bent."""
    return folder / f"{box}.clock"


def poison_file(folder: Path, box: str) -> Path:
    """Where a box is given a record to append that no cloud can read; the box removes it with the deed."""
    return folder / f"{box}.poison"


class Poison(msgspec.Struct, frozen=True):
    """One poison record: `mark` finds it again."""

    kind: str
    mark: str

    def encoded(
        self, source: Any, clock: SystemClock
    ) -> bytes:  # Any: an edge Source, not imported by the cloud's part
        """The record's bytes."""
        from wire.messages import Record, encode_record
        from wire.readings import Numeric
        from wire.vocabulary import Metric

        who = (source.device_id, source.session_id, source.origin, clock.boot_id(), clock.monotonic_us())
        match self.kind:
            case "unknown_body":
                return msgspec.msgpack.encode(Record(*who, msgspec.Raw(msgspec.msgpack.encode(["poison", self.mark]))))
            case "no_record":
                return msgspec.msgpack.encode({"poison": self.mark})
            case _:
                body = Numeric(Metric.HEART_RATE, 80, _UNSTORABLE_US, quality_reason=self.mark)
                names = ("device_id", "session_id", "origin", "boot_id", "mono_us")
                return encode_record(body, **dict(zip(names, who, strict=True)))


POISONS = ("unknown_body", "no_record", "unstorable")


def new_poison(kind: str) -> Poison:
    """One that can be found again."""
    return Poison(kind, f"poison-{secrets.token_hex(8)}")


class _Watched(NamedTuple):
    """A file read again when it changes."""

    path: Path
    stamp: list[int]
    value: list[BentClock]

    def clock(self) -> BentClock:
        try:
            stamp = self.path.stat().st_mtime_ns
            if stamp != self.stamp[0]:
                self.value[0] = msgspec.json.decode(self.path.read_bytes(), type=BentClock)
                self.stamp[0] = stamp
        except FileNotFoundError:
            self.value[0] = BentClock()
        return self.value[0]


def _bend_clock(path: Path) -> None:
    watched = _Watched(path, [0], [BentClock()])
    now_us, state = SystemClock.now_us, SystemClock.state
    SystemClock.now_us = lambda self: watched.clock().bend(now_us(self))  # type: ignore[method-assign]
    SystemClock.state = lambda self: watched.clock().state(state(self))  # type: ignore[method-assign]
    if boot_id := watched.clock().boot_id:
        SystemClock.boot_id = lambda self: boot_id  # type: ignore[method-assign]


def _take_poison(path: Path) -> None:
    from edge.outbox import Outbox

    run, encode = Outbox.run, Outbox._encode

    async def poisoned(self: Outbox) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run(self))
            tasks.create_task(swallow(self))

    async def swallow(outbox: Outbox) -> None:
        from edge.outbox import Source
        from wire.readings import Origin

        while True:
            await asyncio.sleep(_LOOK_S)
            if path.exists():
                poison = msgspec.json.decode(path.read_bytes(), type=Poison)
                await outbox.append(Source("poison", "poison", Origin.TEST), [poison])  # type: ignore[list-item]
                path.unlink(missing_ok=True)

    def encoded(self: Outbox, source: Any, body: Any) -> bytes:
        return body.encoded(source, SystemClock()) if isinstance(body, Poison) else encode(self, source, body)

    Outbox.run, Outbox._encode = poisoned, encoded  # type: ignore[method-assign]


def _slow_store(path: Path) -> None:
    from cloud.store.append import Appender

    append: Callable[..., Any] = Appender.append

    def slowly(self: Appender, group: Any) -> Any:
        began_s = time.monotonic()
        appended = append(self, group)
        if path.exists():
            factor, least_s = map(float, path.read_text().split())
            time.sleep(max(least_s, (factor - 1) * (time.monotonic() - began_s)))
        return appended

    Appender.append = slowly  # type: ignore[method-assign]


def run_part(arguments: Sequence[str]) -> int:
    """Runs the part; its exit code."""
    folder, part = Path(arguments[0]), arguments[1:]
    name = Path(part[part.index("-c") + 1]).stem
    if part[0] == "edge":
        _bend_clock(clock_file(folder, name))
        _take_poison(poison_file(folder, name))
    elif part[0] == "cloud":
        _slow_store(folder / SLOW_INGEST)
    return main(part)


if __name__ == "__main__":
    sys.exit(run_part(sys.argv[1:]))
