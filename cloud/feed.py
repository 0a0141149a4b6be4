"""What screens see: readings straight from the bus, before commit; sessions and alerts only after it.

Every frame is decoded once and encoded once, whatever the number of screens.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import orjson

from cloud.counters import Counters
from cloud.fleet import Fleet
from cloud.gateways import GatewayState
from cloud.heartbeats import Moment
from cloud.live_screen import Frame, LiveScreen
from cloud.store.alerts import StoredAlert
from cloud.store.append import Appended
from cloud.store.reader import StoredSession
from cloud.window import Point, SessionWindow, WaveFrame, pack_wave
from cloud.words import Json, alert_json, event_json, session_json
from wire import topics
from wire.clock import EARLIEST_PLAUSIBLE_US, MICROSECONDS, Clock, ClockAnchor
from wire.messages import Batch, DecodeError, Presence, Record, decode_body, decode_frame, decode_record
from wire.readings import AlertPhase, DeviceEvent, Numeric, Status, WaveformBlock
from wire.waveform import peek

_log = logging.getLogger(__name__)

CLEARED_SHOWN_US = 10 * 60 * MICROSECONDS
# While a backlog drains, trends are sent again at this interval instead of value by value.
_BACKFILL_SNAPSHOT_TICKS = 5
# Sessions heard of on the bus whose opening is not committed yet; normally for milliseconds.
_MOST_UNOPENED = 200
# More records than this, from longer ago than what the box has told since: a backlog. Taking it in value by value would
# keep the present waiting; the windows are filled from the store instead, once it is there.
_LIVE_RECORDS = 32
_PAST_US = 10 * MICROSECONDS
# Closed sessions remembered for screens that lost the message: far more than close in the 20 s a send may take.
_MOST_CLOSED = 200


class Feed:
    """The state all screens share. Belongs to the event loop; never waits."""

    def __init__(self, clock: Clock, counters: Counters, fleet: Fleet | None = None) -> None:
        self._clock, self._counters = clock, counters
        self.fleet = fleet or Fleet(clock, counters)
        self._sessions: dict[str, StoredSession] = {}
        self._closed: dict[str, StoredSession] = {}
        self._stored_us: dict[str, int] = {}
        # By gateway and session: what another box says of a session never mixes with what its own box says.
        self._windows: dict[tuple[str, str], SessionWindow] = {}
        self._alerts: dict[str, dict[str, StoredAlert]] = {}
        self._screens: set[LiveScreen] = set()
        self._behind: set[str] = set()  # boxes whose backlog is stored and not yet in the windows
        self._newest: dict[str, ClockAnchor] = {}  # by box: when the newest of what it has told was captured
        self._ticks = 0

    # From the bus, before commit.

    def hear(self, subject: str, payload: bytes) -> None:
        """Takes in one message of a gateway; what cannot be read is counted, ingest keeps it."""
        try:
            gateway = topics.gateway_of(subject)
            if subject.endswith(".status"):
                self._hear_presence(gateway, decode_frame(payload, Presence))
                return
            batch = decode_frame(payload, Batch)
        except ValueError:
            self._counters.add("live_frames_unread")
            return
        now_us = self._clock.now_us()
        self.gateway(gateway).started(batch.epoch, now_us)
        if self.gateway(gateway).seen(now_us):
            self._tell_gateway(gateway)
        if self._is_backlog(gateway, batch):
            return
        for raw in batch.records:
            try:
                self._hear_record(gateway, decode_record(memoryview(raw)))
            except DecodeError:
                self._counters.add("live_records_unread")

    def _is_backlog(self, gateway: str, batch: Batch) -> bool:
        """By the box's own monotonic clock, which no setting of the time moves."""
        newest = self._newest.get(gateway)
        is_large = len(batch.records) > _LIVE_RECORDS
        for anchor in batch.anchors:
            if newest is None or anchor.boot_id != newest.boot_id:
                if newest is not None and is_large:
                    return True  # of another boot than the one that is heard
                newest = anchor
            elif anchor.mono_us > newest.mono_us:
                newest = anchor
            elif is_large and anchor.mono_us < newest.mono_us - _PAST_US:
                return True
        if newest is not None:
            self._newest[gateway] = newest
        return False

    def _hear_presence(self, gateway: str, presence: Presence) -> None:
        self.gateway(gateway).present(presence, self._clock.now_us())
        self._tell_gateway(gateway)

    def _hear_record(self, gateway: str, record: Record) -> None:
        body, session_id = decode_body(memoryview(record.body)), record.session_id
        if isinstance(body, Status):
            moment = Moment(record.boot_id, record.mono_us, body.time_us, self._clock.now_us())
            self.gateway(gateway).heartbeat(body, moment, session_id)
            self._tell_gateway(gateway)
        session = self._sessions.get(session_id)
        if session is not None and session.gateway != gateway:
            self._counters.add("live_records_foreign")
            return
        self._raise_origin(gateway, session_id, record.origin)
        match body:
            case Numeric():
                self.add_numeric(gateway, session_id, record.device_id, body)
            case WaveformBlock():
                self.add_wave(gateway, session_id, body.stream, body.quality.value, body.data)
            case DeviceEvent():
                self.add_event(gateway, session_id, record.device_id, body)
            case _:
                pass  # findings, alerts and sessions are shown only after commit

    def _raise_origin(self, gateway: str, session_id: str, origin: int) -> None:
        """Simulated data anywhere in a session marks it for good, before its first value is shown."""
        window = self._window(gateway, session_id)
        if window is None or origin <= window.origin:
            return
        window.origin = origin
        session = self._sessions.get(session_id)
        if session is not None and session.origin < origin:
            self._sessions[session_id] = session = session._replace(origin=origin)
            self._tell(session_id, {"type": "session", "session": self._session_json(session)})

    def add_numeric(self, gateway: str, session_id: str, device_id: str, numeric: Numeric) -> None:
        """Adds a value; only one newer than all before it is told at once, a late one comes with a snapshot."""
        window = self._window(gateway, session_id)
        if window is None or numeric.time_us < EARLIEST_PLAUSIBLE_US:
            return
        value = numeric.value if math.isfinite(numeric.value) else None
        point = Point(numeric.time_us, value, numeric.quality.value)
        if not window.add_point(numeric.metric.value, device_id, point, self._clock.now_us()):
            return
        message = {
            "type": "numeric",
            "session_id": session_id,
            "device_id": device_id,
            "metric": numeric.metric.value,
            "time_us": numeric.time_us,
            "value": value,
            "quality": numeric.quality.value,
            "reason": numeric.quality_reason,
        }
        self._tell(session_id, message)

    def add_wave(self, gateway: str, session_id: str, stream: str, quality: int, block: bytes) -> None:
        """Adds a waveform block. Raises DecodeError."""
        window = self._window(gateway, session_id)
        header = peek(block)
        if window is None or header.start_us < EARLIEST_PLAUSIBLE_US or header.sample_rate_hz <= 0:
            return
        end_us = header.start_us + round(header.sample_count * MICROSECONDS / header.sample_rate_hz)
        frame = pack_wave(session_id, stream, quality, block)
        wave = WaveFrame(header.start_us, header.first_index, end_us, frame)
        if window.add_wave(stream, wave, self._clock.now_us()):
            self._broadcast(session_id, frame)

    def add_event(self, gateway: str, session_id: str, device_id: str, event: DeviceEvent) -> None:
        """Adds what a device said."""
        window = self._window(gateway, session_id)
        if window is not None and event.time_us >= EARLIEST_PLAUSIBLE_US and window.add_event(event_json(event)):
            message = {"type": "event", "session_id": session_id, "device_id": device_id, **event_json(event)}
            self._tell(session_id, message)

    # After commit.

    def put_session(self, session: StoredSession, alerts: list[StoredAlert]) -> None:
        """A session and its alerts as they are committed now: what changed is told."""
        session_id = session.session_id
        if (window := self._windows.get((session.gateway, session_id))) is not None:
            session = session._replace(origin=max(session.origin, window.origin))
        known = self._sessions.get(session_id)
        if session.closed_us is None:
            self.gateway(session.gateway).label = session.label
        if session != known:
            if session.closed_us is None or known is not None:
                self._sessions[session_id] = session
                self._tell(session_id, {"type": "session", "session": self._session_json(session)})
            if session.closed_us is not None:
                self._close(session)
                return
            if known is None:
                for key in [key for key in self._windows if key[1] == session_id and key[0] != session.gateway]:
                    del self._windows[key]
                self._window(session.gateway, session_id)
        before = self._alerts.get(session_id, {})
        now = {stored.alert.alert_id: stored for stored in alerts}
        self._alerts[session_id] = now
        vanished = any(
            stored.alert.phase is not AlertPhase.CLEARED and alert_id not in now for alert_id, stored in before.items()
        )
        # An alert cleared by a clock far behind is already too old to be read: the snapshot is without it.
        if known is None or vanished:
            self._broadcast_snapshot(session_id)
            return
        for alert_id, stored in now.items():
            if stored != before.get(alert_id):
                self._tell(session_id, {"type": "alert", "session_id": session_id, "alert": alert_json(stored)})

    def stored(self, appended: Appended) -> None:
        """A group is committed and its receipts are sent."""
        for session_id in appended.sessions & self._sessions.keys():
            self._stored_us[session_id] = appended.stored_us
        for gateway in {gateway for gateway, _receipt in appended.receipts}:
            self.gateway(gateway).receipted(appended.stored_us)
        for gateway, receipt in appended.receipts:
            if receipt.last_seq - receipt.first_seq + 1 > _LIVE_RECORDS:
                self.behind(gateway)

    def behind(self, gateway: str) -> None:
        """The store has more of a box than its windows."""
        self._behind.add(gateway)

    def take_behind(self) -> list[tuple[str, str]]:
        """Open sessions, each with its box, whose windows lack what was stored of a backlog since the last call."""
        taken = [(name, one.gateway) for name, one in self._sessions.items() if one.gateway in self._behind]
        self._behind -= {gateway for _name, gateway in taken}  # the others wait for a session to be opened
        return taken

    def open_alerts(self) -> list[tuple[StoredSession, int]]:
        """Open sessions with alerts that are not cleared, and how many."""
        counts = {
            session_id: sum(stored.alert.phase is not AlertPhase.CLEARED for stored in alerts.values())
            for session_id, alerts in self._alerts.items()
        }
        return [(self._sessions[one], count) for one, count in counts.items() if count and one in self._sessions]

    # Screens.

    def join(self, screen: LiveScreen) -> None:
        """From now on the screen is told what it may see, beginning with a snapshot of each such open session."""
        self._screens.add(screen)
        for session_id in list(self._sessions):
            for frame in self.snapshot(session_id, screen):
                screen.offer(frame)

    def leave(self, screen: LiveScreen) -> None:
        """The screen is gone."""
        self._screens.discard(screen)

    @property
    def screens(self) -> int:
        """How many screens are connected."""
        return len(self._screens)

    def snapshot(self, session_id: str, screen: LiveScreen) -> list[Frame]:
        """A session as it stands, then the last 10 s of its streams; nothing of one not open or not to be seen."""
        session, window = self._sessions.get(session_id), self._window_of(session_id)
        if session is None or window is None or not screen.sees(session_id):
            return []
        message = {
            "type": "snapshot",
            "session": self._session_json(session),
            "numerics": {name: [tuple(point) for point in trend] for name, trend in window.numerics().items()},
            "alerts": self._shown_alerts(session_id),
            "events": window.events(),
            "gateway": self.gateway(session.gateway).as_json(),
            "dropped": screen.dropped_ever[session_id],
        }
        frames = [Frame(session_id, _json(message))]
        return frames + [Frame(session_id, wave) for wave in window.waves()]

    def make_good(self, session_id: str, screen: LiveScreen) -> list[Frame]:
        """What a screen needs that lost frames of a session, or of none ('')."""
        if not session_id:
            return [_gateway_frame(gateway) for gateway in self.fleet.gateways]
        if session_id in self._sessions or session_id not in self._closed or not screen.sees(session_id):
            return self.snapshot(session_id, screen)
        message = {"type": "session", "session": self._session_json(self._closed[session_id])}
        return [Frame(session_id, _json(message))]

    def tick(self) -> None:
        """Once a second: the time, boxes fallen silent, trends filled by a backlog."""
        self._ticks += 1
        now_us = self._clock.now_us()
        self._broadcast("", _json({"type": "tick", "server_us": now_us}))
        for gateway in self.fleet.tick():
            self._tell_gateway(gateway.gateway_id)
        if self._ticks % _BACKFILL_SNAPSHOT_TICKS == 0:
            for session_id in self._sessions:
                window = self._window_of(session_id)
                if window is not None and window.is_backfilled:
                    window.is_backfilled = False
                    self._broadcast_snapshot(session_id)

    def gateway(self, gateway_id: str) -> GatewayState:
        """A box, made on first sight; the broker lets only configured ones speak."""
        return self.fleet.gateway(gateway_id)

    def _window_of(self, session_id: str) -> SessionWindow | None:
        """The window of an open session."""
        session = self._sessions.get(session_id)
        return None if session is None else self._windows.get((session.gateway, session_id))

    def _window(self, gateway: str, session_id: str) -> SessionWindow | None:
        """Where a box's readings of a session go; None for readings of none."""
        key = gateway, session_id
        window = self._windows.get(key)
        if window is None and session_id:
            unopened = [known for known in self._windows if known[1] not in self._sessions]
            if len(unopened) >= _MOST_UNOPENED:
                del self._windows[unopened[0]]
            window = self._windows[key] = SessionWindow()
        return window

    def _close(self, session: StoredSession) -> None:
        for table in (self._sessions, self._alerts, self._stored_us):
            table.pop(session.session_id, None)
        self._windows.pop((session.gateway, session.session_id), None)
        self._closed[session.session_id] = session
        if len(self._closed) > _MOST_CLOSED:
            del self._closed[next(iter(self._closed))]

    def _session_json(self, session: StoredSession) -> Json:
        return session_json(session, self._stored_us.get(session.session_id, 0))

    def _shown_alerts(self, session_id: str) -> list[Json]:
        since_us = self._clock.now_us() - CLEARED_SHOWN_US
        alerts = self._alerts.get(session_id, {}).values()
        shown = [
            each for each in alerts if each.alert.phase is not AlertPhase.CLEARED or each.alert.time_us >= since_us
        ]
        return [alert_json(stored) for stored in shown]

    def _tell_gateway(self, gateway_id: str) -> None:
        self._broadcast("", _gateway_frame(self.gateway(gateway_id)).payload)

    def _tell(self, session_id: str, message: dict[str, Any]) -> None:
        if self._screens and session_id in self._sessions:
            self._broadcast(session_id, _json(message))

    def _broadcast_snapshot(self, session_id: str) -> None:
        for screen in self._screens:
            for frame in self.snapshot(session_id, screen):
                self._offer(screen, frame)

    def _broadcast(self, session_id: str, payload: str | bytes) -> None:
        if session_id and session_id not in self._sessions:
            return
        frame = Frame(session_id, payload)
        for screen in self._screens:
            if not session_id or screen.sees(session_id):
                self._offer(screen, frame)

    def _offer(self, screen: LiveScreen, frame: Frame) -> None:
        if dropped := screen.offer(frame):
            self._counters.add("live_frames_dropped", dropped)


def _gateway_frame(gateway: GatewayState) -> Frame:
    return Frame("", _json({"type": "gateway", "gateway": gateway.as_json()}))


def _json(message: dict[str, Any]) -> str:
    return orjson.dumps(message).decode()
