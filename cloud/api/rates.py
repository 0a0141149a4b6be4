"""How often one may ask: a token bucket for each known credential, and one for each source of everything else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from cloud.sign_in_limits import network_of
from wire.clock import MICROSECONDS, Clock

# A screen fetches some 40 files when it is opened, and a shift opens them all at once: ten seconds' worth at once.
_BURST_S = 10
# 300 bytes each: 6 MB at most. The longest unseen is forgotten first, and it has its whole burst again.
_MOST_BUCKETS = 20_000
# How long a credential stays known after it was found good. One that ended meanwhile gains a bucket and opens nothing;
# a screen that asks less often than this asks beside whatever floods its address.
_KNOWN_US = 3600 * MICROSECONDS
# A flood is one row in the audit log for each source and minute, and a count beside it.
_TELL_AGAIN_US = 60 * MICROSECONDS


class Wait(NamedTuple):
    """Not now; `is_news` when this key was not refused for a while, so that it is written down."""

    seconds: int
    is_news: bool


class _Bucket:
    __slots__ = ("tokens", "told_us", "us")

    def __init__(self, tokens: float, us: int) -> None:
        self.tokens, self.us, self.told_us = tokens, us, -_TELL_AGAIN_US


class _Buckets:
    def __init__(self, per_s: int, most: int) -> None:
        self._per_s, self._most = per_s, most
        self._buckets: OrderedDict[bytes | str, _Bucket] = OrderedDict()

    def take(self, key: bytes | str, now_us: int) -> Wait | None:
        full = self._per_s * _BURST_S
        bucket = self._buckets.setdefault(key, _Bucket(full, now_us))
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        elapsed_s = max(0, now_us - bucket.us) / MICROSECONDS
        bucket.tokens, bucket.us = min(full, bucket.tokens + elapsed_s * self._per_s), now_us
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return None
        is_news = now_us - bucket.told_us >= _TELL_AGAIN_US
        if is_news:
            bucket.told_us = now_us
        return Wait(1, is_news)  # a whole second's worth is there by then


class Rates:
    """The limits of one process. Who is signed in pays nothing for who else is behind the same address."""

    def __init__(self, clock: Clock, *, per_source: int, per_identity: int, most_buckets: int = _MOST_BUCKETS) -> None:
        self._clock, self._most = clock, most_buckets
        self._sources = _Buckets(per_source, most_buckets)
        self._identities = _Buckets(per_identity, most_buckets)
        # Credential -> until when it is known, the longest not found good forgotten first.
        self._known: OrderedDict[bytes, int] = OrderedDict()

    def vouch(self, identity: bytes) -> None:
        """This credential was found good: from now on it has a bucket of its own."""
        self._known[identity] = self._clock.monotonic_us() + _KNOWN_US
        self._known.move_to_end(identity)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def take(self, source: str, offered: Iterable[bytes] = ()) -> Wait | None:
        """Takes one request, or says how long to wait. `offered`: the credentials it came with, good or not."""
        now_us = self._clock.monotonic_us()
        for identity in offered:
            if self._known.get(identity, 0) > now_us:
                return self._identities.take(identity, now_us)
        # What anybody can make up has no bucket: each request could bring another one.
        return self._sources.take(network_of(source), now_us)
