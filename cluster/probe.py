"""The probe: whether every node reaches one and the same `home`, asked before any work.

A local path is on every host, and on each it is another folder: work would begin everywhere and end in
pieces. So the driver writes a small file, every other node reads it and writes an answer beside it, and the
driver reads the answers.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.errors import WordloomError
from cluster.folder import Folder

PROBES = ".wordloom-probe"
PATIENCE = 60.0  # seconds for all nodes together; a new worker process starts in some 3


@dataclass(frozen=True)
class Node:
    """A node of the cluster: Ray's id and the address that people know it by."""

    id: str
    address: str


def answer(location: str, probe: str, node: str) -> str | None:
    """What a node does: reads the probe and answers beside it. Returns what kept it from that."""
    folder = Folder(f"{location}/{PROBES}")
    try:
        content = folder.read(probe)
        folder.write(f"{probe}-{node}", content)
    except FileNotFoundError:
        return "it does not see what was written there"
    except (OSError, WordloomError) as error:
        return str(error).strip().splitlines()[0]
    return None


Ask = Callable[[str, str, Sequence[Node]], "list[str | None]"]


def check(location: str, nodes: Sequence[Node], ask: Ask) -> None:
    """Raises WordloomError unless all nodes read and write the same folder. `ask` has each node `answer`."""
    folder = Folder(f"{location}/{PROBES}")
    probe = uuid.uuid4().hex[:12]
    content = uuid.uuid4().bytes
    folder.write(probe, content)
    try:
        replies = list(ask(location, probe, nodes))
        for number, node in enumerate(nodes):
            if replies[number] is None and not _answered(folder, f"{probe}-{node.id}", content):
                replies[number] = "what it wrote is not to be seen from here"
    finally:
        for name in [probe, *(f"{probe}-{node.id}" for node in nodes)]:
            folder.delete(name)
        if not folder.names():
            folder.delete()
    failed = [(node, reply) for node, reply in zip(nodes, replies, strict=True) if reply is not None]
    if failed:
        where = ", ".join(node.address for node, _ in failed[:5]) + (", ..." if len(failed) > 5 else "")
        kind = "not the same from all nodes"
        if folder.is_local:
            kind = "a local path, another folder on every host"
        raise WordloomError(
            f"{location!r} is {kind}: {len(failed)} of {len(nodes)} other nodes ({where}) do not share it "
            f"({failed[0][1]}); give a shared file system, s3:// or gs://."
        )


def _answered(folder: Folder, name: str, content: bytes) -> bool:
    try:
        return folder.read(name) == content
    except OSError:
        return False


def check_nodes(location: str | os.PathLike[str] | None) -> None:
    """`check` with the other nodes of the cluster that this process is connected to; where there are none, or
    no location, nothing is done."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call, unused-ignore]
    others = [
        Node(node["NodeID"], node["NodeManagerAddress"])
        for node in alive
        if node["NodeID"] != here and node["Resources"].get("CPU", 0) > 0
    ]
    if others and location is not None:
        check(Folder(location).location, others, _ask)


def _ask(location: str, probe: str, nodes: Sequence[Node]) -> list[str | None]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = ray.remote(answer)
    waiting = {
        asked.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote(location, probe, node.id): number
        for number, node in enumerate(nodes)
    }
    replies: list[str | None] = ["it did not answer"] * len(nodes)
    done, late = ray.wait(list(waiting), num_returns=len(waiting), timeout=PATIENCE)
    for reference in late:
        ray.cancel(reference, force=True)
    for reference in done:
        try:
            replies[waiting[reference]] = ray.get(reference)
        except ray.exceptions.RayError as error:
            replies[waiting[reference]] = str(error).strip().splitlines()[-1]
    return replies
