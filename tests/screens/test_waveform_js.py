"""The browser's decoder against the same vectors as ours, run by node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from wire.readings import SampleBlock
from wire.waveform import encode

ROOT = Path(__file__).parents[2]
DECODER = ROOT / "screens/parts/waveform.js"
VECTORS = json.loads((ROOT / "tests/vectors/waveform.json").read_text(encoding="utf-8"))
NODE = shutil.which("node")
SCRIPT = """
import { readFileSync } from "node:fs";
const { decodeBlock } = await import(process.argv[1]);
const outcomes = JSON.parse(readFileSync(0, "utf8")).map((hex) => {
  try {
    const block = decodeBlock(new Uint8Array(Buffer.from(hex, "hex")));
    return { ...block, samples: [...block.samples] };
  } catch (error) {
    return { error: error.name };
  }
});
console.log(JSON.stringify(outcomes));
"""

pytestmark = pytest.mark.skipif(
    NODE is None, reason="node is not installed: run `node --version`; then `pytest tests/screens/test_waveform_js.py`"
)


def decoded_in_node(blocks: list[str]) -> list[dict[str, object]]:
    command = [str(NODE), "--input-type=module", "-e", SCRIPT, DECODER.as_uri()]
    run = subprocess.run(command, input=json.dumps(blocks), capture_output=True, text=True, check=True, timeout=5)
    outcomes: list[dict[str, object]] = json.loads(run.stdout)
    return outcomes


def test_every_vector_decodes_alike_in_the_browser() -> None:
    for vector, block in zip(VECTORS, decoded_in_node([v["hex"] for v in VECTORS]), strict=True):
        expected = {
            "leads": vector["leads"],
            "sampleCount": len(vector["samples"]),
            "sampleRateHz": vector["sample_rate_hz"],
            "firstIndex": vector["first_index"],
            "startUs": vector["start_us"],
            "scale": vector["scale"],
            "offset": vector["offset"],
            "samples": [value for row in vector["samples"] for value in row],
        }
        assert {key: block.get(key) for key in expected} == expected, vector["name"]


def test_random_blocks_decode_alike_in_the_browser() -> None:
    rng = np.random.default_rng(7)
    names = ("II", "I", "III", "aVR", "aVF", "aVL", "V1", "vx")
    blocks = []
    for spread in (0, 1, 2, 5, 30, 1000, 2**16, 2**24, 2**31):
        for count in (1, 3, 61):
            noise = rng.integers(-spread, max(spread, 1), (count, len(names)))
            walk = noise if spread > 2**16 else np.cumsum(noise, axis=0)
            gain = tuple(float(gain) for gain in rng.choice([0.001, 0.0025, 1 / 3], len(names)))
            scale = gain if count == 61 else (0.001,) * len(names)
            offset = (0.0,) * len(names)
            blocks.append(SampleBlock("ecg", names, walk.astype(np.int32), 250.0, scale, offset, 9, 17))
    outcomes = decoded_in_node([encode(block).hex() for block in blocks])
    for block, outcome in zip(blocks, outcomes, strict=True):
        assert outcome.get("samples") == block.samples.ravel().tolist()
        assert outcome["scale"] == list(block.scale)


def test_damaged_blocks_are_range_errors_in_the_browser() -> None:
    whole = bytes.fromhex(VECTORS[4]["hex"])
    cut = [whole[:length].hex() for length in range(len(whole))]
    flipped = [(whole[:at] + bytes((whole[at] ^ 0x10,)) + whole[at + 1 :]).hex() for at in range(len(whole))]
    assert {str(outcome.get("error")) for outcome in decoded_in_node(cut + flipped)} == {"RangeError"}
