"""Whether anything was lost, doubled or altered: the boxes' ledgers and the twins' truth against the store.

Never one of our counters minus another: what was accepted is read from the ledger, what was sent from the twins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from cloud.store import account
from cloud.store.database import Database
from cloud.store.reader import StoreReader
from edge import ledger
from firmware_sim.truth import StreamTruth, Truth
from firmware_sim.waves import MISSING_SAMPLE
from wire import waveform
from wire.messages import DecodeError
from wire.readings import Body, Gap, Numeric, WaveformBlock
from wire.runs import RunSet

RunKey = tuple[bytes, str]


@dataclass
class Verdict:
    """Counts of records and of samples (one lead, one instant each)."""

    records_spooled: int = 0
    records_stored: int = 0
    truth_samples: int = 0
    stored_samples: int = 0
    truth_numerics: int = 0
    lost: int = 0
    duplicates: int = 0
    altered: int = 0
    gaps: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)  # each loss or doubling in words

    def blame(self, what: str, count: int) -> int:
        """Notes a finding when there is one, and passes its count on."""
        if count:
            self.findings.append(f"{what}: {count}")
        return count


def accepted_runs(ledgers: Iterable[Path]) -> dict[RunKey, RunSet]:
    """What the boxes had on disk, by epoch and lane."""
    runs: dict[RunKey, RunSet] = {}
    for path in ledgers:
        for entry in ledger.read(path):
            runs.setdefault((entry.epoch, entry.lane), RunSet()).add(entry.first_seq, entry.last_seq)
    return runs


def missing_records(accepted: Mapping[RunKey, RunSet], database: Database) -> int:
    """Accepted records that are neither stored nor named by a Gap."""
    covered: dict[RunKey, RunSet] = {}
    for epoch, lane, first, last in StoreReader(database).stored_runs():
        covered.setdefault((epoch, lane), RunSet()).add(first, last)
    for gap in account.gaps(database):
        if gap.epoch:
            covered.setdefault((gap.epoch, gap.lane), RunSet()).add(gap.first_seq, gap.last_seq)
    return sum(
        last - first + 1
        for key, runs in accepted.items()
        for run in runs
        for first, last in covered.get(key, RunSet()).missing(*run)
    )


def judge(
    database: Database,
    accepted: Mapping[RunKey, RunSet],
    truths: Mapping[str, Truth],
    device_id: str,
    given_up: Mapping[str, Sequence[Body]] = MappingProxyType({}),
) -> Verdict:
    """The verdict over `accepted` records and, by gateway, over the `truths` of the twin behind `device_id`.

    `given_up`, by gateway, is what that device sent and a Gap names, for who knows it: it need not be stored.
    """
    verdict = Verdict(records_spooled=sum(runs.count() for runs in accepted.values()))
    verdict.records_stored = sum(last - first + 1 for _, _, first, last in StoreReader(database).stored_runs())
    verdict.lost += verdict.blame("accepted records not stored", missing_records(accepted, database))
    gaps = account.gaps(database)
    verdict.gaps = [_in_words(gap) for gap in gaps]
    for gateway, truth in truths.items():
        gone = given_up.get(gateway, ())
        _judge_numerics(verdict, database, gateway, device_id, truth, gone)
        session_ids = [one.session_id for one in StoreReader(database).sessions(most=1000) if one.gateway == gateway]
        for name, stream in truth.streams.items():
            blocks = [body for body in gone if isinstance(body, WaveformBlock) and body.stream == name]
            _judge_stream(verdict, database, session_ids, name, stream, blocks)
    return verdict


def _in_words(gap: Gap) -> str:
    return f"{gap.reason} {gap.lane or gap.stream} {gap.first_seq}..{gap.last_seq}"


def _judge_numerics(
    verdict: Verdict, database: Database, gateway: str, device_id: str, truth: Truth, gone: Sequence[Body]
) -> None:
    stored = account.said_numerics(database, gateway, device_id)
    sent = Counter(account.SaidNumeric(one.metric, one.reported_time, one.value) for one in truth.numerics)
    verdict.truth_numerics += sent.total()
    named = Counter(
        account.SaidNumeric(one.metric, one.reported_time, one.value) for one in gone if isinstance(one, Numeric)
    )
    verdict.lost += verdict.blame(f"{gateway}: numerics not stored", (sent - stored - named).total())
    verdict.duplicates += verdict.blame(f"{gateway}: numerics stored and not sent so often", (stored - sent).total())


def _judge_stream(
    verdict: Verdict,
    database: Database,
    session_ids: list[str],
    name: str,
    truth: StreamTruth,
    gone: Sequence[WaveformBlock],
) -> None:
    """Every sample the twin sent is stored exactly once with its value, whatever blocks carried it."""
    columns = {lead.lower(): index for index, lead in enumerate(truth.leads)}
    covered = np.zeros(truth.samples.shape, np.int32)
    equal = np.zeros(truth.samples.shape, bool)
    for session_id in session_ids:
        for data in account.blocks(database, session_id, name):
            try:
                decoded = waveform.decode(data, stream=name)
            except DecodeError:
                # What came of it is not what was sent; its samples count as not stored as well.
                verdict.altered += verdict.blame(f"{name}: block that cannot be decoded", 1)
                verdict.lost += 1
                continue
            verdict.stored_samples += decoded.samples.size
            at = decoded.first_index - truth.first_index
            count = len(decoded.samples)
            if not 0 <= at <= len(covered) - count or any(lead.lower() not in columns for lead in decoded.leads):
                verdict.duplicates += verdict.blame(f"{name}: samples nobody sent", decoded.samples.size)
                continue
            leads = [columns[lead.lower()] for lead in decoded.leads]
            covered[at : at + count, leads] += 1
            equal[at : at + count, leads] = truth.samples[at : at + count, leads] == decoded.samples
    is_sent = truth.samples != MISSING_SAMPLE
    is_due = is_sent.copy()
    for body in gone:
        head = waveform.peek(body.data)
        at = max(0, head.first_index - truth.first_index)
        is_due[at : at + head.sample_count] = False
    verdict.truth_samples += int(is_sent.sum())
    verdict.lost += verdict.blame(f"{name}: samples not stored", int((is_due & (covered == 0)).sum()))
    altered = verdict.blame(f"{name}: samples stored with another value", int((is_sent & (covered > 0) & ~equal).sum()))
    verdict.altered += altered
    verdict.lost += altered  # a sample that is not what was sent is a lost sample
    verdict.duplicates += verdict.blame(f"{name}: samples stored twice", int(np.maximum(covered - 1, 0).sum()))
