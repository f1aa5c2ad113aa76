"""The Rust core. Its public faces are in :mod:`lithowatt`."""

import os
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import CellType
from typing import Any, Literal, final

__version__: str
"""The version as Python writes it."""
STATS_SCHEMA: int
"""Version of the keys of the stats and of what they mean."""
TOLERANCE: float
"""Relative difference below which two energies of one window agree."""
IDLE_SOURCES: dict[int, str]
DOMAINS: tuple[str, ...]
"""Names of the domains of energy, in the order in which they are reported."""
"""Where idle power comes from, by the number in an account of the agent."""
LAMBDA_MB_PER_VCPU: float
"""Memory (MiB) that buys one vCPU on AWS Lambda."""

@final
class Taken:
    """A window as it was at one time."""

    def nested(self) -> dict[str, Any]:
        """Everything, as nested dicts and lists; energies in J, times in s."""
    def part(self, name: str) -> Any:
        """One entry of ``nested()``, in a tenth of the time.

        Raises:
            KeyError: For a name that is no entry, or one of those that are not made alone.
        """
    def flat(self) -> dict[str, Any]:
        """A value for each key of the table, by its plain name, and for the user's phases."""
    def stats(self, spelling: Spelling, compact: bool) -> dict[str, Any]:
        """The flat stats with keys as ``spelling`` has them; ``compact`` leaves out keys without
        a value."""

@final
class Spelling:
    """How a framework's stats write the keys of the table.

    Args:
        prefix: Before the plain name of each key.
        renamed: Keys by their plain names, and the whole names that they have instead; a key
            that has none is left out.

    Raises:
        ValueError: For a plain name that is no key of the stats.
    """

    def __new__(cls, prefix: str, renamed: Mapping[str, Sequence[str]]) -> Spelling: ...

@final
class Channel:
    """A mailbox for one call's window, written by the forked child, read by its parent.

    Args:
        capacity: Bytes that it has, 24 of them for its header.
    """

    def __new__(cls, capacity: int = ...) -> Channel: ...
    def mark_started(self) -> None:
        """Records that the function has begun, in this process."""
    def write(self, payload: bytes) -> bool:
        """Commits a payload; False where it does not fit, and nothing is changed then."""
    def started_by(self) -> int | None:
        """Process id of the function that began, None if none did."""
    def read(self) -> bytes | None:
        """The committed payload, None where there is none or it is damaged."""

