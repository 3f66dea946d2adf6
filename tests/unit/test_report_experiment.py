"""What the report says of what was tuned on what, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit import report_case as case
from tests.unit.report_reading import Page, render
from tuneproof.export.model_card import model_card
from tuneproof.recipe import Model, Source
from tuneproof.report.experiment import experiment, hub_model, in_one_line
from tuneproof.train.hardware import describe_hardware

if TYPE_CHECKING:
    from tuneproof.recipe import Recipe
    from tuneproof.records import TrainingSummary

DOLLY = "databricks/databricks-dolly-15k"


def dolly() -> Recipe:
    recipe = case.recipe()
    data = recipe.data.model_copy(update={"source": Source(hub=DOLLY)})
    return recipe.model_copy(update={"data": data})


def trained() -> TrainingSummary:
    return case.training().model_copy(
        update={
            "lora_modules": ("q_proj", "v_proj"),
            "hardware": {"CPU": "AMD EPYC 7642, 48 logical cores", "Memory": "128.9 GiB"},
        }
    )


def settings(recipe: Recipe, t: TrainingSummary | None) -> dict[str, str]:
    """All rows of all parts."""
    found = experiment(case.results(training=t), recipe)
    return {what: value for part in found for what, value in part.rows}


def test_model_data_and_judge_stand_in_a_line_below_the_verdict() -> None:
    said = (
        "HuggingFaceTB/SmolLM2-135M, tuned with LoRA (r 8) on 768 rows of "
        "databricks/databricks-dolly-15k; 96 rows to validate, 96 to test; judge: gpt-4o-mini."
    )
    assert in_one_line(case.results(), dolly()) == said
    page = Page(render("index.html", case.results(), recipe=dolly())).text
    assert said in page
    assert page.index(case.results().verdict.sentence) < page.index(said) < page.index("Held-out")
    assert said.partition("/")[2][:20] in render("report.md", case.results(), recipe=dolly())


def test_the_settings_are_those_of_the_reference_documents_tables() -> None:
    found = settings(dolly(), trained())
    assert found["r"] == "8"
    assert found["alpha"] == "16"
    assert found["Modules"] == "q_proj, v_proj"
    assert found["Trainable parameters"] == "460,800 of 134,975,808 (0.341 %)"
    assert found["Epochs"] == "3"
    assert found["Effective batch"] == "16 rows a step"
    assert found["Schedule"] == "cosine, warm-up over 0.03 of the steps"
    assert found["Longest row"] == "1,024 tokens; longer rows are cut (2 of 768)"
    assert found["End token"] == "appended to every row; taught by 766 of 768 rows"
    assert found["CPU"] == "AMD EPYC 7642, 48 logical cores"
    assert found["Memory"] == "128.9 GiB"
    assert found["Rows, test"] == "96"
    assert found["Seed"] == "42"


def test_page_markdown_and_card_say_the_same() -> None:
    results = case.results(training=trained())
    page = Page(render("index.html", results, recipe=dolly())).text
    markdown = render("report.md", results, recipe=dolly())
    for part in experiment(results, dolly()):
        for what, value in part.rows:
            assert f"{what}{value}" in page
            assert f"| {what} | {value} |" in markdown
    card = model_card(dolly(), trained(), ledger=None, results=results, missing="")
    for part in experiment(results, dolly()):
        if part.title in ("Model and LoRA", "Training", "Hardware"):
            assert all(f"| {what} | {value} |" in card for what, value in part.rows)


def test_without_a_training_the_recipe_stands_alone() -> None:
    found = settings(dolly(), None)
    assert found["Modules"] == "PEFT's default"
    assert found["End token"] == "appended to every row"
    assert "Device" not in found
    assert "The experiment" in render("index.html", case.results(training=None), recipe=dolly())


def test_a_training_that_ended_early_says_of_how_much() -> None:
    recipe = dolly()
    train = recipe.train.model_copy(update={"max_steps": 6, "seeds": 2, "packing": False})
    short = trained().model_copy(update={"epochs": 0.00399734, "steps": 6})
    found = settings(recipe.model_copy(update={"train": train}), short)
    assert found["Epochs"] == "0.004 of 3, ended by max_steps 6"
    assert found["Effective batch"] == "16 rows a step: 2 at once, 8 times"
    assert found["Seeds"] == "42, 43"


@pytest.mark.parametrize(
    ("given", "hub"),
    [
        ("asset:smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf"),
        ("/home/me/secret/model", None),
        ("./model", None),
    ],
)
def test_a_models_id_on_the_hub(given: str, hub: str | None) -> None:
    model = Model(id=given)
    assert hub_model(model) == hub
    said = in_one_line(case.results(), dolly().model_copy(update={"model": model}))
    assert said.startswith(f"{hub or 'model'}, tuned with LoRA")


def test_the_machine_names_its_parts() -> None:
    found = describe_hardware()
    assert found["Memory"].endswith(" GiB")
    assert all(found.values())
