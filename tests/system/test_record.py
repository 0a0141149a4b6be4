"""A recording played through the monitor comes back bit for bit: half a minute that buys "nothing re-stamped"."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import wfdb

from tests.conftest import ROOT
from tests.system.kills import play
from vitalwire.__main__ import main

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

DATA = Path(os.environ.get("VITALWIRE_DATA", ROOT / "../shared/data"))


def synthetic(folder: Path) -> Path:
    """Seven seconds at an odd rate, a gain and baseline per lead, one lead that has no code of its own."""
    chance = np.random.default_rng(3)
    samples = np.cumsum(chance.integers(-40, 41, (7 * 360, 3)), axis=0)
    wfdb.wrsamp(
        "odd",
        fs=360,
        units=["mV"] * 3,
        sig_name=["MLII", "V5", "aVR"],
        d_signal=samples,
        fmt=["16"] * 3,
        adc_gain=[200.0, 983.4375, 1716.0],
        baseline=[0, -512, 37],
        write_dir=str(folder),
    )
    return folder / "odd"


def test_recording_comes_back_bit_for_bit(tmp_path: Path) -> None:
    # LUDB has a gain and baseline of its own per lead; without it a recording made here stands in.
    found = sorted((DATA / "ludb").rglob("*.hea"))
    path = found[0].with_suffix("") if found else synthetic(tmp_path)
    sent = wfdb.rdrecord(str(path), physical=False)
    report = play(tmp_path, sent.sig_len / sent.fs + 1, record=path)
    assert (report["lost"], report["duplicates"]) == (0, 0), report["findings"]
    store = Path(report["state"]) / "cloud" / "store.sqlite"
    assert main(["export", "amb-07", "--wfdb", str(tmp_path / "out"), "--store", str(store)]) == 0
    (written,) = (one for one in sorted((tmp_path / "out").rglob("*.hea")) if "ecg" in one.stem)
    back = wfdb.rdrecord(str(written.with_suffix("")), physical=False)
    assert [lead.lower() for lead in back.sig_name] == [lead.lower() for lead in sent.sig_name]
    assert back.fs == sent.fs
    np.testing.assert_array_equal(back.d_signal, sent.d_signal)
    np.testing.assert_allclose(back.adc_gain, sent.adc_gain, rtol=1e-9)
    assert back.baseline == sent.baseline
