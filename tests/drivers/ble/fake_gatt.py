"""A GATT link without a radio: tests say what the device notifies, then that it is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from drivers.driver import LinkLost
from drivers.links.gatt import Notification, Refused


class FakeGattLink:
    """Plays `notified` to whoever subscribes, then loses the link."""

    def __init__(self, notified: Iterable[Notification], values: dict[str, bytes] | None = None) -> None:
        self.subscribed: list[str] = []
        self._notified = list(notified)
        self._values = values or {}

    def has(self, uuid: str) -> bool:
        return uuid in self._values

    async def read(self, uuid: str) -> bytes:
        try:
            return self._values[uuid]
        except KeyError:
            raise Refused(uuid) from None

    async def subscribe(self, uuids: Iterable[str]) -> None:
        self.subscribed += uuids

    async def notifications(self, uuids: Iterable[str], silence_s: float) -> AsyncIterator[Notification]:
        assert silence_s > 0
        assert set(uuids) <= set(self.subscribed)
        for notification in self._notified:
            yield notification
        raise LinkLost("disconnected")
