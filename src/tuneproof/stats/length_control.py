"""Length control: the win rate if both answers had been equally long.

Judges like long answers. AlpacaEval 2's length-controlled rate (Y. Dubois et al., "Length-
Controlled AlpacaEval", arXiv 2404.04475, and alpaca_eval's ``metrics/glm_winrate``) models the
preference q of one row as

    σ(φ·tanh(Δ/sd) + γ·d + θ·m),    Δ = characters of the reference's answer − of the model's,

with sd the standard deviation of Δ over the match, d a known difficulty of the instruction, and
m = 1 in the model's rows. The rate is 100·mean σ(θ + γ·d): the same match with Δ = 0. Two numbers
are made here, and only the first may bear the official name:

* ``official_fit`` and ``official_rate`` are the leaderboard's procedure. It is defined for one
  match only (the 805 instructions, gpt-4-1106-preview's answers, the default judge), and needs rows
  of "gamed" answers that come with it. Whether a match is that one is decided in ``score``.
* ``fitted_rate`` is this project's own, for any match, from that match alone. A single match cannot
  tell a hard instruction from a bad answer, so there is no difficulty term.

What is verified of the official number is listed in docs/metrics.md: the formula, on the published
weights; the fit, against the original code on rows made to stand in for the gamed ones, which could
not be had.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from tuneproof.recipe import named_seed
from tuneproof.results import Estimate
from tuneproof.stats.distributions import t_quantile
from tuneproof.stats.estimates import unmeasured

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

GAMED_WEIGHT = 0.2 / 2
"""Of a gamed row beside one of the model's: λ = 0.2, over the two gamed answer sets."""


# --- the official rate -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Weights:
    """φ, γ and θ of one model, in the order of the published table's columns."""

    length: float
    difficulty: float
    model: float


@dataclass(frozen=True, kw_only=True)
class OfficialRate:
    """length_controlled_winrate and lc_standard_error, both in percent."""

    value: float
    standard_error: float | None


@dataclass(frozen=True, kw_only=True)
class DifficultyRow:
    """One row of the official fit.

    ``preference`` is q, or None where the row is unscored: its lengths then still count for sd, as
    in the original. ``difference`` is Δ.
    """

    preference: float | None
    difference: float
    difficulty: float


@dataclass(frozen=True, kw_only=True)
class GamedRow:
    """One row of ``df_gamed.csv``; ``difference`` is Δ in units of its own standard deviation."""

    preference: float
    difference: float
    difficulty: float


def official_rate(weights: Weights, difficulties: Sequence[float]) -> OfficialRate:
    """100·mean σ(θ + γ·d) over the instructions, and the standard error of that mean.

    The standard error is the leaderboard's: the spread of these predictions over instructions. It
    leaves out that the weights are estimated.
    """
    return rate_of_predictions(
        [_sigmoid(weights.model + weights.difficulty * d) for d in difficulties]
    )


def rate_of_predictions(predictions: Sequence[float]) -> OfficialRate:
    """The official numbers from the predictions at equal length, each in [0, 1]."""
    n = len(predictions)
    centre = math.fsum(predictions) / n
    error = None
    if n > 1:
        squares = math.fsum((p - centre) ** 2 for p in predictions)
        error = 100 * math.sqrt(squares / (n - 1) / n)
    return OfficialRate(value=100 * centre, standard_error=error)


def official_fit(rows: Sequence[DifficultyRow], gamed: Sequence[GamedRow]) -> Weights:
    """The weights of a match, by the original's own procedure and solver.

    A logistic regression without intercept on (tanh(Δ/sd), d, m), with L1 penalty by liblinear.
    Targets are shares, so every row comes twice: as a success weighted by q and as a failure
    weighted by 1 − q. Gamed rows have m = 0 and weight 0.1. The strength of the penalty is the one
    of ten (10^−4 to 10^4) with the best weighted log loss in five folds that keep the two halves of
    a row together; then all rows are fitted with it.

    Needs scikit-learn (the extra ``official-length-control``). The optimum itself could be found
    without it; but the published numbers depend on where its solver stops.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    import numpy as np
    import sklearn
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.metrics import make_scorer
    from sklearn.model_selection import GroupKFold

    lengths = np.array([r.difference for r in rows])
    lengths = lengths / lengths.std(ddof=1)
    scored = [i for i, r in enumerate(rows) if r.preference is not None]
    x = np.array(
        [(math.tanh(g.difference), g.difficulty, 0.0) for g in gamed]
        + [(math.tanh(lengths[i]), rows[i].difficulty, 1.0) for i in scored]
    )
    q = np.array([g.preference for g in gamed] + [rows[i].preference for i in scored], dtype=float)
    weight = np.array([GAMED_WEIGHT] * len(gamed) + [1.0] * len(scored))
    n = len(q)

    def log_loss(
        targets: Floats, predicted: Floats, true_share: Floats, row_weight: Floats
    ) -> float:
        share = np.where(targets == 1, true_share, 1 - true_share)
        p = np.clip(predicted, 1e-15, 1 - 1e-15)
        return float(-np.mean(row_weight * (share * np.log(p) + (1 - share) * np.log(1 - p))))

    share = np.concatenate([q, 1 - q])
    row_weight = np.concatenate([weight, weight])
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(
            log_loss, response_method="predict_proba", greater_is_better=False
        ).set_score_request(true_share=True, row_weight=True)
        model = LogisticRegressionCV(
            Cs=10,
            cv=GroupKFold(n_splits=5),
            scoring=scorer,
            l1_ratios=(1.0,),
            solver="liblinear",
            fit_intercept=False,
            random_state=123,
            use_legacy_attributes=False,
        ).set_fit_request(sample_weight=True)
        model.fit(
            np.concatenate([x, x]),
            np.concatenate([np.ones(n), np.zeros(n)]),
            sample_weight=share * row_weight,
            groups=np.concatenate([np.arange(n), np.arange(n)]),
            true_share=share,
            row_weight=row_weight,
        )
    length, difficulty, own = (float(c) for c in model.coef_[0])
    return Weights(length=length, difficulty=difficulty, model=own)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


# --- fitted to one match ---------------------------------------------------------------------

RESAMPLES = 500
"""Of the bootstrap: what its interval's width varies by is then a few per cent."""

