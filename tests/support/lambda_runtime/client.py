"""A user's program on Lithops' aws_lambda backend: `python client.py PLAN.json SEEN.json`."""

import json
import os
import sys
import time
from pathlib import Path

import lithops
from lithops.serverless.backends.aws_lambda import aws_lambda

LAMBDA = os.environ["AWS_ENDPOINT_URL_LAMBDA"]
REGION = "us-east-1"


class Session(aws_lambda.URLLib3Session):
    """Lithops writes the host that it invokes into its code; all else goes by the environment."""

    def send(self, request):
        request.url = request.url.replace(f"https://lambda.{REGION}.amazonaws.com", LAMBDA)
        return super().send(request)


aws_lambda.URLLib3Session = Session


def burn(x):
    end = time.process_time() + 0.3
    while time.process_time() < end:
        sum(range(1000))
    return x * x


def poverty(x):
    """What there is to be had in the sandbox."""
    import ctypes
    import errno

    libc = ctypes.CDLL(None, use_errno=True)

    def refused(number):
        ctypes.set_errno(0)
        return libc.syscall(number, 0, 0, 0, 0, 0) == -1 and ctypes.get_errno() == errno.EPERM

    def writable(directory):
        try:
            Path(directory, "probe").write_text("x")
        except OSError:
            return False
        return True

    numbers = {"x86_64": (298, 321), "aarch64": (241, 280)}[os.uname().machine]
    capabilities = [
        line.split()[1]
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapEff")
    ]
    written = [
        str(path)
        for path in Path("/tmp").rglob("*")
        if "lithowatt" in path.name or "lithowatt" in str(path.parent)
    ]
    return {
        "uid": os.getuid(),
        "capabilities": int(capabilities[0], 16),
        "powercap": os.path.exists("/sys/class/powercap"),
        "shm": os.path.exists("/dev/shm"),
        "perf_refused": refused(numbers[0]),
        "bpf_refused": refused(numbers[1]),
        "writable": [
            d
            for d in ("/", "/var/task", "/opt", "/opt/python", "/etc", "/usr", "/tmp")
            if writable(d)
        ],
        "written": written,
        "lithowatt": sys.modules["lithowatt"].__file__ if "lithowatt" in sys.modules else None,
    }


def raises(x):
    burn(x)
    raise ValueError(f"boom {x}")


def killed(x):
    import signal

    burn(x)
    os.kill(os.getpid(), signal.SIGKILL)


def run(executor, scenario):
    name, arguments = scenario["function"], scenario["arguments"]
    futures = executor.map(globals()[name], arguments, extra_env=scenario.get("env"))
    results = executor.get_result(futures, throw_except=False)
    return [
        {"result": result, "stats": future.stats, "error": bool(future.error)}
        for future, result in zip(
            futures, results if isinstance(results, list) else [results], strict=False
        )
    ]


def main():
    plan = json.loads(Path(sys.argv[1]).read_text())
    executor = lithops.FunctionExecutor(config=plan["config"])
    if plan.get("ship"):
        from lithowatt.lithops import ship_meter

        ship_meter()
    seen = {one["name"]: run(executor, one) for one in plan["scenarios"]}
    Path(sys.argv[2]).write_text(json.dumps(seen, default=str))


if __name__ == "__main__":
    main()
