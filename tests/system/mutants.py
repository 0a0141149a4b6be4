"""Parts broken on purpose, to show that the system tests would notice: `python -m tests.system.mutants NAME PART …`."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from vitalwire.__main__ import main

_CRASH_AT = 5


def skip_receipt_check() -> None:
    """Takes a batch as receipted as soon as it is published: the broker's word instead of the store's."""
    from edge.uplink import Uplink
    from wire.messages import Batch, Lane, Receipt, decode_frame

    publish = Uplink._publish

    async def trusting(self: Uplink, client: Any, lane: Lane, frame: bytes) -> None:
        await publish(self, client, lane, frame)
        batch = decode_frame(frame, Batch)
        said = Receipt(b"", batch.epoch, lane, batch.first_seq, batch.last_seq, self._clock.now_us())
        await self._dispatch.settle(said)

    Uplink._publish = trusting  # type: ignore[method-assign]


def forget_transfers() -> None:
    """Does not recognise what a device sends again."""
    from edge.spool import Spool

    Spool.knows_transfer = lambda self, lane, key: False  # type: ignore[method-assign]
    crash_before_answer()


def crash_before_answer() -> None:
    """No mutant: kill -9 at the worst instant, once, when a transfer is on disk and its device does not know it."""
    from edge.outbox import Outbox

    append = Outbox.append
    crashed = Path(sys.argv[sys.argv.index("-c") + 1]).with_suffix(".crashed")
    transfers = itertools.count()

    async def fatal(self: Outbox, *arguments: Any, transfer: str | None = None, **options: Any) -> None:
        await append(self, *arguments, transfer=transfer, **options)
        if transfer is not None and next(transfers) == _CRASH_AT and not crashed.exists():
            crashed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    Outbox.append = fatal  # type: ignore[method-assign]


def forget_alarms() -> None:
    """Does not know after a restart which alarms stand."""
    from edge.alerts import DeviceAlarms

    start = DeviceAlarms.__init__

    def forgetful(self: DeviceAlarms, *arguments: Any, saved: Any, **options: Any) -> None:
        start(self, *arguments, saved=lambda _name: None, **options)

    DeviceAlarms.__init__ = forgetful  # type: ignore[method-assign]


def drop_what_cannot_be_read() -> None:
    """Receipts a record that cannot be read and forgets it."""
    from cloud.store.rows import Rows

    flush = Rows.flush

    def forgetful(self: Rows) -> None:
        self.unread.clear()
        self.dead_letter.clear()
        flush(self)

    Rows.flush = forgetful  # type: ignore[method-assign]


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
