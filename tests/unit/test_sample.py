"""The bundled sample keeps the properties that the demo's proof relies on.

Reads the shipped file, and runs the script only to see that it reproduces that file.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "src" / "tuneproof" / "data" / "sample.jsonl"
SCRIPT = ROOT / "tools" / "make_sample.py"

TEXT_FIELDS = ("instruction", "context", "response")
CATEGORIES = {
    "open_qa",
    "general_qa",
    "classification",
    "closed_qa",
    "brainstorming",
    "information_extraction",
    "summarization",
    "creative_writing",
}
HOUSES = {"Water", "Fire", "Stone", "Thread"}
SINGLE_LABELS = HOUSES | {"open", "shut"}
LABELLED_NAMES = re.compile(r"[^:;]+: (person|place)(; [^:;]+: (person|place))+")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    return [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]


def text(row: dict[str, object], field: str) -> str:
    value = row[field]
    assert isinstance(value, str)
    return value


def words(row: dict[str, object]) -> list[str]:
    return re.findall(r"\w+", " ".join(text(row, field) for field in TEXT_FIELDS).lower())


def test_script_reproduces_the_file() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_schema(rows: list[dict[str, object]]) -> None:
    assert len(rows) >= 600
    for row in rows:
        assert list(row) == ["instruction", "context", "response", "category", "checkable"]
        assert isinstance(row["checkable"], bool)
        assert text(row, "instruction")
        assert text(row, "response")
    assert {row["category"] for row in rows} == CATEGORIES


def test_every_category_is_large_enough_to_be_split(rows: list[dict[str, object]]) -> None:
    counts = Counter(row["category"] for row in rows)
    assert min(counts.values()) >= 30
    assert max(counts.values()) <= len(rows) / 3


def test_more_than_half_is_checkable(rows: list[dict[str, object]]) -> None:
    assert sum(row["checkable"] is True for row in rows) >= 0.55 * len(rows)


def test_strings_are_clean(rows: list[dict[str, object]]) -> None:
    for row in rows:
        for field in TEXT_FIELDS:
            value = text(row, field)
            assert value == value.strip()
            assert "  " not in value
            assert "###" not in value
            # What a template leaves behind when a slot or a choice is not filled in.
            assert not re.search(r"[{}\[\]|]| [.,;:?!]", value), value


def test_no_two_records_are_near_duplicates(rows: list[dict[str, object]]) -> None:
    grams = [frozenset(zip(w, w[1:], w[2:], strict=False)) for w in map(words, rows)]
    closest = max(
        (len(a & b) / len(a | b), i, j)
        for i, a in enumerate(grams)
        for j, b in enumerate(grams[:i])
    )
    assert closest[0] < 0.6, closest


def test_no_question_is_asked_twice(rows: list[dict[str, object]]) -> None:
    asked = Counter(
        " ".join((text(row, "instruction") + " " + text(row, "context")).lower().split())
        for row in rows
    )
    assert asked.most_common(1)[0][1] == 1


def test_classification_uses_a_small_set_of_labels(rows: list[dict[str, object]]) -> None:
    for row in rows:
        if row["category"] == "classification":
            answer = text(row, "response")
            assert answer in SINGLE_LABELS or LABELLED_NAMES.fullmatch(answer), answer


def test_rule_answers_follow_the_rules(rows: list[dict[str, object]]) -> None:
    """Recompute the two numeric rules from the question, apart from the script."""
    locks = counts = 0
    for row in rows:
        instruction, answer = text(row, "instruction"), text(row, "response")
        numbers = re.findall(r"\d+", instruction)
        if answer in ("open", "shut"):
            assert answer == ("shut" if int(numbers[-1]) >= 10 else "open")
            locks += 1
        elif row["category"] == "open_qa" and re.fullmatch(r"(\d orr ?)?(\d tel ?)?\d?", answer):
            value = sum(
                int(digit) * {"orr": 100, "tel": 10, "": 1}[unit]
                for digit, unit in re.findall(r"(\d)(?: (orr|tel))?", answer)
            )
            assert [str(value)] == numbers
            counts += 1
    assert locks
    assert counts


def test_facts_are_in_the_context(rows: list[dict[str, object]]) -> None:
    """An extraction or a closed question never asks for a word that the record does not hold."""
    for row in rows:
        if row["category"] == "information_extraction":
            source = text(row, "context")
            for part in re.split(r"[:;,] ", text(row, "response")):
                assert part in source or part in ("name", "trade", "stair"), (part, source)


def test_lengths_have_a_long_tail(rows: list[dict[str, object]]) -> None:
    lengths = sorted(len(words(row)) for row in rows)
    assert statistics.mean(lengths) > 1.15 * statistics.median(lengths)
    assert lengths[int(0.95 * len(lengths))] > 2 * statistics.median(lengths)
    assert lengths[-1] < 350
