"""Workers as Ray actors (`dlrun sweep --backend ray`): on an existing cluster (`--ray-address`, `RAY_ADDRESS`) or a Ray of one's own here.

Ray places and starts workers, and that is all: jobs go through the ledger, so all machines have to reach it and the study's folder. What is
a file of this machine (SQLite) is refused where the cluster has others. Importing Ray takes about a second: it is imported only here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dlrun.config.places import printable
from dlrun.errors import MissingError, UsageError
from dlrun.study.address import EXAMPLE
from dlrun.study.aside import Aside
from dlrun.study.pool import cores, thread_budget
from dlrun.study.ray_actor import Actor
from dlrun.study.setting import Setting

PASSED_ON = ("DLRUN_", "PG", "XDG_CACHE_HOME", "OMP_", "CUBLAS_WORKSPACE_CONFIG")
"""How variables begin that workers on other machines need to do the same; they go to the actor alone, and Ray shows them nowhere."""
END_SECONDS, KNOCK_SECONDS = 20.0, 5.0
Message = dict[str, Any]


class RayPlace:
    """A worker as the driver knows it: the actor, and the call that is waited for."""

    def __init__(self, actor: Any) -> None:
        self.actor, self.waiting = actor, actor.facts.remote()
        self.owner, self.machine = "", ""
        self.told = self.useful = False
        self.result: tuple[int, str] | None = None

    def output(self) -> str:
        """What was printed by it or by parts."""
        return self.collect()[1]

    def collect(self) -> tuple[int, str]:
        """Its exit code and what it printed; killed, where the actor is gone."""
        if self.result is None:
            import ray

            try:
                self.result = ray.get(self.actor.end.remote(), timeout=END_SECONDS)
            except Exception as error:
                self.result = -signal.SIGKILL, f"Ray: {_first(error)}"
        return self.result


class RayPool:
    """Up to `count` actors with `threads` threads each; a `Backend`."""

    def __init__(self, count: int, threads: int, gpus: float = 0.0, *, spread: bool = False) -> None:
        import ray

        options = {"num_cpus": threads, "num_gpus": gpus, "max_concurrency": 4, "max_restarts": 0}
        self._make = ray.remote(Actor).options(**options, scheduling_strategy="SPREAD" if spread else "DEFAULT")
        self._ray, self._aside = ray, Aside("ray_")
        self.count, self.threads = count, threads
        self.processes: list[RayPlace] = []
        self.outputs: list[str] = []
        self._signals: list[int] = []
        self._proof = ""

    def start(self, wanted: int | None = None) -> None:
        """Ask Ray for what is missing of `wanted` actors; it places them when it can."""
        environment = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        while len(self.processes) < min(self.count, self.count if wanted is None else wanted):
            self.processes.append(RayPlace(self._make.remote(self.threads, environment, os.getcwd())))

    def keep(self, wanted: int) -> None:
        """Let go of those beyond `wanted` that have been told nothing."""
        for place in self.processes[wanted:]:
            if not place.told:
                self.processes.remove(place)
                self._ray.kill(place.actor)

    def tell(self, setting: Setting) -> None:
        """Name the study to those that do not know it, with a file in its folder that proves that they see the same disk."""
        for place in self.processes:
            if not place.told:
                place.told = True
                place.actor.tell.remote(asdict(setting), self._prove(Path(setting.folder)))

    def _prove(self, folder: Path) -> str:
        if not self._proof:
            self._proof = f".ray-{secrets.token_hex(4)}"
            self._proven = folder / self._proof
            self._proven.touch()
        return self._proof

    def listen(self, seconds: float) -> Iterator[tuple[RayPlace, list[Message] | None]]:
        """Whoever says something within so many seconds; None is a worker's end, and it is taken off the list."""
        self._send()
        if not self.processes:
            time.sleep(seconds)
        else:
            waiting = {place.waiting: place for place in self.processes}
            for ref in self._ray.wait(list(waiting), num_returns=1, timeout=seconds)[0]:
                place = waiting[ref]
                said = self._heard(place, ref)
                if said is None:
                    self.processes.remove(place)
                yield place, said
        self._send()

    def _heard(self, place: RayPlace, ref: Any) -> list[Message] | None:
        try:
            found = self._ray.get(ref)
        except Exception as error:  # the actor is gone, or its machine, or it never was
            new = place.result is None
            place.result = -signal.SIGKILL, f"Ray: {_first(error)}"
            return _not_made(error) if new else None
        said: list[Message] | None = found if not isinstance(found, dict) else []
        if isinstance(found, dict):
            place.owner, place.machine = found["owner"], found["machine"]
            said = _differences(found)
        place.useful = place.useful or any(message["event"] == "began" for message in said or ())
        if said is not None and place.result is None:
            place.waiting = place.actor.read.remote()
        return said

    def signal(self, number: int) -> None:
        """Send a signal to all, when `listen` is called next: Ray is not to be called from a signal handler."""
        self._signals.append(number)

    def _send(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            for place in self.processes:
                place.actor.signal.remote(number)

    def end(self, process: RayPlace) -> int:
        """The exit code of a worker that has said its last."""
        code, text = process.collect()
        self.outputs += [text] if text.strip() else []
        self._ray.kill(process.actor)
        return code

    def close(self, grace: float = 0.0) -> None:
        """Stop whatever still runs, within so many seconds by itself (saving what it does), else at once; and Ray, if it is ours."""
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self.processes and time.monotonic() < deadline:
            for place, said in self.listen(0.1):
                if said is None:
                    self.end(place)
        for place in self.processes:
            place.actor.signal.remote(signal.SIGKILL)
        if self.processes:
            self._ray.wait([place.waiting for place in self.processes], num_returns=len(self.processes), timeout=1.0)
        for place in self.processes:
            self._ray.kill(place.actor)
        self.processes.clear()
        if self._proof:
            self._proven.unlink(missing_ok=True)
        self._ray.shutdown()
        self._aside.end()


def _differences(facts: Message) -> list[Message]:
    """An error where the other machine has another dlrun or Python: its numbers would not be comparable."""
    from dlrun import __version__

    here = f"dlrun {__version__}, Python {sys.version_info[0]}.{sys.version_info[1]}"
    if facts["version"] == here:
        return []
    line = f"{facts['machine']} has {facts['version']}, this machine {here}: install the same on every machine of the cluster"
    return [{"event": "error", "lines": [line], "code": 3}]


def _not_made(error: Exception) -> list[Message] | None:
    """An error where an actor could not be made, for none will; None where it died later."""
    if "creation task" not in str(error):
        return None
    why = ([line.strip() for line in str(error).splitlines() if line.strip()] or [""])[-1][:300]
    if "No module named 'dlrun" in why:
        from dlrun import __version__

        why = (
            f"dlrun is not installed where Ray runs: install dlrun {__version__} on every machine of the cluster, for the Python of its Ray"
        )
    return [{"event": "error", "lines": [f"--backend ray: {why}"], "code": 3}]


def make_ray_pool(workers: int | None, device: str, address: str | None, *, server: bool) -> RayPool:
    """Actors on the cluster at `address` or RAY_ADDRESS, else on a Ray of this machine that ends with the study.

    `server`: the ledger is a database server. UsageError where the cluster has machines that cannot reach it; MissingError without Ray.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports home unless told not to
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingError("--backend ray: Ray is not installed: pip install 'dlrun[ray]'") from None
    if (wanted := address or os.environ.get("RAY_ADDRESS") or "local").startswith("ray://"):
        raise UsageError(f"--ray-address {wanted}: Ray Client is not used; run dlrun on a machine of the cluster and say HOST:6379 or auto")
    own = wanted == "local"
    count = workers or cores()
    size: dict[str, Any] = {
        "num_cpus": count * thread_budget(count, os.environ),
        "include_dashboard": False,
        "object_store_memory": 100 << 20,
    }
    if not own and wanted != "auto":
        _knock(wanted)
    with tempfile.TemporaryFile() as noise:
        try:
            with _stderr_to(noise):
                ray.init(address=wanted, log_to_driver=False, logging_level=logging.CRITICAL, **(size if own else {}))
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            noise.seek(0)
            token = b"AuthToken" in noise.read()
            why = "it asks for a token: set RAY_AUTH_MODE=token, and the token as `ray get-auth-token` explains" if token else _first(error)
            raise MissingError(f"--backend ray: no Ray to be used at {wanted}: {why}") from None
    try:
        return _fitting(ray, workers, device, own=own, server=server)
    except BaseException:
        ray.shutdown()
        raise


def _knock(address: str) -> None:
    """MissingError where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(
            f"--ray-address {printable(address, 80)}: expected HOST:PORT (the port is 6379 unless `ray start` was told otherwise) or auto"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise MissingError(f"--backend ray: no Ray answers at {address}: {_first(error)}") from None


@contextlib.contextmanager
def _stderr_to(file: Any) -> Iterator[None]:
    """What Ray's C++ side says meanwhile goes to `file`."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _fitting(ray: Any, workers: int | None, device: str, *, own: bool, server: bool) -> RayPool:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    mine = ray.get_runtime_context().get_node_id()
    here = next((node["NodeManagerAddress"] for node in nodes if node["NodeID"] == mine), None)
    others = sorted({str(node["NodeManagerHostname"]) for node in nodes if node["NodeManagerAddress"] != here})
    if others and not server:
        raise UsageError(
            f"the Ray cluster has other machines ({', '.join(others[:3])}), which cannot reach a SQLite file of this one: "
            f"say --storage {EXAMPLE}, and output_root=FOLDER on a disk they share"
        )
    total = ray.cluster_resources()
    cards = total.get("GPU", 0.0) if device in ("auto", "cuda") else 0.0
    processors = int(total.get("CPU", 1))
    count = workers or int(cards) or processors
    if count > processors:
        raise UsageError(f"--workers {count}: the Ray cluster has {processors} CPUs, and every worker needs one")
    smallest = min((int(node["Resources"].get("CPU", 0)) for node in nodes if node["Resources"].get("CPU", 0) >= 1), default=1)
    threads = min(smallest, max(1, processors // count)) if not own else thread_budget(count, os.environ)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    threads = min(threads, int(asked)) if asked.isdecimal() and int(asked) else threads
    return RayPool(count, threads, min(1.0, cards / count), spread=bool(others))


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]
