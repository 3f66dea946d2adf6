"""The generate stage: held-out loss and answers of all arms, written as they come.

Files out: ``prompts.jsonl``, ``answers.jsonl`` (second samples after all others),
``heldout_loss.jsonl``, and two journals. Those are keyed by everything that a result depends on, so
a killed run goes on with the next batch, and a changed recipe never finds another recipe's answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tuneproof.data.questions import selected_questions
from tuneproof.data.templates import parse_template
from tuneproof.generate.answers import Interview, answer_all
from tuneproof.generate.asking import TemplateAsking, fair_asking
from tuneproof.generate.baseline import baseline_answers
from tuneproof.generate.losses import Losses, measure_losses
from tuneproof.generate.plan import BASE, FAIR_BASE, PLACEBO, Respondent
from tuneproof.generate.prompts import benchmark_prompts, heldout_prompts
from tuneproof.generate.samples import second_prompts
from tuneproof.progress import hush_transformers
from tuneproof.recipe import Heldout, MtBench
from tuneproof.records import Arm, Example, PreparedRow, Prompt, Split, Stop, first_samples
from tuneproof.train.memory import return_freed_memory
from tuneproof.workspace import read_records, write_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from tuneproof.data.templates import Template
    from tuneproof.generate.answers import Answers, Backend
    from tuneproof.generate.transformers_backend import TransformersBackend
    from tuneproof.progress import Reporter
    from tuneproof.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One trained adapter: its folder, and what identifies base and adapter together."""

    folder: Path
    weights: str


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What the stage wrote, how much of it was there already, and what another run may mend."""

    outputs: list[Path]
    resumed: int
    unfinished: int
    facts: dict[str, str | int | float | bool | None]


def generate_answers(
    recipe: Recipe,
    *,
    prepare_dir: Path,
    base_weights: str,
    adapters: Sequence[Adapter],
    placebo: Adapter | None,
    out: Path,
    reporter: Reporter,
) -> Generated:
    """Ask every arm its questions, and measure base, tuned and placebo on the references.

    Base, each adapter and the placebo answer all questions; fair-base those of the benchmarks that
    name it as an opponent. The answers of an opponent ``baseline`` are read from the benchmark's
    file. Where the judge is to compare the tuned model with itself, the first adapter answers some
    questions twice.

    Args:
        base_weights: what identifies the base model's weights; part of its answers' keys.
        adapters: the trained adapters, in the order of their numbers.
        placebo: the placebo adapter, where one was trained.

    Raises:
        ModelError: the model, its tokenizer or an adapter cannot be loaded.
        AssetError: a benchmark's questions cannot be had.
    """

    from tuneproof.train.model import load_tokenizer

    hush_transformers()
    return_freed_memory()  # what training left, if it ran in this process
    tokenizer = load_tokenizer(recipe.model, reporter)
    template = parse_template(recipe.data.template)
    examples = heldout_examples(recipe, prepare_dir)
    prompts = all_prompts(recipe, tokenizer, template, examples)
    write_records(out / "prompts.jsonl", prompts)

    trained = {Respondent(Arm.TUNED, n): a.weights for n, a in enumerate(adapters, start=1)}
    if placebo is not None:
        trained[PLACEBO] = placebo.weights
    folders = {Respondent(Arm.TUNED, n): a.folder for n, a in enumerate(adapters, start=1)}
    if placebo is not None:
        folders[PLACEBO] = placebo.folder
    backend = None
    if recipe.generate.backend == "transformers" or examples:
        backend = _load(recipe, tokenizer, adapters, placebo, reporter)
    losses = Losses(rows=[], resumed=0, too_long=0)
    if backend is not None:
        losses = measure_losses(
            backend,
            tokenizer,
            template,
            examples,
            weights={BASE: base_weights, **trained},
            journal_file=out / "losses.journal.jsonl",
            reporter=reporter,
        )
    write_records(out / "heldout_loss.jsonl", losses.rows)
    return_freed_memory()

    ours, fair = TemplateAsking(tokenizer, template), fair_asking(tokenizer, template)
    faced = {e.benchmark for e in recipe.evaluate if FAIR_BASE.arm in e.against}
    to_fair = tuple(p for p in prompts if p.benchmark in faced)
    again = second_prompts(recipe, prompts)
    by_category = any(
        isinstance(e, MtBench) and e.temperatures == "category" for e in recipe.evaluate
    )
    interviews = [
        Interview(who=BASE, asking=ours, prompts=tuple(prompts), weights=base_weights),
        *(
            [Interview(who=FAIR_BASE, asking=fair, prompts=to_fair, weights=base_weights)]
            if to_fair
            else []
        ),
        *(
            Interview(who=who, asking=ours, prompts=tuple(prompts), weights=weights)
            for who, weights in trained.items()
        ),
    ]
    if again:
        interviews.append(
            Interview(
                who=Respondent(Arm.TUNED),
                asking=ours,
                prompts=tuple(again),
                weights=adapters[0].weights,
                sample=2,
            )
        )
    answers = _ask(
        recipe,
        [replace(i, by_category=by_category) for i in interviews],
        backend,
        tokenizer,
        folders=folders,
        journal_file=out / "answers.journal.jsonl",
        reporter=reporter,
    )
    stored = [
        answer
        for e in recipe.evaluate
        if Arm.BASELINE in e.against
        for answer in baseline_answers(
            [p for p in prompts if p.benchmark == e.benchmark], assets=recipe.assets
        )
    ]
    firsts = first_samples(answers.rows)
    seconds = answers.rows[len(firsts) :]
    write_records(out / "answers.jsonl", [*firsts, *stored, *seconds])
    return Generated(
        outputs=[out / f"{n}.jsonl" for n in ("prompts", "answers", "heldout_loss")],
        resumed=losses.resumed + answers.resumed,
        unfinished=answers.failed,
        facts={
            "questions": len({p.question_id for p in prompts}),
            "adapters": len(adapters),
            "fair-base asked with": fair.name if to_fair else None,
            "answered by": recipe.generate.backend,
            "answers": len(firsts),
            "stored answers": len(stored),
            **({"second answers": len(seconds)} if seconds else {}),
            "answer_tokens": sum(a.n_tokens for a in answers.rows),
            "errors": sum(a.stop is Stop.ERROR for a in answers.rows),
            "rows beyond the context": losses.too_long,
        },
    )


def _load(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    adapters: Sequence[Adapter],
    placebo: Adapter | None,
    reporter: Reporter,
) -> TransformersBackend:
    from tuneproof.generate.transformers_backend import TransformersBackend, load_adapters
    from tuneproof.train.model import load_model

    model = load_adapters(
        load_model(recipe.model, reporter),
        [a.folder for a in adapters],
        placebo=placebo.folder if placebo is not None else None,
    )
    return TransformersBackend(model, tokenizer)


def _ask(
    recipe: Recipe,
    interviews: Sequence[Interview],
    backend: TransformersBackend | None,
    tokenizer: PreTrainedTokenizerBase,
    *,
    folders: Mapping[Respondent, Path],
    journal_file: Path,
    reporter: Reporter,
) -> Answers:
    """The answers, from the back end that the recipe names."""
    generate, seed = recipe.generate, recipe.seed
    if generate.backend == "completions":
        from tuneproof.generate.served import ask_server

        return ask_server(
            interviews,
            generate,
            tokenizer,
            seed=seed,
            journal_file=journal_file,
            reporter=reporter,
        )
    answering: Backend
    if generate.backend == "vllm":
        from tuneproof.generate.vllm_backend import VllmBackend

        answering = VllmBackend(recipe.model, tokenizer, folders)
    else:
        assert backend is not None
        answering = backend
    return answer_all(
        answering, interviews, generate, seed=seed, journal_file=journal_file, reporter=reporter
    )


def heldout_examples(recipe: Recipe, prepare_dir: Path) -> list[Example]:
    """The first ``questions`` examples of the test split, which is shuffled: a random sample."""
    heldout = next((e for e in recipe.evaluate if isinstance(e, Heldout)), None)
    if heldout is None:
        return []
    sidecar = read_records(prepare_dir / "examples.jsonl", PreparedRow)
    test = [row.example for row in sidecar if row.split is Split.TEST]
    return test[: heldout.questions]


def all_prompts(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    examples: Sequence[Example],
) -> list[Prompt]:
    """The prompts of all benchmarks, in the recipe's order."""
    prompts: list[Prompt] = []
    for evaluation in recipe.evaluate:
        if isinstance(evaluation, Heldout):
            prompts += heldout_prompts(tokenizer, template, examples)
        else:
            questions = selected_questions(evaluation, seed=recipe.seed, assets=recipe.assets)
            prompts += benchmark_prompts(tokenizer, template, questions)
    return prompts
