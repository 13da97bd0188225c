"""The probe: a home that is not the same for all nodes is found before any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import ray

from cluster import probe
from cluster.errors import WordloomError
from cluster.probe import PROBES, Node, answer, check, check_nodes
from cluster.session import Session

NODES = [Node("a1", "10.0.0.1"), Node("b2", "10.0.0.2")]


def test_a_home_that_all_nodes_share_passes_and_nothing_is_left(tmp_path: Path) -> None:
    def ask(location: str, name: str, nodes: Sequence[Node]) -> list[str | None]:
        return [answer(location, name, node.id) for node in nodes]

    check(str(tmp_path), NODES, ask)
    assert list(tmp_path.iterdir()) == []


def test_a_local_path_on_several_hosts_is_one_clear_sentence(tmp_path: Path) -> None:
    def ask(location: str, name: str, nodes: Sequence[Node]) -> list[str | None]:
        far = tmp_path / "disk of the other host"  # the same path there is another folder
        return [answer(location, name, nodes[0].id), answer(str(far), name, nodes[1].id)]

    sentence = (
        r"home' is a local path, another folder on every host: 1 of 2 other nodes \(10\.0\.0\.2\) "
        r"do not share it \(it does not see what was written there\); give a shared file system, s3:// or gs://\.$"
    )
    with pytest.raises(WordloomError, match=sentence):
        check(str(tmp_path / "home"), NODES, ask)
    assert not (tmp_path / "home" / PROBES).exists()


def test_a_node_that_reads_but_writes_elsewhere_or_not_at_all_is_found(tmp_path: Path) -> None:
    with pytest.raises(WordloomError, match="what it wrote is not to be seen from here"):
        check(str(tmp_path), NODES, lambda location, name, nodes: [None, None])
    (tmp_path / "file").write_text("")
    assert answer(str(tmp_path / "file"), "x", "a1") is not None


@pytest.mark.ray
def test_tasks_reach_a_node_and_a_single_node_is_not_asked(tmp_path: Path, ray_cluster: Session) -> None:
    check_nodes(str(tmp_path / "home"))
    assert not (tmp_path / "home").exists()
    here = Node(ray.get_runtime_context().get_node_id(), "here")
    check(str(tmp_path / "home"), [here], probe._ask)
    gone = Node("0" * 56, "10.0.0.9")
    with pytest.raises(WordloomError, match=r"1 of 1 other nodes \(10\.0\.0\.9\)"):
        check(str(tmp_path / "home"), [gone], probe._ask)
