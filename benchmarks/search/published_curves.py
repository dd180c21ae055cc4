"""Comparison of pruners on published learning curves of whole networks.

    python -m benchmarks.search.published_curves --data DATA/learning-curves

The curves are of networks that others trained from scratch (see the README beside the data). Each
test fold of a split has 9 configurations, and the inner folds of a configuration were trained one
by one. A search over the 9 configurations is replayed with each pruner, in many orders: no network
is trained. The script writes published_curves.md beside this file.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from optuna.pruners import BasePruner

from benchmarks.search.replay import (
    as_they_are,
    best_value,
    mean_of_last_three,
    replay_search,
)
from benchmarks.search.ways import halving
from benchmarks.shared.markdown import markdown
from benchmarks.shared.places import real_data
from outerfold.objectives.pruning import ERRORS_BEHIND, FIRST_EPOCH, PRUNERS, PairedPruner
from outerfold.storage.records import FloatArray
from outerfold.storage.seeds import derive_seed
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.setup.provenance import versions

HERE = Path(__file__).parent
FILE = "nachos.csv.gz"
SATURATED = "OCT_split1_image"
"""Split whose curves all reach an accuracy of 1, so that it tells nothing about a pruner."""
EPOCHS = 50
"""Largest number of epochs of the published trainings."""
LIMITS = (0.0035, 0.006, 0.5)
"""Largest loss in the mean over splits and in the worst split, and share of the epochs."""

Curves = Sequence[FloatArray]
"""Curve (epochs, folds) of each configuration of one test fold."""
Splits = Mapping[str, Sequence[Curves]]
"""For each split, the curves of each test fold."""


@dataclass(frozen=True)
class Rule:
    """Way to prune, and what it is shown of the fold scores."""

    pruner: Callable[[int], BasePruner]
    shown: Callable[[FloatArray], FloatArray] = as_they_are


@dataclass(frozen=True)
class Found:
    """Means over all orders and test folds of one split.

    Attributes:
        kept: share of searches that choose the best configuration.
        loss: accuracy of the best configuration minus that of the chosen one.
        share: epochs trained, of those without pruning.
    """

    kept: float
    loss: float
    share: float


def paired(errors: float, first_epoch: int) -> dict[str, Rule]:
    """Paired pruning with these two numbers, by its name in the table."""
    rule = Rule(lambda epochs: PairedPruner(errors=errors, first_epoch=first_epoch))
    return {name_paired(errors, first_epoch): rule}


def name_paired(errors: float, first_epoch: int) -> str:
    """Name of paired pruning with these two numbers in the table."""
    noun = "error" if errors == 1 else "errors"
    return f"paired, {errors:g} {noun} from epoch {first_epoch}"


TUNED = [0.0, 0.5, 1.0, 1.5, 2.0]
"""Standard errors that are tried where they are tuned."""
DEFAULT = name_paired(ERRORS_BEHIND, FIRST_EPOCH)
HALVING, NONE = "halving, rung at 1/20", "none"
RULES: Mapping[str, Rule] = {
    HALVING: Rule(PRUNERS["halving"]),
    "halving, rung at 1/10": Rule(halving(10, 3)),
    "hyperband": Rule(PRUNERS["hyperband"]),
    "median": Rule(PRUNERS["median"]),
    NONE: Rule(PRUNERS["none"]),
    **{name: rule for z in TUNED for name, rule in paired(z, FIRST_EPOCH).items()},
    **{name: rule for first in (1, 2, 5) for name, rule in paired(1.0, first).items()},
    DEFAULT: Rule(PRUNERS["paired"]),
    f"{DEFAULT}, mean of the last three epochs": Rule(PRUNERS["paired"], mean_of_last_three),
}


def main() -> None:
    options = _options()
    start = time.perf_counter()
    quiet_optuna()
    splits = read_curves(options.data / FILE)
    found = {
        name: {split: replay(sets, rule, options.orders) for split, sets in splits.items()}
        for name, rule in RULES.items()
    }
    held = read_curves(options.data / FILE, held=True)
    other = {
        name: {split: replay(sets, RULES[name], options.orders) for split, sets in held.items()}
        for name in (HALVING, DEFAULT)
    }
    text = page(splits, found, other, options.orders)
    (HERE / "published_curves.md").write_text(text + "\n", encoding="utf-8")
    print(text, f"\n{(time.perf_counter() - start) / 60:.1f} min")


def read_curves(path: Path, *, held: bool = False) -> Splits:
    """Validation accuracies by split, test fold and configuration.

    The folds of a configuration ended at different epochs, and a trial in step ends with all of
    its folds. So its curve ends with the fold that ended first.

    Args:
        path: the file of the published curves.
        held: whether the curve ends with the fold that ended last instead, and the others are held
            at their last accuracy.
    """
    scores: dict[tuple[str, str, int], dict[str, dict[int, float]]] = defaultdict(dict)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["split"] != SATURATED:
                key = row["split"], row["test_fold"], int(row["configuration"])
                fold = scores[key].setdefault(row["val_fold"], {})
                fold[int(row["epoch"])] = float(row["val_accuracy"])
    splits: dict[str, dict[str, list[FloatArray]]] = defaultdict(lambda: defaultdict(list))
    for split, test, number in sorted(scores):
        folds = scores[split, test, number]
        each = [[one[epoch] for epoch in sorted(one)] for _, one in sorted(folds.items())]
        splits[split][test].append(in_step(each, held=held))
    return {split: list(sets.values()) for split, sets in splits.items()}


def in_step(folds: Sequence[Sequence[float]], *, held: bool = False) -> FloatArray:
    """One curve (epochs, folds) of folds of different lengths; see ``read_curves``."""
    length = (max if held else min)(map(len, folds))
    return np.array([[*fold, *[fold[-1]] * length][:length] for fold in folds]).T


def replay(sets: Sequence[Curves], rule: Rule, orders: int) -> Found:
    """Replay a rule on every test fold of a split, in ``orders`` random orders each."""
    each = []
    for which, curves in enumerate(sets):
        rng = np.random.default_rng(derive_seed(0, "orders", which))
        values = [best_value(curve)[1] for curve in curves]
        total = sum(len(curve) for curve in curves)
        for _ in range(orders):
            order = rng.permutation(len(curves))
            ended = replay_search(curves, order, rule.pruner(EPOCHS), shown=rule.shown)
            loss = max(values) - values[ended.chosen]
            each.append((loss == 0, loss, ended.epochs / total))
    return Found(*np.mean(each, axis=0).tolist())


def tuned(found: Mapping[str, Mapping[str, Found]]) -> dict[str, Found]:
    """For each split, the result of the number of standard errors that is best on all others.

    The best one has the smallest mean loss among those that train at most half the epochs.
    """
    names = [name_paired(errors, FIRST_EPOCH) for errors in TUNED]

    def cost(name: str, split: str) -> tuple[bool, float]:
        others = [one for other, one in found[name].items() if other != split]
        share = float(np.mean([one.share for one in others]))
        return share > LIMITS[2], float(np.mean([one.loss for one in others]))

    splits = list(found[names[0]])
    return {split: found[min(names, key=lambda n: cost(n, split))][split] for split in splits}


def page(
    splits: Splits,
    found: Mapping[str, Mapping[str, Found]],
    held: Mapping[str, Mapping[str, Found]],
    orders: int,
) -> str:
    """Text of published_curves.md."""
    rows = {**found, "paired, errors tuned on the other splits, from epoch 3": tuned(found)}
    known = versions()
    facts = ", ".join(f"{one} {known[one]}" for one in ("python", "numpy", "optuna"))
    return "\n\n".join(
        [
            "# Pruners on published curves of whole networks",
            _text(splits, orders),
            _verdict(found[DEFAULT], held),
            markdown(
                COLUMNS, [[NAMED.get(name, name), *_cells(each)] for name, each in rows.items()]
            ),
            "## Loss of accuracy and epochs by split",
            _by_split({name: found[name] for name in (HALVING, DEFAULT)}),
            f"Made with `python -m benchmarks.search.published_curves --orders {orders}`; {facts}.",
        ]
    )


NAMED = {
    HALVING: f"**{HALVING}**: `halving`, the default for frozen heads",
    DEFAULT: f"**{DEFAULT}**: `paired`, the default where blocks are trained",
}
"""Names of two rules in the table."""
COLUMNS = [
    "rule",
    "best configuration chosen",
    "loss of accuracy, mean over splits",
    "worst split",
    "epochs",
]


def summary(each: Mapping[str, Found]) -> tuple[float, float, float, float]:
    """Share kept, mean loss, worst loss, share of epochs; each split has the same weight."""
    kept, loss, share = np.array([(one.kept, one.loss, one.share) for one in each.values()]).T
    return float(kept.mean()), float(loss.mean()), float(loss.max()), float(share.mean())


def _cells(each: Mapping[str, Found]) -> list[str]:
    kept, mean, worst, share = summary(each)
    return [f"{kept:.0%}", f"{mean:.4f}", f"{worst:.4f}", f"{share:.0%}"]


def _by_split(rows: Mapping[str, Mapping[str, Found]]) -> str:
    splits = list(next(iter(rows.values())))
    return markdown(
        ["rule", *splits],
        [
            [name, *[f"{each[split].loss:.4f}, {each[split].share:.0%}" for split in splits]]
            for name, each in rows.items()
        ],
    )


def _text(splits: Splits, orders: int) -> str:
    count = sum(curve.shape[1] for sets in splits.values() for curves in sets for curve in curves)
    return (
        f"{count:,} curves of NACHOS (Calle et al. 2025, arXiv 2503.08589): {len(splits)} splits, "
        "9 random configurations of each test fold (ResNet50, InceptionV3, Xception), 3 or 9 inner "
        f"folds, at most {EPOCHS} epochs, early stopping. **These networks were trained from "
        "scratch, not from pretrained weights, and all of their layers were trained, not two "
        "blocks**; the metric is accuracy. They are nearer to trained blocks than the curves of "
        "frozen heads in [pruners.md](pruners.md) are, and no more than that.\n\n"
        f"A search tries the 9 configurations of a test fold in {orders} random orders, with the "
        "project's own pruners. It chooses the complete trial with the best value, as a run does: "
        "the best epoch of the mean over inner folds, smoothed over 3 epochs. The loss is the "
        "value of the best of the 9 minus that of the chosen one. Each number is a mean over test "
        "folds and orders, then over splits. The published folds were trained one by one; here a "
        "trial ends where its first fold ended, since only so far are all folds measured."
    )


def _verdict(each: Mapping[str, Found], held: Mapping[str, Mapping[str, Found]]) -> str:
    _, mean, worst, share = summary(each)
    reached = all(one <= most for one, most in zip((mean, worst, share), LIMITS, strict=True))
    words = "The target is reached." if reached else "**The target is missed.**"
    other = [
        f"`{name}` loses {loss:.4f} ({most:.4f} in the worst split) at {part:.0%} of the epochs"
        for name, (_, loss, most, part) in (
            ("paired", summary(held[DEFAULT])),
            ("halving", summary(held[HALVING])),
        )
    ]
    return (
        f"**The default where blocks are trained**: `paired`. A trial is pruned after an epoch, "
        f"from epoch {FIRST_EPOCH}, if the best complete trial was better at the same epoch by "
        f"more than {ERRORS_BEHIND:g} paired standard error over the inner folds. Both are round "
        "numbers that were fixed before this replay, though these curves had been looked at; the "
        "last row of the table chooses the number of errors on the other splits. The target was "
        "a loss of at most "
        f"{LIMITS[0]:.4f} in the mean over splits and {LIMITS[1]:.4f} in the worst split, at no "
        f"more than {LIMITS[2]:.0%} of the epochs; `paired` loses {mean:.4f} and {worst:.4f} at "
        f"{share:.0%}. {words} If folds that ended are held at their last accuracy until the last "
        f"one ends, {other[0]}, and {other[1]}."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    data = real_data() / "learning-curves"
    parser.add_argument("--data", type=Path, default=data, help=f"holds {FILE}")
    parser.add_argument("--orders", type=int, default=50, help="of each test fold")
    return parser.parse_args()


if __name__ == "__main__":
    main()
