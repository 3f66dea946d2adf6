"""The recipe: one experiment as frozen sections, and its named randomness.

Every default of the product's own stands here and nowhere else. Reading a recipe from YAML is left
to ``recipe_file``; which section matters to which stage, to ``stages``. The module is long, being
the one list of all that a recipe can say.
"""

from __future__ import annotations

import hashlib
import math
import random
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from tuneproof.records import Arm, Budget


class Section(BaseModel):
    """Base of all sections: frozen, strict types, unknown keys refused, values documented."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False
    )


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class Source(Section):
    """Where the records come from: exactly one of ``hub``, ``path`` and ``sample``."""

    hub: str | None = None
    revision: str | None = None
    path: str | None = None
    sample: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [k for k in ("hub", "path", "sample") if getattr(self, k)]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of hub, path, sample: got {given or 'none'}")
        if self.revision and not self.hub:
            raise ValueError("revision belongs to a hub source")
        return self


class Columns(Section):
    """The source's name for each field; None where the source has no such column."""

    instruction: str = "instruction"
    context: str | None = "context"
    response: str = "response"
    category: str | None = "category"
    checkable: str | None = None


class Shares(Section):
    """Shares of train, validation and test; they sum to 1."""

    train: float = Field(default=0.8, gt=0, lt=1)
    validation: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"expected train + validation + test = 1: they sum to {total:g}")
        return self


class Data(Section):
    """The instruction data and how a record becomes text.

    ``template`` is the name of a built-in template or a text of one's own with the placeholders
    ``{instruction}``, ``{context}`` and ``{response}``. ``output_dir`` is relative to the working
    directory; None puts the three files into the run.
    """

    source: Source
    columns: Columns = Columns()
    template: str = "instruction-context-response"
    split: Shares = Shares()
    output_dir: str | None = None


class Model(Section):
    """The model to tune: a hub id, a local folder, or ``asset:NAME`` (see ``assets list``)."""

    id: str
    revision: str | None = None
    tokenizer: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    tf32: bool = True


class Lora(Section):
    """PEFT's ``LoraConfig``; ``target_modules`` None means PEFT's own choice for the model.

    ``bias`` is only ever none: PEFT trains the base model's own biases and cannot switch them off
    again, so the base arm would answer with tuned weights.
    """

    r: int = Field(default=8, ge=1)
    alpha: int = Field(default=16, ge=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    target_modules: tuple[str, ...] | str | None = None
    bias: Literal["none"] = "none"

    @field_validator("target_modules", mode="before")
    @classmethod
    def _modules(cls, value: object) -> object:
        if isinstance(value, list):
            value = tuple(value)
        if value is None or value == "all-linear":
            return value
        if isinstance(value, tuple) and value and all(isinstance(v, str) for v in value):
            return value
        raise ValueError("expected null, all-linear or a list of module names")


class Train(Section):
    """The optimisation. ``batch_size`` counts sequences an optimizer step, whatever the devices.

    ``packing`` puts the sequences of a step end to end, as many as ``token_budget`` tokens hold,
    and trains the same steps as padding would; None is ``micro_batch_size`` × ``max_length``.
    Without it ``micro_batch_size`` sequences go through the model at once, padded to the longest;
    with it they are still the batches that the validation loss is a mean of.
    ``max_steps`` ends training early.
    ``over_length`` says what becomes of a row of more than ``max_length`` tokens: ``cut`` at its
    end, ``shorten-context`` until the response fits, or ``drop``. ``eval_steps`` is also the
    distance between checkpoints, so that the best one can be kept; ``eval_rows`` measures the
    validation loss on that many rows (None: on all). ``seeds`` trains that many adapters, with
    the recipe's seed and those after it.
    """

    epochs: float = Field(default=3.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=16, ge=1)
    micro_batch_size: int = Field(default=2, ge=1)
    batching: Literal["random", "by-length"] = "random"
    learning_rate: float = Field(default=2e-4, gt=0)
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    optimizer: Literal["adamw_torch", "adamw_torch_fused"] = "adamw_torch"
    max_length: int = Field(default=1024, ge=8)
    append_eos: bool = True
    loss_on: Literal["text", "response"] = "text"
    over_length: Literal["cut", "shorten-context", "drop"] = "cut"
    eval_steps: int = Field(default=100, ge=1)
    eval_rows: int | None = Field(default=None, ge=1)
    loader_workers: int = Field(default=0, ge=0)
    packing: bool = True
    token_budget: int | None = Field(default=None, ge=8)
    gradient_checkpointing: bool = False
    seeds: int = Field(default=1, ge=1, le=20)

    @property
    def accumulation(self) -> int:
        """Micro-batches an optimizer step."""
        return self.batch_size // self.micro_batch_size

    @property
    def micro_batch_tokens(self) -> int:
        """Most tokens that go through the model at once: what padding computes at its worst."""
        return self.token_budget or self.micro_batch_size * self.max_length

    def steps_per_epoch(self, n_rows: int) -> int:
        """Optimizer steps over ``n_rows`` rows; the last one may be partial."""
        return math.ceil(math.ceil(n_rows / self.micro_batch_size) / self.accumulation)

    def optimizer_steps(self, n_rows: int) -> int:
        """Optimizer steps in all over ``n_rows`` rows; each epoch's last step may be partial."""
        whole = math.ceil(self.epochs * self.steps_per_epoch(n_rows))
        return min(whole, self.max_steps) if self.max_steps else whole

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"expected batch_size to be a multiple of micro_batch_size: "
                f"{self.batch_size} is not one of {self.micro_batch_size}"
            )
        if self.token_budget is not None and self.token_budget < self.max_length:
            raise ValueError(
                f"expected token_budget to hold a sequence of max_length: {self.token_budget} is "
                f"less than {self.max_length}"
            )
        return self


