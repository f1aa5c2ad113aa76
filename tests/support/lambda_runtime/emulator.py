"""Lambda's API on 127.0.0.1: moto keeps functions and layers, sandboxes of ours run them.

`python emulator.py STATE RUNTIME_PYTHON` serves until its standard input ends, and prints one
line of JSON with its addresses when it is ready. STATE is a directory for what it unpacks.
"""

import base64
import contextlib
import io
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request
import uuid
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3

HERE = Path(__file__).resolve().parent
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
REGION, ACCOUNT = "us-east-1", "123456789012"
FUNCTIONS = "/2015-03-31/functions"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}

#: MB that buy one vCPU:
#: <https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>.
MB_PER_VCPU = 1769
CGROUPS = Path("/sys/fs/cgroup")


class Server(BaseHTTPRequestHandler):
    """An HTTP server whose subclasses answer (status, headers, body)."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def handle_any(self):
        try:
            status, headers, body = self.answer(self.command, self.path, self.body())
        except Exception as error:
            traceback.print_exc()
            status, headers, body = 500, {}, json.dumps({"Message": str(error)}).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        # A client that has what it wants, or is gone.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def serve(handler):
    """Serves in the background on a free port; returns the server."""
    server = QuietServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class Sandbox:
    """One execution environment of a function, which serves one invocation at a time."""

    def __init__(self, emulator, name, function):
        self.waiting = queue.Queue()
        self.answers = {}
        self.busy = True
        self.timeout = function["timeout"]
        self.home = emulator.state / f"{name}-{uuid.uuid4().hex[:8]}"
        for folder in ("task", "opt"):
            (self.home / folder).mkdir(parents=True)
        unpack(function["zip"], self.home / "task")
        for arn in function["layers"]:
            unpack(emulator.layers[arn], self.home / "opt")
        self.cgroups = limits(self.home.name, function["memory"])
        self.api = serve(self.runtime_api(name))
        spec = {
            "root": str(self.home / "root"),
            "task": str(self.home / "task"),
            "layers": str(self.home / "opt"),
            "runtime": str(HERE),
            "python": emulator.python,
            "base": emulator.base,
            "cgroups": [str(path) for path in self.cgroups],
            "environment": {
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "LANG": "en_US.UTF-8",
                "TZ": ":UTC",
                "LAMBDA_TASK_ROOT": "/var/task",
                "LAMBDA_RUNTIME_DIR": "/var/runtime",
                "_HANDLER": function["handler"],
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.api.server_port}",
                "AWS_LAMBDA_FUNCTION_NAME": name,
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function["memory"]),
                "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
                "AWS_EXECUTION_ENV": f"AWS_Lambda_python{VERSION}",
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_ENDPOINT_URL": emulator.moto,
                **KEYS,
                **emulator.passed_on,
                **function["environment"],
            },
        }
        (self.home / "spec.json").write_text(json.dumps(spec))
        self.log = (self.home / "log.txt").open("w")
        # --kill-child: the sandbox does not outlive this process.
        command = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child"]
        command += [sys.executable, str(HERE / "sandbox.py"), str(self.home / "spec.json")]
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL
        )

    def runtime_api(self, name):
        """The API that the runtime client in the sandbox asks for work."""
        sandbox = self

        class RuntimeApi(Server):
            def answer(self, method, path, body):
                if method == "GET":
                    request, payload = sandbox.waiting.get()
                    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
                    headers = {
                        "Content-Type": "application/json",
                        "Lambda-Runtime-Aws-Request-Id": request,
                        "Lambda-Runtime-Invoked-Function-Arn": arn,
                        "Lambda-Runtime-Deadline-Ms": str(
                            int((time.time() + sandbox.timeout) * 1000)
                        ),
                    }
                    return 200, headers, payload
                done = re.search(r"/invocation/([^/]+)/(response|error)$", path)
                if done and done[1] in sandbox.answers:
                    sandbox.answers.pop(done[1]).put((done[2], body))
                elif path.endswith("/init/error"):
                    for waiting in list(sandbox.answers.values()):
                        waiting.put(("error", body))
                return 202, {}, b"{}"

        return RuntimeApi

    def invoke(self, payload):
        request = str(uuid.uuid4())
        answer = self.answers[request] = queue.Queue()
        self.waiting.put((request, payload))
        try:
            for _ in range(int(self.timeout) + 5):
                with contextlib.suppress(queue.Empty):
                    return answer.get(timeout=1)
                if self.process.poll() is not None:
                    break
            return "error", json.dumps({"errorType": "Runtime.ExitError"}).encode()
        finally:
            self.busy = False

    def close(self):
        # From within: unshare then reaps them, where init may take its time, and
        # a cgroup stays as long as it has as much as a zombie.
        for group in self.cgroups:
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5 if self.cgroups else 0)
        self.process.kill()
        self.process.wait()
        self.api.shutdown()
        self.log.close()
        for group in self.cgroups:
            for _ in range(50):
                with contextlib.suppress(OSError):
                    group.rmdir()
                    break
                time.sleep(0.02)


def unpack(content, directory):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(directory)


def limits(name, memory):
    """cgroups with a function's CPU and memory, of whichever version there is."""
    period = 100_000
    quota = max(1000, int(period * memory / MB_PER_VCPU))
    size = memory * 1024 * 1024
    if (CGROUPS / "cgroup.controllers").exists():
        wanted = {CGROUPS: {"cpu.max": f"{quota} {period}", "memory.max": str(size)}}
    else:
        wanted = {
            CGROUPS / "cpu": {"cpu.cfs_period_us": str(period), "cpu.cfs_quota_us": str(quota)},
            CGROUPS / "memory": {"memory.limit_in_bytes": str(size)},
        }
    made = []
    for parent, files in wanted.items():
        group = parent / f"lithowatt-test-{name}"
        try:
            group.mkdir()
            for file, text in files.items():
                (group / file).write_text(text)
            made.append(group)
        except OSError as error:
            print(f"no limit by {group}: {error}", file=sys.stderr, flush=True)
    return made


