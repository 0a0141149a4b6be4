"""Every command as a user calls it: exit codes, and one clear sentence for what is wrong."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from cloud.store.database import Database
from edge import config
from tests.conftest import ROOT
from vitalwire.__main__ import main
from vitalwire.stage import free_port
from wire.readings import Origin

# The first command of a run imports the whole house, wfdb and pandas included.
pytestmark = pytest.mark.timeout(60)


def test_devices_lists_the_catalogue_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"name", "kind", "provides", "tried_on_hardware"} <= set(rows[0])
    assert {"ble.heart_rate", "network.hl7_monitor"} <= {row["name"] for row in rows}


def test_decode_prints_readings_and_rejects_with_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "ble.heart_rate", "0048"]) == 0
    readings = json.loads(capsys.readouterr().out)
    assert ("heart_rate", 72) in {(reading.get("metric"), reading.get("value")) for reading in readings}
    assert main(["decode", "ble.heart_rate", "00"]) == 1
    assert "rejects it" in capsys.readouterr().err


@pytest.mark.parametrize("call", [["decode", "ble.nonsense", "00"], ["decode", "ble.heart_rate", "xyz"]])
def test_decode_called_wrongly_exits_2(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(call) == 2
    assert capsys.readouterr().err.startswith("vitalwire: ")


@pytest.mark.parametrize("name", ["edge.toml", "cloud.toml", "alarm_limits.toml"])
def test_shipped_configurations_are_valid(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(ROOT / "configs" / name)]) == 0
    assert "valid" in capsys.readouterr().out


def strap(adapter: str, origin: str = "") -> str:
    """A box with one strap over this radio."""
    link = f'link = {{ name = "strap", adapter = "{adapter}" }}'
    said = f'origin = "{origin}"\n' if origin else ""
    return f'gateway = "a"\n[[device]]\nid = "s"\ndriver = "ble.heart_rate"\n{said}{link}'


def monitor(link: str) -> str:
    return f'gateway = "a"\n[[device]]\nid = "m"\ndriver = "network.hl7_monitor"\nlink = {{ {link} }}'


WRONG = [
    (
        strap("bumble:tcp-client:127.0.0.1:9"),
        ["device[0].origin: must be written", "tcp-client", "allowed: test, demo"],
    ),
    (strap("bumble:tcp-client:127.0.0.1:9", "real"), ["device[0].origin: 'real' cannot be", "allowed: test, demo"]),
    (strap("bumble:android-netsim", "real"), ["device[0].origin", "allowed: test, demo"]),
    (strap("bumble:usb:0"), ["device[0].origin: must be written", "allowed: real, test, demo"]),
    (strap("bluez", "patient"), ["origin 'patient'", "real, test, demo"]),
    ('gateway = "a"\ngatewai = "b"', ["gatewai", "allowed here"]),
    ('gateway = "A B"', ["a-z, 0-9"]),
    ('gateway = "a"\n[spool]\nsegment_mib = "32"', ["spool.segment_mib", "int"]),
    ('gateway = "a"\n[session]\nkind = "flight"', ["session.kind", "visit, mission, home"]),
    ('gateway = "a"\n[[device]]\nid = "m"\ndriver = "network.nothing"', ["device[0].driver", "network.hl7_monitor"]),
    (
        'gateway = "a"\n[[device]]\nid = "m"\ndriver = "network.hl7_monitor"\nlink = { port = 1 }',
        ["device[0].link", "listen"],
    ),
    (monitor('listen = "0.0.0.0:2575"'), ["device[0].link", "peers", "reachable from outside", "192.168.7.20"]),
    (monitor('listen = "127.0.0.1:2575", peers = ["amb-07"]'), ["device[0].link", "'amb-07' is not an address"]),
    ('gateway = "a"\n[uplink]\nendpoints = ["mqtt://example.org"]', ["mqtts"]),
    (
        'gateway = "a"\n[uplink]\nendpoints = ["mqtts://example.org"]',
        ["uplink.endpoints: mqtts needs identity_dir (see vitalwire enrol)", "uplink.cert_file"],
    ),
    ('gateway = "a"\nidentity_dir = "nowhere"', ["identity_dir: nowhere", "no such file; run vitalwire enrol"]),
    ('gateway = "a"\n[uplink]\ncert_file = "nowhere.pem"', ["uplink.cert_file: nowhere.pem: no such file"]),
    ('[access]\nmode = "demo"\n[enrolment]\nnames = "a"', ["enrolment.names", "array"]),
    (
        '[access]\nmode = "demo"\n[enrolment]\nnames = ["a"]\ncertificate_days = 900.0',
        ["enrolment: certificate_days = 900 is not 0.05 to 398"],
    ),
    (
        '[access]\nmode = "demo"\n[broker]\nmqtt_listen = "0.0.0.0:8883"',
        ["broker.mqtt_listen", "needs [enrolment]", "cert_file, key_file and ca_file"],
    ),
    ('gateway = "a"\n[uplink]\npassword_file = "nowhere.password"', ["uplink.password_file", "no such file"]),
    ('gateway = "a"\nalarm_limits_file = "nowhere.toml"', ["nowhere.toml", "no such file"]),
    ('[access]\nmode = "token"', ["tokens_file"]),
    ('store_password_file = "nowhere.secret"\n[access]\nmode = "demo"', ["store_password_file", "no such file"]),
    ('[access]\nmode = "demo"\n[broker]\nkind = "kafka"', ["broker.kind", "embedded, mqtt"]),
    (
        '[access]\nmode = "demo"\n[broker]\nkind = "mqtt"\nendpoint = "mqtt://[::1]"\n'
        'user = "ingest"\npassword_file = "nowhere.password"',
        ["broker.password_file", "no such file"],
    ),
    ('[access]\nmode = "demo"\n[api]\nlisten = "0.0.0.0:80"', ["tls.cert_file"]),
    *((f'gateway = "a"\nheartbeat_s = {wrong}', ["heartbeat_s", ">= 0.1"]) for wrong in ("-1.0", "0", "nan")),
    ('gateway = "a"\nheartbeat_s = 1e9', ["heartbeat_s", "<= 10"]),
    ('gateway = "a"\n[spool]\nsegment_mib = 0', ["spool.segment_mib", ">= 1"]),
    ('gateway = "a"\n[spool]\nkeep_receipted_h = -24', ["spool.keep_receipted_h", ">= 0"]),
    ('gateway = "a"\n[spool]\nkey_file = "nowhere.key"', ["spool.key_file: nowhere.key", "No such file"]),
    ('gateway = "a"\n[session]\nlabel = ""', ["session.label", "length >= 1"]),
    (monitor('listen = "127.0.0.1:2575", silence_s = 0'), ["device[0].link: silence_s", ">= 1"]),
    *(
        (monitor(f'listen = "0.0.0.0:2575", peers = ["{everybody}"]'), ["device[0].link", everybody, "means everybody"])
        for everybody in ("0.0.0.0/0", "::/0")
    ),
    (
        '[access]\nmode = "demo"\n[broker]\nmqtt_listen = "127.0.0.1:4222"',
        ["broker: client_listen", "mqtt_listen = '127.0.0.1:4222'", "different ports"],
    ),
    ('[access]\nmode = "demo"\n[broker]\nbuffer_max_age_s = nan', ["broker.buffer_max_age_s", ">= 60"]),
    ('[access]\nmode = "token"\ntokens_file = "nowhere.txt"', ["access.tokens_file: nowhere.txt: no such file"]),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_wrong_configuration_is_one_sentence_and_exit_2(
    text: str, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    assert main(["check", str(path)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for words in [*said, "wrong.toml" if "nowhere.toml" not in said else "nowhere.toml"]:
        assert words in message


@pytest.mark.parametrize(
    ("adapter", "origin", "marked"),
    [
        ("bluez:hci1", "", Origin.REAL),
        ("bumble:usb:0", "real", Origin.REAL),
        ("bumble:hci-socket:0", "test", Origin.TEST),
        ("bumble:tcp-client:127.0.0.1:9", "demo", Origin.DEMO),
    ],
)
def test_a_device_is_marked_as_its_radio_allows(adapter: str, origin: str, marked: Origin) -> None:
    assert config.read_as(strap(adapter, origin), where="edge.toml").devices[0].origin is marked


def test_port_in_use_is_named_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "edge.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        path.write_text(
            f'gateway = "a"\nstate_dir = "{tmp_path / "state"}"\n'
            f'[[device]]\nid = "m"\ndriver = "network.hl7_monitor"\nlink = {{ listen = "{listen}" }}'
        )
        assert main(["edge", "-c", str(path)]) == 2
    message = capsys.readouterr().err
    assert "device[0].link.listen" in message
    assert listen in message
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["demo", "--record", "nowhere/r1"], "nowhere/r1"),
        (["demo", "--scene", "nowhere"], "nowhere"),
        (["demo", "--report", "no/such/folder/r.json"], "no/such/folder"),
        (["demo", "--port", "99999"], "99999"),
        (["export", "s1", "--wfdb", "out", "--store", "nowhere.sqlite"], "nowhere.sqlite"),
        (["backup", "copy", "--store", "nowhere.sqlite"], "nowhere.sqlite"),
        (["backup", "copy", "-c", "nowhere.toml"], "nowhere.toml"),
        (["restore", "nowhere.backup"], "nowhere.backup"),
        (["scan", "--adapter", "dial-up"], "dial-up"),
        (["sim", "first_light", "--monitor", "nowhere"], "nowhere"),
        (["command", "--url", "http://127.0.0.1:1", "amb-07", "replay"], "http://127.0.0.1:1"),
        (["command", "--url", "nonsense", "amb-07", "replay"], "nonsense"),
        (["command", "--token-file", "nowhere.token", "amb-07", "replay"], "nowhere.token"),
        (["command", "amb-07", "configure", "nowhere.toml"], "nowhere.toml"),
        (["command", "amb-08", "configure", str(ROOT / "configs" / "edge.toml")], "amb-08"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence_with_exit_2(
    call: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITALWIRE_HOME", str(tmp_path / "home"))
    assert main(call) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.strip().count("\n") == 0


def test_a_store_is_backed_up_and_restored_where_the_configuration_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "state" / "store.sqlite"
    Database(store).close()
    config, copy = tmp_path / "cloud.toml", tmp_path / "copy"
    config.write_text(f'state_dir = "{store.parent}"\n[access]\nmode = "demo"\n')
    assert main(["backup", str(copy), "-c", str(config)]) == 0
    assert capsys.readouterr().out.startswith(f"{copy}: 0 records, schema ")
    assert main(["restore", str(copy), "-c", str(config)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{store}: 0 records restored, under the new id ")
    assert f"{store}.before-" in said
    assert "Everybody is signed out. What was changed of accounts since the backup is undone" in said


def test_a_store_on_a_server_is_left_to_its_own_tools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "cloud.toml"
    config.write_text('store_url = "postgresql+psycopg://me@localhost/store"\n[access]\nmode = "demo"\n')
    assert main(["backup", str(tmp_path / "copy"), "-c", str(config)]) == 2
    assert "pg_dump" in capsys.readouterr().err


def test_a_store_that_cannot_be_opened_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, state = tmp_path / "cloud.toml", tmp_path / "state"
    listens = [f"127.0.0.1:{free_port()}" for _ in range(4)]
    config.write_text(
        f'state_dir = "{state}"\nstore_url = "postgresql+psycopg://me@{listens[3]}/store"\n[access]\nmode = "demo"\n'
        f'[broker]\nmqtt_listen = "{listens[0]}"\nclient_listen = "{listens[1]}"\n[api]\nlisten = "{listens[2]}"\n'
    )
    assert main(["cloud", "-c", str(config)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"vitalwire: {config}: connection failed")


def test_demo_does_not_empty_a_folder_of_somebody_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["demo", "--port", "0", "--state", str(tmp_path)]) == 2
    assert "not an earlier demo" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").exists()


def test_doctor_names_a_broker_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    path = tmp_path / "edge.toml"
    path.write_text(f'gateway = "a"\n[uplink]\nendpoints = ["mqtt://127.0.0.1:{port}"]')
    assert main(["doctor", "-c", str(path)]) == 1
    assert f"BAD   broker: mqtt://127.0.0.1:{port}" in capsys.readouterr().out


def test_the_cloud_of_an_enrolment_is_named_before_or_behind_the_act(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file := tmp_path / "cloud.toml").write_text('[access]\nmode = "accounts"\n')
    for call in (["-c", str(file), "list"], ["list", "-c", str(file)]):
        assert main(["enrolment", *call]) == 2
        assert f"{file}: has no [enrolment]" in capsys.readouterr().err
    assert main(["enrolment", "list"]) == 2
    assert "-c CONFIG" in capsys.readouterr().err


@pytest.mark.parametrize(
    "call",
    [["account", "list"], ["audit", "verify"], ["audit", "head"], ["export", "s1", "--wfdb", "out"], ["backup", "out"]],
)
def test_a_mistyped_store_is_named_and_never_made(
    call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("hello" * 1000)
    for name in ("stor.sqlite", "nope/store.sqlite", "text/store.sqlite", "text"):
        assert main([*call, "--store", name]) == 2
        said = capsys.readouterr().err
        assert name in said
        assert said.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} - {"text.lock"} == {"text"}


@pytest.mark.parametrize("call", [["account", "list"], ["cloud"]])
def test_a_state_folder_that_cannot_be_made_is_one_sentence(
    call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    listen = f'[api]\nlisten = "127.0.0.1:{free_port()}"\n'
    file = tmp_path / "cloud.toml"
    file.write_text(f'state_dir = "{tmp_path}/file/state"\n[access]\nmode = "accounts"\n{listen}')
    assert main([*call, "-c", str(file)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("vitalwire: ")
    assert f"{tmp_path}/file" in said[-1]
