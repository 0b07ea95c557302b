"""Workers on a Ray cluster. The job lies once on every machine; Ray begins a piece again whose
worker is gone."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from interp.executor.where import TRIES, ExecutorError, Gone, Where, alone

# Seconds to wait for a cluster's head to answer.
WAIT = 5.0
# In a worker: its job, by which it is called.
_jobs: dict[str, Callable[[Any], Any]] = {}


class Cluster:
    """The machines of a cluster that have a job."""

    def __init__(self, ray: Any, job: Any) -> None:
        self.ray, self.job = ray, ray.put(pickle.dumps(job))
        self.name = self.job.hex()
        self.task = ray.remote(num_cpus=1, max_retries=TRIES)(_do)

    def submit(self, piece: Any) -> Any:
        """Begin a piece."""
        return self.task.remote(self.name, [self.job], pickle.dumps(piece))

    def result(self, waiting: Any) -> Any:
        """Its result."""
        try:
            return pickle.loads(self.ray.get(waiting))
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except (self.ray.exceptions.WorkerCrashedError, self.ray.exceptions.NodeDiedError) as error:
            raise Gone from error


@contextmanager
def cluster(job: Any, where: Where) -> Iterator[Callable[[], Cluster]]:
    """A way to have the cluster, which is joined, and left again if it was not joined before."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ExecutorError(
            f"--ray {where.ray} without Ray", "the extra", "pip install 'minigpt-interp[ray]'"
        ) from error
    ours = not ray.is_initialized()
    if ours:
        _join(ray, where)
    try:
        yield lambda: Cluster(ray, job)
    finally:
        if ours:
            ray.shutdown()


def _join(ray: Any, where: Where) -> None:
    _answers(where.ray)
    given = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
    address = {"num_cpus": where.workers} if where.ray == "local" else {"address": where.ray}
    try:
        ray.init(**address, **given)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ExecutorError(
            f"--ray {where.ray}: {error}",
            "the address of a cluster that runs, or local",
            "--ray auto, --ray HOST:6379, --ray local",
        ) from error


def _answers(address: str) -> None:
    """ExecutorError where nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.rpartition("/")[2], int(port)), timeout=WAIT).close()
    except OSError as error:
        raise ExecutorError(
            f"--ray {address}: nobody answers ({error})",
            "the address of a cluster that runs, or local",
            "ray start --head --port=6379 there, then --ray HOST:6379",
        ) from error


def _do(name: str, job: list[Any], piece: bytes) -> bytes:
    """A piece, with the job as it lies on this machine."""
    import ray

    if name not in _jobs:
        alone()
        _jobs.clear()
        _jobs[name] = pickle.loads(ray.get(job[0]))
    return pickle.dumps(_jobs[name](pickle.loads(piece)))
