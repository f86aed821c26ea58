"""The broker of one's own: what it is told, and whether it is ours that runs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from deploy.kafka import node

if TYPE_CHECKING:
    from pathlib import Path


def test_a_clusters_name_is_never_taken_for_an_option() -> None:
    assert not any(node.cluster_id().startswith("-") for _ in range(500))


def test_a_node_alone_keeps_one_copy_and_three_keep_three(tmp_path: Path) -> None:
    alone = node.Node(tmp_path, port=1, voters={1: 2})._properties()
    one_of_three = node.Node(tmp_path, port=1, node_id=2, voters={1: 11, 2: 12, 3: 13})._properties()

    assert (alone["default.replication.factor"], alone["min.insync.replicas"]) == ("1", "1")
    assert (one_of_three["default.replication.factor"], one_of_three["min.insync.replicas"]) == ("3", "2")
    assert one_of_three["controller.quorum.voters"] == "1@127.0.0.1:11,2@127.0.0.1:12,3@127.0.0.1:13"
    assert one_of_three["listeners"].endswith("CONTROLLER://127.0.0.1:12")


def test_a_setting_that_is_given_wins(tmp_path: Path) -> None:
    assert node.Node(tmp_path, settings={"num.partitions": "2"})._properties()["num.partitions"] == "2"


def test_only_a_node_that_was_not_stopped_in_order_is_fenced_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fenced: list[Path] = []
    monkeypatch.setattr(node.Node, "_format", lambda _: None)
    monkeypatch.setattr(node.Node, "_fence", lambda self: fenced.append(self.folder))

    node.Node(tmp_path).prepare()
    assert fenced == []

    (tmp_path / "data" / "__cluster_metadata-0").mkdir(parents=True)
    (tmp_path / "data" / "meta.properties").touch()
    node.Node(tmp_path, node_id=2, voters={1: 11, 2: 12, 3: 13}).prepare()  # the others fence it
    assert fenced == []
    node.Node(tmp_path).prepare()
    assert fenced == [tmp_path]

    (tmp_path / "data" / ".kafka_cleanshutdown").touch()
    node.Node(tmp_path).prepare()
    assert fenced == [tmp_path]


def test_a_controller_by_itself_is_told_nothing_of_brokers(tmp_path: Path) -> None:
    secured = {
        "listeners": "PLAINTEXT://127.0.0.1:1,SSL://127.0.0.1:3,CONTROLLER://127.0.0.1:2",
        "inter.broker.listener.name": "PLAINTEXT",
    }

    properties = node.Node(tmp_path, port=1, voters={1: 2}, settings=secured)._controllers_properties()

    assert properties["process.roles"] == "controller"
    assert properties["listeners"] == "CONTROLLER://127.0.0.1:2"
    assert "advertised.listeners" not in properties
    assert "inter.broker.listener.name" not in properties


def test_a_process_that_has_got_the_brokers_old_pid_is_not_taken_for_it(tmp_path: Path) -> None:
    assert node.running(tmp_path) is None

    (tmp_path / "state.json").write_text(json.dumps({"pid": os.getpid(), "bootstrap": "127.0.0.1:9092"}))

    assert node.running(tmp_path) is None
    assert not node.stop_running(tmp_path)


def test_a_broker_that_ends_shows_its_own_log_and_not_that_of_the_start_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").touch()
    (tmp_path / "log").write_text("from the start before\n")
    monkeypatch.setattr(node.Node, "_machine", lambda _: ["/bin/sh", "-c", "echo from this start; exit 1"])

    with pytest.raises(node.StartError) as refused:
        node.Node(tmp_path).start()

    assert "from this start" in str(refused.value)
    assert "from the start before" not in str(refused.value)


def test_a_broker_that_logs_nothing_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").touch()
    (tmp_path / "log").write_text("from the start before\n")
    monkeypatch.setattr(node.Node, "_machine", lambda _: ["/bin/sh", "-c", "sleep 60"])

    with pytest.raises(node.StartError, match=r"did not answer within 0\.2 s; it has logged nothing"):
        node.Node(tmp_path).start(wait=0.2)
