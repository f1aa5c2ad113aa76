"""Plugs that send: messages, and a real broker where one is installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lithowatt import EnergyMeter
from lithowatt.errors import MalformedValueError
from lithowatt.reference.mqtt import Mqtt, value_in

# As these firmwares send them, retyped.
SHELLY = b'{"id":0,"source":"init","output":true,"apower":61.4,"voltage":231.2,"current":0.28}'
TASMOTA = b'{"Time":"2026-11-30T12:00:00","ENERGY":{"Total":3.1,"Power":57,"ApparentPower":70}}'


@pytest.mark.parametrize(
    ("message", "key", "value"),
    [
        (SHELLY, None, 61.4),
        (TASMOTA, None, 57.0),
        (TASMOTA, "ENERGY.Total", 3.1),
        (b"12.5", None, 12.5),
        (b"ON", None, None),
        (b'{"voltage": 230}', None, None),
        (b"[" * 5000, None, None),
        (b'{"power": NaN}', None, None),
        (b'{"power": true}', None, None),
        (b"\xff\xfe", None, None),
    ],
)
def test_the_power_in_a_message(message: bytes, key: str | None, value: float | None) -> None:
    assert value_in(message, key) == value


def test_an_address_that_is_none_is_named() -> None:
    for text, why in (
        ("mqtt://broker", "no address of a topic"),
        ("mqtt://broker/a/#", "several topics"),
        ("mqtt://me:secret@broker/a", "seen by others"),
        ("mqtt://broker/a?colour=red", "no option 'colour'"),
        ("mqtt://broker/a?unit=V", "unit='v'"),
    ):
        with pytest.raises(MalformedValueError, match=why) as refused:
            Mqtt(text)
        assert "secret" not in str(refused.value)


def test_messages_become_joules() -> None:
    pytest.importorskip("paho.mqtt.client")
    meter = Mqtt("mqtt://broker/plug?key=apower")
    for second in range(30):
        meter.take(float(second), b'{"apower": %d}' % (40 if second < 15 else 60))
    meter.take(30.0, b'{"apower": "off"}')
    found = meter.energy(5.0, 25.0)
    assert found.energy is not None, found.reason
    true = 9.5 * 40 + 10.5 * 60
    assert found.energy.low <= true <= found.energy.high
    assert found.energy.value == pytest.approx(true, rel=0.03)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    """The port of a broker of this test."""
    pytest.importorskip("paho.mqtt.client")
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        pytest.skip("there is no mosquitto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    settings = tmp_path / "mosquitto.conf"
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    running = subprocess.Popen([program, "-c", str(settings)], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield port
    finally:
        running.terminate()
        running.wait()


@pytest.mark.slow
def test_a_window_beside_a_broker(broker: int) -> None:
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    plug = Client(CallbackAPIVersion.VERSION2)
    plug.connect("127.0.0.1", broker)
    plug.loop_start()
    # An old message that the broker keeps is not of the window.
    plug.publish("plug/status", b'{"apower": 900}', qos=1, retain=True).wait_for_publish(5)
    meter = EnergyMeter("psutil", reference=f"mqtt://127.0.0.1:{broker}/plug/status")
    with meter:
        for _ in range(20):
            plug.publish("plug/status", SHELLY, qos=1).wait_for_publish(5)
            time.sleep(0.05)
    plug.publish("plug/status", SHELLY, qos=1).wait_for_publish(5)
    found = meter.reading.machine_reference["mqtt"]
    plug.loop_stop()
    assert found.energy is not None, found.reason
    assert found.readings > 3
    assert found.energy.value == pytest.approx(61.4 * meter.reading.duration)


def test_nobody_there_is_a_reason() -> None:
    pytest.importorskip("paho.mqtt.client")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    meter = Mqtt(f"mqtt://127.0.0.1:{port}/plug")
    meter.sensor = meter.sensor._replace(update=0.1)
    begin = time.monotonic()
    meter.start()
    while not meter._faults and time.monotonic() < begin + 10:
        time.sleep(0.01)
    meter.stop()
    found = meter.energy(begin, time.monotonic())
    assert found.energy is None
    assert found.reason is not None
    assert "cannot be reached" in found.reason
