"""Who was given a certificate and whose was taken back, noted beside the authority's keys.

A store that is restored from an older backup then neither forgets a box that renewed since, nor lets in one that was
revoked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from cloud.private_files import write_private
from cloud.store.enrolment import VALID, StoredCertificate
from wire.configuration import ConfigError

_decoder = msgspec.json.Decoder(list[StoredCertificate])


def read_notes(path: Path) -> list[StoredCertificate]:
    """What was noted last; nothing before the first time. Raises ConfigError."""
    try:
        return _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; put it back from the backup, or remove it") from error


def write_notes(path: Path, certificates: Sequence[StoredCertificate]) -> None:
    """Replaces what was noted. Raises OSError."""
    # Of one that counts no more its state is enough: a fleet's certificates of a year would be tens of megabytes.
    noted = [one if one.state == VALID else one._replace(pem="") for one in certificates]
    write_private(path, msgspec.json.encode(noted).decode())
