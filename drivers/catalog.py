"""Finds the drivers by looking: every module of a device folder with a DRIVER constant is one. There is no list."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import drivers as drivers_package
from drivers.driver import Driver

# The folders that hold devices; a folder that does not exist yet holds none.
DEVICE_FOLDERS = ("network", "ble", "serial", "modbus")


class UnknownDriverError(ValueError):
    """No driver has this name; the message says which there are."""


def names() -> tuple[str, ...]:
    """The names of all device modules, without importing any."""
    return tuple(sorted(_names()))


def drivers() -> dict[str, Driver]:
    """Every driver by name; imports them all."""
    found = ((name, _load(name)) for name in names())
    return {name: driver for name, driver in found if driver is not None}


def find(name: str) -> Driver:
    """The driver of this name, importing only its module. Raises UnknownDriverError."""
    driver = _load(name) if name in names() else None
    if driver is None:
        raise UnknownDriverError(f"driver {name!r} does not exist; there are: {', '.join(drivers())}")
    return driver


def _names() -> Iterator[str]:
    for root in drivers_package.__path__:
        for folder in DEVICE_FOLDERS:
            for module in pkgutil.iter_modules([str(Path(root) / folder)]):
                if not module.ispkg:
                    yield f"{folder}.{module.name}"


def _load(name: str) -> Driver | None:
    driver = getattr(importlib.import_module(f"{drivers_package.__name__}.{name}"), "DRIVER", None)
    return driver if isinstance(driver, Driver) else None
