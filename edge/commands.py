"""What the cloud asks of this box: done once for each id, across restarts, and answered once, by a record.

The answer and the id go to disk together, so a command sent again is either not done yet or answered for good: its
outcome travels like every other record until it is receipted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec

from edge.box_session import BoxSession
from edge.configuration import ConfigurationFile
from edge.identity import Identity
from edge.outbox import Outbox
from edge.spool import Memo, Spool, SpoolUnavailable
from edge.uplinks import Uplinks
from wire.backoff import Backoff
from wire.clock import EARLIEST_PLAUSIBLE_US, Clock
from wire.commands import ApplyConfiguration, Command, NewSession, Replay, decode_order
from wire.configuration import ConfigError
from wire.messages import DecodeError, Lane, decode_frame
from wire.readings import CommandOutcome, CommandResult

_log = logging.getLogger(__name__)

T = TypeVar("T")

_MEMO = "commands"
# Full-policy: drop the newest and count; the cloud sends it again. All that a cloud keeps unanswered, by two uplinks.
_WAITING = 2 * 16
# A cloud keeps at most 16 unanswered a box, so an id that is sent again is never older than these.
_ANSWERED_REMEMBERED = 256
_LONG_AGO_US = -(2**63)  # before anything that was ever issued
_MOST_DETAIL_CHARACTERS = 1000


class RestartWanted(Exception):
    """The configuration file is another one now: end the agent and start it with that."""


class _Answer(NamedTuple):
    result: CommandResult
    detail: str = ""


class _Answered(msgspec.Struct, frozen=True):
    """The memo: ids with when they were issued, oldest first; until when those were issued that are forgotten."""

    answered: list[tuple[bytes, int]]
    forgotten_us: int


def _read_memo(saved: bytes | None) -> _Answered:
    if saved is None:
        return _Answered([], _LONG_AGO_US)
    try:
        return msgspec.msgpack.decode(saved, type=_Answered)
    except msgspec.ValidationError:  # of a release that kept the ids alone
        return _Answered([(one, _LONG_AGO_US) for one in msgspec.msgpack.decode(saved, type=list[bytes])], _LONG_AGO_US)


class Commands:
    """Takes frames from the uplink, obeys them one after the other, and sees a configuration's trial to its end."""

    def __init__(
        self,
        spool: Spool,
        outbox: Outbox,
        clock: Clock,
        configuration: ConfigurationFile,
        identity: Identity | None = None,
    ) -> None:
        """With an identity only what its cloud signed for this box is a command."""
        self.counts: Counter[str] = Counter()
        self._outbox, self._clock, self._configuration = outbox, clock, configuration
        self._identity = identity
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(_WAITING)
        saved = _read_memo(spool.memo(_MEMO))
        self._answered = dict(saved.answered)  # ordered: the oldest id is forgotten first
        self._forgotten_us = saved.forgotten_us

    def receive(self, frame: bytes) -> None:
        """A frame came on the commands' topic."""
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self.counts["commands_dropped"] += 1

    async def run(self, session: BoxSession, uplink: Uplinks) -> None:
        """Obeys until cancelled. Raises RestartWanted."""
        while True:
            await self.take(await self._queue.get(), session, uplink)

    async def take(self, frame: bytes, session: BoxSession, uplink: Uplinks) -> None:
        """Does one command, and returns when its answer is on disk. Raises RestartWanted."""
        try:
            command = decode_frame(frame, Command)
        except DecodeError as error:
            self.counts["command_undecodable"] += 1
            _log.warning("command not understood: %s", error)
            return
        if self._identity is not None and not self._identity.is_signed(command):
            # No answer: it would be one to the cloud's own command of this id, which may still come.
            self.counts["commands_forged"] += 1
            if self.counts["commands_forged"] == 1:
                _log.error("command %s is not signed by the cloud for this box", command.command_id.hex())
            return
        trial = self._configuration.trial
        if command.command_id in self._answered or (trial and trial.command_id == command.command_id.hex()):
            self.counts["commands_repeated"] += 1
            return
        if self._identity is not None and command.issued_us <= self._forgotten_us:
            # It may have been done: what is that old and not answered yet, the cloud has given up.
            self.counts["commands_replayed"] += 1
            return
        answer = await self._obey(command, session, uplink)
        if answer is not None:
            await self._answer(command.command_id, command.issued_us, answer, session)

    async def _obey(self, command: Command, session: BoxSession, uplink: Uplinks) -> _Answer | None:
        """Does it; None when it is answered already, or cannot be yet and is to be sent again."""
        now_us = self._clock.now_us()
        # A clock that was never set cannot tell that anything is too late.
        if now_us >= EARLIEST_PLAUSIBLE_US and now_us >= command.expires_us:
            return _Answer(CommandResult.EXPIRED, "it came too late")
        try:
            order = decode_order(memoryview(command.order))
        except DecodeError as error:
            return _Answer(CommandResult.REFUSED, f"this release does not know it: {error}")
        match order:
            case Replay(lane):
                return await _replay(uplink, lane)
            case ApplyConfiguration():
                return await self._apply(command, order)
            case NewSession(session_id):
                return await self._renew(command, session_id, session)

    async def _renew(self, command: Command, session_id: str, session: BoxSession) -> _Answer | None:
        if session_id != session.source.session_id:
            return _Answer(CommandResult.REFUSED, "the session that is open here is another one")
        try:
            async with session.held():
                outcome, memo = self._note(command.command_id, command.issued_us, _Answer(CommandResult.DONE))
                await session.renew(outcome, [memo])
        except TimeoutError:
            return _Answer(CommandResult.FAILED, "the disk does not take what its devices sent: try again later")
        return None

    async def _apply(self, command: Command, order: ApplyConfiguration) -> _Answer | None:
        if self._configuration.trial is not None:
            self.counts["commands_deferred"] += 1  # one trial at a time: the cloud sends this again after it
            return None
        try:
            is_new = await asyncio.to_thread(
                self._configuration.try_out, command, order, is_signed=self._identity is not None
            )
        except ConfigError as error:
            return _Answer(CommandResult.REFUSED, str(error))
        except OSError as error:
            return _Answer(CommandResult.FAILED, f"the configuration cannot be written: {error}")
        if not is_new:
            return _Answer(CommandResult.DONE, "it is in force already")
        raise RestartWanted

    async def watch_trial(self, session: BoxSession, uplink: Uplinks) -> None:
        """Ends a trial by the first receipt or by its deadline, and reports the one before. Raises RestartWanted."""
        trial = self._configuration.trial
        if trial is None:
            return
        if trial.result is None:
            try:
                async with asyncio.timeout(trial.remaining_s(self._clock)):
                    await uplink.is_receipted.wait()
            except TimeoutError:
                await _insist(self._configuration.roll_back)
                raise RestartWanted from None
            trial = await _insist(self._configuration.confirm)
        assert trial.result is not None
        command_id = bytes.fromhex(trial.command_id)
        if command_id not in self._answered:  # else the agent died between the answer and the next line
            await self._answer(command_id, trial.issued_us, _Answer(trial.result, trial.detail), session)
        await _insist(self._configuration.forget)

    async def _answer(self, command_id: bytes, issued_us: int, answer: _Answer, session: BoxSession) -> None:
        outcome, memo = self._note(command_id, issued_us, answer)
        await self._outbox.append(session.source, [outcome], memos=[memo])

    def _note(self, command_id: bytes, issued_us: int, answer: _Answer) -> tuple[CommandOutcome, Memo]:
        """The record of an answer, and the memo that keeps the command from being done again."""
        self._answered[command_id] = issued_us
        while len(self._answered) > _ANSWERED_REMEMBERED:
            self._forgotten_us = max(self._forgotten_us, self._answered.pop(next(iter(self._answered))))
        self.counts[f"commands_{answer.result.value}"] += 1
        _log.info("command %s: %s %s", command_id.hex(), answer.result.value, answer.detail)
        detail = answer.detail[:_MOST_DETAIL_CHARACTERS]
        outcome = CommandOutcome(command_id, answer.result, detail, self._clock.now_us())
        saved = _Answered(list(self._answered.items()), self._forgotten_us)
        return outcome, Memo(Lane.URGENT, _MEMO, msgspec.msgpack.encode(saved))


async def _replay(uplink: Uplinks, lane: Lane | None) -> _Answer:
    try:
        await uplink.offer_again(tuple(Lane) if lane is None else (lane,))
    except SpoolUnavailable as error:
        return _Answer(CommandResult.FAILED, f"the disk does not take it: {error}")
    return _Answer(CommandResult.DONE)


async def _insist(work: Callable[[], T]) -> T:
    """Does what needs the disk, again and again while it refuses: a box goes on taking readings meanwhile."""
    backoff = Backoff(first_s=0.5, cap_s=10.0)
    while True:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            _log.error("the configuration's trial cannot be ended yet: %s", error)
            await asyncio.sleep(backoff.next_s())
