"""What a run is exported as for a paper and for a model hub."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import EvalResult, ModelCard

from tests.unit import report_case
from tests.unit.compare_case import manifest, write_run
from tests.unit.report_evidence_case import check
from tests.unit.report_reading import Page, render
from tuneproof.errors import RecipeError, StageError
from tuneproof.export.latex import escape, latex_tables
from tuneproof.export.model_card import for_publication, model_card
from tuneproof.export.paper import paper_files
from tuneproof.export.run import export_all
from tuneproof.recipe import Judge, Model, Source
from tuneproof.recipe_file import dump_recipe, load_recipe
from tuneproof.results import AlpacaEvalLine, Decomposition, Results
from tuneproof.workspace import RunDir, describe_file, write_json, write_records

if TYPE_CHECKING:
    from pathlib import Path

    from tuneproof.recipe import Recipe

HOSTILE = r"\input{/etc/passwd} $x^2$ a_b & 50 % #1 ~ {} \\ <b> -- ?` ''quoted'' | \x1b[2J 中 ␛"


def full_results() -> Results:
    """With a decomposition, AlpacaEval's line, and names that want to be commands."""
    whole = report_case.results()
    result = whole.benchmarks["heldout"]
    assert result.pairwise is not None
    points = report_case.estimate(0.198, 0.08)
    split = Decomposition(
        whole=points, stopping=report_case.estimate(0.1, 0.05),
        length=report_case.estimate(-0.02, 0.05), remaining=report_case.estimate(0.118, 0.09),
        n_pairs=90, n_left_out=6, n_lost_to_cuts=0, sentence="Of 20 points, 10 are stopping.",
    )  # fmt: skip
    line = AlpacaEvalLine(
        model=HOSTILE, reference="base_model", win_rate=83.0, standard_error=2.172340568,
        n_wins=249, n_wins_base=51, n_draws=0, n_total=300, discrete_win_rate=83.0, avg_length=1884,
        mode="community", n_unscored=0, n_without_answers=0,
    )  # fmt: skip
    pairwise = result.pairwise.model_copy(
        update={
            "by_category": {HOSTILE: points.model_copy(update={"value": 0.2})},
            "check": check(),
            "decomposition": split, "alpaca_eval": (line,), "judge": "gpt_4 & co",
        }
    )  # fmt: skip
    changed = result.model_copy(update={"pairwise": pairwise})
    return whole.model_copy(update={"benchmarks": {"heldout": changed}})


def trained_run(folder: Path) -> RunDir:
    """A run whose train stage left an adapter."""
    run = RunDir(write_run(folder, exact=[0, 1, 1], name="smollm2-dolly"))
    files = {
        "adapter/adapter_model.safetensors": b"weights",
        "adapter/adapter_config.json": b"{}",
        "adapter-2/adapter_model.safetensors": b"others",
        "adapter-2/adapter_config.json": b"{}",
        "adapter-placebo/adapter_config.json": b"{}",
    }
    for name, content in files.items():
        path = run.stage("train") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name in ("summary.json", "summary-2.json"):
        write_json(run.stage("train") / name, report_case.training().model_dump(mode="json"))
    write_records(run.stage("train") / "loss.jsonl", report_case.curve())
    outputs = tuple(describe_file(run.stage("train") / name, run.path) for name in files)
    run.write_manifest(manifest("train", {}).model_copy(update={"outputs": outputs}))
    run.write_manifest(manifest("report", {}))
    return run


def test_escaped_text_is_one_line_without_a_command() -> None:
    assert escape("a_b & 50 %") == r"a\_b \& 50~\%"
    assert escape(r"\input{x}") == r"\textbackslash{}input\{x\}"
    assert escape("−1.5 – é") == r"\ensuremath{-}1.5 \textendash{} é"
    assert escape("a--b\n\nc") == "a-{}-b c"
    assert escape("中\x1b") == r"\texttt{U+4E2D}\texttt{U+241B}"


