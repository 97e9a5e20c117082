import os
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.errors import NotKept
from app.keeping.index import Cell, Filter
from app.keeping.record import first_id, new_id
from app.keeping.store import KeptStore
from testing.kept_images import NOON, add, record


@pytest.fixture
def store(tmp_path: Path) -> KeptStore:
    return KeptStore(tmp_path / "kept", 2**20)


def listed(store: KeptStore, limit: int = 100, **wanted: Any) -> list[str]:
    return [one.id for one in store.newest(Filter(**wanted), limit)]


def files_of(store: KeptStore) -> list[Path]:
    return sorted(path for path in store.folder.path.rglob("*") if path.is_file())


def test_what_is_kept_is_listed_newest_first_and_read_back(store: KeptStore) -> None:
    first, second = add(store, record(0), record(1), content=b"as it came")
    assert listed(store) == [second, first]
    assert listed(store, limit=1) == [second]
    assert listed(store, before=second) == [first]
    one = store.folder.read(first)
    assert store.folder.read_image(one) == b"as it came"
    assert store.folder.image_path(one).parent.name == "2026-03-01"


def test_filters_ask_for_verdict_label_sample_candidate_score_and_time(store: KeptStore) -> None:
    candidate = {"verdict": "normal", "score": 0.5, "threshold": 1.0, "version": "sha256:2"}
    refused, admitted, disputed = add(
        store,
        record(0, score=5.0),
        record(1, is_anomaly=False, sampled=True, score=0.5),
        record(2, candidate=candidate),
    )
    store.label(admitted, "normal")
    assert listed(store, is_anomaly=True) == [disputed, refused]
    assert listed(store, is_anomaly=False) == listed(store, sampled=True) == listed(store, label="normal") == [admitted]
    assert listed(store, label="none") == [disputed, refused]
    assert listed(store, label="anomaly") == []
    assert listed(store, disagrees=True) == [disputed]
    assert listed(store, least_score=4.0) == [refused]
    assert listed(store, most_score=1.0) == [admitted]
    assert listed(store, after=first_id(NOON + timedelta(seconds=90))) == [disputed]


def test_a_label_is_in_the_json_file_and_can_be_taken_back(store: KeptStore) -> None:
    (one,) = add(store, record())
    store.label(one, "anomaly")
    assert store.folder.read(one).label == "anomaly"
    store.label(one, None)
    assert store.folder.read(one).label is None
    assert listed(store, label="none") == [one]


def test_the_oldest_without_a_label_go_first_and_no_more_is_kept_than_may_be(tmp_path: Path) -> None:
    store = KeptStore(tmp_path / "kept", 60_000)
    oldest, *others = add(store, record(0), *(record(minute) for minute in range(1, 5)), content=bytes(5_000))
    store.label(oldest, "normal")
    newer = add(store, *(record(minute) for minute in range(5, 40)), content=bytes(5_000))
    left = listed(store)
    assert oldest in left
    assert not set(others) & set(left)
    assert left[0] == newer[-1]
    assert sum(path.stat().st_size for path in files_of(store)) <= 60_000
    assert {path.stem for path in files_of(store) if path.suffix == ".png"} == set(left)


def test_labelled_images_go_when_there_are_no_others(tmp_path: Path) -> None:
    store = KeptStore(tmp_path / "kept", 60_000)
    for minute in range(20):
        (one,) = add(store, record(minute), content=bytes(5_000))
        store.label(one, "normal")
    assert 5 < len(listed(store)) < 12


def test_an_image_larger_than_all_that_may_be_kept_pushes_nothing_out(tmp_path: Path) -> None:
    store = KeptStore(tmp_path / "kept", 60_000)
    (one,) = add(store, record())
    assert not store.add(record(1), bytes(60_000))
    assert listed(store) == [one]


def test_two_processes_see_each_others_images_and_labels(store: KeptStore) -> None:
    other = KeptStore(store.folder.path, 2**20)
    (one,) = add(store, record(0))
    (two,) = add(other, record(1))
    assert listed(store) == listed(other) == [two, one]
    other.label(one, "normal")
    assert listed(store, label="normal") == [one]


def test_without_its_index_a_folder_is_read_again(store: KeptStore) -> None:
    ids = add(store, record(0), record(1))
    store.label(ids[0], "normal")
    store.close()
    next(store.folder.path.glob("*.sqlite")).unlink()
    again = KeptStore(store.folder.path, 2**20)
    assert listed(again) == ids[::-1]
    assert listed(again, label="normal") == ids[:1]


def test_a_damaged_index_is_made_anew(store: KeptStore) -> None:
    ids = add(store, record(0), record(1))
    store.close()
    index = next(store.folder.path.glob("*.sqlite"))
    index.write_bytes(b"no database at all" * 200)
    again = KeptStore(store.folder.path, 2**20)
    assert listed(again) == ids[::-1]
    assert sqlite3.connect(index).execute("SELECT COUNT(*) FROM kept").fetchone() == (2,)


def test_an_index_that_is_lost_while_another_thread_reads_it_is_not_closed_under_it(store: KeptStore) -> None:
    ids = add(store, record(0))
    held = store.index
    held.path.unlink()
    assert store.index is not held
    assert held.ids(Filter(), 10) == ids


def test_images_that_are_removed_or_put_back_by_hand_are_noticed(store: KeptStore) -> None:
    gone, stays = add(store, record(0), record(1))
    for path in files_of(store):
        if path.stem == gone:
            path.unlink()
    assert listed(store) == [stays]
    with pytest.raises(NotKept):
        store.label(gone, "normal")


def test_what_a_killed_process_left_unfinished_is_removed_once_it_is_old(store: KeptStore) -> None:
    (one,) = add(store, record())
    day = store.folder.image_path(store.folder.read(one)).parent
    orphan, unfinished, recent = day / f"{new_id(NOON)}.png", day / ".unfinished-1-x.png", day / f"{new_id(NOON)}.jpeg"
    for path in (orphan, unfinished, recent):
        path.write_bytes(b"half")
    for path in (orphan, unfinished):
        os.utime(path, (0, 0))
    store.sweep()
    assert not orphan.exists()
    assert not unfinished.exists()
    assert recent.exists()
    assert listed(store) == [one]


@pytest.mark.parametrize("kept_id", ["../../etc/passwd", "", "0" * 29, "019a3f5c7d21-5f0c9a7be1d24433/..", "*"])
def test_an_id_of_a_stranger_never_becomes_a_path(store: KeptStore, kept_id: str) -> None:
    with pytest.raises(NotKept):
        store.folder.read(kept_id)


def test_the_random_sample_is_counted_even_when_it_is_no_longer_kept(tmp_path: Path) -> None:
    store = KeptStore(tmp_path / "kept", 60_000)
    records = [record(minute, sampled=True, is_anomaly=minute % 2 == 0) for minute in range(40)]
    add(store, *records, content=bytes(5_000))
    store.label(listed(store)[0], "normal")
    cells = store.cells(records[0].judged_by)
    assert Cell(False, 0.5, None, 20) in cells
    assert Cell(True, 0.5, None, 20) in cells
    assert Cell(False, 0.5, "normal", 1) in cells
    assert store.cells("another artifact") == []
