"""What the workers of a stage were given, by the client's configuration."""

from __future__ import annotations

from typing import Any

from lithowatt.flexecutor._estimate import backend_of
from lithowatt.profiles._given import Given
from lithowatt.profiles._values import positive


def given_of(executor: Any, resources: Any) -> Given | None:
    """What a pod of Lithops' Kubernetes backend was given; `None` on another one.

    Lithops makes a pod for each worker, with requests and limits alike: `runtime_cpu` of its
    configuration, and the memory that the stage asked for. `None` as well where one pod runs
    several calls side by side (`worker_processes`) or waits for jobs of any size
    (`rabbitmq_executor`): then it is no worker's own.

    Args:
        executor: Lithops' FunctionExecutor.
        resources: The stage's StageConfig.
    """
    backend, section = backend_of(executor)
    if backend != "k8s" or section.get("rabbitmq_executor"):
        return None
    if (positive(section.get("worker_processes")) or 1) > 1:
        return None
    memory = positive(getattr(resources, "memory", None)) or positive(section.get("runtime_memory"))
    cpus = positive(section.get("runtime_cpu"))
    if cpus is None and memory is None:
        return None
    return Given(cpus, memory, "requests and limits of the pod")