@final
class Meter:
    """The engine of :class:`lithowatt.EnergyMeter`, whose arguments these are."""

    def __new__(
        cls,
        methods: str | Sequence[str],
        *,
        interval: float | Literal["auto"] | None,
        pid: int | Sequence[int] | None = None,
        children: bool,
        scope: str | None = None,
        cgroup: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        label: str | None = None,
        root: str | os.PathLike[str] | None = None,
        enabled: bool | None = None,
        estimation: str | None = None,
        definition: str | None = None,
        absent: str | None = None,
        record: bool = False,
        replay: Replay | None = None,
    ) -> Meter: ...
    label: str | None
    """The name that readings and stats carry."""
    @property
    def running(self) -> bool:
        """Whether it runs in this process."""
    def start(self) -> None:
        """Starts, or starts again.

        Raises:
            MeterStateError: If it runs.
        """
    def stop(self) -> None:
        """Stops.

        Raises:
            MeterStateError: If it does not run.
        """
    def prepare(self) -> None:
        """Opens what the meter reads, and has its thread, so that a start is quick."""
    def prepare_for(
        self,
        function: Callable[..., Any],
        wrapper: Callable[..., Any],
        cell: CellType,
        names: tuple[str, ...],
    ) -> None:
        """``prepare()``, and the wrapper gets the function.

        Args:
            function: The function.
            wrapper: Is to look like it, as with `functools.update_wrapper`.
            cell: Of the wrapper's closure, for the function.
            names: Attributes that the wrapper takes over.
        """
    def leave(self, channel: Channel) -> bool:
        """In a child: stops, and leaves the window in the channel; False where that cannot be.

        Raises:
            MeterStateError: If it does not run.
        """
    def begin(self, channel: Channel | None) -> None:
        """The function that is metered begins: notes that in the channel, if any, and starts.

        It does so once; a function that calls itself through its wrapper begins once.

        Raises:
            MeterStateError: If it runs.
        """
    def finish(self) -> None:
        """The function has ended: ends the window and no more; ``stop``, still to be called, finds
        out what it came to. Without effect in a child that the function forked."""
    @property
    def finished(self) -> bool:
        """Whether the function has ended, in this process."""
    def resume(self) -> None:
        """The task (scope ``task``) goes on, on the calling thread."""
    def suspend(self) -> None:
        """The task waits."""
    def enter_phase(self, name: str) -> bool:
        """Marks the start of a phase; False where the meter does not run."""
    def leave_phase(self, name: str) -> bool:
        """Marks the end of a phase; False where the meter does not run."""
    def taken(self) -> Taken:
        """The last window, or the running one so far, as it is now.

        Raises:
            MeterStateError: If the meter was never started.
        """
    def energy(
        self, definition: str | None = None
    ) -> tuple[float, float, float, float, str, float, float | None] | None:
        """Of the last window: joules, low, high, seconds, quality, joules above idle, CPU seconds.

        Raises:
            MeterStateError: If the meter was never started.
        """
    def expect(self) -> None:
        """Before a fork: the child's copy of this meter is to hand its window over to this one."""
    def hand_over(self) -> bytes | None:
        """In that child: its last window; ``None`` where only the child can make its numbers."""
    def receive(self, window: bytes) -> bool:
        """Takes a window that was handed over as this meter's last; False where it is none."""
    def raw_stats_json(self, spelling: Spelling, compact: bool) -> bytes:
        """``taken().stats()`` as JSON in UTF-8.

        Raises:
            MeterStateError: If the meter was never started.
        """
    def take_blocks(self) -> list[bytes]:
        """What was recorded since this was last asked: blocks of rows."""
    def trace_header(self) -> str | None:
        """What does not change within the recorded window, as JSON; None before it ended."""
    def raw_timeline(self) -> tuple[bytes, bytes, list[str]] | None:
        """Times in ns (monotonic clock, unsigned integers of 64 bit), the columns one after the
        other (floats of 64 bit), both little-endian, and the names of the columns; None where
        there are no samples."""

@final
class Trace:
    """A recording that was found whole.

    Args:
        header: The core's part of the header, as JSON.
        blocks: Blocks of rows.

    Raises:
        ValueError: What is wrong with them.
    """

    def __new__(cls, header: bytes, blocks: Sequence[bytes]) -> Trace: ...
    @property
    def seconds(self) -> float:
        """Length of the window, s."""
    @property
    def samples(self) -> int:
        """Samples between its edges."""

@final
class Replay:
    """A trace with the rules by which it is read."""

    def __new__(
        cls,
        trace: Trace,
        *,
        idle_watts: float | None = None,
        window: tuple[float, float] | None = None,
    ) -> Replay: ...

def encode_rows(cells: Sequence[int | None], width: int) -> bytes:
    """Rows of ``width`` whole numbers as one block, of at most 4096 rows; None is no value."""

@final
class PowerModel:
    """The engine of :class:`lithowatt.PowerModel`.

    Watts are (value, low, high, source): the band is that of 95 %.
    """

    @staticmethod
    def raw_for_cpu(
        name: str, logical_cpus: int | None = None, sockets: int | None = None
    ) -> PowerModel:
        """The model of a processor by its name, as /proc/cpuinfo has it."""
    @staticmethod
    def raw_for_machine(root: str | os.PathLike[str] | None = None) -> PowerModel:
        """The model of the machine below ``root``, calibrated if a calibration of it is stored."""
    @staticmethod
    def raw_for_lambda(
        memory_mb: int, architecture: str, cpu_name: str | None = None
    ) -> PowerModel:
        """The model of the processor that an AWS Lambda sandbox has a share of; MiB."""
    def raw_watts(
        self,
        load_percent: float,
        cores_used: int | None = None,
        frequency_mhz: float | None = None,
    ) -> tuple[float, float, float, str]:
        """Watts of the packages at a load from 0 to 100 %.

        Raises:
            ValueError: For a load, cores or a frequency out of range.
        """
    def raw_vcpus_watts(self, vcpus: float, busy_vcpus: float) -> tuple[float, float, float, str]:
        """Watts of a share of the packages with ``vcpus`` hardware threads."""
    def raw_share_power(
        self, estimation: str, vcpus: float, busy_vcpus: float, memory_gib: float | None
    ) -> tuple[
        tuple[float, float, float], tuple[float, float, float], tuple[float, float, float], str
    ]:
        """Watts of a share, memory included: all, those at rest, those above rest, each as (value,
        low, high), and the name of the method.

        Raises:
            UnknownMethodError: For another estimation than ``curve``, ``vcpu`` and ``tdp_based``.
        """
    def raw_estimation(
        self, estimation: str, vcpus: float, busy_vcpus: float, memory_gib: float | None
    ) -> tuple[float, float, float, str]:
        """The first of what `raw_share_power` returns, and the name of the method.

        Programs that judge the model from outside call it.

        Raises:
            UnknownMethodError: For another estimation than ``curve``, ``vcpu`` and ``tdp_based``.
        """
    def describe(self) -> str:
        """The model's name, as in a reading's method."""
    def tdp(self) -> tuple[float | None, str]:
        """Thermal design power of one package in W, and where it is from."""
    def assumptions(self) -> dict[str, Any]:
        """The constants that the watts are made of, with their sources."""

