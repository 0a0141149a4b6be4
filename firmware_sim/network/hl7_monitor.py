"""The twin of a 12-lead patient monitor that speaks HL7 v2.6 (IHE PCD-01) over MLLP.

Every half second it writes down the truth, composes one message and hands it to its link. Device time starts at a
whole second and runs on the monotonic clock, so block k starts exactly k * n / rate after the first sample.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from fractions import Fraction

from firmware_sim.faults import BadLink, Sleep
from firmware_sim.network.monitor_link import MonitorLink
from firmware_sim.network.oru import Reported, WaveBlock, compose, device_time
from firmware_sim.network.unanswered import Unanswered
from firmware_sim.physiology.patient import Measured
from firmware_sim.scenario import LeadOff
from firmware_sim.truth import End, EventTruth, Line, NumericTruth, TruthWriter
from firmware_sim.waves import Stream, WaveSource
from wire.clock import Clock
from wire.vocabulary import Metric

_log = logging.getLogger(__name__)

MESSAGE_EVERY_S = Fraction(1, 2)
DRAIN_LIMIT_S = 30.0
# Told to stop, a monitor still waits this long for the answers that are on their way.
_STOP_GRACE_S = 1.0
_SECOND_US = 1_000_000


class Hl7Monitor:
    """One monitor; `run` once."""

    def __init__(
        self,
        *,
        vehicle: str,
        address: tuple[str, int],
        waves: WaveSource,
        numbers: Callable[[float], list[Measured]],
        truth: TruthWriter | None,
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
        lead_off: Sequence[LeadOff] = (),
        utc_offset_minutes: int = 0,
        bad_link: BadLink | None = None,
        unanswered: Unanswered | None = None,
    ) -> None:
        """`numbers(t)` is what the monitor shows t seconds after its first sample."""
        self._vehicle = vehicle
        self._waves = waves
        self._numbers = numbers
        self._truth = truth
        self._clock = clock
        self._sleep = sleep
        self._lead_off = lead_off
        self._utc_offset_minutes = utc_offset_minutes
        self._link = MonitorLink(
            *address,
            clock=clock,
            sleep=sleep,
            tell=self._tell,
            bad_link=BadLink() if bad_link is None else bad_link,
            unanswered=unanswered,
        )
        self._playing = list(waves.streams)
        self._sent = {stream.name: 0 for stream in waves.streams}
        self._last_episode: dict[Metric, float] = {}
        self._id_prefix = secrets.token_hex(4)  # unique over restarts; MSH-10 holds at least 20 characters
        self._messages = 0
        self._samples = 0
        self._numerics = 0
        self._repeats = 0
        self._start_us = 0

    async def run(self, stop: asyncio.Event, for_s: float | None = None) -> End:
        """Sends for `for_s` seconds from the first sample, or until `stop`; then drains and says how it ended."""
        async with asyncio.TaskGroup() as tasks:
            link = tasks.create_task(self._link.run(), name=f"link of {self._vehicle}")
            await self._produce(stop, None if for_s is None else Fraction(for_s))
            await self._drain(stop)
            link.cancel()
        end = self._end()
        self._tell(end)
        return end

    def progress(self) -> str:
        """How it stands, for one line of a log."""
        end = self._end()
        state = "connected" if self._link.is_connected else "NOT connected"
        return (
            f"{end.messages} messages, {end.answered} answered, {end.unanswered} waiting, {end.resent} resent, {state}"
        )

    async def _produce(self, stop: asyncio.Event, for_s: Fraction | None) -> None:
        wall_us, mono_us = self._clock.now_us(), self._clock.monotonic_us()
        first_s = first_second(wall_us // _SECOND_US + 1, self._waves.streams)
        self._start_us = first_s * _SECOND_US
        start_mono_us = mono_us + self._start_us - wall_us
        since = Fraction(0)
        while not stop.is_set() and (for_s is None or since < for_s):
            until = since + MESSAGE_EVERY_S if for_s is None else min(since + MESSAGE_EVERY_S, for_s)
            await self._sleep_until(start_mono_us + int(until * _SECOND_US))
            await self._send(since, until)
            since = until

    async def _drain(self, stop: asyncio.Event) -> None:
        """Keeps resending until everything is answered, within a limit."""
        now_us = self._clock.monotonic_us()
        deadline_us = now_us + int(DRAIN_LIMIT_S * _SECOND_US)
        is_hurried = False
        while len(self._link.unanswered) and now_us < deadline_us:
            if stop.is_set() and not is_hurried:
                is_hurried = True
                deadline_us = min(deadline_us, now_us + int(_STOP_GRACE_S * _SECOND_US))
            await self._sleep(0.05)
            now_us = self._clock.monotonic_us()

    async def _sleep_until(self, mono_us: int) -> None:
        wait_us = mono_us - self._clock.monotonic_us()
        if wait_us > 0:
            await self._sleep(wait_us / _SECOND_US)

    async def _send(self, since: Fraction, until: Fraction) -> None:
        """What happened in since ≤ t < until as one message, its truth first."""
        self._messages += 1
        message_id = f"{self._id_prefix}-{self._messages:08d}"
        self._tell_lead_events(float(since), float(until))
        blocks = await self._blocks(until, message_id)
        # Numbers stand at whole seconds.
        numerics = self._reported(float(until), message_id) if until.denominator == 1 else []
        if not blocks and not numerics:
            return
        message = compose(
            message_id,
            now_us=self._start_us + int(until * _SECOND_US),
            vehicle=self._vehicle,
            utc_offset_minutes=self._utc_offset_minutes,
            numerics=numerics,
            blocks=blocks,
        )
        self._link.put(message_id, message)

    async def _blocks(self, until: Fraction, message_id: str) -> list[WaveBlock]:
        blocks = []
        for stream in tuple(self._playing):
            sent = self._sent[stream.name]
            wanted = stream.sample_at(until) - sent
            samples = await self._waves.read(stream, wanted)
            if len(samples) < wanted:
                _log.info("stream %s has ended after %s samples", stream.name, sent + len(samples))
                self._playing.remove(stream)
            if not len(samples):
                continue
            self._sent[stream.name] = sent + len(samples)
            self._samples += samples.size
            block = WaveBlock(stream, samples, self._time_of(stream, sent), self._time_of(stream, sent + len(samples)))
            if self._truth is not None:
                first_index = first_sample_index(self._start_us, stream) + sent
                self._truth.write_samples(
                    stream, samples, first_index=first_index, start_us=block.start_us, message=message_id
                )
            blocks.append(block)
        return blocks

    def _reported(self, time_s: float, message_id: str) -> list[Reported]:
        reported = []
        for number in self._numbers(time_s):
            time_us = self._start_us + round(number.at_s * _SECOND_US)
            time = device_time(time_us, self._utc_offset_minutes)
            reported.append(Reported(number.metric, number.value, time, number.episodic))
            if number.episodic and self._last_episode.get(number.metric) == number.at_s:
                self._repeats += 1  # shown again, not measured again
                continue
            self._last_episode[number.metric] = number.at_s
            self._numerics += 1
            self._tell(NumericTruth(number.metric.value, float(number.value), time, time_us, message_id))
        return reported

    def _tell_lead_events(self, since_s: float, until_s: float) -> None:
        for off in self._lead_off:
            for event, at_s in (("leads_off", off.from_s), ("leads_on", off.to_s)):
                if since_s <= at_s < until_s:
                    self._tell(EventTruth(event, self._start_us + round(at_s * _SECOND_US), off.leads))

    def _time_of(self, stream: Stream, sample: int) -> int:
        return self._start_us + round(sample * _SECOND_US / Fraction(stream.sample_rate_hz))

    def _tell(self, line: Line) -> None:
        if self._truth is not None:
            self._truth.write(line)

    def _end(self) -> End:
        counters = self._link.unanswered.counters
        return End(
            samples=self._samples,
            numerics=self._numerics,
            unanswered=len(self._link.unanswered),
            messages=counters.messages,
            answered=counters.answered,
            refused=counters.refused,
            discarded=counters.discarded,
            resent=counters.resent,
            repeats=self._repeats,
            connects=self._link.connects,
        )


def first_sample_index(start_us: int, stream: Stream) -> int:
    """The absolute index of a stream's first sample: round(time * rate)."""
    return round(Fraction(start_us, _SECOND_US) * Fraction(stream.sample_rate_hz))


def first_second(earliest_s: int, streams: Sequence[Stream]) -> int:
    """The whole second to start at: the one of the next ten that lies nearest to a sample of every stream.

    At a whole rate every second does; at 250.5 Hz an odd second lies between two samples, where rounding to an index
    would hang by a hair.
    """

    def off_grid(second: int) -> float:
        places = [Fraction(stream.sample_rate_hz) * second for stream in streams]
        return max((float(abs(place - round(place))) for place in places), default=0.0)

    return min(range(earliest_s, earliest_s + 10), key=lambda second: (round(off_grid(second), 6), second))
