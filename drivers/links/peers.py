"""Which addresses a listening link takes connections from: HL7 over TCP knows no other proof of who is calling."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Peers(NamedTuple):
    """Addresses and networks; none at all means whoever reaches the socket, which is for loopback."""

    networks: tuple[Network, ...] = ()

    def allows(self, host: str) -> bool:
        """Whether a connection from this address is taken."""
        if not self.networks:
            return True
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        # A socket for both families shows an IPv4 peer as IPv6.
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self.networks)


def parse_peers(peers: Sequence[str]) -> Peers:
    """Reads addresses and networks. Raises ValueError naming the one that is neither."""
    networks = []
    for peer in peers:
        try:
            networks.append(ipaddress.ip_network(peer))
        except ValueError:
            raise ValueError(f"peers: {peer!r} is not an address or network, such as 192.168.7.20") from None
    return Peers(tuple(networks))