class Emulator:
    """The functions, their layers and their sandboxes."""

    def __init__(self, state, python):
        self.state = state
        command = [python, "-c", "import sys; print(sys.prefix, sys.base_prefix, sep='\\n')"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        self.python, self.base = done.stdout.splitlines()
        # What pip and TLS need to reach the package index from here.
        names = r"(PIP_(?!FIND_LINKS)|SSL_CERT|REQUESTS_CA|CURL_CA|HTTPS?_PROXY$|NO_PROXY$)"
        self.passed_on = {k: v for k, v in os.environ.items() if re.match(names, k.upper())}
        self.functions = {}
        self.layers = {}
        self.sandboxes = {}
        self.lock = threading.Lock()
        self.invocations = []
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        self.moto_process = subprocess.Popen(
            command,
            env={**os.environ, **KEYS, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for line in self.moto_process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.moto = found[0]
                break
        else:
            raise RuntimeError("moto did not start")
        drain = self.moto_process.stdout
        threading.Thread(target=lambda: [None for _ in drain], daemon=True).start()
        settings = json.dumps({"lambda": {"use_docker": False}}).encode()
        self.ask_moto("POST", "/moto-api/config", settings, {"Content-Type": "application/json"})
        trusted = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}}
        document = {"Version": "2012-10-17", "Statement": [{**trusted, "Action": "sts:AssumeRole"}]}
        keys = {name.lower(): value for name, value in KEYS.items()}
        iam = boto3.client("iam", endpoint_url=self.moto, region_name=REGION, **keys)
        iam.create_role(RoleName="lithops", AssumeRolePolicyDocument=json.dumps(document))

    def ask_moto(self, method, path, body, headers):
        request = urllib.request.Request(self.moto + path, body or None, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def sandbox(self, name):
        """One that is free, or a new one: a cold start."""
        with self.lock:
            kept = self.sandboxes.setdefault(name, [])
            for sandbox in kept:
                if not sandbox.busy and sandbox.process.poll() is None:
                    sandbox.busy = True
                    return sandbox
            sandbox = Sandbox(self, name, self.functions[name])
            kept.append(sandbox)
            return sandbox

    def forget(self, name):
        with self.lock:
            for sandbox in self.sandboxes.pop(name, []):
                sandbox.close()

    def invoke(self, name, payload):
        kind, body = self.sandbox(name).invoke(payload)
        self.invocations.append({"function": name, "kind": kind})
        return kind, body

    def noted(self, method, path, body):
        """Takes from a request to moto what a sandbox needs to know."""
        if method == "POST" and path == FUNCTIONS:
            asked = json.loads(body)
            self.functions[asked["FunctionName"]] = {
                "zip": base64.b64decode(asked["Code"]["ZipFile"]),
                "handler": asked["Handler"],
                "timeout": asked.get("Timeout", 3),
                "memory": asked.get("MemorySize", 128),
                "layers": asked.get("Layers", []),
                "environment": asked.get("Environment", {}).get("Variables", {}),
            }
        one = re.fullmatch(rf"{FUNCTIONS}/([^/]+)(/configuration)?", path)
        if one and one[1] in self.functions and method in ("PUT", "DELETE"):
            self.forget(one[1])
            if method == "DELETE":
                del self.functions[one[1]]
            else:
                asked = json.loads(body)
                function = self.functions[one[1]]
                function["layers"] = asked.get("Layers", function["layers"])
                variables = asked.get("Environment", {}).get("Variables")
                function["environment"] = (
                    function["environment"] if variables is None else variables
                )

    def layer(self, body):
        """The zip that a request to publish a layer names."""
        content = json.loads(body)["Content"]
        if "ZipFile" in content:
            return base64.b64decode(content["ZipFile"])
        path = f"/{content['S3Bucket']}/{content['S3Key']}"
        # moto tells accounts and services by this header, and checks no signature.
        scope = f"testing/20260101/{REGION}/s3/aws4_request"
        authorisation = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
        status, _, zipped = self.ask_moto("GET", path, b"", {"Authorization": authorisation})
        if status != 200:
            raise RuntimeError(f"no layer at {path}: {status} {zipped[:200]!r}")
        return zipped

    def close(self):
        for name in list(self.sandboxes):
            self.forget(name)
        self.moto_process.kill()
        self.moto_process.wait()
        shutil.rmtree(self.state / "unpacked", ignore_errors=True)


def lambda_api(emulator):
    class LambdaApi(Server):
        def answer(self, method, path, body):
            plain = path.split("?")[0].rstrip("/")
            invoked = re.fullmatch(rf"{FUNCTIONS}/([^/]+)/invocations", plain)
            if invoked:
                return self.invocation(invoked[1], body)
            emulator.noted(method, plain, body)
            layer = None
            if method == "POST" and re.fullmatch(r"/2018-10-31/layers/[^/]+/versions", plain):
                layer = emulator.layer(body)
            skipped = ("host", "content-length", "connection", "transfer-encoding")
            headers = {k: v for k, v in self.headers.items() if k.lower() not in skipped}
            status, answered, content = emulator.ask_moto(method, path, body, headers)
            if layer is not None and status < 300:
                emulator.layers[json.loads(content)["LayerVersionArn"]] = layer
            kept = ("content-type", "x-amzn-requestid", "x-amzn-errortype")
            return status, {k: v for k, v in answered.items() if k.lower() in kept}, content

        def invocation(self, name, body):
            if name not in emulator.functions:
                return 404, {}, b'{"Message": "no such function"}'
            headers = {"x-amzn-RequestId": str(uuid.uuid4()), "Content-Type": "application/json"}
            if self.headers.get("X-Amz-Invocation-Type") == "Event":
                threading.Thread(target=emulator.invoke, args=(name, body), daemon=True).start()
                return 202, headers, b""
            kind, answer = emulator.invoke(name, body)
            if kind == "error":
                headers["X-Amz-Function-Error"] = "Unhandled"
            return 200, headers, answer

    return LambdaApi


def main():
    state = Path(sys.argv[1]) / "unpacked"
    state.mkdir(parents=True, exist_ok=True)
    emulator = Emulator(state, sys.argv[2])
    try:
        api = serve(lambda_api(emulator))
        addresses = {"lambda": f"http://127.0.0.1:{api.server_port}", "moto": emulator.moto}
        print(json.dumps(addresses), flush=True)
        sys.stdin.read()
    finally:
        emulator.close()


if __name__ == "__main__":
    main()
