"""What every driver of the catalogue must have, and how the catalogue finds them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers import catalog
from wire.messages import DecodeError

ROOT = Path(__file__).parents[2]

every_driver = pytest.mark.parametrize("name", catalog.names())


@every_driver
def test_name_is_the_path_of_the_module(name: str) -> None:
    assert catalog.find(name).name == name


@every_driver
def test_has_golden_vectors(name: str) -> None:
    """`network.hl7_monitor` has tests/vectors/network_hl7_monitor.json."""
    assert (ROOT / "tests/vectors" / f"{name.replace('.', '_')}.json").is_file()


@every_driver
def test_has_a_simulated_twin(name: str) -> None:
    assert importlib.util.find_spec(f"firmware_sim.{name}") is not None


@every_driver
@settings(deadline=None, max_examples=40)
@given(packet=st.binary(max_size=64))
def test_rejects_garbage_with_decode_error_only(name: str, packet: bytes) -> None:
    try:
        catalog.find(name).decode(packet)
    except DecodeError:
        return


def test_unknown_driver_names_those_that_exist() -> None:
    with pytest.raises(catalog.UnknownDriverError, match=r"'ble\.unknown'.*network\.hl7_monitor"):
        catalog.find("ble.unknown")


def test_finding_one_driver_imports_no_other() -> None:
    program = (
        "import sys; from drivers import catalog; catalog.find('network.hl7_monitor');"
        "print(*[n for n in sys.modules if n.startswith(('drivers.ble.', 'drivers.serial.', 'bleak', 'bumble'))])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == ""
