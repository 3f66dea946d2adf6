"""The placebo arm and the second samples, from training to what must not notice them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import shared, tiny_rows, write_jsonl
from tests.fakes import ChatServer, shown
from tests.pipeline.test_pipeline import execute, make_run, status
from tests.pipeline.test_train import LONG
from tests.pipeline.test_training import adapter_bytes
from tuneproof.data.encode import token_ids
from tuneproof.data.placebo import shuffle_responses
from tuneproof.data.templates import parse_template
from tuneproof.errors import DataError
from tuneproof.export.write import export_run
from tuneproof.generate.plan import PLACEBO as PLACEBO_ARM
from tuneproof.generate.plan import Respondent
from tuneproof.generate.samples import second_prompts
from tuneproof.generate.transformers_backend import TransformersBackend, load_adapters
from tuneproof.progress import SilentReporter
from tuneproof.recipe import Model
from tuneproof.recipe_file import load_recipe
from tuneproof.records import (
    Answer,
    Arm,
    Judgment,
    LossPoint,
    Preference,
    PreparedRow,
    Prompt,
    SequenceLoss,
    Similarity,
    Split,
    TrainingSummary,
    first_samples,
)
from tuneproof.results import Results
from tuneproof.train.model import load_model, load_tokenizer
from tuneproof.train.stage import train_adapters
from tuneproof.workspace import RunDir, describe_file, read_records, write_records

if TYPE_CHECKING:
    from collections.abc import Callable

PLACEBO = "verdict.beat_placebo=true"
SHORT = LONG | {"epochs": 1, "eval_steps": 4}


def train(recipe: Path, folder: Path, *overrides: str) -> None:
    execute(make_run(recipe, folder, *overrides), until="train")


def summary(folder: Path, mark: str = "") -> TrainingSummary:
    return TrainingSummary.model_validate_json((folder / f"train/summary{mark}.json").read_bytes())


# --- training --------------------------------------------------------------------------------


def test_the_placebo_is_the_training_of_shuffled_rows_and_changes_no_other(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe = tiny_recipe(n_rows=120, train=SHORT)
    with_placebo, without = tmp_path / "with", tmp_path / "without"
    train(recipe, with_placebo, PLACEBO, "train.seeds=2")
    train(recipe, without, "train.seeds=2")
    for name in ("adapter", "adapter-2"):
        assert adapter_bytes(with_placebo, name) == adapter_bytes(without, name)
    assert not list((without / "train").glob("*placebo*"))
    one, other = (RunDir(f).manifest("train") for f in (with_placebo, without))
    assert one is not None
    assert other is not None
    # The ledger and the counts are those of the real rows.
    assert one.ledger == other.ledger
    assert {k: v for k, v in one.facts.items() if not k.startswith("placebo")} == other.facts
    assert one.facts["placebo steps"] == 9
    names = {f.path for f in one.outputs} - {f.path for f in other.outputs}
    assert names == {
        f"train/{name}"
        for name in (
            "adapter-placebo/adapter_config.json",
            "adapter-placebo/adapter_model.safetensors",
            "loss-placebo.jsonl",
            "summary-placebo.json",
            "trainer_state-placebo.json",
        )
    }
    assert not (with_placebo / "train/checkpoints").exists()

    # The same path, on rows that this test shuffled: the first adapter is then the placebo.
    rows = read_records(with_placebo / "prepare/examples.jsonl", PreparedRow)
    shuffled = []
    for split in Split:
        mine = [row for row in rows if row.split is split]
        moved = shuffle_responses([row.example for row in mine], seed=7)
        assert all(a.example.response != b.response for a, b in zip(mine, moved, strict=True))
        shuffled += [
            row.model_copy(update={"example": e}) for row, e in zip(mine, moved, strict=True)
        ]
    write_records(tmp_path / "shuffled/examples.jsonl", shuffled)
    by_hand = tmp_path / "by-hand/train"
    train_adapters(
        load_recipe(recipe),
        prepare_dir=tmp_path / "shuffled",
        out=by_hand,
        reporter=SilentReporter(),
    )
    assert adapter_bytes(with_placebo, "adapter-placebo") == adapter_bytes(tmp_path / "by-hand")
    assert adapter_bytes(with_placebo, "adapter-placebo") != adapter_bytes(with_placebo)
    curve = read_records(with_placebo / "train/loss-placebo.jsonl", LossPoint)
    assert curve == read_records(by_hand / "loss.jsonl", LossPoint)
    # Its best step is that of its own validation loss; its seed is the first adapter's.
    found = summary(with_placebo, "-placebo")
    validated = {p.eval_loss: p.step for p in curve if p.eval_loss is not None}
    assert found.best_step == validated[min(validated)]
    assert (found.seed, found.rows) == (7, summary(with_placebo).rows)


def test_a_finished_placebo_is_not_trained_again_and_one_that_is_not_trains_alone(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe, folder = tiny_recipe(n_rows=120, train=SHORT), tmp_path / "run"
    train(recipe, folder, PLACEBO)
    files = {
        name: folder / "train" / name / "adapter_model.safetensors"
        for name in ("adapter", "adapter-placebo")
    }
    bytes_before = {name: path.read_bytes() for name, path in files.items()}
    # As after a kill while the placebo was training; then as after one before the manifest.
    for lost in (("summary-placebo.json", "adapter-placebo"), ()):
        times = {name: path.stat().st_mtime_ns for name, path in files.items()}
        for name in ("manifest.json", *lost):
            path = folder / "train" / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        train(recipe, folder, PLACEBO)
        assert {name: path.read_bytes() for name, path in files.items()} == bytes_before
        again = {name for name, path in files.items() if path.stat().st_mtime_ns != times[name]}
        assert again == ({"adapter-placebo"} if lost else set())


def test_who_asks_for_no_placebo_has_the_key_of_before(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe, folder = tiny_recipe(n_rows=60, train=SHORT), tmp_path / "run"
    train(recipe, folder)
    manifest = RunDir(folder).manifest("train")
    assert manifest is not None
    assert not [name for name in manifest.key_parts if "placebo" in name]
    found = {s.stage: s for s in status(make_run(recipe, folder, PLACEBO))}["train"]
    assert (found.state, found.reasons) == ("stale", ("verdict.beat_placebo is new",))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_rows_that_give_no_placebo_are_refused_before_any_weight_is_loaded(
    tmp_path: Path,
    tiny_recipe: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    split: str,
) -> None:
    from tuneproof.train import model

    def load(*_: object, **__: object) -> None:
        pytest.fail("weights were loaded")

    monkeypatch.setattr(model, "load_model", load)
    recipe = tiny_recipe()
    rows = tiny_rows(60)
    if split == "validation":
        # A run of the same rows says which ones those are.
        execute(make_run(recipe, tmp_path / "first"), until="prepare")
        prepared = read_records(tmp_path / "first/prepare/examples.jsonl", PreparedRow)
        same = {int(r.example.id[4:]) for r in prepared if r.split is Split.VALIDATION}
    else:
        same = set(range(50))
    for i in same:
        rows[i]["response"] = "yes"
    data = write_jsonl(tmp_path / "same.jsonl", rows)
    with pytest.raises(DataError, match=f"the rows of the {split} split = .* are one and the same"):
        train(recipe, tmp_path / "run", f"data.source.path={data}", PLACEBO)
    assert not (tmp_path / "run").exists()


# --- answers ---------------------------------------------------------------------------------

SOURCE = Path(__file__).parents[2] / "src" / "tuneproof"
N_TWICE = 7
TWICE = f"judge.checks.self_comparisons={N_TWICE}"


def prefer_longer(body: dict[str, Any]) -> str:
    a, b = (len(shown(body, f"answer-{letter}")) for letter in "AB")
    return f"By length.\nVERDICT: {'TIE' if a == b else 'A' if a > b else 'B'}"


def judge(url: str) -> dict[str, object]:
    return {
        "base_url": url,
        "api_key_env": None,
        "model": "judge-1",
        "orders": 1,
        "decompose": False,
        "checks": {"controls": 0, "repeats": 0},
    }


def answers_of(folder: Path) -> list[Answer]:
    return read_records(folder / "generate/answers.jsonl", Answer)


def losses_of(folder: Path) -> list[SequenceLoss]:
    return read_records(folder / "generate/heldout_loss.jsonl", SequenceLoss)


def against_base(folder: Path, name: str, kind: type[Judgment | Preference]) -> list[object]:
    rows = read_records(folder / f"judge/{name}.jsonl", kind)
    return [row for row in rows if row.opponent is Arm.BASE]


def estimates(folder: Path) -> dict[str, object]:
    """Every estimate of a report but what is about the placebo or the judge's checks."""
    results = Results.model_validate_json((folder / "report/results.json").read_bytes())
    found = results.model_dump(include={"heldout_loss", "benchmarks", "training"})
    found["training"].pop("duration_s")
    for result in found["benchmarks"].values():
        result["others"].pop("placebo", None)
        for pairwise in (result["pairwise"], *result["others"].values()):
            pairwise.pop("check")
    return found


