"""A Mosquitto for the demo and the tests: one user for the cloud and one for each box, with the rights in
configs/mosquitto.acl."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import configs
from cloud.bus.broker_config import ensure_passwords
from cloud.private_files import write_private
from vitalwire.command import UsageError

_HASHING_S = 10.0

# Nothing on disk: what it loses when it dies, boxes offer again. Batches stay under 256 KiB, so 64 MiB is what a cloud
# that stands still for a moment leaves waiting; beyond it Mosquitto drops the newest, which their boxes offer again.
_CONFIGURATION = """\
listener {port} 127.0.0.1
allow_anonymous false
password_file {passwords}
acl_file {acl}
user {user}
persistence false
max_packet_size 524288
max_queued_messages 10000
max_queued_bytes 67108864
set_tcp_nodelay true
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages false
"""


def find(program: str = "mosquitto") -> str:
    """The program's path. Raises UsageError saying how to get it."""
    # Debian keeps servers out of the PATH of users.
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise UsageError(f"{program} is not installed here: apt-get install mosquitto")
    return found


def write(folder: Path, port: int, state_path: Path, gateways: Iterable[str]) -> None:
    """Writes the configuration of a broker on a loopback port; the passwords are the files a cloud with this state
    directory mints. Raises UsageError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    passwords = folder / "passwords"
    lines = (f"{user}:{password}\n" for user, password in ensure_passwords(state_path, gateways).items())
    write_private(passwords, "".join(lines))
    # Hashed in place, so that no password is ever an argument that others can list.
    subprocess.run([find("mosquitto_passwd"), "-U", str(passwords)], check=True, timeout=_HASHING_S)
    text = _CONFIGURATION.format(
        port=port, passwords=passwords, acl=configs.ROOT / "mosquitto.acl", user=getpass.getuser()
    )
    write_private(folder / "mosquitto.conf", text)


def command(folder: Path) -> list[str]:
    """How to start the broker written there. Raises UsageError."""
    return [find(), "-c", str(folder / "mosquitto.conf")]
