"""Places readings of a box that had no clock, once an anchor of the same boot says when that boot was.

What is stored never changes: rows captured before the clock was set keep what the box said, and one placement a boot,
written once, shifts all of them into history when they are read.
"""

from __future__ import annotations

from typing import NamedTuple

from cloud.store.engine import Insert
from cloud.store.rows import Rows
from wire.clock import EARLIEST_PLAUSIBLE_US, ClockAnchor

_PLACEMENT = Insert("placement", ("boot_id", "shift_us", "uncertainty_us", "received_us"), is_once=True)


class Placed(NamedTuple):
    """A time, and whether it is a place in history or only what an unset clock said."""

    time_us: int
    is_placed: bool


class Placing:
    """The anchors of one group of batches, and what follows from them."""

    def __init__(self, rows: Rows, now_us: int) -> None:
        self._rows, self._now_us = rows, now_us
        self._boots: set[bytes] = set()

    def note(self, anchor: ClockAnchor) -> None:
        """Keeps an anchor."""
        self._rows.anchor[anchor.boot_id, anchor.mono_us] = anchor
        self._boots.add(anchor.boot_id)

    def place(self, time_us: int, boot_id: bytes, mono_us: int) -> Placed:
        """Where a record made at `mono_us` belongs."""
        if time_us >= EARLIEST_PLAUSIBLE_US:
            return Placed(time_us, True)
        self._rows.flush_anchors()
        if self._unset(boot_id) is None and (found := self._set(boot_id)) is not None:
            # The clock was set between this record and its commit: no anchor tells its clock from before.
            return Placed(found.wall_us + mono_us - found.mono_us, True)
        self._rows.count("records_waiting_for_a_clock")
        return Placed(time_us, False)

    def finish(self) -> None:
        """Writes a placement for every boot of which both kinds of anchors are now known."""
        self._rows.flush_anchors()
        for boot_id in self._boots:
            if (unset := self._unset(boot_id)) is None or (found := self._set(boot_id)) is None:
                continue
            shift_us = (found.wall_us - found.mono_us) - (unset.wall_us - unset.mono_us)
            row = boot_id, shift_us, found.uncertainty_us, self._now_us
            if self._rows.writer.insert(_PLACEMENT, [row]) > 0:
                self._rows.count("boots_placed")

    def _unset(self, boot_id: bytes) -> ClockAnchor | None:
        """The first anchor of a boot, if it is from before its clock was set."""
        first = self._anchor("boot_id = ? ORDER BY mono_us", boot_id)
        return first if first is not None and first.wall_us < EARLIEST_PLAUSIBLE_US else None

    def _set(self, boot_id: bytes) -> ClockAnchor | None:
        """The first anchor of a boot from after its clock was set and synchronised."""
        # The last one first: a box that waits for its clock all day has many, and none to be found.
        last = self._anchor("boot_id = ? ORDER BY mono_us DESC", boot_id)
        if last is None or last.wall_us < EARLIEST_PLAUSIBLE_US:
            return None
        return self._anchor("boot_id = ? AND synchronised = 1 ORDER BY mono_us", boot_id)

    def _anchor(self, where: str, boot_id: bytes) -> ClockAnchor | None:
        columns = "boot_id, mono_us, wall_us, uncertainty_us, synchronised"
        query = f"SELECT {columns} FROM anchor WHERE {where} LIMIT 1"  # noqa: S608  # both are ours
        for boot, mono_us, wall_us, uncertainty_us, synchronised in self._rows.writer.rows(query, (boot_id,)):
            return ClockAnchor(bytes(boot), mono_us, wall_us, uncertainty_us, bool(synchronised))
        return None
