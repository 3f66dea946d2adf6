"""Recipes: what is read, what is refused, and how the refusal reads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tuneproof.cli.stages import bundled_recipe
from tuneproof.errors import RecipeError
from tuneproof.recipe import Recipe, Source, named_seed, rng
from tuneproof.recipe_file import dump_recipe, load_recipe, parse_recipe

BASE = """\
name: x
data:
  source: {path: a.jsonl}
model: {id: some/model}
train:
  learning_rate: 2e-4
lora:
  target_modules: [q_proj]
evaluate:
  - {benchmark: heldout, questions: 5}
judge: {model: m}
"""

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def read(*overrides: str, text: str = BASE) -> Recipe:
    return parse_recipe(text, name="r.yaml", overrides=overrides)


def test_numbers_are_numbers() -> None:
    assert read().train.learning_rate == 2e-4
    assert read("train.learning_rate=1e-3").train.learning_rate == 1e-3


def test_the_resolved_copy_is_the_same_recipe() -> None:
    recipe = read("judge.orders=1", "data.split.train=0.7", "data.split.test=0.2")
    assert parse_recipe(dump_recipe(recipe), name="copy") == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_in_the_folder_is_one(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert parse_recipe(dump_recipe(recipe), name="copy") == recipe


def test_another_source_replaces_the_recipes() -> None:
    text = BASE.replace("{path: a.jsonl}", "{hub: databricks/dolly, revision: abc}")
    source = read("data.source.path=b.csv", text=text).data.source
    assert read("data.source.sample=true", text=text).data.source == Source(sample=True)
    assert (source.hub, source.revision, source.path) == (None, None, "b.csv")


def test_a_list_item_can_be_set() -> None:
    assert read("evaluate.0.questions=7").evaluate[0].questions == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "--set: train.epoch: unknown key\n  Did you mean train.epochs?"),
        ("trian.epochs=3", "--set: trian: unknown key\n  Did you mean train?"),
        ("train.epochs=three", "--set: train.epochs = three: expected a number"),
        ("train.epochs=-1", "--set: train.epochs = -1: expected a value above 0"),
        ("train.max_steps=1.5", "--set: train.max_steps = 1.5: expected a whole number"),
        ("train.append_eos=1", "--set: train.append_eos = 1: expected true or false"),
        ("judge.orders=3", "--set: judge.orders = 3: expected 1 or 2 (2 judges both orders)"),
        ("data.split.train=0.9", "train + validation + test = 1: they sum to 1.1"),
        ("train.batch_size=15", "expected batch_size to be a multiple of micro_batch_size"),
        ("lora.target_modules=q_proj", "expected null, all-linear or a list of module names"),
        ("verdict.metric=luck", "expected 'heldout_loss', 'exact_match', 'similarity' or"),
        ("verdict.metric=exact_match", "needs data.columns.checkable"),
        ("evaluate.3.questions=1", "expected an index below 1, got '3'"),
        ("evaluate=[]", "expected at least one benchmark"),
        ("train=3", "--set: train = 3: expected a section"),
        ("train.learning_rate.more=3", "train.learning_rate is a value, not a section"),
        ("epochs", "expected KEY=VALUE"),
        ("name=a b", "expected letters, digits"),
        ("seed=-1", "expected a value at least 0"),
        ("train.learning_rate=.nan", "expected a"),
    ],
)
def test_refusals_name_place_value_and_remedy(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        read(override)
    assert message in str(error.value)
    assert error.value.exit_code == 2


def test_the_file_and_line_are_named() -> None:
    with pytest.raises(RecipeError, match=r"^r.yaml:6: train.learning_rate = fast: expected"):
        read(text=BASE.replace("2e-4", "fast"))
    with pytest.raises(RecipeError, match=r"^r.yaml:5: trian: unknown key"):
        read(text=BASE.replace("train:", "trian:"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "r.yaml:1: not valid YAML"),
        ("- 1", "expected a mapping of sections"),
        ("", "expected a mapping of sections"),
        ("name: x\nname: y\n", "not valid YAML"),
        ("data: {source: {path: a}}\nmodel: {id: m}\n", "name: required, and absent"),
        (BASE.replace("{path: a.jsonl}", "{path: a, hub: b}"), "exactly one of hub, path, sample"),
        (BASE.replace("{path: a.jsonl}", "{}"), "exactly one of hub, path, sample"),
        (BASE.replace("{model: m}", "{kind: replay}"), "expected a journal for kind replay"),
        (BASE + "verdict: {metric: win_rate}\n" * 2, "not valid YAML"),
    ],
)
def test_files_that_are_no_recipe(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        read(text=text)
    assert message in str(error.value)


def test_a_missing_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"no such recipe\n  Did you mean .*demo.yaml\?"):
        load_recipe(RECIPES[0].parent / "demos.yaml")


def test_named_randomness_depends_on_every_name() -> None:
    assert rng(1, "judge", "order", "q1").random() == rng(1, "judge", "order", "q1").random()
    seeds = {named_seed(1, "a", "b"), named_seed(1, "ab"), named_seed(2, "a", "b"), named_seed(1)}
    assert len(seeds) == 4
    # By the rule of the docstring, computed a second way: published runs are repeated by it.
    digest = hashlib.sha256(b"42\x1fjudge\x1forder\x1fq1").hexdigest()
    assert named_seed(42, "judge", "order", "q1") == int(digest[:16], 16) // 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "evaluate.0.question=9",
            "evaluate.0.question: unknown key\n  Did you mean evaluate.0.questions?",
        ),
        ("evaluate.0.mode=single-ish", "evaluate.0.mode: unknown key"),
        ("evaluate.1.selection=last-n", "evaluate.1.selection = last-n: expected 'first-n'"),
        ("evaluate.0.benchmark=alpaca", "evaluate.0"),
        ("evaluate.0.against=[]", "expected one opponent or more, each once"),
        ("verdict.against=fair-base", "verdict.against fair-base is no opponent there"),
        ("judge=null", "the benchmark alpaca_eval needs a judge section"),
    ],
)
def test_benchmarks_are_checked_as_their_own_sections(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(bundled_recipe("llama2-7b-dolly15k"), [text])
    assert said in str(error.value)
    assert "alpaca_eval.question" not in str(error.value)
