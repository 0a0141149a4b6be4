"""A simulated chest strap: Heart Rate service 1.0 as a peripheral on the virtual radio, one notification a second.

Written from the Heart Rate, Battery and Device Information service specifications; it knows nothing of our driver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bumble.att import ATT_Error
from bumble.device import Connection, Device
from bumble.gatt import Characteristic, CharacteristicValue, Service

from firmware_sim.faults import BadLink
from firmware_sim.truth import NumericTruth
from wire.clock import MICROSECONDS, Clock
from wire.vocabulary import Metric

HEART_RATE_SERVICE = "180D"
HEART_RATE_MEASUREMENT = "2A37"
BODY_SENSOR_LOCATION = "2A38"
HEART_RATE_CONTROL_POINT = "2A39"
BATTERY_SERVICE = "180F"
BATTERY_LEVEL = "2A19"
DEVICE_INFORMATION_SERVICE = "180A"

CHEST = 1  # Body Sensor Location
RESET_ENERGY = b"\x01"
CONTROL_POINT_NOT_SUPPORTED = 0x80  # Heart Rate service §1.6, application error
NAME = "vitalwire SIM HRM"
ADDRESS = "C0:FF:EE:00:00:01"
# Heart Rate service §3.1: the measurement is sent about once a second.
PERIOD_S = 1.0
# §3.1.1.5: what fits a notification of the smallest MTU (23) beside flags, a 16-bit rate and the energy.
MOST_RR_INTERVALS = 7
_RR_TICKS_PER_S = 1024


class Measurement(NamedTuple):
    """One Heart Rate Measurement as sent. RR intervals in 1/1024 s, oldest first."""

    heart_rate_bpm: int
    has_contact: bool
    rr_1024: tuple[int, ...] = ()
    energy_kj: int | None = None

    def encode(self) -> bytes:
        """Heart Rate service §3.1.1: flags, rate (16 bits only when it must), energy, RR intervals."""
        is_wide = self.heart_rate_bpm > 0xFF
        flags = is_wide | self.has_contact << 1 | 1 << 2 | (self.energy_kj is not None) << 3 | bool(self.rr_1024) << 4
        packet = bytes([flags]) + self.heart_rate_bpm.to_bytes(2 if is_wide else 1, "little")
        if self.energy_kj is not None:
            packet += min(self.energy_kj, 0xFFFF).to_bytes(2, "little")
        return packet + b"".join(interval.to_bytes(2, "little") for interval in self.rr_1024)


class Notified(NamedTuple):
    """What went on the air while somebody had subscribed; `measurement` is None when the link garbled it."""

    time_us: int
    value: bytes
    measurement: Measurement | None
    since_beat_us: int = 0  # how long before `time_us` the last of its RR intervals ended

    def truth(self) -> Iterator[NumericTruth]:
        """What it says, each beat at the time it really had; nothing when garbled or without contact."""
        said = self.measurement
        if said is None or not said.has_contact:
            return
        yield NumericTruth(Metric.HEART_RATE.value, float(said.heart_rate_bpm), None, self.time_us, "")
        for number, interval in enumerate(said.rr_1024, 1):
            later_us = round(sum(said.rr_1024[number:]) * MICROSECONDS / _RR_TICKS_PER_S)
            beat_us = self.time_us - self.since_beat_us - later_us
            yield NumericTruth(Metric.RR_INTERVAL.value, interval * 1000 / _RR_TICKS_PER_S, None, beat_us, "")


class HeartRateSensor:
    """The strap. `heart_rate_bpm` is asked before every packet; `has_contact` and `battery_percent` may be set.

    Without skin contact it sends a rate of 0 and no RR intervals, as a strap that has lost its signal does.
    """

    advertised_services = (HEART_RATE_SERVICE,)

    def __init__(
        self,
        clock: Clock,
        heart_rate_bpm: Callable[[], float],
        *,
        name: str = NAME,
        address: str = ADDRESS,
        bad_link: BadLink | None = None,
        truth: Callable[[Notified], None] | None = None,
        period_s: float = PERIOD_S,
    ) -> None:
        self.name = name
        self.address = address
        self.has_contact = True
        self.battery_percent = 93
        self._clock = clock
        self._heart_rate_bpm = heart_rate_bpm
        self._bad_link = bad_link or BadLink()
        self._truth = truth
        self._period_s = period_s
        self._device: Device | None = None
        self._latest: Measurement | None = None
        self._latest_mono_us = 0
        self._beat_phase = 0.0  # how much of the current beat has passed, 0..1
        self._ticks_since_beat = 0.0  # 1/1024 s
        self._energy_joule = 0.0
        self._measurement = Characteristic[bytes](
            HEART_RATE_MEASUREMENT, Characteristic.Properties.NOTIFY, Characteristic.Permissions(0), b""
        )

    def services(self) -> list[Service]:
        """Heart rate, battery, device information."""
        return [
            Service(
                HEART_RATE_SERVICE,
                [
                    self._measurement,
                    _readable(BODY_SENSOR_LOCATION, bytes([CHEST])),
                    Characteristic(
                        HEART_RATE_CONTROL_POINT,
                        Characteristic.Properties.WRITE,
                        Characteristic.Permissions.WRITEABLE,
                        CharacteristicValue(write=self._on_control_point),
                    ),
                ],
            ),
            Service(
                BATTERY_SERVICE,
                [
                    Characteristic(
                        BATTERY_LEVEL,
                        Characteristic.Properties.READ,
                        Characteristic.Permissions.READABLE,
                        CharacteristicValue(read=lambda _connection: bytes([self.battery_percent])),
                    )
                ],
            ),
            Service(
                DEVICE_INFORMATION_SERVICE,
                [
                    _readable("2A29", b"vitalwire (simulated)"),
                    _readable("2A24", b"SIM HRM"),
                    _readable("2A25", self.address.replace(":", "").encode()),
                    _readable("2A26", b"1.0"),
                ],
            ),
        ]

    async def run(self, device: Device) -> None:
        """Beats and notifies until cancelled; with faults, also hangs up now and then."""
        self._device = device
        send = self._bad_link.sending(self._notify)
        loop = asyncio.get_running_loop()
        hang_up_at_s: dict[Connection, float] = {}

        def on_connection(connection: Connection) -> None:
            if (connected_s := self._bad_link.connected_s()) is not None:
                hang_up_at_s[connection] = loop.time() + connected_s
            connection.once(Connection.EVENT_DISCONNECTION, lambda _reason: hang_up_at_s.pop(connection, None))

        device.on(Device.EVENT_CONNECTION, on_connection)
        due_s = loop.time()
        while True:
            due_s += self._period_s
            await asyncio.sleep(due_s - loop.time())
            self._latest, self._latest_mono_us = self.measure(self._period_s), self._clock.monotonic_us()
            await send(self._latest.encode())
            for connection in [connection for connection, at_s in hang_up_at_s.items() if at_s <= loop.time()]:
                hang_up_at_s.pop(connection)
                await connection.disconnect()

    def measure(self, elapsed_s: float) -> Measurement:
        """Lets the heart beat for that long and says what the strap then reports."""
        rate = self._heart_rate_bpm()
        self._energy_joule += elapsed_s * rate  # 70/min gives 4.2 kJ/min, a person at ease
        if not self.has_contact:
            self._beat_phase = self._ticks_since_beat = 0.0
            return Measurement(0, has_contact=False)
        intervals = []
        left_s = elapsed_s
        while rate > 0 and left_s >= (to_beat_s := (1 - self._beat_phase) * 60 / rate):
            left_s -= to_beat_s
            intervals.append(min(round(self._ticks_since_beat + to_beat_s * _RR_TICKS_PER_S), 0xFFFF))
            self._beat_phase = self._ticks_since_beat = 0.0
        self._beat_phase += left_s * rate / 60
        self._ticks_since_beat += left_s * _RR_TICKS_PER_S
        energy_kj = int(self._energy_joule / 1000)
        return Measurement(round(rate), True, tuple(intervals[-MOST_RR_INTERVALS:]), energy_kj)

    async def _notify(self, value: bytes) -> None:
        assert self._device is not None
        subscribers = self._device.gatt_server.subscribers
        if not any(self._measurement.handle in cccds for cccds in subscribers.values()):
            return
        time_us, mono_us, latest = self._clock.now_us(), self._clock.monotonic_us(), self._latest
        since_beat_us = mono_us - self._latest_mono_us + round(self._ticks_since_beat * MICROSECONDS / _RR_TICKS_PER_S)
        await self._device.gatt_server.notify_subscribers(self._measurement, value)
        if self._truth is not None:
            intact = latest if latest is not None and value == latest.encode() else None
            self._truth(Notified(time_us, value, intact, since_beat_us))

    def _on_control_point(self, _connection: object, value: bytes) -> None:
        """Heart Rate service §3.3: 1 resets the energy expended, anything else is refused."""
        if value != RESET_ENERGY:
            raise ATT_Error(CONTROL_POINT_NOT_SUPPORTED)
        self._energy_joule = 0.0


def _readable(uuid: str, value: bytes) -> Characteristic[bytes]:
    return Characteristic(uuid, Characteristic.Properties.READ, Characteristic.Permissions.READABLE, value)
