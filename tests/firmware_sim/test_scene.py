import asyncio
from pathlib import Path

import pytest

from firmware_sim import scene
from firmware_sim.replay import ReplayError
from firmware_sim.scene import Surroundings
from firmware_sim.truth import Truth
from tests.firmware_sim.receiver import SelfMovingClock, receiving
from wire.configuration import ConfigError


async def test_first_light_plays_and_ends_with_everything_answered(tmp_path: Path) -> None:
    clock = SelfMovingClock()
    async with receiving() as receiver:
        where = Surroundings(None, tmp_path, f"127.0.0.1:{receiver.port}", "127.0.0.1:0", clock, clock.sleep)
        ended = await scene.run_scene(scene.load_scene("first_light"), where, asyncio.Event(), 12)
    truth = Truth.read_scene(tmp_path)
    assert (list(truth), list(ended)) == (["home-01", "monitor-amb-07"], ["monitor-amb-07"])
    assert ended["monitor-amb-07"].unanswered == 0
    assert truth["monitor-amb-07"].streams["ecg"].samples.shape == (6000, 12)
    assert "+0800" in truth["monitor-amb-07"].numerics[0].reported_time


async def test_stop_ends_a_scene_without_a_limit(tmp_path: Path) -> None:
    clock, stop = SelfMovingClock(), asyncio.Event()
    async with receiving() as receiver:
        where = Surroundings(None, tmp_path, f"127.0.0.1:{receiver.port}", "127.0.0.1:0", clock, clock.sleep)

        def answer_and_stop(_id: str, _times: int) -> str:
            if len(receiver.messages) == 4:
                stop.set()
            return "AA"

        receiver.answer = answer_and_stop
        ended = await scene.run_scene(scene.load_scene("first_light"), where, stop, None)
    assert ended["monitor-amb-07"].unanswered == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[monitor]]\nname = "a"\nvehicle = "A"\nspeed = 2', ["speed", "name, vehicle, scenario"]),
        ('[[monitor]]\nname = "a/b"\nvehicle = "A"', ["monitor[0].name"]),
        ('[[monitor]]\nname = "a"\nvehicle = "A"\n[[monitor]]\nname = "a"\nvehicle = "B"', ["must differ"]),
        ('[[monitor]]\nname = "a"\nvehicle = "A"\n[monitor.faults]\nloss = 2', ["faults.loss"]),
    ],
)
def test_wrong_scene_names_the_key(tmp_path: Path, text: str, said: list[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "mine"\n' + text)
    with pytest.raises(ConfigError) as raised:
        scene.load_scene(str(path))
    for words in said:
        assert words in str(raised.value)


async def test_record_that_is_not_there_stops_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="nope"):
        await scene.run("first_light", record=tmp_path / "nope", monitor_address="127.0.0.1:9", stop=asyncio.Event())


@pytest.mark.parametrize("address", ["2575", "localhost:", ":2575", "host:port", "host:99999"])
async def test_address_must_be_host_and_port(address: str) -> None:
    with pytest.raises(ConfigError, match="host:port expected"):
        await scene.run("first_light", monitor_address=address, stop=asyncio.Event())
