"""A PostgreSQL server of the tests' own: Debian's binaries, a folder that is thrown away, a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from cloud.bus.broker import die_with
from cloud.store.location import ServerStore

HOW_TO_INSTALL = "no PostgreSQL here: sh docker/postgres.sh (or apt-get install postgresql)"
_START_S = 120  # initdb takes 3 s alone, and much longer beside a whole suite
_STOP_S = 10
PASSWORD = "not a secret: this server lives as long as the tests"
_NAME = "store"
_EMPTY = """
DO $$ DECLARE names text; BEGIN
    SET LOCAL session_replication_role = replica;  -- fires no trigger: the audit trail's would refuse
    SELECT string_agg(quote_ident(tablename), ',') INTO names FROM pg_tables
        WHERE schemaname = 'public' AND tablename <> 'alembic_version';
    IF names IS NOT NULL THEN EXECUTE 'TRUNCATE ' || names || ' RESTART IDENTITY CASCADE'; END IF;
END $$"""


def find_binaries() -> Path | None:
    """The folder with initdb and postgres; Debian keeps it off the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return newest[-1].parent if newest else None


class PostgresServer:
    """One running server, on a unix socket and on 127.0.0.1. It ends with this process, however this one ends."""

    def __init__(self, binaries: Path, port: int) -> None:
        # initdb refuses to run as root; sockets need a short path that another user may enter.
        self._user = "postgres" if os.getuid() == 0 else None
        self._binaries, self._port = binaries, port
        self.folder = Path(tempfile.mkdtemp(prefix="vw-pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        if self._user is not None:
            os.chown(self.folder, pwd.getpwnam(self._user).pw_uid, -1)
        password_file = self.folder / "password"
        password_file.write_text(PASSWORD)
        password_file.chmod(0o644)
        self._run("initdb", "--no-sync", "--auth=scram-sha-256", "--pwfile", str(password_file), "--username=vitalwire")
        self.start()
        self.run(f"CREATE DATABASE {_NAME}")

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._binaries / program, "--pgdata", self.folder / "data", *arguments]
        subprocess.run(command, user=self._user, check=True, capture_output=True, timeout=_START_S, cwd="/")

    def start(self) -> None:
        """Starts it and waits until it answers."""
        settings = {
            "port": self._port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "fsync": "off",  # no test pulls the plug
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self.folder / "data", *options],
                user=self._user,
                cwd="/",
                stdout=log,
                stderr=log,
                preexec_fn=die_with(os.getpid()),
            )
        deadline = time.monotonic() + _START_S
        while True:
            try:
                self.run("SELECT 1")
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def run(self, sql: str, *, database: str = "postgres") -> None:
        """One statement as its administrator."""
        address = f"host={self.folder} port={self._port} user=vitalwire dbname={database}"
        with psycopg.connect(address, password=PASSWORD, autocommit=True) as connection:
            connection.execute(sql.encode())

    def empty_store(self) -> ServerStore:
        """The one store all tests take in turn, emptied: making a database each costs a second."""
        self.cut_connections()
        self.run(_EMPTY, database=_NAME)
        return ServerStore(f"postgresql+psycopg://vitalwire@127.0.0.1:{self._port}/{_NAME}", PASSWORD)

    def socket_store(self) -> ServerStore:
        """The same store, over the unix socket."""
        return ServerStore(f"postgresql+psycopg://vitalwire@/{_NAME}?host={self.folder}&port={self._port}", PASSWORD)

    def cut_connections(self) -> None:
        """Ends every connection but the asking one, as a failing server does."""
        self.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    def crash(self) -> None:
        """Stops it without a farewell; `start` recovers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(_STOP_S)

    def stop(self) -> None:
        """Ends it and throws its folder away."""
        self.crash()
        shutil.rmtree(self.folder)
