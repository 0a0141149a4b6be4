"""A chain is read beside a running cloud: one moment of it, and nothing is changed."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy.exc

from cloud.store.audit import table
from cloud.store.audit.reading import ChainUnreadable, opened, verify
from cloud.store.database import Database
from cloud.store.location import ServerStore, StoreLocation
from tests.cloud.cloud_frames import NOW_US
from tests.cloud.store.audit.chains import DAY_US, add, entry


def test_a_chain_that_grows_and_is_removed_from_verifies_at_every_moment(location: StoreLocation) -> None:
    database = Database(location)
    add(database, [entry(n) for n in range(50)])
    done = threading.Event()

    def go_on() -> None:
        now_us = NOW_US
        while not done.is_set():
            now_us += 100 * DAY_US
            add(database, [entry(n, now_us) for n in range(20)])
            database.transaction(lambda one: table.remove_old(database.engine, one, now_us, 184))  # noqa: B023

    writing = threading.Thread(target=go_on)
    writing.start()
    lasts = []
    try:
        for _ in range(20):
            note = str(database.read_now(table.newest))
            with opened(location) as connection:
                verdict = verify(connection, [note])
            assert verdict.problems == ()
            lasts.append(verdict.last.number)
    finally:
        done.set()
        writing.join()
    assert lasts == sorted(lasts)
    assert lasts[-1] > 50
    database.close()


def test_whoever_reads_changes_nothing(location: StoreLocation) -> None:
    database = Database(location)
    add(database, [entry(0)])
    with pytest.raises(ChainUnreadable, match=r"read-?only"), opened(location) as connection:
        connection.exec_driver_sql("DELETE FROM audit")
    database.close()


def test_a_server_without_a_store_is_named(location: StoreLocation) -> None:
    if not isinstance(location, ServerStore):
        pytest.skip("a file's are tested with the command")
    Database(location).close()
    elsewhere = ServerStore(location.url.removesuffix("/store") + "/postgres", location.password)
    with pytest.raises(ChainUnreadable, match="not a store"), opened(elsewhere):
        raise AssertionError
    with pytest.raises((ChainUnreadable, sqlalchemy.exc.DBAPIError)), opened(ServerStore(location.url, "wrong")):
        raise AssertionError
