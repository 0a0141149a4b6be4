"""A byte reader that cannot run past the end: what parsers of outside bytes are written with."""

from __future__ import annotations

from wire.messages import DecodeError


class Reader:
    """Takes fields off the front of one packet. Whatever does not fit raises DecodeError with the packet's bytes."""

    def __init__(self, packet: bytes, what: str) -> None:
        self._packet = packet
        self._what = what
        self._at = 0

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return len(self._packet) - self._at

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > self.remaining:
            raise self.error(f"{count} bytes expected at {self._at}, {self.remaining} left")
        start, self._at = self._at, self._at + count
        return self._packet[start : self._at]

    def u8(self) -> int:
        """One byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Two bytes, little-endian, unsigned."""
        return int.from_bytes(self.take(2), "little")

    def rest(self) -> bytes:
        """All that is left, possibly nothing."""
        return self.take(self.remaining)

    def finish(self) -> None:
        """Raises when bytes are left over: a packet longer than its flags say is not understood."""
        if self.remaining:
            raise self.error(f"{self.remaining} bytes left over")

    def error(self, why: str) -> DecodeError:
        """The error to raise about this packet."""
        return DecodeError(f"{self._what}: {why}", self._packet)