class Monitor(Section):
    """Watching a training. ``logging_steps`` is the distance between two points of the loss curve.

    ``patience`` ends the training after that many validation losses in a row without a new best;
    None trains to the end. ``trackers`` also get every logged value.
    """

    logging_steps: int = Field(default=10, ge=1)
    patience: int | None = Field(default=None, ge=1)
    trackers: Annotated[
        tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...], BeforeValidator(_as_tuple)
    ] = ()


class Server(Section):
    """An OpenAI-compatible completions server that has the base model and the adapters.

    ``base``, ``adapters`` and ``placebo`` are the names under which it serves them, the adapters in
    the order of their training. ``prompts`` go as token ids, or as ``text`` to a server that takes
    no ids. ``api_key_env`` names the environment variable that holds the key, if there is one.
    ``concurrency`` is the most requests in flight; fewer are where the server turns some away.
    """

    base_url: str
    base: str
    adapters: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
    placebo: str | None = None
    prompts: Literal["tokens", "text"] = "tokens"
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    concurrency: int = Field(default=32, ge=1)
    timeout_s: float = Field(default=600.0, gt=0)

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("expected an address such as http://127.0.0.1:8000/v1")
        if "@" in value or "?" in value:  # the recipe is copied into the run and the report
            raise ValueError("expected an address without user, password or query")
        return value.rstrip("/")


