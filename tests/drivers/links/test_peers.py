"""Who may connect: addresses of either family, in whatever way a socket writes them."""

from __future__ import annotations

import pytest

from drivers.links.peers import parse_peers


@pytest.mark.parametrize(
    ("peers", "host", "expected"),
    [
        ((), "203.0.113.9", True),
        (("192.168.7.20",), "192.168.7.20", True),
        (("192.168.7.20",), "192.168.7.21", False),
        (("192.168.7.0/24",), "192.168.7.21", True),
        (("192.168.7.0/24",), "::ffff:192.168.7.21", True),
        (("192.168.7.0/24",), "::ffff:192.168.8.21", False),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("2001:db8::5",), "192.168.7.20", False),
        (("0.0.0.0/0",), "unknown", False),
    ],
)
def test_a_peer_is_known_by_its_address(peers: tuple[str, ...], host: str, expected: bool) -> None:
    assert parse_peers(peers).allows(host) is expected


@pytest.mark.parametrize("peer", ["", "monitor-1", "192.168.7.1/24", "1.2.3", "*"])
def test_what_is_no_address_is_named(peer: str) -> None:
    with pytest.raises(ValueError, match="peers: "):
        parse_peers([peer])
