"""Encryption at rest: each chunk's records and each memo as AES-256-GCM, bound to its place in the spool.

A key is 32 bytes as 64 hexadecimal digits. Of several keys, one a line, the first encrypts and every one decrypts: to
rotate, put a new key on top and drop an old one when `vitalwire spool show` no longer names it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wire.configuration import ConfigError

KEY_VARIABLE = "VITALWIRE_SPOOL_KEY"
_KEY_BYTES = 32
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12  # random: 2^32 commits under one key are within NIST SP 800-38D's bound
# 0xC1 begins no MessagePack value, so what a spool without a key wrote is told apart.
_MAGIC = b"\xc1vw\x01"
_HEAD_BYTES = len(_MAGIC) + _KEY_ID_BYTES


class KeyMissing(ConfigError):
    """Records lie here that no configured key opens: starting without it would only set them aside."""


class Forged(Exception):
    """The bytes were changed, or belong to another place."""


class Cipher:
    """The keys of one box; without any, what is written stays plain."""

    def __init__(self, keys: tuple[bytes, ...] = ()) -> None:
        self._keys = {_key_id(key): AESGCM(key) for key in keys}
        self._current = _key_id(keys[0]) if keys else None

    def encrypt(self, plain: bytes, place: bytes) -> bytes:
        """The bytes for the disk; they can be read back at the same `place` alone."""
        if self._current is None:
            return plain
        nonce = os.urandom(_NONCE_BYTES)
        return _MAGIC + self._current + nonce + self._keys[self._current].encrypt(nonce, plain, place)

    def decrypt(self, stored: bytes, place: bytes) -> bytes:
        """What was encrypted at this place. Raises KeyMissing, and Forged."""
        key_id = key_id_of(stored)
        if key_id is None:
            return stored
        if key_id not in self._keys:
            raise KeyMissing(f"key {key_id.hex()} is needed to read what is spooled; spool.key_file does not hold it")
        nonce, sealed = stored[_HEAD_BYTES : _HEAD_BYTES + _NONCE_BYTES], stored[_HEAD_BYTES + _NONCE_BYTES :]
        try:
            return self._keys[key_id].decrypt(nonce, sealed, place)
        except (InvalidTag, ValueError) as error:
            raise Forged(f"not what was written here with key {key_id.hex()}") from error


def key_id_of(stored: bytes) -> bytes | None:
    """Which key encrypted these bytes (their beginning is enough), None when they are plain."""
    return stored[len(_MAGIC) : _HEAD_BYTES] if stored.startswith(_MAGIC) else None


def _key_id(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=_KEY_ID_BYTES, person=b"vw spool key").digest()


def new_key() -> str:
    """A fresh key as text."""
    return secrets.token_hex(_KEY_BYTES)


def load_cipher(key_file: str | None) -> Cipher:
    """The keys of `spool.key_file`, else of the environment, else none. Raises ConfigError."""
    if key_file is not None:
        try:
            text, where = Path(key_file).read_text(encoding="ascii"), f"spool.key_file: {key_file}"
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"spool.key_file: {key_file}: cannot be read: {error}") from None
    else:
        text, where = os.environ.get(KEY_VARIABLE, ""), KEY_VARIABLE
    keys: list[bytes] = []
    for number, line in enumerate(text.split(), 1):
        try:
            key = bytes.fromhex(line)
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            raise ConfigError(f"{where}: key {number} is not {2 * _KEY_BYTES} hexadecimal digits")
        keys.append(key)
    if key_file is not None and not keys:
        raise ConfigError(f"{where}: holds no key; `vitalwire spool key` makes one")
    return Cipher(tuple(keys))
