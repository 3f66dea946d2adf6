"""The generate stage: held-out loss and answers of all arms, written as they come.

Files out: ``prompts.jsonl``, ``answers.jsonl`` (second samples after all others),
``heldout_loss.jsonl``, ``plan.json`` (the batches, unless a server makes them), and two journals.
Those are keyed by everything that a result depends on, so a killed run goes on with the next batch,
and a changed recipe never finds another recipe's answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tuneproof.data.questions import selected_questions
from tuneproof.data.templates import parse_template
from tuneproof.endpoint.transport import check_connection
from tuneproof.errors import StageError
from tuneproof.generate.answers import Interview, answer_all
from tuneproof.generate.asking import TemplateAsking, fair_asking
from tuneproof.generate.baseline import baseline_answers
from tuneproof.generate.completions import endpoint_of
from tuneproof.generate.losses import Losses, measure_losses
from tuneproof.generate.plan import (
    BASE,
    FAIR_BASE,
    PLACEBO,
    PLAN_FILE,
    Respondent,
    plan_answers,
)
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
    from tuneproof.recipe import Generate, Model, Recipe
    from tuneproof.records import Answer, BatchPlan


SHOWN_REASONS: Final = 4
"""How many reasons for failed answers are told; the answers hold them all."""


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
        CredentialError, EndpointError: see ``served.ask_server``.
        StageError: every answer failed.
    """

    from tuneproof.train.model import load_tokenizer

    if recipe.generate.server is not None:
        check_connection(endpoint_of(recipe.generate.server))  # before losses are measured
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
    if recipe.generate.backend != "transformers":
        backend = None  # its memory is for who answers: vLLM takes most of the same GPU
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
    if again.greedy:
        reporter.say(
            f"    A/A: {len(again.prompts)} questions are answered twice; {again.greedy} are of "
            "categories at temperature 0, which would be answered the same"
        )
    if again.prompts:
        interviews.append(
            Interview(
                who=Respondent(Arm.TUNED),
                asking=ours,
                prompts=again.prompts,
                weights=adapters[0].weights,
                sample=2,
            )
        )
    interviews = [replace(i, by_category=by_category) for i in interviews]
    plan = None
    if recipe.generate.backend != "completions":  # a server makes batches of its own
        plan = plan_answers(
            interviews, recipe.generate.budget, file=out / PLAN_FILE, reporter=reporter
        )
    answers = _ask(
        recipe,
        interviews,
        plan,
        backend,
        tokenizer,
        folders=folders,
        journal_file=out / "answers.journal.jsonl",
        reporter=reporter,
    )
    check_answered(answers.rows, recipe.generate)
    for line in failure_lines(answers.rows, again=answers.failed > 0):
        reporter.say(f"    {line}")
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
        outputs=[
            *(out / f"{n}.jsonl" for n in ("prompts", "answers", "heldout_loss")),
            *([out / PLAN_FILE] if plan is not None else []),
        ],
        resumed=losses.resumed + answers.resumed,
        unfinished=answers.failed,
        facts={
            "questions": len({p.question_id for p in prompts}),
            "adapters": len(adapters),
            "fair-base asked with": fair.name if to_fair else None,
            "answered by": recipe.generate.backend,
            **(_plan_facts(plan, recipe.model) if plan is not None else {}),
            "answers": len(firsts),
            "stored answers": len(stored),
            **({"second answers": len(seconds)} if seconds else {}),
            **({"not answered twice, temperature 0": again.greedy} if again.greedy else {}),
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


def failure_lines(answers: Sequence[Answer], *, again: bool) -> list[str]:
    """How many answers failed and why, the most common reasons first; nothing if none did."""
    n = sum(a.stop is Stop.ERROR for a in answers)
    if not n:
        return []
    first = f"{n} of {len(answers)} answers failed" + ("; run again to ask again" if again else "")
    return [first, *(f"  {reason}" for reason in _reasons(answers))]


def check_answered(answers: Sequence[Answer], generate: Generate) -> None:
    """Refuse to go on where every answer failed: there is nothing to judge.

    Raises:
        StageError: says why they failed.
    """
    if not answers or any(a.stop is not Stop.ERROR for a in answers):
        return
    place, remedy = "generate", "Lower generate.max_new_tokens, or ask what the context can hold."
    if generate.server is not None:
        place = generate.server.base_url
        remedy = "Put right what the server says, in its own settings or in generate; run again."
    raise StageError(
        f"none of {len(answers)} answers was given: {'; '.join(_reasons(answers))}",
        place=place,
        remedy=remedy,
    )


def _reasons(answers: Sequence[Answer]) -> list[str]:
    """Why answers failed, counted, the most common reasons first.

    Reasons that differ in numbers alone are one, and the first of them is shown.
    """
    alike: dict[str, list[str]] = {}
    for error in (a.error or "" for a in answers if a.stop is Stop.ERROR):
        alike.setdefault(re.sub(r"\d+", "#", error), []).append(error)
    reasons = sorted(alike.values(), key=len, reverse=True)
    shown = [f"{len(errors)} × {errors[0]}" for errors in reasons[:SHOWN_REASONS]]
    hidden = sum(map(len, reasons[SHOWN_REASONS:]))
    return [*shown, *([f"{hidden} × other"] if hidden else [])]


def _plan_facts(plan: BatchPlan, model: Model) -> dict[str, str | int | float | bool | None]:
    """What the report says of the plan, beside the digest of its file."""
    from tuneproof.train.model import arithmetic

    how = arithmetic(model)
    dtype = str(how["dtype"]).removeprefix("torch.")
    exact = dtype == "float32" and (how["device"] == "cpu" or not how["tf32"])
    return {
        "batches": len(plan.batches),
        "batch size, at most": plan.budget.batch_size,
        "batch tokens, at most": plan.budget.batch_tokens,
        "dtype": dtype,
        "answers depend on the plan": not exact,
    }


def _ask(
    recipe: Recipe,
    interviews: Sequence[Interview],
    plan: BatchPlan | None,
    backend: TransformersBackend | None,
    tokenizer: PreTrainedTokenizerBase,
    *,
    folders: Mapping[Respondent, Path],
    journal_file: Path,
    reporter: Reporter,
) -> Answers:
    """The answers, from the back end that the recipe names; by the plan, or without one."""
    generate, seed = recipe.generate, recipe.seed
    if plan is None:
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

        answering = VllmBackend(recipe.model, tokenizer, folders, rank=recipe.lora.r)
    else:
        assert backend is not None
        answering = backend
    return answer_all(
        answering,
        interviews,
        generate,
        plan,
        seed=seed,
        journal_file=journal_file,
        reporter=reporter,
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
