"""Becomes a process in a sandbox as poor as Lambda's: `python sandbox.py SPEC.json`, as root.

To be started in mount, process and IPC namespaces of its own (`unshare --mount
--pid --ipc --fork`). SPEC has `task`, `layers` and `runtime` (directories),
`python` (a virtual environment, which becomes /var/lang as in a managed runtime)
and `base` (the installation it is of), `environment`, `cgroups` (to join), `root`
(where to build).
"""

import ctypes
import json
import os
import platform
import struct
import sys
from pathlib import Path

#: mount(2).
RDONLY, NOSUID, NODEV, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
#: prctl(2), seccomp(2).
SET_NO_NEW_PRIVS, SET_SECCOMP, MODE_FILTER = 38, 22, 2
ALLOW, EPERM = 0x7FFF0000, 0x00050001
#: AUDIT_ARCH_*, and the numbers of perf_event_open and bpf.
REFUSED = {"x86_64": (0xC000003E, (298, 321)), "aarch64": (0xC00000B7, (241, 280))}

#: What AWS calls sbx_user1051 in its sandboxes.
USER = 993

LIBC = ctypes.CDLL(None, use_errno=True)


def check(result, doing):
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{doing}: {os.strerror(ctypes.get_errno())}")


def mount(source, target, kind=None, flags=0, options=None):
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    data = None if options is None else options.encode()
    check(LIBC.mount(*encoded, ctypes.c_ulong(flags), data), f"mount {target}")


def bind(source, target, writable=False):
    if Path(source).is_dir():
        Path(target).mkdir(parents=True, exist_ok=True)
    elif not Path(target).exists():
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).touch()
    mount(source, target, flags=BIND | REC)
    if not writable:
        mount(None, target, flags=REMOUNT | BIND | RDONLY | NOSUID)


def build_root(root, spec):
    mount("tmpfs", root, "tmpfs", options="mode=755,size=8m")
    for name in ("usr", "lib", "lib32", "lib64", "bin", "sbin", "etc"):
        source = Path("/", name)
        if source.is_symlink():
            (root / name).symlink_to(os.readlink(source))
        elif source.is_dir():
            bind(source, root / name)
    if not spec["base"].startswith("/usr"):
        bind(spec["base"], root / spec["base"].lstrip("/"))
    bind(spec["python"], root / "var/lang")
    bind(spec["task"], root / "var/task")
    bind(spec["runtime"], root / "var/runtime")
    bind(spec["layers"], root / "opt")
    users = Path(spec["root"] + ".passwd")
    users.write_text(f"sbx_user1051:x:{USER}:{USER}::/home/sbx_user1051:/sbin/nologin\n")
    bind(users, root / "etc/passwd")
    for device in ("null", "zero", "full", "random", "urandom"):
        bind(f"/dev/{device}", root / "dev" / device, writable=True)
    for link, target in {"fd": "/proc/self/fd", "stderr": "/proc/self/fd/2"}.items():
        (root / "dev" / link).symlink_to(target)
    (root / "proc").mkdir()
    mount("proc", root / "proc", "proc", NOSUID | NODEV)
    (root / "sys").mkdir()
    mount("tmpfs", root / "sys", "tmpfs", RDONLY, "mode=555,size=4k")
    (root / "tmp").mkdir()
    mount("tmpfs", root / "tmp", "tmpfs", NOSUID | NODEV, f"size=512m,mode=700,uid={USER}")
    mount(None, root, flags=REMOUNT | RDONLY, options="mode=755,size=8m")


def refuse_system_calls():
    """Has perf_event_open and bpf fail as they do there: they are not permitted."""
    architecture, numbers = REFUSED[platform.machine()]
    load, equal, give = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    code = [(load, 0, 0, 4), (equal, 0, len(numbers) + 1, architecture), (load, 0, 0, 0)]
    code += [(equal, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    code += [(give, 0, 0, ALLOW), (give, 0, 0, EPERM)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    header = struct.pack("HxxxxxxP", len(code), ctypes.addressof(program))
    check(LIBC.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    check(LIBC.prctl(SET_SECCOMP, MODE_FILTER, header, 0, 0), "seccomp")


def main():
    spec = json.loads(Path(sys.argv[1]).read_text())
    for directory in spec["cgroups"]:
        Path(directory, "cgroup.procs").write_text(str(os.getpid()))
    mount(None, "/", flags=REC | PRIVATE)
    root = Path(spec["root"])
    root.mkdir(exist_ok=True)
    build_root(root, spec)
    os.chroot(root)
    os.chdir("/var/task")
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)
    refuse_system_calls()
    os.umask(0o022)
    python = "/var/lang/bin/python"
    os.execve(python, [python, "/var/runtime/bootstrap.py"], spec["environment"])


if __name__ == "__main__":
    main()