def test_tables_say_what_the_report_says() -> None:
    tables = latex_tables(full_results(), report_case.recipe())
    assert set(tables) == {
        "experiment.tex", "measures.tex", "heldout_loss.tex", "win_rates.tex",
        "decomposition.tex", "judge.tex", "heldout.tex",
    }  # fmt: skip
    assert r"Exact match & 0.0~\% & 56.2~\% & +56.2~points & 16 \\" in tables["measures.tex"]
    assert "classification & 1.740 & 0.920 & " in tables["heldout_loss.tex"]
    assert r"against base & 69.8~\% & 61.5 to 78.1 & 94 & 2 \\" in tables["win_rates.tex"]
    remains = r"\quad what remains above one half & +11.8 & +2.8 to +20.8 & 96 \\"
    assert remains in tables["decomposition.tex"]
    assert r"\raggedright r & \raggedright 8 \tabularnewline" in tables["experiment.tex"]
    assert "both orders: 94.4" in tables["judge.tex"]
    assert "2.172340568" in tables["heldout.tex"]
    for text in tables.values():
        assert r"\usepackage{booktabs}" in text.splitlines()[0]
        assert text.count(r"\begin{tabular}") == text.count(r"\bottomrule") == 1
        assert r"\input{" not in text
        assert r" \%" not in text, "a line could end between a number and its sign"
        # Every row has as many cells as the table has columns.
        (columns,) = re.findall(r"\\begin\{tabular\}\{(.*)\}$", text, re.MULTILINE)
        n = len(re.sub(r"\{.*?\}", "", columns))
        for row in re.findall(r"^(.*) (?:\\\\|\\tabularnewline)$", text, re.MULTILINE):
            if "multicolumn" not in row:
                assert len(re.findall(r"(?<!\\)&", row)) == n - 1, row