class Generate(Section):
    """How both arms answer. ``temperature`` 0 is greedy decoding, and ``top_p`` then idle.

    At most ``batch_size`` prompts are answered together, and no more than ``batch_tokens`` tokens,
    prompts and new ones: they bound the memory that their keys and values take. ``backend``
    ``completions`` asks the ``server``; ``vllm`` runs vLLM in this process.
    """

    max_new_tokens: int = Field(default=512, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    batch_size: int = Field(default=64, ge=1)
    batch_tokens: int = Field(default=32_768, ge=1)
    backend: Literal["transformers", "completions", "vllm"] = "transformers"
    server: Server | None = None

    @property
    def budget(self) -> Budget:
        """What a batch may hold."""
        return Budget(
            batch_size=self.batch_size,
            batch_tokens=self.batch_tokens,
            max_new_tokens=self.max_new_tokens,
        )

    @model_validator(mode="after")
    def _server_where_asked(self) -> Self:
        if (self.backend == "completions") != (self.server is not None):
            raise ValueError("expected a server for backend completions, and for no other")
        return self


class Prices(Section):
    """What a million tokens cost, in USD: those that the judge reads, and those that it writes."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


REFERENCE_JUDGE: Final = "nearness to the reference response (chrF)"
"""The name of the judge that is no model."""


class JudgeChecks(Section):
    """What a judge is asked before and beside the matches, to know what its word is worth.

    ``controls`` pairs of each of three kinds, whose better answer is known, are shown first, in
    both orders; where the lower bound of its accuracy on them is under ``min_accuracy``, the judge
    is refused and nothing else is asked of it. 0 controls ask for none. ``repeats`` requests are
    sent a second time. On ``self_comparisons`` questions two answers of the tuned model, drawn
    independently, meet each other (A/A); that takes a temperature above 0, so the questions of
    MT-Bench's greedy categories are left out of it.
    """

    controls: int = Field(default=30, ge=0)
    min_accuracy: float = Field(default=0.8, ge=0, lt=1)
    repeats: int = Field(default=10, ge=0)
    self_comparisons: int = Field(default=0, ge=0)


class Judge(Section):
    """Who compares the answers. ``openai`` is any OpenAI-compatible chat endpoint; ``reference`` is
    no model: it prefers the answer nearer the reference response (chrF), where there is one.

    ``base_url`` None is OpenAI itself. ``api_key_env`` names the environment variable that holds
    the key; None for an endpoint that asks for none. ``replay`` reads the replies from a recorded
    journal (``journal``, and the ratings' journal beside it) and asks nobody. ``orders`` 2 shows
    every pair both ways round; 1 shows it once, AlpacaEval's as AlpacaEval draws it; MT-Bench's
    protocol always plays both games. ``decompose`` has the answers that stopping or length can
    have decided judged again, cut. ``temperature`` and ``max_tokens`` are of the project's own
    prompts; a benchmark's protocol brings its own, but for the temperature of ``binary`` and
    MT-Bench, which is 0 there as here. ``local`` is a chat model that this process loads itself:
    ``model`` is then a hub id, a folder or ``asset:NAME``.

    ``concurrency`` is a ceiling: how many requests are in flight at once grows towards it while the
    endpoint keeps up, and shrinks when it says that they are too many. ``timeout_s`` is for one try
    of one request. ``budget_usd`` ends the stage before its replies could cost more than that, in
    all runs of it together; ``prices`` replace those of the price table. ``batch_api`` asks through
    OpenAI's Batch API: half the price (the prices stay those of single requests), and up to a day.
    """

    kind: Literal["openai", "replay", "local", "reference"] = "openai"
    model: str = "gpt-4o-mini"
    base_url: str | None = None
    api_key_env: str | None = Field(default="OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    journal: str | None = None
    temperature: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=512, ge=1)
    orders: int = Field(default=2, description="expected 1 or 2 (2 judges both orders)")
    decompose: bool = True
    checks: JudgeChecks = JudgeChecks()
    concurrency: int = Field(default=32, ge=1, le=1000)
    timeout_s: float = Field(default=120.0, gt=0)
    prices: Prices | None = None
    budget_usd: float | None = Field(default=None, gt=0)
    batch_api: bool = False

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.kind == "replay" and self.journal is None:
            raise ValueError("expected a journal for kind replay")
        if self.kind != "replay" and self.journal is not None:
            raise ValueError("journal belongs to kind replay")
        if self.kind != "openai" and self.batch_api:
            raise ValueError("batch_api belongs to kind openai")
        if self.kind == "local" and self.base_url is not None:
            raise ValueError("base_url belongs to the other kinds: a local judge has no address")
        return self

    @property
    def name(self) -> str:
        """What records and reports call the judge."""
        return REFERENCE_JUDGE if self.kind == "reference" else self.model

    @field_validator("base_url")
    @classmethod
    def _holds_no_secret(cls, value: str | None) -> str | None:
        # The recipe is copied into the run and the report.
        if value is not None and ("@" in value or "?" in value):
            raise ValueError("expected an address without user, password or query")
        return value

    @field_validator("orders")
    @classmethod
    def _one_or_two(cls, value: int) -> int:
        if value not in (1, 2):
            raise ValueError("expected 1 or 2 (2 judges both orders)")
        return value


Opponent = Literal["base", "fair-base", "baseline"]
"""Whom the tuned model is compared with: the base model asked with the training template, or at its
best (its own chat template where it has one, else a few examples before the question; stop strings
for what a model that knows no end runs on into), or on AlpacaEval the stored answers of the
leaderboard's baseline, gpt-4-1106-preview."""

Selection = Literal["first-n", "stratified"]
"""Which questions a subset has: the first ones of the file, or a seeded draw in which every
category keeps its share."""


def _as_opponents(value: object) -> object:
    return (value,) if isinstance(value, str) else _as_tuple(value)


class _Benchmark(Section):
    """What every benchmark has. ``questions`` None asks all of them."""

    questions: int | None = Field(default=None, ge=1)
    against: Annotated[tuple[Opponent, ...], BeforeValidator(_as_opponents)] = ("base",)

    @field_validator("against")
    @classmethod
    def _each_once(cls, value: tuple[Opponent, ...]) -> tuple[Opponent, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("expected one opponent or more, each once")
        return value

    @model_validator(mode="after")
    def _who_is_there(self) -> Self:
        if "baseline" in self.against and not isinstance(self, AlpacaEval):
            raise ValueError("baseline is an opponent on alpaca_eval alone")
        return self


class Heldout(_Benchmark):
    """The instructions of the test split. It was shuffled: its first rows are a random draw."""

    benchmark: Literal["heldout"]


class AlpacaEval(_Benchmark):
    """AlpacaEval 2: 805 single-turn instructions, judged pairwise.

    ``protocol`` ``weighted`` is the leaderboard's: a preference is read from the probabilities of
    the judge's first token; ``binary`` reads the token itself, for endpoints that give no
    probabilities; ``own`` is this project's prompt. Without AlpacaEval's prompt file the own one
    serves, and the report says so. ``length_control`` ``official`` asks for the leaderboard's
    length-controlled rate, which exists for the leaderboard's own match alone; ``fitted`` for one
    estimated from this match.
    """

    benchmark: Literal["alpaca_eval"]
    selection: Selection = "stratified"
    protocol: Literal["weighted", "binary", "own"] = "weighted"
    length_control: Literal["fitted", "official"] = "fitted"


class MtBench(_Benchmark):
    """MT-Bench: 80 questions of two turns in eight categories, every pair judged in both orders.

    ``protocol`` ``official`` asks with FastChat's prompts; ``own`` with this project's, which also
    serves where FastChat's files cannot be had. ``mode`` is FastChat's: in ``pairwise-all`` tuned
    meets every opponent, in ``pairwise-baseline`` the only one; the games are the same, but the
    baseline has no line in the table. In ``single`` each answer is rated from 1 to 10 by itself.
    ``exclude_known_wrong`` leaves out the 13 questions whose reference answer is known to be wrong.
    ``max_tokens`` limits a judge's reply to FastChat's prompts; its own limit is 2048.
    ``temperatures`` ``category`` has each category answered at FastChat's temperature for it (0.7
    writing and roleplay, 0.1 stem and humanities, 0 the others); ``recipe`` at generate's.
    """

    benchmark: Literal["mt_bench"]
    selection: Selection = "stratified"
    protocol: Literal["official", "own"] = "official"
    mode: Literal["pairwise-all", "pairwise-baseline", "single"] = "pairwise-all"
    exclude_known_wrong: bool = False
    max_tokens: int = Field(default=2048, ge=1)
    temperatures: Literal["recipe", "category"] = "recipe"

    @model_validator(mode="after")
    def _one_baseline(self) -> Self:
        if self.mode == "pairwise-baseline" and len(self.against) != 1:
            raise ValueError("expected one opponent under against: the baseline")
        return self


BENCHMARKS: dict[str, type[Section]] = {
    "heldout": Heldout,
    "alpaca_eval": AlpacaEval,
    "mt_bench": MtBench,
}
"""The sections under ``evaluate``, by their ``benchmark``."""

Evaluation = Annotated[Heldout | AlpacaEval | MtBench, Field(discriminator="benchmark")]


Metric = Literal["heldout_loss", "exact_match", "similarity", "win_rate"]


class VerdictRule(Section):
    """What will count as better, fixed before anything is judged.

    ``smallest_effect`` is in the metric's own unit: nats a token for ``heldout_loss``, and a share
    between 0 and 1 for the others (a win rate is compared with one half). The whole interval must
    lie beyond it. ``benchmark`` is the one whose metric counts, and ``against`` the opponent of its
    win rate; None takes the first that there is. With ``beat_placebo`` a placebo adapter is trained
    too, through the same pipeline on the same rows with their responses shuffled, and tuned counts
    as better only if it is better than that one as well.
    """

    metric: Metric = "heldout_loss"
    benchmark: Literal["heldout", "alpaca_eval", "mt_bench"] | None = None
    against: Opponent | None = None
    level: float = Field(default=0.95, gt=0.5, lt=1)
    smallest_effect: float = Field(default=0.0, ge=0)
    max_unscored: float = Field(default=0.02, ge=0, le=1)
    min_order_agreement: float = Field(default=0.6, ge=0, le=1)
    beat_placebo: bool = False


class Recipe(Section):
    """One experiment. ``assets`` is a folder of benchmark files that are not fetched, as
    ``TUNEPROOF_ASSETS`` names one; relative to the working directory."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)
    seed: int = Field(default=42, ge=0, lt=2**32)
    assets: str | None = None
    data: Data
    model: Model
    lora: Lora = Lora()
    train: Train = Train()
    monitor: Monitor = Monitor()
    generate: Generate = Generate()
    judge: Judge | None = None
    evaluate: Annotated[tuple[Evaluation, ...], BeforeValidator(_as_tuple)] = (
        Heldout(benchmark="heldout"),
    )
    verdict: VerdictRule = VerdictRule()

    @model_validator(mode="after")
    def _can_be_decided(self) -> Self:
        if not self.evaluate:
            raise ValueError("expected at least one benchmark under evaluate")
        names = [e.benchmark for e in self.evaluate]
        if len(set(names)) != len(names):
            raise ValueError(f"expected each benchmark once under evaluate: got {names}")
        judged = [e.benchmark for e in self.evaluate if e.benchmark != "heldout"]
        if judged and self.judge is None:
            raise ValueError(f"the benchmark {judged[0]} needs a judge section")
        if judged and self.judge is not None and self.judge.kind == "reference":
            raise ValueError(f"judge.kind reference: {judged[0]} has no reference responses")
        metric, wanted = self.verdict.metric, self.verdict.benchmark
        if wanted is not None and wanted not in names:
            raise ValueError(f"verdict.benchmark {wanted} is not under evaluate: {names}")
        if metric != "win_rate" and (wanted not in (None, "heldout") or "heldout" not in names):
            raise ValueError(f"verdict.metric {metric} needs the benchmark heldout under evaluate")
        opponents = {o for e in self.evaluate if wanted in (None, e.benchmark) for o in e.against}
        if self.verdict.against is not None and self.verdict.against not in opponents:
            raise ValueError(f"verdict.against {self.verdict.against} is no opponent there")
        if metric == "win_rate" and self.judge is None:
            raise ValueError("verdict.metric win_rate needs a judge section")
        if self.decisive is None:
            raise ValueError("verdict.metric win_rate needs pairs: mt_bench is in mode single")
        if metric == "exact_match" and self.data.columns.checkable is None:
            raise ValueError("verdict.metric exact_match needs data.columns.checkable")
        return self

    @property
    def pairwise(self) -> tuple[Evaluation, ...]:
        """The benchmarks on which answers are judged in pairs, and not one by one."""
        return tuple(e for e in self.evaluate if not isinstance(e, MtBench) or e.mode != "single")

    @property
    def decisive(self) -> Evaluation | None:
        """The benchmark that the verdict is about; a valid recipe always has one.

        A win rate is that of the one that the rule names, or of the first judged in pairs against
        the rule's opponent. All other metrics are of the held-out one.
        """
        rule = self.verdict
        if rule.metric != "win_rate":
            return next((e for e in self.evaluate if isinstance(e, Heldout)), None)
        for e in self.pairwise:
            if rule.benchmark in (None, e.benchmark) and rule.against in (None, *e.against):
                return e
        return None

    @property
    def asked_twice(self) -> Evaluation | None:
        """The benchmark whose questions are answered twice, for the A/A test; None without one.

        It is the one that the verdict is about, whose answers are judged in pairs.
        """
        asked = self.judge is not None and self.judge.checks.self_comparisons
        return self.decisive if asked else None

    @model_validator(mode="after")
    def _two_samples_can_differ(self) -> Self:
        twice = self.asked_twice
        by_category = isinstance(twice, MtBench) and twice.temperatures == "category"
        if twice is not None and self.generate.temperature == 0 and not by_category:
            assert self.judge is not None
            raise ValueError(
                f"judge.checks.self_comparisons = {self.judge.checks.self_comparisons}: greedy "
                f"decoding answers a question of {twice.benchmark} twice the same; expected "
                "generate.temperature above 0, or no self_comparisons"
            )
        return self

    def model_name(self, arm: Arm, adapter: int = 1) -> str:
        """What exported files and printed tables call the model of an arm (and adapter)."""
        if arm is Arm.BASELINE:
            return BASELINE_MODEL
        return f"{self.name}-{arm}" + (f"-{adapter}" if adapter > 1 else "")


BASELINE_MODEL = "gpt4_1106_preview"
"""What AlpacaEval's files call the model of its baseline answers."""


def rng(seed: int, *names: str | int) -> random.Random:
    """A generator of its own for each named use: ``rng(recipe.seed, "judge", "order", id)``."""
    return random.Random(named_seed(seed, *names))


def named_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed from the recipe's seed and the names of the use (by SHA-256: portable)."""
    text = "\x1f".join([str(seed), *(str(n) for n in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
