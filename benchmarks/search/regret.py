"""Regret of pruners: searches replayed from recorded curves, and the page that tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from benchmarks.search.replay import replay_search
from benchmarks.search.ways import ALONE, TODAY, WAYS
from benchmarks.shared.chunks import Arrays
from benchmarks.shared.markdown import markdown
from outerfold.storage.records import FloatArray
from outerfold.study.config.record import StudyConfig
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.setup.provenance import versions

FOLDS = 5
"""Outer folds of each seed; all of them are used."""
ORDERS = 20
"""Number of orders in which the trials of an outer fold are replayed."""
SHORT = 20
"""Number of epochs of a second replay; the learning rate of `multimodal` depends on no budget, so
the first epochs of a curve are those of a shorter training."""
LIMIT, MOST = 0.005, 0.3
"""Largest one-sided bound of the mean regret, and largest share of the epochs, of a default."""

WHOLE = """## Whole searches

Whole searches with TPE (`python -m benchmarks.search.searches pruners`; 250 patients drawn for
each of five seeds, five outer folds, 40 trials, 20 epochs, 3 inner folds, one network), compared
with a rung at a tenth. They were made before the running statistics of a head's batch
normalisation were corrected for bias:

| | epochs, rung at 1/10 | at 1/20 | outer ROC-AUC | | difference (standard error over seeds) |
| --- | --- | --- | --- | --- | --- |
| bus-bra | 1339 | 1038 | 0.7569 | 0.7558 | -0.0011 (0.0044) |
| breast-usg | 1334 | 1023 | 0.7591 | 0.7579 | -0.0012 (0.0072) |"""
"""Table of another script."""


@dataclass(frozen=True, eq=False)
class Searches:
    """Replayed searches of each outer fold, in the order of the seeds: means over orders.

    Attributes:
        epochs: (outer folds,) number of epochs trained.
        complete: (outer folds,) number of trials that were not pruned.
        default: (outer folds,) share of searches that choose the default configuration.
        score: (outer folds,) outer score of the chosen trial.
    """

    epochs: FloatArray
    complete: FloatArray
    default: FloatArray
    score: FloatArray


def replay_in_orders(arrays: Arrays, way: str, epochs: int) -> Searches:
    """Replay each outer fold in ``ORDERS`` orders of its trials, which all ways share.

    The default configuration, which is trial 0 of a run, is the first in every order.

    Args:
        arrays: curves of every outer fold; see ``curves``.
        way: a key of ``WAYS``.
        epochs: largest number of epochs of a trial; the curves are cut there.
    """
    means = []
    for inner, outer in zip(arrays["inner"], arrays["outer"], strict=True):
        trials = [curve[np.isfinite(curve).all(axis=1)] for curve in inner[:, :epochs]]
        rng, each = np.random.default_rng(0), []
        for _ in range(ORDERS):
            order = np.array([0, *(1 + rng.permutation(len(trials) - 1))])
            one = replay_search(trials, order, WAYS[way](epochs))
            score = outer[one.chosen, one.epoch - 1]
            each.append((one.epochs, one.complete, one.place == 0, score))
        means.append(np.mean(each, axis=0))
    return Searches(*np.array(means).T)


def bound(regrets: FloatArray) -> float:
    """Upper limit of the one-sided 95 % t interval for the mean; NaN for a single outer fold.

    Outer folds of a seed share no test patient, and each has configurations of its own, so they
    are counted as those of different seeds are.

    Args:
        regrets: (outer folds,) of all seeds.
    """
    if len(regrets) < 2:
        return float("nan")
    error = float(regrets.std(ddof=1)) / float(np.sqrt(len(regrets)))
    return float(regrets.mean()) + float(student.ppf(0.95, len(regrets) - 1)) * error


@dataclass(frozen=True)
class Row:
    """One way on one data set: share of the epochs, and mean regret with its bound."""

    share: float
    regret: float
    bound: float


Rows = Mapping[str, Mapping[str, Row]]
"""For each data set, a row for each way."""


def verdict(rows: Rows) -> str:
    """Sentences on the default: it stays, another way is better, or the data do not tell."""
    today = f"**{TODAY}** is the default for frozen heads. Its regret against no pruner: "
    today += told(TODAY, rows)
    if is_within(TODAY, rows):
        return f"{today}. No bound exceeds {LIMIT}, so the default stays."
    cheap = ways_by_regret(rows, np.mean)
    within = [way for way in cheap if is_within(way, rows)]
    if within:
        return (
            f"{today}. A bound exceeds {LIMIT}. **{within[0]}** has the lowest mean regret of the "
            f"ways whose bounds do not, at no more than {MOST:.0%} of the epochs: "
            f"{told(within[0], rows)}."
        )
    text = (
        f"{today}. A bound exceeds {LIMIT}, and so it does for every way that trains at most "
        f"{MOST:.0%} of the epochs in the mean over data sets, so these outer folds leave it "
        "undecided."
    )
    if cheap:
        text += f" The lowest mean regret of these ways has **{cheap[0]}**."
    strict = ways_by_regret(rows, np.max)
    if strict and strict[0] != cheap[0]:
        text += (
            f" If {MOST:.0%} were the limit on each data set alone, it would be {strict[0]}: "
            f"{told(strict[0], rows)}."
        )
    return text


def told(way: str, rows: Rows) -> str:
    """Regret, bound and epochs of a way on each data set, in words."""
    parts = [
        f"{name} {each[way].regret:+.4f}, bound {each[way].bound:+.4f}, {each[way].share:.2%} of "
        "the epochs"
        for name, each in rows.items()
    ]
    return "; ".join(parts)


def is_within(way: str, rows: Rows) -> bool:
    """Whether the bound of a way exceeds ``LIMIT`` on no data set."""
    return all(each[way].bound <= LIMIT for each in rows.values())


def ways_by_regret(rows: Rows, summary: Callable[[list[float]], np.floating]) -> list[str]:
    """Ways that train at most ``MOST`` of the epochs, those of the lowest mean regret first.

    Args:
        rows: what was found on each data set.
        summary: how the shares of the data sets make one, such as their mean or the largest.
    """
    each = list(rows.values())
    cheap = [w for w in WAYS if w != ALONE and summary([one[w].share for one in each]) <= MOST]
    return sorted(cheap, key=lambda way: sum(one[way].regret for one in each))


def page(found: Mapping[str, Arrays], config: StudyConfig) -> str:
    """Text of pruners.md.

    Args:
        found: curves of each data set; see ``benchmarks.search.pruners``.
        config: configuration of the recorded trials.
    """
    quiet_optuna()
    tables: list[str] = []
    judged: dict[str, dict[str, Row]] = {}
    for name, arrays in found.items():
        for epochs in (config.epochs, SHORT):
            rows, table = compared(arrays, epochs)
            tables += [f"## {name}, at most {epochs} epochs", table]
            if epochs == config.epochs:
                judged[name] = rows
    parts = ["# Comparison of pruners", verdict(judged), _text(found, config), *tables, WHOLE]
    spent = sum(float(arrays["seconds"].sum()) for arrays in found.values())
    known = versions()
    facts = ", ".join(f"{one} {known[one]}" for one in ("python", "numpy", "optuna", "torch"))
    folds = " ".join(str(len(arrays["inner"])) for arrays in found.values())
    command = f"Made with `python -m benchmarks.search.pruners --data DATA --folds {folds}`; the "
    return "\n\n".join([*parts, f"{command}curves took {spent / 60:.0f} CPU minutes; {facts}."])


def compared(arrays: Arrays, epochs: int) -> tuple[dict[str, Row], str]:
    """Every way on one data set: its rows, and their table."""
    whole = replay_in_orders(arrays, "none", epochs)
    rows, lines = {}, []
    for way in WAYS:
        one = replay_in_orders(arrays, way, epochs)
        regrets = whole.score - one.score
        share = one.epochs.sum() / whole.epochs.sum()
        rows[way] = Row(float(share), float(regrets.mean()), bound(regrets))
        lines.append(
            [
                way,
                f"{share:.0%}",
                f"{one.complete.mean():.1f}",
                f"{one.default.mean():.0%}",
                f"{one.score.mean():.4f}",
                f"{rows[way].regret:+.4f} ({rows[way].bound:+.4f})",
            ]
        )
    return rows, markdown(COLUMNS, lines)


COLUMNS = [
    "pruner",
    "epochs trained",
    "complete trials",
    "default chosen",
    "outer ROC-AUC of the choice",
    "regret against no pruner (one-sided 95 % bound)",
]


def _text(found: Mapping[str, Arrays], of: StudyConfig) -> str:
    counts = [f"{len(arrays['inner'])} outer folds of {name}" for name, arrays in found.items()]
    return (
        f"There are {' and '.join(counts)}: the {FOLDS} of a seed, then those of the next, whose "
        f"patients are divided anew. Each has {of.inner_folds} inner folds, the default "
        f"configuration and {of.trials - 1} random ones of the multimodal ranges, at most "
        f"{of.epochs} epochs with a patience of {of.patience_epochs}, batches of 128, no augmented "
        "views and no attention, "
        "and cached embeddings of EfficientNet-Lite0. The outer score is that of the mean of "
        "the inner folds' networks at the chosen epoch. The second table of a data set cuts the "
        f"same curves at {SHORT} epochs. Each number is a mean over {ORDERS} orders of the trials "
        "of every outer fold; the default is the first in each.\n\n"
        "The regret is the outer ROC-AUC of the search without pruning minus that of the pruner, "
        "so less is better; its bound is the upper limit of the one-sided 95 % t interval over "
        "outer folds. It tells of these patients and not of others, since all seeds divide the "
        "same ones.\n\n"
        "The sampler of a run learns from earlier trials after the first ten, and that of this "
        "replay does not. The effect of pruning on later suggestions is "
        "not in these numbers. With *none*, trials end by patience, as they do with all pruners."
    )
