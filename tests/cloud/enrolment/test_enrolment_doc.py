"""Every command of docs/enrolment.md, run as it stands there: against a running cloud, and for a real box."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from cloud.config import CloudConfig
from edge.config import EdgeConfig
from tests.cloud.enrolled_cloud import EnrolledCloud, enrolled_cloud
from tests.cloud.enrolment_site import with_enrolment
from tests.cloud.test_app import cloud
from tests.cloud.test_downlink import ended, issue
from tests.conftest import ROOT
from wire.configuration import convert

__all__ = ["enrolled_cloud"]

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]

TEXT = (ROOT / "docs" / "enrolment.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
COMMANDS = [line for language, block in BLOCKS if not language for line in block.splitlines()]


class Reader:
    """Types what the document says, with the names of this test for those of its example."""

    def __init__(self, site: EnrolledCloud) -> None:
        self._site, self._left = site, list(COMMANDS)
        self.code = self.fingerprint = ""

    async def next(self, what: str) -> str:
        """Runs the next command, which has to be this one; returns what it printed."""
        command = self._left.pop(0)
        assert what in command
        site = self._site
        for name, real in {
            "https://cloud.example.org:8443": site.enrol_url,
            "cloud-state": site.config.state_dir,
            "cloud.toml": str(site.cloud_toml),
            "edge.toml": str(site.edge_toml),
            "authority.tgz": str(site.folder / "authority.tgz"),
            "FINGERPRINT": self.fingerprint,
            "amb-07": "gw-1",
        }.items():
            command = command.replace(name, real)
        program, *arguments = shlex.split(command)
        if program != "vitalwire":
            await asyncio.to_thread(subprocess.run, [program, *arguments], check=True)
            return ""
        exit_code, out, err = await site.call(*arguments, say=self.code)
        assert exit_code == 0 or "doctor" in arguments, out + err  # a test machine has no radio and no NTP
        if arguments[-2:] == ["code", "gw-1"]:
            self.code, self.fingerprint = (line.partition(": ")[2] for line in out.splitlines())
        return out

    def is_at_the_end(self) -> bool:
        return not self._left


def test_its_configurations_are_valid() -> None:
    of_cloud, of_box = (tomllib.loads(block) for language, block in BLOCKS if language == "toml")
    convert(of_cloud | {"access": {"mode": "accounts"}}, CloudConfig, where="cloud.toml")
    convert(of_box, EdgeConfig, where="edge.toml")


async def test_an_operator_can_do_what_the_document_says(enrolled_cloud: EnrolledCloud) -> None:
    reader = Reader(enrolled_cloud)
    authority = enrolled_cloud.config.authority_path
    assert "a valid cloud configuration" in await reader.next("check cloud.toml")
    await reader.next("tar -C cloud-state -czf")
    await reader.next("code amb-07")
    assert "gw-1 is enrolled" in await reader.next("enrol -c edge.toml")
    assert "a valid edge configuration" in await reader.next("check edge.toml")
    examined = await reader.next("doctor")
    assert re.search(r"certificate: .* good until .* 30 days", examined)
    assert "lets this box in" in examined
    assert re.search(r"gw-1 [0-9a-f]{16} valid until ", await reader.next("list"))
    async with enrolled_cloud.agent() as client:
        assert await ended(client, await issue(client, {"kind": "replay"})) == ("done", "")
    assert "1 certificates revoked" in await reader.next("revoke amb-07")
    key = (authority / "ca.key").read_bytes()
    (authority / "ca.key").unlink()
    await reader.next("tar -C cloud-state -xzf")
    assert (authority / "ca.key").read_bytes() == key
    await reader.next("rm -r cloud-state/authority")
    assert not authority.exists()
    assert reader.is_at_the_end()


async def test_after_its_keys_were_lost_a_cloud_enrols_its_boxes_again(
    config: CloudConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = with_enrolment(config)
    for _ in range(2):
        async with cloud(config) as url:
            site = EnrolledCloud(config, tmp_path, url, monkeypatch, capsys)
            await site.enrolled()
            async with site.agent() as client:
                assert await ended(client, await issue(client, {"kind": "replay"})) == ("done", "")
        shutil.rmtree(config.authority_path)
