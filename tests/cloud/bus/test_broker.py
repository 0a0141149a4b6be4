"""The real nats-server: who may say what, and what happens when it or we die."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import aiomqtt
import msgspec
import pytest

from cloud.bus.broker import Broker, BrokerUnavailable
from cloud.bus.broker_config import Certified, broker_config, password_path
from cloud.bus.jetstream import connect_bare
from cloud.config import CloudConfig, TlsConfig
from tests.cloud.cloud_frames import gateway_client
from tests.cloud.enrolment_site import with_enrolment
from wire import topics
from wire.messages import Lane


def pid_of(config: CloudConfig) -> int:
    return int((config.state_path / "broker.pid").read_text())


def ingest_password(config: CloudConfig) -> str:
    return password_path(config.state_path, "ingest").read_text().strip()


async def test_secrets_are_private_and_stay_the_same(config: CloudConfig) -> None:
    async with Broker(config):
        first = ingest_password(config)
        for path in [config.state_path / "broker.conf", *(config.state_path / "secrets").iterdir()]:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        arguments = Path(f"/proc/{pid_of(config)}/cmdline").read_text()
        assert first not in arguments
    async with Broker(config):
        assert ingest_password(config) == first


@pytest.mark.usefixtures("broker")
async def test_a_gateway_reaches_only_its_own_subjects(config: CloudConfig) -> None:
    bare = await connect_bare(config.broker, ingest_password(config))
    heard: list[str] = []

    async def hear(message: object) -> None:
        heard.append(message.subject)  # type: ignore[attr-defined]

    await bare.subscribe("vw.>", cb=hear)
    await bare.flush()
    async with gateway_client(config, "gw-1") as client:
        await client.publish(topics.up("gw-2", Lane.BULK), b"forged", qos=0)
        await client.publish(topics.receipts("gw-1"), b"forged", qos=0)
        await client.publish(topics.up("gw-1", Lane.BULK), b"mine", qos=0)
        async with asyncio.timeout(3):
            while "vw.1.gw-1.up.bulk" not in heard:
                await bare.flush()
        assert heard == ["vw.1.gw-1.up.bulk"]
        granted = await client.subscribe(topics.receipts("gw-1"))
        assert granted[0].value == 0
        for stranger in (topics.receipts("gw-2"), topics.up("gw-1", Lane.BULK), "$MQTT/#", "#"):
            refused = await client.subscribe(stranger)
            assert refused[0].value == 128, stranger
    await bare.close()


@pytest.mark.usefixtures("broker")
async def test_a_wrong_password_is_refused(config: CloudConfig) -> None:
    with pytest.raises(aiomqtt.MqttError):
        async with gateway_client(config, "gw-1", password="guess"):
            pass


async def test_a_killed_broker_is_started_again(config: CloudConfig, broker: Broker) -> None:
    keeper = asyncio.create_task(broker.run())
    first = pid_of(config)
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(4):
        while True:
            try:
                async with gateway_client(config, "gw-1"):
                    break  # an ended broker does not answer, so this is the new one
            except aiomqtt.MqttError:
                await asyncio.sleep(0)
    assert broker.restarts == 1
    keeper.cancel()


async def test_a_port_in_use_is_told_before_anything_starts(
    config: CloudConfig, broker: Broker, tmp_path: Path
) -> None:
    other = msgspec.structs.replace(config, state_dir=str(tmp_path / "other"))
    with pytest.raises(BrokerUnavailable, match=r"client_listen = .* cannot be listened on"):
        async with Broker(other):
            pass
    assert not (tmp_path / "other" / "broker.conf").exists()


@pytest.mark.timeout(30)
def test_the_broker_dies_with_its_parent(config: CloudConfig, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
        import asyncio, pathlib, sys
        import msgspec
        from cloud.bus.broker import Broker
        from cloud.config import CloudConfig
        async def main():
            async with Broker(msgspec.json.decode(pathlib.Path(sys.argv[1]).read_bytes(), type=CloudConfig)):
                print("ready", flush=True)
                await asyncio.Event().wait()
        asyncio.run(main())
        """)
    )
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(config))
    with subprocess.Popen([sys.executable, script, tmp_path / "config.json"], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        pid = pid_of(config)
        parent.kill()
        parent.wait()
    wait_for_end(pid)


def wait_for_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], 5)[0], "the broker outlived its parent"
    os.close(descriptor)


def test_a_box_that_is_configured_no_more_is_no_user_whatever_certificate_it_has(config: CloudConfig) -> None:
    certified = [Certified("gw-1", "ab"), Certified("gw-9", "cd")]
    text = broker_config(with_enrolment(config), {"ingest": "a"}, certified)
    assert "urn:vitalwire:gateway:gw-1:ab" in text
    assert "gw-9" not in text


def test_tls_keys_reach_the_mqtt_listener(config: CloudConfig) -> None:
    secured = msgspec.structs.replace(
        config.broker, tls=TlsConfig(cert_file="server.crt", key_file="server.key", ca_file="ca.crt")
    )
    text = broker_config(msgspec.structs.replace(config, broker=secured), {"ingest": "a", "gw-1": "b", "gw-2": "c"})
    assert '"verify": true' in text
    document = json.loads(text)
    assert 10 <= document["mqtt"]["tls"]["timeout"] < document["authorization"]["timeout"]
    assert '"cert_file": "server.crt"' in text
    assert "$MQTT" not in text