BOOTSTRAP_ROWS = 5_000
"""Beyond so many rows the sandwich formula takes the bootstrap's place: it is its limit."""

LENGTH_PRIOR_SD = 3.0
"""Of a normal prior with mean 0 on φ, in log odds between equal length and far from it. Of the 200
published models nine tenths have φ between −2.1 and −0.7, so at 300 rows this moves φ by about one
part in a hundred; what it is for is a finite φ where length alone separates wins from losses."""

FEW_ON_ONE_SIDE = 0.03
"""Where no greater share of answers than this is longer (or shorter) than the reference's, equal
length was not seen, and a rate there would be an extrapolation by the model's form: with 1 % the
intervals of simulated matches covered 83 %, with 3 to 6 % they covered 96 to 98 %."""


@dataclass(frozen=True, kw_only=True)
class LengthRow:
    """One scored row: its question, q, and Δ in characters."""

    question: str
    preference: float
    difference: float


@dataclass(frozen=True, kw_only=True)
class FittedRate:
    """The rate at equal length as a share, and what it rests on; without a value where equal length
    was hardly seen.

    ``length_effect`` is φ (below 0: longer answers are preferred). ``n_longer`` and ``n_shorter``
    count rows in which the model's answer is longer, or shorter, than the reference's. With
    ``extrapolated`` there is no value because one of the two is next to nothing.
    """

    rate: Estimate
    length_effect: float | None
    n_longer: int
    n_shorter: int
    extrapolated: bool = False


def fitted_rate(
    rows: Sequence[LengthRow], *, level: float, seed: int, n_unscored: int = 0
) -> FittedRate:
    """P(the model's answer is better) at Δ = 0, from this match alone.

    The expected preference is modelled as σ(θ + φ·tanh(Δ/sd)) and fitted by quasi-likelihood, which
    needs no more of q than that its mean has this form (L. Papke and J. Wooldridge, J. Applied
    Econometrics 11, 1996); the rate is σ(θ). Instructions of unequal difficulty are averaged over,
    as in a win rate. If longer answers go with easier instructions, that is in φ too: one match
    cannot tell the two apart.

    The interval is θ ± t·SE on the scale of log odds, from resamples of whole questions: SE is
    the width of their percentile interval of θ over 2z, and t has (questions − 2) degrees of
    freedom. In six kinds of simulated matches of 300 questions 95 % intervals covered 94.5 to
    97.7 % (1,000 matches each; bench/score.py does this again). The percentile interval itself
    fell to 90 % where wins are few, and the resamples' standard deviation, which a few resamples
    almost without wins blow up, gave wider intervals for no better cover.

    Args:
        rows: scored rows.
        level: the confidence level.
        seed: of the resamples; they are ``named_seed(seed, "length-control", "bootstrap")``'s.
        n_unscored: questions without a row, passed on.
    """
    import numpy as np

    n_longer = sum(r.difference < 0 for r in rows)
    n_shorter = sum(r.difference > 0 for r in rows)

    def without(note: str, *, extrapolated: bool = False) -> FittedRate:
        return FittedRate(
            rate=unmeasured(note, level=level, n_unscored=n_unscored),
            length_effect=None,
            n_longer=n_longer,
            n_shorter=n_shorter,
            extrapolated=extrapolated,
        )

    names = {name: i for i, name in enumerate(dict.fromkeys(r.question for r in rows))}
    if len(names) < 10:
        return without("fewer than ten questions")
    q = np.array([r.preference for r in rows])
    differences = np.array([r.difference for r in rows], dtype=float)
    spread = differences.std(ddof=1)
    if spread == 0:
        return without("all answers differ from the reference's by the same length")
    if q.min() == q.max():
        return without("every row has the same preference, whatever the lengths")
    for count, side in ((n_longer, "longer"), (n_shorter, "shorter")):
        if count <= FEW_ON_ONE_SIDE * len(rows):
            return without(
                f"only {count} of {len(rows)} answers are {side} than the reference's: a rate at "
                "equal length would be an extrapolation",
                extrapolated=True,
            )
    x = np.tanh(differences / spread)
    clusters = np.array([names[r.question] for r in rows])
    theta, phi = (float(v[0]) for v in _solve(x, q, np.ones((1, len(q)))))
    if len(rows) <= BOOTSTRAP_ROWS:
        error = _bootstrap_error(x, q, clusters, start=(theta, phi), level=level, seed=seed)
        method = f"logistic in length, t({len(names) - 2}), bootstrap of {RESAMPLES} by question"
    else:
        error = _sandwich_error(x, q, clusters, theta=theta, phi=phi)
        method = f"logistic in length, t({len(names) - 2}), sandwich by question"
    half = t_quantile((1 + level) / 2, len(names) - 2) * error
    return FittedRate(
        rate=Estimate(
            value=_sigmoid(theta),
            low=_sigmoid(theta - half),
            high=_sigmoid(theta + half),
            n_scored=len(names),
            n_unscored=n_unscored,
            level=level,
            method=method,
        ),
        length_effect=phi,
        n_longer=n_longer,
        n_shorter=n_shorter,
    )


