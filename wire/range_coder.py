"""A binary range coder that learns as it goes, and plain bits beside it: what the waveform codec writes with.

Probabilities are counts of what each context has seen (docs/wire.md), so an encoder can work them all out at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

UNIT = 32  # what one bit adds to the counts of its context; the first guess weighs less or more
LAST_BYTES = 2  # name a number inside the last range whatever follows: the range is never below 2^32 of 2^40
_SURE = 32  # no bit is surer than 32 in 65,536
_TOP, _FULL = 1 << 32, 1 << 40


class Guesses(NamedTuple):
    """Counts of every context before its first bit: ones and all, in units of 1/32."""

    ones: list[int]
    totals: list[int]


def range_encode(contexts: Ints, bits: Ints, guesses: Guesses) -> bytes:
    """The bits, each coded by what its context has seen so far."""
    low, span = 0, _FULL - 1
    out = bytearray()
    for chance, bit in zip(_chances(contexts, bits, guesses), bits.tolist(), strict=True):
        bound = (span >> 16) * chance
        if bit:
            span = bound
        else:
            low += bound
            span -= bound
        while span < _TOP:
            _put(out, low)
            low = (low & 0xFFFFFFFF) << 8
            span <<= 8
    low += 0xFFFFFF  # rounded up to what the last two bytes can say
    _put(out, low)
    _put(out, (low & 0xFFFFFFFF) << 8)
    return bytes(out)


def _put(out: bytearray, low: int) -> None:
    """Appends the top byte of 40 bits; what overflowed is carried into the bytes before it."""
    if low >= _FULL:
        at = len(out) - 1
        while out[at] == 0xFF:
            out[at] = 0
            at -= 1
        out[at] += 1
    out.append(low >> 32 & 0xFF)


def _chances(contexts: Ints, bits: Ints, guesses: Guesses) -> list[int]:
    """The probability of a 1, in 1/65536, at every decision: a running count of each context."""
    order = np.argsort(contexts.astype(np.int16), kind="stable")
    context, bit = contexts[order], bits[order]
    place = np.arange(len(order))
    starts = np.flatnonzero(np.diff(context, prepend=-1))
    run = np.cumsum(np.diff(context, prepend=-1) != 0) - 1
    before = np.cumsum(bit) - bit
    ones = np.array(guesses.ones)[context] + UNIT * (before - before[starts][run])
    totals = np.array(guesses.totals)[context] + UNIT * (place - starts[run])
    chances = np.empty(len(order), np.int64)
    chances[order] = np.clip((ones << 16) // totals, _SURE, 65_536 - _SURE)
    listed: list[int] = chances.tolist()
    return listed


def pack_bits(values: Ints, widths: Ints) -> bytes:
    """The low `widths` bits of each value, most significant first."""
    ends = np.cumsum(widths)
    down = np.repeat(ends, widths) - 1 - np.arange(int(widths.sum()))
    return np.packbits((np.repeat(values, widths) >> down & 1).astype(np.uint8)).tobytes()


class RangeDecoder:
    """The bits the range coder wrote, one for each context asked for."""

    def __init__(self, body: bytes, guesses: Guesses) -> None:
        ones, totals = guesses.ones.copy(), guesses.totals.copy()
        span = _FULL - 1
        value = int.from_bytes(body[:5].ljust(5, b"\0"), "big")
        rest = iter(body[5:])
        taken = 0

        # A closure over plain variables: called ten thousand times a block, it takes half the time of a method.
        def bit(context: int) -> int:
            nonlocal span, value, taken
            total = totals[context]
            chance = (ones[context] << 16) // total
            if chance < _SURE:
                chance = _SURE
            elif chance > 65_536 - _SURE:
                chance = 65_536 - _SURE
            totals[context] = total + UNIT
            bound = (span >> 16) * chance
            if value < bound:
                span, found = bound, 1
                ones[context] += UNIT
            else:
                value -= bound
                span, found = span - bound, 0
            while span < _TOP:
                span <<= 8
                value = value << 8 | next(rest, 0)
                taken += 1
            return found

        def used() -> int:
            return taken + LAST_BYTES

        self.bit = bit
        self.used = used