@final
class Agent:
    """The node agent: samples and publishes its ring from its making until it is stopped.

    Raises:
        AgentError: Where counters, options or another agent are in the way.
        UnreadableFileError: Where the ring cannot be made.
    """

    def __new__(
        cls,
        path: str | os.PathLike[str],
        *,
        root: str | os.PathLike[str] | None = None,
        rate: float = 100.0,
        quantum_uj: int = 1000,
        round: float = 1.0,
        group: int | None = None,
        methods: str | Sequence[str] = "all",
        containers: bool = True,
        node: str = "",
        guests: Sequence[str] = (),
        guest_folder: str | os.PathLike[str] | None = None,
    ) -> Agent: ...
    def snapshot(self) -> dict[str, Any]:
        """The state at the end of the last round."""
    @property
    def alive(self) -> bool:
        """Whether its thread samples."""
    def stop(self) -> None:
        """Ends it; readers of the ring are told so."""

def ring_may_be_replaced(path: str | os.PathLike[str]) -> None:
    """Sees that nothing but a ring is at ``path``.

    Raises:
        AgentError: Where something else is, saying what.
    """

@final
class Ring:
    """A ring, open for reading: at ``path``, ``LITHOWATT_RING`` or below ``root``.

    Raises:
        AgentError: Where there is none, or none that can be believed.
    """

    def __new__(
        cls,
        path: str | os.PathLike[str] | None = None,
        root: str | os.PathLike[str] | None = None,
    ) -> Ring: ...
    def header(self) -> dict[str, Any]:
        """What does not change while an agent runs: its zones, rate, method and node."""
    def look(self) -> dict[str, Any]:
        """The newest sample: number, time, age in s, idle CPU seconds, resets, J by zone.

        Raises:
            AgentError: Where the agent gave no sign of life, or was stopped.
        """
    def touch(self) -> bool:
        """Reads the newest sample and drops it, as a meter reads at its edges; whether it could."""
    def groups(self) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """The machine's account of the last round and one row for each container and pod; None
        where no round is complete."""
    def own_groups(self) -> list[dict[str, Any]]:
        """The rows of the groups that this process is in, innermost first."""

def divide_energy(
    joules: float, idle: float, own: Sequence[float], busy: float
) -> tuple[list[float], float]:
    """A machine's energy in J divided by CPU time in s as the agent does: parts and rest."""

def doctor(
    root: str | os.PathLike[str] | None = None,
    methods: Sequence[str] | None = None,
    *,
    waits: bool = True,
) -> list[dict[str, Any]]:
    """What can be measured below ``root``: one dict for each of ``methods``, or for all.

    ``waits``: until each counter has moved, 3.5 s at most; else one that stands still is taken for
    one that counts.
    """

@final
class ProfileReader:
    """The configurations of a profile, one after another: stage, key, column by name.

    The stage is ``None`` but in a file that holds several. Reads a plain file as a stream and gives
    up the GIL meanwhile; memory holds one configuration and the text of one metric.

    Args:
        path: The profile.
        keep: Names of the columns whose values are kept. ``None``: all.

    Raises:
        UnreadableFileError: It cannot be read or is no plain file.
        MalformedValueError: While iterating, for what is cut off or no profile, with the place.
    """

    def __new__(
        cls, path: str | os.PathLike[str], keep: AbstractSet[str] | None = None
    ) -> ProfileReader: ...
    def __iter__(self) -> ProfileReader: ...
    def __next__(self) -> tuple[str | None, str, dict[str, ProfileColumn]]: ...
    @property
    def sha256(self) -> str | None:
        """Of the file's bytes, in hex; ``None`` until the last configuration was read."""