def _solve(
    x: Floats, q: Floats, weights: Floats, *, start: tuple[float, float] = (0.0, 0.0)
) -> tuple[Floats, Floats]:
    """θ and φ for each line of ``weights`` (resamples × rows), by Newton's method.

    The penalised likelihood is concave, so that a step kept below 2 cannot run away.
    """
    import numpy as np

    theta = np.full(len(weights), start[0])
    phi = np.full(len(weights), start[1])
    precision = 1 / LENGTH_PRIOR_SD**2
    columns = np.stack([np.ones_like(x), x, x * x], axis=1)
    for _ in range(60):
        p = 1 / (1 + np.exp(-np.clip(theta[:, None] + phi[:, None] * x, -30, 30)))
        score = (weights * (q - p)) @ columns[:, :2]
        information = (weights * (p * (1 - p))) @ columns
        g0, g1 = score[:, 0], score[:, 1] - precision * phi
        a, b, c = information[:, 0] + 1e-9, information[:, 1], information[:, 2] + precision
        determinant = a * c - b * b
        step0 = (c * g0 - b * g1) / determinant
        step1 = (a * g1 - b * g0) / determinant
        size = np.maximum(np.abs(step0), np.abs(step1))
        damping = np.minimum(1.0, 2 / np.maximum(size, 1e-300))
        theta, phi = theta + damping * step0, phi + damping * step1
        if size.max() < 1e-6:
            break
    return theta, phi


def _bootstrap_error(
    x: Floats,
    q: Floats,
    clusters: NDArray[np.int64],
    *,
    start: tuple[float, float],
    level: float,
    seed: int,
) -> float:
    import numpy as np

    draw = np.random.default_rng(named_seed(seed, "length-control", "bootstrap"))
    n = int(clusters.max()) + 1
    found = []
    for _ in range(RESAMPLES // 100):
        counts = draw.multinomial(n, np.full(n, 1 / n), size=100).astype(float)
        found.append(_solve(x, q, counts[:, clusters], start=start)[0])
    low, high = np.quantile(np.concatenate(found), [(1 - level) / 2, (1 + level) / 2])
    return float(high - low) / (2 * NormalDist().inv_cdf((1 + level) / 2))


def _sandwich_error(
    x: Floats, q: Floats, clusters: NDArray[np.int64], *, theta: float, phi: float
) -> float:
    """The clustered standard error of θ (K.-Y. Liang and S. Zeger, Biometrika 73, 1986)."""
    import numpy as np

    p = 1 / (1 + np.exp(-(theta + phi * x)))
    v = p * (1 - p)
    bread = np.array([[v.sum(), (v * x).sum()], [(v * x).sum(), (v * x * x).sum()]])
    bread[1, 1] += 1 / LENGTH_PRIOR_SD**2
    n = int(clusters.max()) + 1
    sums = np.stack([np.bincount(clusters, w, minlength=n) for w in (q - p, (q - p) * x)])
    inverse = np.linalg.inv(bread)
    return float(math.sqrt((inverse @ (sums @ sums.T) @ inverse)[0, 0] * n / (n - 1)))
