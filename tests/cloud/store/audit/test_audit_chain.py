"""The chain without a database."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.store.audit.chain import (
    NOTHING_BEFORE,
    START,
    ChainBroken,
    Entry,
    Head,
    Row,
    digest,
    link,
    parse_head,
    removal,
)
from tests.cloud.store.audit.chains import chain, entry, walk

_TEXT = st.text(max_size=30)
_ENTRIES = st.builds(Entry, st.integers(0, 2**62), _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT)


def test_a_hash_is_made_as_the_document_says() -> None:
    texts = ("王", "er_clinician", "view", "s1", "10.0.0.9", "allowed", "")
    content = b"vitalwire audit 1\n" + bytes(32) + struct.pack(">qq", 1, 1_795_000_000_000_000)
    for text in texts:
        content += struct.pack(">I", len(text.encode())) + text.encode()
    assert digest(1, Entry(1_795_000_000_000_000, *texts), NOTHING_BEFORE) == hashlib.sha256(content).digest()


@given(st.lists(_ENTRIES, min_size=1, max_size=6))
def test_every_chain_walks_to_its_last_row(entries: list[Entry]) -> None:
    last, rows = START, []
    for each in entries:
        rows.append(link(last, each.cleaned()))
        last = Head(rows[-1].number, rows[-1].hash)
    assert walk(rows).last == last


@given(first=_ENTRIES, second=_ENTRIES)
def test_two_entries_share_a_hash_only_if_they_are_one(first: Entry, second: Entry) -> None:
    assert (digest(1, first, NOTHING_BEFORE) == digest(1, second, NOTHING_BEFORE)) == (first == second)


def test_texts_do_not_flow_into_each_other() -> None:
    one, other = (Entry(0, *texts, "", "", "", "", "") for texts in (("ab", "c"), ("a", "bc")))
    assert digest(1, one, NOTHING_BEFORE) != digest(1, other, NOTHING_BEFORE)


@given(rows=st.integers(3, 8).map(chain), which=st.data(), what=st.sampled_from(["remove", "swap", "double", "change"]))
def test_the_first_wrong_row_is_named(rows: list[Row], which: st.DataObject, what: str) -> None:
    at = which.draw(st.integers(what == "swap", len(rows) - 2))  # a swapped first row is a missing one
    whole = list(rows)
    match what:
        case "remove":
            del rows[at]
        case "swap":
            rows[at], rows[at + 1] = rows[at + 1], rows[at]
        case "double":
            rows.insert(at, rows[at])
        case _:
            rows[at] = rows[at]._replace(entry=rows[at].entry._replace(principal="nobody"))
    with pytest.raises(ChainBroken) as caught:
        walk(rows)
    # A chain whose beginning is cut off is wrong from row 1; a doubled row stands where the next should.
    assert caught.value.number == whole[at].number + (what == "double")


def test_a_row_made_anew_breaks_the_next_one() -> None:
    rows = chain(4)
    rows[1] = link(Head(1, rows[0].hash), entry(1)._replace(result="refused"))
    with pytest.raises(ChainBroken, match="row 3: it does not name the hash of the row before"):
        walk(rows)


def test_a_chain_starts_where_it_says_that_rows_were_removed() -> None:
    rows = chain(5)
    said = link(Head(5, rows[4].hash), removal(Head(2, rows[1].hash), 0, 184))
    assert walk([*rows[2:], said]).start == Head(2, rows[1].hash)
    for start, why in ((0, "starts with row 1"), (1, "starts with row 2"), (3, "starts with row 4")):
        with pytest.raises(ChainBroken, match=f"row 6 says that rows up to 2 were removed, but the chain {why}"):
            walk([*rows[start:], said])
    with pytest.raises(ChainBroken, match="no row says"):
        walk(rows[2:])
    lie = link(Head(5, rows[4].hash), removal(Head(2, rows[0].hash), 0, 184))
    with pytest.raises(ChainBroken, match="another hash"):
        walk([*rows[2:], lie])


def test_what_a_database_refuses_never_reaches_it() -> None:
    cleaned = Entry(0, "a\0b\ud800", "r", "/" * 70_000, "o", "s", "refused", "because " * 500).cleaned()
    assert cleaned.principal == "a\N{REPLACEMENT CHARACTER}b?"
    assert (len(cleaned.action), len(cleaned.reason)) == (200, 1000)


def test_a_head_is_read_as_it_is_printed() -> None:
    head = Head(17, bytes(range(32)))
    assert parse_head(str(head)) == head
    for text in ("", "17", f"17:{'0' * 63}", f"-1:{'0' * 64}", f"17:{'A' * 64}", f"17:{'0' * 64} "):
        with pytest.raises(ValueError, match="NUMBER:HASH"):
            parse_head(text)