@final
class ProfileColumn:
    """One metric of one configuration. Values are those of all repetitions, one after another."""

    @property
    def kind(self) -> Literal["number", "text", "missing"]:
        """What its values are; ``missing`` where there is none."""
    @property
    def kept(self) -> bool:
        """Whether the values were to be kept."""
    @property
    def lengths(self) -> bytes:
        """How many values each repetition has: numbers of 32 bits without sign."""
    @property
    def numbers(self) -> bytes | None:
        """Numbers of 64 bits, NaN where one is missing; ``None`` of texts and where not kept."""
    @property
    def codes(self) -> bytes | None:
        """Of texts: places in ``labels``, numbers of 32 bits, -1 where one is missing."""
    @property
    def labels(self) -> tuple[str, ...]:
        """The different texts, in the order in which they appear."""
    @property
    def whole(self) -> bool:
        """Whether all numbers that are there are written as whole ones, none beyond 2^53."""
    @property
    def exact(self) -> bool:
        """Whether values and labels say all that the file does: what is missing is ``null`` there,
        and either all numbers are written as whole ones or none is."""
    @property
    def count(self) -> int:
        """How many values there are, missing ones among them."""
    @property
    def missing(self) -> int:
        """How many are null, NaN or infinite."""
    @property
    def zeros(self) -> int:
        """How many are 0."""
    @property
    def minimum(self) -> float | None:
        """The least number."""
    @property
    def maximum(self) -> float | None:
        """The greatest number."""
    @property
    def constant(self) -> bool:
        """Whether all values that are there are the same."""

@final
class Probes:
    """Kernel probes that are loaded on this machine, open for reading.

    Raises:
        UnavailableError: where there are none, with the command that loads them.
    """

    def __new__(cls, root: str | os.PathLike[str] | None = None) -> Probes: ...
    @property
    def alive(self) -> bool:
        """Whether they still count."""
    @property
    def gives(self) -> list[str]:
        """What they see, in words."""
    @property
    def siblings(self) -> bool:
        """Whether cores have two hardware threads."""
    def processes(self) -> list[tuple[int, int, int | None, _Use]]:
        """Every living process: (tgid, parent's tgid, id of the cgroup, what it used)."""
    def cgroups(self, ids: Sequence[int]) -> list[_Use | None]:
        """What cgroups used, by their ids, those of the dead included."""
    def machine(self) -> dict[str, Any]:
        """What the CPUs of the machine did since the probes were loaded: ns and counts; ``used``,
        all that ran."""

_Use = tuple[int, int | None, int, float, int]
"""On-CPU ns, cycles, ns beside a busy sibling thread, frequency x time in cycles, its ns."""

def weigh(uses: Sequence[_Use], machine: _Use, siblings: bool) -> tuple[list[float], float, str]:
    """What each use weighs when the machine's energy is shared, what all that ran (``machine``)
    weighs, and what weights are, in words: as a meter weighs its function."""

def parts_above_idle(
    machine: tuple[float, float, float],
    idle: tuple[float, float, float],
    together: bool,
    shares: Sequence[float],
    busy_ns: float | None,
    seen: bool,
    spread: float,
) -> list[tuple[float, float, float]]:
    """The joules above idle, with 95 % bands, of those that had ``shares`` (0..1) of ``busy_ns`` of
    CPU time, which kernel probes have ``seen`` or else the kernel's clocks: as a meter charges its
    function. ``together``: machine and idle (J, low, high) are one model's and err the same way.
    ``spread``: how much more a CPU-second of one may cost than another's."""

def workload_spread(root: str | os.PathLike[str] | None = None) -> float:
    """How much more or less a CPU-second of one program may cost than one of another, below
    ``root``: 2.4 on AMD's servers, else 1.7."""

def load_probes(root: str | os.PathLike[str] | None = None) -> list[str]:
    """Loads the kernel probes and pins them for every process; what they see.

    Raises:
        UnavailableError: where the kernel does not let this process.
    """

def unload_probes(root: str | os.PathLike[str] | None = None) -> list[Path]:
    """Takes the kernel probes of every version out again; the directories that were removed.

    Raises:
        UnavailableError: where this process may not.
    """

