"""The broker's own words about whom it turned away; tests/threats/test_broker_threats.py has the broker say them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.bus.broker import Broker
from cloud.bus.broker_watch import BrokerWatch, TurnedAway, read_line
from cloud.config import CloudConfig
from cloud.counters import Counters
from tests.conftest import FakeClock

START = "[7] 2026/11/25 09:08:45.954829 [ERR] "


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            '192.0.2.1:34411 - mid:31 - "vw-gw-1" - Publish Violation - Subject "vw.1.gw-1.up.bulk"',
            TurnedAway("broker_rights_refused", 'may not write to "vw.1.gw-1.up.bulk"', "192.0.2.1"),
        ),
        (
            '[2001:db8::1]:34411 - mid:31 - "x" - Subscription Violation - Subject ">", SID >',
            TurnedAway("broker_rights_refused", 'may not listen to ">"', "2001:db8::1"),
        ),
        (
            '192.0.2.1:9 - mid:39 - "x" - authentication error',
            TurnedAway("broker_unknown_refused", "its certificate or password does not count", "192.0.2.1"),
        ),
        # The same refusal, said twice.
        ('192.0.2.1:9 - mid:39 - "x" - unable to connect: authentication error', None),
        (
            "192.0.2.1:9 - mid:37 - TLS handshake error: tls: client didn't provide a certificate",
            TurnedAway("broker_tls_refused", "tls: client didn't provide a certificate", "192.0.2.1"),
        ),
        ("192.0.2.1:9 - mid:6 - TLS handshake error: EOF", None),
        ("192.0.2.1:9 - mid:6 - TLS handshake error: read tcp a->b: i/o timeout", None),
        ("127.0.0.1:9 - cid:6 - authentication error", None),
    ],
)
def test_a_line_says_who_was_refused_what(line: str, said: TurnedAway | None) -> None:
    assert read_line(START + line, 7) == said
    assert read_line(START + line, 8) is None


class Watched:
    """A watch over a log that the test writes, and what it wrote down."""

    def __init__(self, config: CloudConfig, clock: FakeClock) -> None:
        self.counters = Counters()
        self.rows: list[tuple[str, str]] = []
        config.state_path.mkdir()
        broker = Broker(config)
        self.path = broker.log_path
        self.path.write_text("")
        self.watch = BrokerWatch(broker, self._write, self.counters, clock)

    async def _write(self, _name: str, _role: str, action: str, _about: str, source: str, _result: str) -> None:
        self.rows.append((action, source))

    def log(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)


REFUSED = f'{START}192.0.2.1:9 - mid:39 - "x" - authentication error\n'


@pytest.fixture
def watched(config: CloudConfig, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(Broker, "pid", 7)
    return Watched(config, clock)


async def test_what_was_there_before_is_not_told_again_and_half_a_line_waits(watched: Watched) -> None:
    watched.log(REFUSED)
    watched.watch.open()
    watched.log(REFUSED[:30])
    await watched.watch.look()
    assert watched.rows == []
    watched.log(REFUSED[30:])
    await watched.watch.look()
    assert watched.rows == [("broker: its certificate or password does not count", "192.0.2.1")]


async def test_a_log_that_is_rotated_is_read_to_its_end_and_on(watched: Watched) -> None:
    watched.watch.open()
    watched.log(REFUSED)
    watched.path.rename(Path(f"{watched.path}.1"))
    watched.log(REFUSED * 2)
    await watched.watch.look()
    await watched.watch.look()
    assert watched.counters["broker_unknown_refused"] == 3


async def test_many_are_counted_and_few_written_down(watched: Watched) -> None:
    watched.watch.open()
    watched.log(REFUSED * 100)
    await watched.watch.look()
    assert watched.counters["broker_unknown_refused"] == 100
    assert len(watched.rows) == 11
    assert watched.rows[-1][0] == "broker: and more within this minute, only counted"
