"""``lithowatt agent``: its options; what it does is in ``lithowatt.agent``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lithowatt._support.calls import DEFAULT_RING
from lithowatt.agent._run import METRICS_ADDRESS, PAGE_ADDRESS, run
from lithowatt.reference._open import METERS

if TYPE_CHECKING:
    import argparse


def add_cli(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``agent`` to the command line."""
    parser = commands.add_parser(
        "agent",
        help="read this machine's energy counters for all users, until it is stopped",
        description="Samples the energy counters once for the whole machine and publishes them in "
        "a ring that any process and any container may read without privilege. Ends with SIGTERM "
        "or Ctrl-C.",
    )
    add = parser.add_argument
    add("--ring", help=f"where the ring is put (default: $LITHOWATT_RING or {DEFAULT_RING})")
    add("--rate", type=float, default=100.0, help="samples a second (default: %(default)g)")
    add(
        "--quantum-uj",
        type=int,
        default=1000,
        metavar="UJ",
        help="step of the published energy in µJ (default: %(default)s)",
    )
    add(
        "--round",
        type=float,
        default=1.0,
        metavar="S",
        help="seconds between two divisions among containers (default: %(default)g)",
    )
    add("--group", help="only this group may read the ring; then a finer rate and quantum may be")
    add(
        "--methods",
        "--method",
        default="all",
        metavar="NAMES",
        help="rapl, perf, hwmon, guest, or several with commas; the first that is there is used "
        "(default: all)",
    )
    add("--no-containers", action="store_true", help="do not follow containers and pods")
    add(
        "--guest",
        action="append",
        default=[],
        metavar="NAME=PID|CGROUP",
        help="write the part of this virtual machine, by its process or cgroup, into "
        "FOLDER/NAME/ring for it to mount; may be given several times",
    )
    add(
        "--guest-folder",
        metavar="FOLDER",
        help="where the folders of guests are (default: /run/lithowatt/guests)",
    )
    add("--node", help="this node's name (default: $NODE_NAME)")
    add(
        "--metrics",
        default=METRICS_ADDRESS,
        metavar="HOST:PORT",
        help="where OpenMetrics are served, or 'off' (default: %(default)s)",
    )
    add(
        "--reference",
        action="append",
        metavar="METER",
        help=f"show a meter of the whole machine among the metrics, too: {METERS}; may be given "
        "several times",
    )
    add("--serve-ring", action="store_true", help="give the ring at /ring beside the metrics, too")
    add(
        "--page",
        nargs="?",
        const=PAGE_ADDRESS,
        metavar="HOST:PORT",
        help=f"serve a page of what is used now, for a browser here (without a value: "
        f"{PAGE_ADDRESS})",
    )
    add(
        "--page-remote",
        action="store_true",
        help="let --page be at an address that other machines reach, without a password",
    )
    add(
        "--mirror",
        metavar="URL",
        help="hold no counters: keep a ring from an agent with --serve-ring, such as "
        "http://lithowatt-agent.lithowatt:9477",
    )
    add(
        "--mirror-period",
        type=float,
        default=0.1,
        metavar="S",
        help="seconds between two questions of a mirror (default: %(default)g)",
    )
    add("--root", help="look for /sys and /proc below this directory")
    add("--show", action="store_true", help="do not run: show what the ring of a running one holds")
    add("--json", action="store_true", help="with --show: as JSON")
    parser.set_defaults(func=run)