def test_nothing_else_notices_the_placebo_or_second_samples(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    plain, rich = tmp_path / "plain", tmp_path / "rich"
    with ChatServer(prefer_longer) as server:
        recipe = tiny_recipe(
            n_rows=60,
            judge=judge(server.url),
            generate={"max_new_tokens": 6, "batch_size": 4, "temperature": 0.7},
            verdict={"metric": "win_rate"},
        )
        execute(make_run(recipe, plain))
        execute(make_run(recipe, rich, PLACEBO, TWICE))
        execute(make_run(recipe, tmp_path / "again", PLACEBO, TWICE), until="generate")

    # --- what was answered ---
    assert answers_of(rich) == answers_of(tmp_path / "again")
    before, answers = answers_of(plain), answers_of(rich)
    placebo = [a for a in answers if a.arm is Arm.PLACEBO]
    seconds = answers[len(before) + len(placebo) :]
    assert answers == [*before, *placebo, *seconds]
    assert [a.question_id for a in placebo] == [a.question_id for a in before if a.arm is Arm.TUNED]
    assert {a.sample for a in (*before, *placebo)} == {1}
    assert {(a.arm, a.adapter, a.sample) for a in seconds} == {(Arm.TUNED, 1, 2)}
    assert first_samples(answers) == [*before, *placebo]
    assert len({a.key for a in answers}) == len(answers)
    tuned = {a.question_id: a.text for a in before if a.arm is Arm.TUNED}
    # Different adapters, and independent draws of one: at this temperature most answers differ.
    assert len({a.question_id for a in seconds}) == N_TWICE
    assert sum(a.text != tuned[a.question_id] for a in seconds) > N_TWICE / 2
    assert sum(a.text != tuned[a.question_id] for a in placebo) > len(placebo) / 2
    losses = losses_of(rich)
    assert [x for x in losses if x.arm is not Arm.PLACEBO] == losses_of(plain)
    by_arm = {arm: [x.response_nll for x in losses if x.arm is arm] for arm in Arm}
    assert len(by_arm[Arm.PLACEBO]) == len(by_arm[Arm.TUNED]) == 18
    # The placebo's weights: the only ones of the three that give its likelihoods.
    base_model = Model(id=load_recipe(recipe).model.id, dtype="float32")
    adapters = [rich / "train/adapter", rich / "train/adapter-placebo"]
    rows = [p.token_ids or () for p in read_records(rich / "generate/prompts.jsonl", Prompt)]
    both, alone = (
        TransformersBackend(
            load_adapters(load_model(base_model), tuned_by, placebo=placebo_by),
            load_tokenizer(base_model),
        )
        for tuned_by, placebo_by in ((adapters[:1], adapters[1]), (adapters[1:], None))
    )
    assert both.nll(rows, PLACEBO_ARM) == alone.nll(rows, Respondent(Arm.TUNED))
    assert len({tuple(values) for values in by_arm.values() if values}) == 3
    manifest = RunDir(rich).manifest("generate")
    assert manifest is not None
    assert (manifest.facts["adapters"], manifest.facts["answers"]) == (1, 3 * 18)
    assert manifest.facts["second answers"] == N_TWICE

    # --- what was made of it ---
    near = read_records(rich / "judge/similarity.jsonl", Similarity)
    assert [s for s in near if s.arm is not Arm.PLACEBO] == read_records(
        plain / "judge/similarity.jsonl", Similarity
    )
    judgments, others = (against_base(f, "judgments", Judgment) for f in (rich, plain))
    assert judgments == others
    preferences, others = (against_base(f, "preferences", Preference) for f in (rich, plain))
    assert preferences == others
    assert len(judgments) == len(preferences) == 18
    assert estimates(rich) == estimates(plain)


def test_second_samples_alone_change_no_estimate(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    """With rows of a second sample that differ in all that is measured."""
    folder = tmp_path / "run"
    with ChatServer(prefer_longer) as server:
        recipe = tiny_recipe(
            n_rows=60,
            judge=judge(server.url),
            generate={"max_new_tokens": 6, "batch_size": 4, "temperature": 0.7},
            verdict={"metric": "win_rate"},
        )
        execute(make_run(recipe, folder))
        before = estimates(folder)
        path = folder / "generate/answers.jsonl"
        rows = answers_of(folder)
        write_records(
            path,
            [
                *rows,
                *(
                    a.model_copy(
                        update={
                            "sample": 2,
                            "key": f"{a.key}-2",
                            "text": "no " * 50,
                            "n_tokens": 50,
                        }
                    )
                    for a in rows
                    if a.arm is Arm.TUNED
                ),
            ],
        )
        run = RunDir(folder)
        manifest = run.manifest("generate")
        assert manifest is not None
        # As if the stage had written them.
        run.write_manifest(
            manifest.model_copy(
                update={
                    "outputs": tuple(
                        describe_file(run.resolve(f.path), folder) for f in manifest.outputs
                    )
                }
            )
        )
        done = {s.stage: s.state for s in execute(make_run(recipe, folder))}
    assert done["generate"] == "fresh"
    assert done["judge"] == done["report"] == "stale"
    assert estimates(folder) == before


def test_whoever_reads_answers_says_which() -> None:
    """The rule that keeps second samples out: first_samples, where answers.jsonl is read."""
    readers = [p for p in SOURCE.rglob("*.py") if 'answers.jsonl", Answer)' in p.read_text("utf-8")]
    assert {p.relative_to(SOURCE).as_posix() for p in readers} >= {
        "judge/stage.py",
        "report/stage.py",
        "export/write.py",
    }
    assert not [p for p in readers if "first_samples(" not in p.read_text("utf-8")]


def test_the_placebo_answers_all_turns_and_is_in_no_exported_file(
    tmp_path: Path,
    roomy_model: Path,
    tiny_recipe: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(shared("mt_bench").parent))
    exported: dict[str, dict[str, str]] = {}
    with ChatServer(prefer_longer) as server:
        recipe = tiny_recipe(
            model={"id": str(roomy_model), "dtype": "float32"},
            judge=judge(server.url),
            generate={"max_new_tokens": 6, "batch_size": 4, "temperature": 0.7},
            evaluate=[
                {"benchmark": "alpaca_eval", "questions": 3, "protocol": "own"},
                {"benchmark": "mt_bench", "questions": 3, "protocol": "own"},
            ],
            verdict={"metric": "win_rate", "benchmark": "mt_bench"},
        )
        for name, overrides in (("plain", ()), ("rich", (PLACEBO, TWICE))):
            folder = tmp_path / name
            execute(make_run(recipe, folder, *overrides), until="judge")
            out = tmp_path / f"{name}-files"
            files = export_run(RunDir(folder), out).files
            exported[name] = {p.relative_to(out).as_posix(): p.read_text("utf-8") for p in files}
    assert exported["rich"].keys() == exported["plain"].keys()
    for path, text in exported["plain"].items():
        if path.startswith("alpaca_eval"):  # MT-Bench's files hold the time
            assert exported["rich"][path] == text, path

    folder = tmp_path / "rich"
    said = {(a.question_id, a.turn): a for a in answers_of(folder) if a.arm is Arm.PLACEBO}
    prompts = read_records(folder / "generate/prompts.jsonl", Prompt)
    assert list(said) == [(p.question_id, p.turn) for p in prompts]
    # A second turn is asked with the placebo's own answer to the first before it.
    template = parse_template("instruction-context-response")
    tokenizer = load_tokenizer(Model(id=str(roomy_model)))
    first = {p.question_id: p.instruction for p in prompts if p.turn == 1}
    for prompt in (p for p in prompts if p.turn == 2):
        told = [(first[prompt.question_id], said[prompt.question_id, 1].text)]
        whole = token_ids(tokenizer, [template.conversation(told, prompt.instruction)])[0]
        assert said[prompt.question_id, 2].n_prompt_tokens == len(whole)
    # Asked twice: first turns of the benchmark that the verdict is about, no more than there are.
    twice = [(a.question_id, a.turn) for a in answers_of(folder) if a.sample == 2]
    assert twice == [
        (p.question_id, 1) for p in prompts if p.benchmark == "mt_bench" and p.turn == 1
    ]


def test_which_questions_are_answered_twice(tiny_recipe: Callable[..., Path]) -> None:
    path = tiny_recipe(
        judge=judge("http://127.0.0.1:9/v1"),
        generate={"temperature": 0.5},
        evaluate=[
            {"benchmark": "mt_bench", "mode": "single"},
            {"benchmark": "heldout"},
            {"benchmark": "alpaca_eval"},
        ],
    )
    prompts = [
        Prompt(
            question_id=f"{benchmark}-{i}",
            benchmark=benchmark,
            category=None,
            turn=turn,
            instruction="do",
            context="",
            token_ids=None,
            reference=None,
            checkable=False,
        )
        for benchmark in ("mt_bench", "heldout", "alpaca_eval")
        for i in range(50)
        for turn in ((1, 2) if benchmark == "mt_bench" else (1,))
    ]

    def drawn(*overrides: str) -> list[str]:
        found = second_prompts(load_recipe(path, overrides), prompts)
        assert found.greedy == 0
        return [p.question_id for p in found.prompts]

    assert drawn() == []
    assert load_recipe(path).asked_twice is None
    some = drawn(TWICE)
    twice = load_recipe(path, (TWICE,)).asked_twice
    assert twice is not None
    assert twice.benchmark == "heldout"  # mt_bench is not asked in pairs
    assert len(some) == N_TWICE
    assert some == drawn(TWICE)
    assert some == [p.question_id for p in prompts if p.question_id in some]
    assert some != drawn(TWICE, "seed=8")
    assert set(some) < set(drawn("judge.checks.self_comparisons=20"))
    assert len(drawn("judge.checks.self_comparisons=99")) == 50
    named = drawn(TWICE, "verdict.metric=win_rate", "verdict.benchmark=alpaca_eval")
    assert {q.rpartition("-")[0] for q in named} == {"alpaca_eval"}
