"""How many brokers a stack has, and which cluster they are: decided before any is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from sendtrace.local.brokers import begun_with, choose_count, cluster_id, place
from sendtrace.runtime.settings import SettingsError


def _format(folder: Path, written_id: str) -> None:
    """What Kafka's tool leaves in a node's folder."""
    (folder / "log").mkdir(parents=True)
    (folder / "log" / "meta.properties").write_text(f"version=1\ncluster.id={written_id}\n")


def test_a_new_folder_gets_one_broker_or_what_is_asked_for(tmp_path: Path) -> None:
    assert begun_with(tmp_path) is None
    assert choose_count(tmp_path, None, is_fresh=False) == 1
    assert choose_count(tmp_path, 3, is_fresh=False) == 3


@pytest.mark.parametrize(("begun", "wanted"), [(1, 3), (3, 1)])
def test_what_was_begun_stays_as_it_is(tmp_path: Path, begun: int, wanted: int) -> None:
    _format(place(tmp_path, begun)[-1].folder, "an-id")
    assert choose_count(tmp_path, None, is_fresh=False) == begun
    assert choose_count(tmp_path, begun, is_fresh=False) == begun
    with pytest.raises(SettingsError, match=f"begun with --brokers {begun}.*--fresh"):
        choose_count(tmp_path, wanted, is_fresh=False)
    assert choose_count(tmp_path, wanted, is_fresh=True) == wanted


def test_the_nodes_agree_on_a_cluster_that_no_other_has(tmp_path: Path) -> None:
    brokers = place(tmp_path / "one", 3)
    new = cluster_id(brokers)
    assert cluster_id(brokers) == new  # formatted side by side, or after a crash in between
    assert cluster_id(place(tmp_path / "two", 3)) != new


def test_a_node_that_lost_its_folder_joins_the_others(tmp_path: Path) -> None:
    brokers = place(tmp_path, 3)
    _format(brokers[2].folder, "the-id=of-two")
    assert cluster_id(brokers) == "the-id=of-two"
    assert not brokers[0].folder.exists()