def rapl_now(
    root: str | os.PathLike[str] | None = None,
) -> tuple[float | None, float | None]:
    """What the counters of packages and of cores show now, J; None where not all can be read."""

def cpu_identity(root: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The processor below ``root``."""

def surroundings(root: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Container, limits and instance type below ``root``, looked at anew."""

def in_lambda() -> bool:
    """Whether this process is in an AWS Lambda sandbox."""

def process_cpu_seconds(pid: int) -> float | None:
    """CPU time of a process that nobody has waited for yet, s; None when it is gone."""

def find_cgroups(
    cgroup: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    root: str | os.PathLike[str] | None = None,
) -> list[Path]:
    """The directories that a meter with this ``cgroup`` would follow now.

    Raises:
        UnreadableFileError: Nothing that is there is meant.
        ConflictingOptionsError: A job's id is one of two batch systems.
    """

def place_of_cgroup(path: str) -> tuple[str, str]:
    """What the cgroup at ``path`` is: kind and name. The name may hold what a terminal obeys."""

def relative_difference(a: float, b: float) -> float | None:
    """Relative difference of two energies, against the larger; None where one is not positive."""

def integrate(
    times_ns: Sequence[int], values: Sequence[float], t0_ns: int, t1_ns: int
) -> float | None:
    """Growth of a cumulative series between two times, interpolated; None outside of it.

    Raises:
        ValueError: For times that do not ascend or values that are not finite.
    """

def reference_energy(
    times: Sequence[float],
    values: Sequence[float],
    start: float,
    end: float,
    *,
    counts: bool,
    update: float,
    delay: float,
    averaged: float,
    relative: float,
    step: float,
    gap: float,
) -> tuple[tuple[float, float, float] | None, str | None]:
    """Energy between two times (s) of readings of a slow meter with its band, J, or why there is
    none.

    Raises:
        ValueError: For times that go back or values that are not finite.
    """

def reference_line(
    windows: Sequence[tuple[float, tuple[float, float, float], tuple[float, float, float]]],
    relative: float,
) -> dict[str, Any] | None:
    """A counter against a meter of the whole machine: of each window its seconds and both energies
    with their bands. ``None`` where either had no energy."""

def calibration_path() -> Path | None:
    """Where the calibration is stored."""

def write_calibration(text: str, path: str | os.PathLike[str]) -> None:
    """Writes a calibration (JSON) atomically, readable by its owner only.

    Raises:
        MalformedValueError, UnwritableFileError: naming the path.
    """

def read_calibration(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a calibration.

    Raises:
        MalformedValueError, UnreadableFileError: naming the path.
    """

def calibration_unused(
    path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None
) -> str | None:
    """Why what is stored at ``path`` is not used below ``root``; None where it is."""

def machine_identity(root: str | os.PathLike[str] | None = None) -> str:
    """The machine below ``root``, in words that no other machine has."""

def curve_unused(
    path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None
) -> str | None:
    """Why the curve stored at ``path`` is not used below ``root``; None where it is."""

def fit_curve(
    points: Sequence[tuple[float, float, float]], cores_per_socket: float, threads_per_core: float
) -> dict[str, Any] | None:
    """The curve that fits ``(load, spread, W)``, loads and spreads from 0 to 1; None for none."""

def student_t_quantile(p: float, df: float) -> float:
    """The value that Student's t with `df` degrees of freedom stays below with probability `p`.

    Raises:
        ValueError: Unless 0 < p < 1 and df > 0.
    """

def student_t_two_sided(t: float, df: float) -> float:
    """Probability that Student's t is as far from 0 as `t`; NaN where that is not defined."""

def log_gamma(x: float) -> float:
    """Natural logarithm of the gamma function of x > 0; NaN elsewhere."""

def lambda_vcpus(memory_mb: float) -> float:
    """vCPUs that so many MB (MiB) of memory buy on AWS Lambda."""

def tdp_energy(cpu_percent: float, seconds: float, tdp_watts: float) -> float:
    """TDP × CPU percent × time, J: the prototype's plain estimate."""

def stats_keys() -> list[tuple[str, str | None, str, str, str | None, str, bool]]:
    """The table of the stats: of each key name, unit, type, meaning, when it is ``None`` (``None``
    for never), group, and whether stats have it and not only a reading's flat dict."""
