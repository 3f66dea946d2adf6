"""Atomic writes, journals, digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tuneproof.errors import StageError
from tuneproof.records import Answer, Arm, Ledger, Stop
from tuneproof.workspace import (
    Journal,
    digest_value,
    empty_stage,
    flatten,
    read_records,
    replacing_folder,
    write_atomic,
    write_records,
)

if TYPE_CHECKING:
    from pathlib import Path


def answer(key: str, text: str = "yes") -> Answer:
    return Answer(
        key=key,
        question_id="q",
        benchmark="heldout",
        arm=Arm.BASE,
        text=text,
        stop=Stop.EOS,
        n_prompt_tokens=3,
        n_tokens=1,
    )


def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    with replacing_folder(target) as folder:
        (folder / "a").write_text("1")

    def fail_half_way() -> None:
        with replacing_folder(target) as folder:
            (folder / "a").write_text("2")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert (target / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_records_come_back(tmp_path: Path) -> None:
    rows = [answer("1", 'quotes " and \u2028 and \U0001f600'), answer("2", "")]
    write_records(tmp_path / "a.jsonl", rows)
    assert read_records(tmp_path / "a.jsonl", Answer) == rows


def test_a_bad_record_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_records(path, [answer("1")])
    path.write_text(path.read_text() + '{"key": 3}\n')
    with pytest.raises(StageError, match=r"a\.jsonl:2: holds no Answer"):
        read_records(path, Answer)


@pytest.mark.parametrize("torn", [1, 5, 60])
def test_a_torn_last_line_is_cut_off_and_only_that(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "j.journal.jsonl"
    with Journal(path, Answer) as journal:
        journal.append([answer("1"), answer("2")])
    whole = path.read_bytes()
    path.write_bytes(whole[:-torn])
    with Journal(path, Answer) as journal:
        assert "1" in journal
        assert "2" not in journal
        journal.append([answer("2")])
    assert path.read_bytes() == whole


def test_of_two_records_with_one_key_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "j.journal.jsonl"
    with Journal(path, Answer) as journal:
        journal.append([answer("1", "first")])
        journal.append([answer("1", "second"), answer("2")])
    with Journal(path, Answer) as journal:
        found = journal.get("1")
        assert found is not None
        assert found.text == "first"
        assert len(journal) == 2


def test_a_journal_that_was_edited_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j.journal.jsonl"
    path.write_text('{"nonsense": 1}\n')
    with pytest.raises(StageError, match=r"j\.journal\.jsonl:1"):
        Journal(path, Answer)


def test_journals_survive_the_emptying_of_a_stage(tmp_path: Path) -> None:
    for name in ("answers.journal.jsonl", "answers.jsonl", "manifest.json"):
        (tmp_path / name).write_text("")
    (tmp_path / "adapter").mkdir()
    empty_stage(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["answers.journal.jsonl"]


def test_digests_do_not_depend_on_the_order_of_keys() -> None:
    assert digest_value({"a": 1, "b": 2}) == digest_value({"b": 2, "a": 1})
    assert digest_value({"a": 1}) != digest_value({"a": "1"})


def test_flatten_names_what_it_holds() -> None:
    assert flatten("", {"train": {"epochs": 3.0}, "seed": 1}) == {
        "train.epochs": "3.0",
        "seed": "1",
    }


def test_a_ledger_must_balance() -> None:
    with pytest.raises(ValueError, match="3 read, 1 kept"):
        Ledger(read=3, kept=1, dropped={"empty response": 1})