def test_latex_takes_the_tables(tmp_path: Path) -> None:
    latex = shutil.which("pdflatex")
    if latex is None:
        pytest.skip("needs pdflatex, which is not installed")
    tables = latex_tables(full_results(), report_case.recipe())
    (tmp_path / "all.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        + "\n".join(tables.values())
        + escape("".join(map(chr, range(32, 127))))
        + "\\end{document}\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [latex, "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "all.tex"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode("latin-1")[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 1000


def figures(results: Results) -> dict[str, str | bytes]:
    return paper_files(results, report_case.recipe(), report_case.curve())


def test_figures_are_the_same_bytes_and_no_bigger_than_a_page() -> None:
    files = figures(full_results())
    assert files == figures(full_results())
    names = {"loss", "win_rates", "decomposition_heldout_base"}
    for name in names:
        svg, pdf, png = (files[f"{name}.{kind}"] for kind in ("svg", "pdf", "png"))
        assert isinstance(svg, bytes)
        assert isinstance(pdf, bytes)
        assert isinstance(png, bytes)
        assert pdf.startswith(b"%PDF")
        assert png.startswith(b"\x89PNG")
        width = re.search(rb'width="([\d.]+)pt"', svg)
        assert width is not None
        assert float(width[1]) <= 5.5 * 72
        assert b"<script" not in svg
        assert b"Type3" not in pdf


def area(svg: bytes) -> tuple[float, float, float]:
    """The plot's left edge, top and width, in points: what its lines are clipped to."""
    found = re.search(rb'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', svg)
    assert found is not None
    left, top, width = map(float, found.groups())
    return left, top, width


def test_long_labels_leave_half_of_a_figure_to_the_win_rates() -> None:
    whole = full_results()
    several = {"heldout": whole.benchmarks["heldout"], "alpaca_eval": whole.benchmarks["heldout"]}
    svg = figures(whole.model_copy(update={"benchmarks": several}))["win_rates.svg"]
    assert isinstance(svg, bytes)
    left, _, width = area(svg)
    assert width > 0.5 * 5.5 * 72
    assert left < 0.4 * 5.5 * 72


def test_no_line_runs_through_the_legend_of_the_loss() -> None:
    svg = figures(full_results())["loss.svg"]
    assert isinstance(svg, bytes)
    _, top, _ = area(svg)
    legend = svg[svg.index(b'id="legend_1"') :]
    lines = re.findall(rb'd="M [\d.]+ ([\d.]+) \nL [^"]*" style="fill: none', legend)
    assert lines
    assert all(float(y) < top for y in lines)


def test_figures_of_what_was_not_measured_are_not_made() -> None:
    whole = report_case.results()
    bare = whole.benchmarks["heldout"].model_copy(update={"pairwise": None})
    files = figures(whole.model_copy(update={"benchmarks": {"heldout": bare}}))
    tables = {"experiment.tex", "measures.tex", "heldout_loss.tex"}
    assert set(files) == tables | {"loss.svg", "loss.pdf", "loss.png"}


def card(recipe: Recipe, results: Results | None = None) -> ModelCard:
    text = model_card(
        recipe, report_case.training(), ledger=None, results=results,
        missing="judge has not finished",
    )  # fmt: skip
    return ModelCard(text)


def facts(made: ModelCard) -> dict[str, object]:
    """The front matter, as the hub reads it."""
    return {key: value for key, value in vars(made.data).items() if value is not None}


def test_the_card_is_the_hubs() -> None:
    recipe = report_case.recipe()
    hub = recipe.data.model_copy(update={"source": Source(hub="databricks/databricks-dolly-15k")})
    made = card(recipe.model_copy(update={"data": hub}), report_case.results())
    known = facts(made)
    assert known["base_model"] == "HuggingFaceTB/SmolLM2-135M"
    assert known["base_model_relation"] == "adapter"
    assert known["library_name"] == "peft"
    assert known["datasets"] == ["databricks/databricks-dolly-15k"]
    assert "license" not in known
    assert "**Verdict, not pre-registered:** The tuned model is better" in made.text
    assert "−0.412 (−0.478 to −0.346, n = 96)" in made.text
    assert "Only what stands under Results was measured" in made.text


def test_what_is_not_on_the_hub_is_not_named_there(tmp_path: Path) -> None:
    made = card(report_case.recipe().model_copy(update={"model": Model(id=str(tmp_path))}))
    assert "base_model" not in facts(made)
    assert "datasets" not in facts(made)
    assert "Not evaluated:** judge has not finished." in made.text


def test_an_assets_model_is_named_as_the_hub_does() -> None:
    asset = Model(id="asset:smollm2-135m-instruct")
    made = card(report_case.recipe().model_copy(update={"model": asset}))
    hub = "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert facts(made)["base_model"] == hub
    assert f'from_pretrained("{hub}")' in made.text
    assert "BASE_MODEL" not in made.text


def listed(made: ModelCard) -> list[EvalResult]:
    found = facts(made)["eval_results"]
    assert isinstance(found, list)
    return found


def test_the_card_lists_the_results_as_the_hub_does() -> None:
    found = listed(card(report_case.recipe(), report_case.results()))
    rate = next(r for r in found if r.metric_type == "win_rate")
    assert rate.metric_value == 69.8
    assert rate.metric_name == (
        "Pairwise win rate against base, judged by gpt-4o-mini (%, 61.5 to 78.1, n = 94, 2 "
        "unscored)"
    )
    loss = next(r for r in found if r.metric_type == "loss")
    assert (loss.metric_value, loss.dataset_split) == (1.7721, "test")
    assert {r.metric_type for r in found} == {"loss", "exact_match", "chrf", "win_rate"}
    assert "eval_results" not in facts(card(report_case.recipe()))


def test_a_reason_that_is_the_verdicts_sentence_is_said_once() -> None:
    whole = report_case.results()
    why = "3 of 20 questions are unscored (15 %), and the recipe allows 2 %."
    sentence = f"Inconclusive, for this adapter: {why}"
    verdict = whole.verdict.model_copy(update={"sentence": sentence, "reasons": (why, "More.")})
    results = whole.model_copy(update={"verdict": verdict})
    made = card(report_case.recipe(), results)
    assert made.text.count(why) == 1
    assert "- More." in made.text
    assert render("report.md", results).count(why) == 1
    assert Page(render("index.html", results)).text.count(why) == 1


def test_an_exported_adapter_names_its_base_model_as_the_hub_does(tmp_path: Path) -> None:
    for given, named in (
        ("asset:smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("/home/me/model", "model"),
    ):
        run = trained_run(tmp_path / named.rpartition("/")[2])
        recipe = load_recipe(run.recipe_file).model_copy(update={"model": Model(id=given)})
        run.recipe_file.write_text(dump_recipe(recipe), encoding="utf-8")
        out = tmp_path / "out"
        export_all(run, out)
        config = json.loads((out / "adapter/adapter_config.json").read_text("utf-8"))
        assert config["base_model_name_or_path"] == named


def test_the_cards_recipe_names_no_folder_of_this_machine() -> None:
    recipe = report_case.recipe()
    private = recipe.model_copy(
        update={
            "assets": "/home/me/assets",
            "model": Model(id="/home/me/model", tokenizer="/home/me/tokenizer"),
            "data": recipe.data.model_copy(
                update={"source": Source(path="/home/me/rows.jsonl"), "output_dir": "/home/me/out"}
            ),
            "judge": Judge(base_url="http://10.0.0.7:8000/v1"),
        }
    )
    text = card(private, report_case.results()).content
    assert "/home/me" not in text
    assert "10.0.0.7" not in text
    assert for_publication(private).data.source.path == "rows.jsonl"


def test_hostile_text_in_a_card_is_text() -> None:
    whole = report_case.results()
    bad = "x <script>alert(1)</script> [a](javascript:b)\n---\nlicense: mit\n# \x1b[2J"
    results = whole.model_copy(
        update={"findings": (bad,), "verdict": whole.verdict.model_copy(update={"sentence": bad})}
    )
    made = card(report_case.recipe(), results)
    assert "<script" not in made.content
    assert r"\[a\](javascript:b)" in made.content
    assert "\x1b" not in made.content
    assert "license" not in facts(made)


def test_a_whole_run(tmp_path: Path) -> None:
    run = trained_run(tmp_path / "run")
    made = export_all(run, tmp_path / "out")
    names = {p.relative_to(tmp_path / "out").as_posix() for p in made.files}
    assert {n for n in names if n.startswith("adapter")} == {
        f"{folder}/{name}"
        for folder in ("adapter", "adapter-2")
        for name in ("README.md", "adapter_config.json", "adapter_model.safetensors")
    }
    assert "paper/measures.tex" in names
    assert "paper/win_rates.pdf" in names
    assert made.missing == ()
    assert (tmp_path / "out/adapter-2/adapter_model.safetensors").read_bytes() == b"others"
    text = (tmp_path / "out/adapter-2/README.md").read_text("utf-8")
    assert "# smollm2-dolly, adapter 2" in text
    # Again, over what is there.
    assert export_all(run, tmp_path / "out").files == made.files


def test_a_report_of_an_older_adapter_is_not_its_result(tmp_path: Path) -> None:
    run = trained_run(tmp_path / "run")
    trained = run.manifest("train")
    assert trained is not None
    first = trained.outputs[0]
    old = first.model_copy(update={"sha256": "older"})
    answers = first.model_copy(update={"path": "generate/answers.jsonl"})
    for stage, read in (("generate", old), ("judge", answers), ("report", answers)):
        wrote = (answers,) if stage == "generate" else ()
        changes = {"inputs": (read,), "outputs": wrote}
        run.write_manifest(manifest(stage, {}).model_copy(update=changes))
    why = f"generate read an older {first.path} than there is now"
    made = export_all(run, tmp_path / "out")
    assert made.missing == (f"tables and figures: report rests on generate, and {why}",)
    assert not [p for p in made.files if p.parent.name == "paper"]
    card_text = (tmp_path / "out/adapter/README.md").read_text("utf-8")
    assert f"**Not evaluated:** report rests on generate, and {why}." in card_text


def test_missing_stages_are_told(tmp_path: Path) -> None:
    run = trained_run(tmp_path / "run")
    (run.stage("report") / "manifest.json").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "tuneproof", "export", run.path, "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert said["missing"] == ["tables and figures: report has not finished"]
    text = (run.path / "export/adapter/README.md").read_text("utf-8")
    assert "**Not evaluated:** report has not finished." in text
    for stage in ("train", "judge"):
        (run.stage(stage) / "manifest.json").unlink()
    with pytest.raises(StageError, match="nothing to export yet: train has not finished"):
        export_all(run, tmp_path / "out")


def test_a_recipe_or_results_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    run = trained_run(tmp_path / "run")
    results = run.stage("report") / "results.json"
    write_json(results, json.loads(results.read_text("utf-8")) | {"format": 99})
    with pytest.raises(StageError, match=r"results\.json: format = 99: is of a newer version"):
        export_all(run, tmp_path / "out")
    text = run.recipe_file.read_text("utf-8") + "added_later: 1\n"
    run.recipe_file.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match="added_later: unknown key"):
        export_all(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
