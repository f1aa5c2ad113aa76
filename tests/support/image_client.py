"""A user's program on Lithops whose functions run in a container image: `python image_client.py
PLAN.json SEEN.json`.

On localhost by Lithops' own back-end. For the images of other back-ends the payload that Lithops
makes goes to the entry point in the image the way its platform calls it, with Lithops' localhost
storage mounted where a bucket would be.
"""

import base64
import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Containers of user 1000 write to this program's storage.
os.umask(0)

import lithops  # noqa: E402
from lithops.constants import TEMP_DIR, USER_TEMP_DIR  # noqa: E402
from lithops.localhost.v1.localhost import LocalhostHandlerV1  # noqa: E402

PLAN = json.loads(Path(sys.argv[1]).read_text())
#: Lithops names the storage's folder after this.
USER = USER_TEMP_DIR.partition("-")[2]
STORAGE = ("-v", f"{TEMP_DIR}:/tmp", "-e", f"USER={USER}")


def burn(x):
    import platform

    end = time.process_time() + 0.3
    while time.process_time() < end:
        sum(range(1000))
    return [x * x, os.getuid(), platform.machine()]


class RuntimeApi(BaseHTTPRequestHandler):
    """What a Lambda sandbox asks for its events: one of them, then none."""

    events: "queue.Queue[bytes]" = queue.Queue()
    answers: "queue.Queue[bytes]" = queue.Queue()

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        event = self.events.get()
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", str(uuid.uuid4()))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-west-1:1:x")
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + 300) * 1000)))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(event)))
        self.end_headers()
        self.wfile.write(event)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.answers.put(self.path.encode() + b" " + body)


def on_lambda(payload):
    """As AWS starts an image: its own entry point, a read-only root, a user of no name."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), RuntimeApi)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    RuntimeApi.events.put(json.dumps(payload, default=str).encode())
    variables = {
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}",
        "AWS_LAMBDA_FUNCTION_NAME": "lithops-worker",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
        "AWS_REGION": "eu-west-1",
    }
    command = ["docker", "run", "--rm", "--name", PLAN["name"], "--network", "host", "--read-only"]
    command += ["--user", "993:990", "--cap-drop", "ALL", *STORAGE]
    for name, value in variables.items():
        command += ["-e", f"{name}={value}"]
    worker = subprocess.Popen([*command, PLAN["image"]])
    try:
        while True:
            try:
                return RuntimeApi.answers.get(timeout=1)
            except queue.Empty:
                if worker.poll() is not None:
                    raise RuntimeError(f"the image ended with {worker.returncode}") from None
    finally:
        subprocess.run(["docker", "rm", "-f", PLAN["name"]], stdout=subprocess.DEVNULL)
        worker.wait()


def on_kubernetes(payload):
    """As Lithops' pods: a master that deals out calls, and a worker, by the user of the image."""
    entry = [PLAN["image"], "python3", "/lithops/lithopsentry.py"]

    def data(content):
        return base64.b64encode(json.dumps(content, default=str).encode()).decode()

    poor = ["--rm", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    master = ["docker", "run", "--detach", "--name", PLAN["name"], "--network", "none", *poor]
    subprocess.run([*master, *entry, "run_master", data({})], check=True, stdout=sys.stderr)
    try:
        worker = ["docker", "run", "--network", f"container:{PLAN['name']}", *poor, *STORAGE]
        worker += ["-e", "MASTER_POD_IP=127.0.0.1", *PLAN.get("options", [])]
        subprocess.run([*worker, *entry, "run_job", data(payload)], check=True, stdout=sys.stderr)
    finally:
        subprocess.run(["docker", "rm", "-f", PLAN["name"]], stdout=subprocess.DEVNULL)


def main():
    way = {"aws_lambda": on_lambda, "k8s": on_kubernetes}.get(PLAN["backend"])
    if way is not None:
        LocalhostHandlerV1.invoke = lambda self, payload: way(payload)
    config = {
        "lithops": {"backend": "localhost", "storage": "localhost", "data_cleaner": False},
        "localhost": {"runtime": PLAN["image"], "version": PLAN.get("version", 1)},
    }
    with lithops.FunctionExecutor(config=config) as executor:
        futures = executor.map(burn, [2, 3])
        results = executor.get_result(futures)
    seen = [
        {"result": result, "stats": future.stats}
        for result, future in zip(results, futures, strict=True)
    ]
    Path(sys.argv[2]).write_text(json.dumps(seen, default=str))


if __name__ == "__main__":
    main()
