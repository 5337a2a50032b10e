"""Joins a Ray cluster or starts a local Ray, and finds out before any work whether its nodes can do this work.

Every node that takes tasks must have the same versions as the driver and see the folders that stages share: each
reads a file that the driver has just written.
"""

import importlib.util
import os
import platform
import secrets
import socket
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prereq.graph.errors import ConfigError, PrereqError

_CONNECT_S = 10.0  # seconds for the cluster's address to answer
_PROBE_S = 120.0  # seconds for every node to look at the folders: a node may first have to unpack a runtime environment
_AGREEING = ("prereq", "numpy", "pyarrow", "scikit-learn", "scipy")  # packages whose version decides bytes
_NAMED_AT_MOST = 4  # nodes named in an error
_WHEEL = "install prereq[jobs] there, or give the wheel as runtime_env py_modules (docs/cluster.md)"


def join(address: str) -> None:
    """Join the cluster at an address: host:port of its head, or auto for the one that runs on this machine.

    Raises:
        PrereqError: It cannot be joined; one line says why.
    """
    import ray

    if not address.startswith("ray://"):
        _check_answers(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, AssertionError, ray.exceptions.RayError) as error:
        raise PrereqError(
            f"ray.address {address}: the cluster cannot be joined: {_first_line(error)}; check RAY_ADDRESS, `ray "
            "status` there and that both sides run the same Ray and Python"
        ) from error


def start_local(num_cpus: int, object_store_mib: int, memory_mib: int, spill_dir: str | None, max_retries: int) -> None:
    """Start Ray on this machine, whatever runs on it already.

    Args:
        num_cpus: Tasks at a time.
        object_store_mib: MiB of Ray's object store.
        memory_mib: What all tasks may reserve together; 0: what Ray finds.
        spill_dir: Folder for objects that the store has no room for; None: Ray's own.
        max_retries: Times a task is started again whose worker was ended because memory ran short: by default Ray
            would go on for ever.

    Raises:
        PrereqError: Ray does not start; one line says why.
    """
    import ray

    options: dict[str, Any] = {"_system_config": {"task_oom_retries": max_retries}}
    if memory_mib:
        options["_memory"] = memory_mib * 2**20
    if spill_dir is not None:
        Path(spill_dir).mkdir(parents=True, exist_ok=True)
        options["object_spilling_directory"] = os.path.abspath(spill_dir)
    try:
        ray.init(
            address="local",  # without it, a Ray that someone else started here would be joined
            num_cpus=num_cpus,
            include_dashboard=False,
            object_store_memory=object_store_mib * 2**20,
            log_to_driver=False,
            logging_level="ERROR",
            **options,
        )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise PrereqError(
            f"Ray could not be started on this machine: {_first_line(error)}; run the same command again, or set "
            "ray.num_cpus: 0 to work without Ray"
        ) from error


def working_nodes() -> list[dict[str, Any]]:
    """The nodes alive that take tasks: those with a CPU."""
    import ray

    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]


def check_memory(memory_mib: int) -> None:
    """Raise unless some node has the memory that one task reserves: Ray would wait for such a node for ever.

    Raises:
        ConfigError: No node has it.
    """
    nodes = working_nodes()
    largest = int(max((node["Resources"].get("memory", 0) for node in nodes), default=0)) >> 20
    if nodes and memory_mib > largest:
        raise ConfigError(f"ray.memory_mib: a task reserves {memory_mib} MiB, but the largest node offers {largest}")


def check_nodes(folder: Path, inputs: Sequence[str]) -> None:
    """Have every node read a file just written to `folder`, look for the inputs and compare its versions.

    A node that goes away meanwhile is passed over: its tasks would go elsewhere too.

    Args:
        folder: Of the stages' output; made where it is not there.
        inputs: Absolute local paths that tasks read.

    Raises:
        ConfigError: A node does not see a path, or has other versions.
        PrereqError: A node cannot run prereq at all.
    """
    nonce = secrets.token_hex(16)
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe-{nonce}"
    probe.write_text(nonce)
    try:
        problems = _ask_nodes(look, (str(probe), nonce, list(inputs), versions()))
    finally:
        probe.unlink(missing_ok=True)
    said = [f"node {name}: {problem}" for name, problem in sorted(problems.items()) if problem]
    if said:
        more = len(said) - _NAMED_AT_MOST
        raise ConfigError("; ".join(said[:_NAMED_AT_MOST]) + (f"; and {more} more nodes" if more > 0 else ""))


def look(probe: str, nonce: str, inputs: Sequence[str], expected: dict[str, str]) -> str:
    """On a node: what keeps it from working with the driver; empty when nothing does."""
    try:
        found = Path(probe).read_text()
    except OSError as error:
        found = error.strerror or str(error)
    if found != nonce:
        return (
            f"does not see {os.path.dirname(probe)} of the driver ({found[:60]}); on several nodes pool_dir must be on "
            "a file system that all of them mount at the same path"
        )
    if missing := [path for path in inputs if not os.path.exists(path)]:
        return (
            f"does not see the input {missing[0]}; on several nodes inputs must be on a shared path or an object store"
        )
    own = versions()
    differing = [f"{name} {own[name]} (driver: {expected[name]})" for name in expected if own[name] != expected[name]]
    if differing:
        return f"has {', '.join(differing)}; the same bytes need the same versions on every node"
    return ""


def versions() -> dict[str, str]:
    """What must agree between driver and nodes for the same bytes."""
    found = {"Python": ".".join(map(str, sys.version_info[:2])), "CPU family": platform.machine()}
    for name in _AGREEING:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # as py_modules brings it: importable, without being installed
            found[name] = "unknown" if importlib.util.find_spec(name) is None else "importable"
    return found


def _ask_nodes(function: Callable[..., str], args: tuple[Any, ...]) -> dict[str, str]:
    """The answer of every working node, by its address."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    remote = ray.remote(function)
    asked = {}
    for node in working_nodes():
        place = On(node["NodeID"], soft=False)
        asked[remote.options(num_cpus=0, max_retries=0, scheduling_strategy=place).remote(*args)] = str(
            node["NodeManagerAddress"]
        )
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=_PROBE_S) if asked else ([], [])
    answers = {asked[reference]: f"did not answer within {_PROBE_S:g} s" for reference in late}
    for reference in done:
        try:
            answers[asked[reference]] = answers.get(asked[reference]) or ray.get(reference)
        except ray.exceptions.RuntimeEnvSetupError as error:
            raise PrereqError(
                f"node {asked[reference]}: its runtime environment fails: {_first_line(error)}"
            ) from error
        except ray.exceptions.RayTaskError as error:
            raise PrereqError(f"node {asked[reference]}: cannot run prereq ({_last_line(error)}); {_WHEEL}") from error
        except ray.exceptions.RayError:
            continue  # the node has gone
    return answers


def _check_answers(address: str) -> None:
    """Raise unless something listens at host:port; Ray itself tries for minutes and then prints its own log."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S):
            pass
    except (OSError, OverflowError) as error:
        raise PrereqError(
            f"ray.address {address}: nothing answers there ({getattr(error, 'strerror', None) or error}); start the "
            "cluster (ray start --head), correct RAY_ADDRESS, or unset it to work on this machine"
        ) from error


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")


def _last_line(error: BaseException) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
