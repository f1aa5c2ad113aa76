#!/usr/bin/env bash
# python-kasa 0.12.0 (PyPI), Python 3.11
#
# python-kasa reads TP-Link's smart plugs. consumption_today and consumption_this_month are documented as "today's
# energy consumption in kWh" and this month's. The plug itself counts by its own clock, in the time zone it is in.
#
# Expected: the energy that the plug has for its day, 1.5 kWh; the library reads the plug's clock as well.
# Seen: 0.0 whenever the program's day is another one than the plug's. Day, month and year come from the program's
# clock in the program's time zone. In a container, which runs in UTC, a plug in California has used 0.0 kWh "today"
# every evening from 16:00 or 17:00 on, and on the month's last evening 0.0 kWh this month. There is no energy for
# that day yet, and no entry is 0.0, not None.
#
# The plug is a server on this machine that answers in the plug's protocol.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check python-kasa==0.12.0
cat >"$work/seen.py" <<'PY'
import asyncio
import json
import struct
from datetime import datetime, timedelta, timezone

from kasa import Device, DeviceConfig, Module

HERE = datetime.now(timezone.utc)
# Somewhere where it is another day now, as it is for half of each day.
ELSEWHERE = timezone(timedelta(hours=-12 if HERE.hour < 12 else 12))
SYSTEM = {
    "sw_ver": "1.0.21", "hw_ver": "1.0", "model": "KP115(EU)", "type": "IOT.SMARTPLUGSWITCH", "deviceId": "0",
    "mac": "00:00:00:00:00:00", "alias": "plug", "dev_name": "plug", "relay_state": 1, "on_time": 1, "led_off": 0,
    "feature": "TIM:ENE", "active_mode": "none", "rssi": -50,
}  # fmt: skip


def plug(command, asked, zone):
    now = datetime.now(zone)
    day = {"year": now.year, "month": now.month, "day": now.day, "energy_wh": 1500}
    month = {"year": now.year, "month": now.month, "energy_wh": 3900}
    clock = {"hour": now.hour, "min": now.minute, "sec": now.second}
    answers = {
        "get_sysinfo": SYSTEM,
        "get_realtime": {"voltage_mv": 230000, "current_ma": 435, "power_mw": 100000, "total_wh": 4200},
        "get_time": {"year": now.year, "month": now.month, "mday": now.day, **clock},
        "get_daystat": {"day_list": [day] if all(day[key] == asked[key] for key in asked) else []},
        "get_monthstat": {"month_list": [month] if asked.get("year") == now.year else []},
        "get_timezone": {"index": 39 if zone is timezone.utc else 0},
    }
    if command not in answers:
        return {"err_code": -1, "err_msg": "module not support"}
    return {**answers[command], "err_code": 0}


def autokey(content, encrypted):
    key, result = 171, bytearray()
    for byte in content:
        result.append(byte ^ key)
        key = byte if encrypted else result[-1]
    return bytes(result)


async def today(zone):
    async def serve(reader, writer):
        try:
            while True:
                (size,) = struct.unpack(">I", await reader.readexactly(4))
                asked = json.loads(autokey(await reader.readexactly(size), True))
                answer = {
                    module: {command: plug(command, values or {}, zone) for command, values in commands.items()}
                    for module, commands in asked.items()
                }
                content = autokey(json.dumps(answer).encode(), False)
                writer.write(struct.pack(">I", len(content)) + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    device = await Device.connect(config=DeviceConfig("127.0.0.1", port_override=port))
    await device.update()
    energy = device.modules[Module.Energy].consumption_today
    print(f"here {datetime.now():%d %H:%M}, at the plug {datetime.now(zone):%d %H:%M}: {energy} kWh today")
    await device.disconnect()
    server.close()
    return energy


assert asyncio.run(today(timezone.utc)) == 1.5
assert asyncio.run(today(ELSEWHERE)) == 0.0, "today is the plug's: mended"
PY
TZ=UTC "$work/venv/bin/python" "$work/seen.py"
echo "seen as stated"
