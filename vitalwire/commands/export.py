"""Write a session's stored signals as files other tools read.

`vitalwire export SESSION --wfdb DIR [--store FILE]`
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vitalwire.command import UsageError
from vitalwire.store_file import check_is_there, opened_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which session, to where, from which store."""
    parser.add_argument("session", metavar="SESSION", help="a session id, or a gateway that had only one session")
    parser.add_argument("--wfdb", type=Path, metavar="DIR", required=True, help="write WFDB records into this folder")
    parser.add_argument("--store", type=Path, metavar="FILE", help="the cloud's store.sqlite; default: the last demo's")


def run(arguments: argparse.Namespace) -> int:
    """Prints the records written."""
    from cloud.config import STORE_FILE
    from cloud.export import export_wfdb
    from cloud.store.reader import StoreReader, UnknownSession
    from vitalwire.stage import demo_home

    store: Path = arguments.store or demo_home() / "cloud" / STORE_FILE
    check_is_there(store)
    try:
        with opened_store(store) as database:
            reader = StoreReader(database)
            of_gateway = [one.session_id for one in reader.sessions(most=1000) if one.gateway == arguments.session]
            session = of_gateway[0] if len(of_gateway) == 1 else arguments.session
            written = export_wfdb(reader, session, arguments.wfdb)
    except UnknownSession as error:
        raise UsageError(str(error.args[0])) from None
    except OSError as error:
        raise UsageError(f"--wfdb {arguments.wfdb}: {error.strerror}") from None
    for record in written:
        print(record)
    if not written:
        raise UsageError(f"session {arguments.session} has no waveforms")
    return 0
