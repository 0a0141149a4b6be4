"""Files of the cloud that hold keys: who can read them, and what power loss leaves."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cloud.private_files import write_private


def test_a_file_and_then_its_name_are_on_the_disk_and_for_the_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "key.pem", []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").resolve().name, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    write_private(path, "secret")
    assert synced == [("key.pem.new", False), (tmp_path.name, True)]
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("secret", 0o600)
