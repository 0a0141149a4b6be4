"""Random and mutated inputs by a seed: bytes flipped, cut, doubled and spliced; values within MessagePack replaced."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec

# What breaks readers: the edges of numbers, of time, of text.
_BYTES = (b"", b"\x00", b"\xff" * 9, b"\r\n", b"\x0b", b"\x1c\r", b"\x7f\xff\xff\xff", b"%00", b"..", b"|", b"^" * 40)
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 255, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, -0.0, 1e308, -1e308, 5e-324,
    float("nan"), float("inf"), float("-inf"), "", "\x00", "a\nb", "\u202e", "😀" * 50, "x" * 5000,
    "<img src=x onerror=alert(1)>", "'; DROP TABLE session; --", b"", b"\x00" * 16, b"\xff" * 5000, [], [[]], {},
    {"a": {"b": []}}, "waveform", "numeric", "heart_rate", "s1",
)  # fmt: skip


class Mutator:
    """One stream of inputs; the same seed gives the same."""

    def __init__(self, seed: int, corpus: Sequence[bytes]) -> None:
        self.random = random.Random(seed)
        self._corpus = list(corpus)

    def any_bytes(self) -> bytes:
        """A mutated input, now and then only noise."""
        if self.random.random() < 0.05:
            return self.random.randbytes(self.random.randrange(300))
        mutated = bytearray(self.random.choice(self._corpus))
        for _ in range(self.random.choice((0, 1, 1, 2, 5))):
            self._mutate(mutated)
        return bytes(mutated)

    def _mutate(self, mutated: bytearray) -> None:
        at = self.random.randrange(len(mutated) + 1)
        to = min(len(mutated), at + self.random.choice((1, 2, 8, 100)))
        match self.random.randrange(6):
            case 0 if at < len(mutated):
                mutated[at] ^= 1 << self.random.randrange(8)
            case 1:
                del mutated[at:to]
            case 2:
                mutated[at:at] = mutated[at:to] * self.random.choice((1, 3, 50))
            case 3:
                mutated[at:to] = self.random.choice(_BYTES)
            case 4:
                other = self.random.choice(self._corpus)
                mutated[at:] = other[self.random.randrange(len(other) + 1) :]
            case _:
                mutated[at:to] = self.random.randbytes(to - at)

    def message(self, packed: bytes) -> bytes:
        """MessagePack of the same shape with some values replaced."""
        content = msgspec.msgpack.decode(packed)
        for _ in range(self.random.choice((1, 1, 2, 4))):
            content = self._replaced(content)
        return msgspec.msgpack.encode(content)

    def _replaced(self, content: Any) -> Any:
        if isinstance(content, list) and content and self.random.random() < 0.9:
            at = self.random.randrange(len(content))
            changed = [*content[:at], self._replaced(content[at]), *content[at + 1 :]]
            return changed if self.random.random() < 0.95 else changed[:at] + changed[at:] * 2
        if isinstance(content, dict) and content and self.random.random() < 0.9:
            key = self.random.choice(list(content))
            return {**content, key: self._replaced(content[key])}
        if isinstance(content, int | float) and self.random.random() < 0.4:
            moved = content + self.random.choice((-1, 1, 1_000_000, -(10**15), 10**18))
            return moved if -(2**63) <= moved < 2**64 else content
        return self.random.choice(_VALUES)
