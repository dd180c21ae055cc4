"""Use of a cluster by the schedule, and the effect on a search of several trials at a time.

Both parts replay ``schedule_trials.csv``: 180 trials of a real study (breast-usg, 2 classes, 5 x 4
folds, successive halving), with the seconds of each trial and its inner score in early epochs.

    python -m benchmarks.search.schedule busy     # a minute of the real Schedule, no training
    python -m benchmarks.search.schedule search   # TPE, halving and a surrogate, by in-flight
"""

from __future__ import annotations

import argparse
import csv
import heapq
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sklearn.ensemble import RandomForestRegressor

from benchmarks.search.ways import halving
from outerfold.objectives.spaces import Range, ranges_of
from outerfold.storage.seeds import derive_seed
from outerfold.storage.trials.trial_view import TrialView
from outerfold.study.engines.local import quiet_optuna
from outerfold.study.schedule.patience import EndedTrial, SearchLimit, count_visible
from outerfold.study.schedule.schedule import Schedule

TRIALS = Path(__file__).with_name("schedule_trials.csv")
WORKERS, NETWORKS, COUNT, EPOCHS = 64, 5, 100, 100
Row = Mapping[str, str]


def replayed() -> list[Row]:
    with TRIALS.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


# -- busy ------------------------------------------------------------------------------------


@dataclass
class Busy:
    """Share of the workers' time that was work: in the search alone, and with the refits."""

    search: float
    whole: float


def busy(studies: int, in_flight: int, seed: int, workers: int = WORKERS) -> Busy:
    """Simulate a run of ``studies`` studies with the real ``Schedule`` and a simulated clock."""
    rng = np.random.default_rng(seed)
    seconds = np.array([float(row["seconds"]) for row in replayed()])
    names = [f"outer-{i}" for i in range(studies)]
    taken = {name: rng.choice(seconds, COUNT) for name in names}
    end = NETWORKS * float(seconds.max())
    schedule = Schedule(
        {name: [] for name in names},
        ended=frozenset(),
        limit=SearchLimit(COUNT, in_flight=in_flight),
    )
    over: dict[str, set[int]] = {name: set() for name in names}
    told = dict.fromkeys(names, 0)
    running: list[tuple[float, str, int]] = []
    now = searched = spent = trial_seconds = 0.0
    while not schedule.finished:
        while len(running) < workers and (task := schedule.take()) is not None:
            name, number = task
            cost = end if number is None else float(taken[name][number])
            spent, trial_seconds = spent + cost, trial_seconds + cost * (number is not None)
            heapq.heappush(running, (now + cost, name, -1 if number is None else number))
        now, name, number = heapq.heappop(running)
        if number < 0:
            schedule.done(name, None)
            continue
        searched = now
        over[name].add(number)
        while told[name] in over[name]:
            schedule.done(name, EndedTrial("pruned"))
            told[name] += 1
    return Busy(trial_seconds / (workers * searched), spent / (workers * now))


def busy_table(seeds: Sequence[int] = range(5)) -> str:
    lines = [
        "| Studies | In flight | Most at once | Busy in search | of those at most | with refits |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for studies, in_flight in product((6, 11, 26, 51), (1, 2, 4, 8, 12, 16, 32)):
        most = min(WORKERS, studies * in_flight)
        if studies * (in_flight // 2) >= 4 * WORKERS:
            continue
        found = [busy(studies, in_flight, seed) for seed in seeds]
        search = float(np.mean([f.search for f in found]))
        whole = float(np.mean([f.whole for f in found]))
        lines.append(
            f"| {studies} | {in_flight} | {most} | {search:.0%} | {search * WORKERS / most:.0%} | "
            f"{whole:.0%} |"
        )
    return "\n".join(lines)


# -- search ----------------------------------------------------------------------------------


class Surrogate:
    """Model of a configuration's score: a random forest of the real trials' early scores.

    The scores are early ones, since every trial has epochs 8 to 10, also the pruned ones. The mean
    of each study is subtracted. ``noise`` is the standard deviation that the forest does not
    explain, out of bag.
    """

    def __init__(self) -> None:
        rows = replayed()
        self.levels = sorted({row["sampler"] for row in rows})
        score = np.array([float(row["early_score"]) for row in rows])
        study = np.array([row["study"] for row in rows])
        means = {name: score[study == name].mean() for name in np.unique(study)}
        score = score - np.array([means[name] for name in study]) + score.mean()
        self.forest = RandomForestRegressor(300, min_samples_leaf=3, oob_score=True, random_state=0)
        self.forest.fit(np.stack([self.vector(row) for row in rows]), score)
        self.explained = float(self.forest.oob_score_)
        self.noise = float(np.std(score - self.forest.oob_prediction_))

    def vector(self, params: Mapping[str, object]) -> NDArray[np.float64]:
        numbers = [
            float(str(params[name]))
            for name in (
                "augmented_views",
                "batch_size",
                "dropout",
                "ens_beta",
                "focal_gamma",
                "label_smoothing",
            )
        ]
        logs = [np.log10(float(str(params[name]))) for name in ("learning_rate", "weight_decay")]
        samplers = [float(params["sampler"] == level) for level in self.levels]
        return np.array([*numbers, *logs, float(str(params["attention"]) == "True"), *samplers])

    def score(self, params: Mapping[str, object]) -> float:
        return float(self.forest.predict(self.vector(params)[None])[0])


SPACE = (
    "learning_rate",
    "dropout",
    "focal_gamma",
    "sampler",
    "attention",
    "weight_decay",
    "batch_size",
    "label_smoothing",
    "ens_beta",
    "augmented_views",
)


def draw(trial: optuna.Trial) -> dict[str, object]:
    params: dict[str, object] = {}
    for name in SPACE:
        of = ranges_of("multimodal")[name]
        if isinstance(of, Range):
            params[name] = trial.suggest_float(name, of.low, of.high, step=of.step, log=of.log)
        else:
            params[name] = trial.suggest_categorical(name, list(of.values))
    return params


def search(surrogate: Surrogate, in_flight: int, seed: int, trials: int) -> list[tuple[float, int]]:
    """Simulate one search.

    Returns:
        For each trial, the true score of the trial that the search would choose after it, and the
        epochs so far; see ``chosen``.
    """
    ended: list[FrozenTrial] = []
    found = []
    for number in range(trials):
        seen = ended[: count_visible(number, in_flight)]
        study = optuna.load_study(
            study_name="outer-0",
            storage=TrialView("outer-0", StudyDirection.MAXIMIZE, seen, number),
            sampler=TPESampler(seed=derive_seed(seed, "sampler", number) % 2**32, group=True),
            pruner=halving(10, 3)(EPOCHS),
        )
        trial = study.ask()
        true = surrogate.score(draw(trial))
        shown = true + surrogate.noise * np.random.default_rng((seed, number)).normal()
        for epoch in (10, 30, 50):  # two rungs, and the epoch at which the longest real trials end
            trial.report(shown, epoch)
            if epoch < 50 and trial.should_prune():
                ended.append(study.tell(trial, state=optuna.trial.TrialState.PRUNED))
                found.append((0.0, shown, epoch))
                break
        else:
            ended.append(study.tell(trial, shown))
            found.append((true, shown, epoch))
    return chosen(found)


def chosen(found: Sequence[tuple[float, float, int]]) -> list[tuple[float, int]]:
    """After each trial: the true score of the trial chosen so far, and the epochs so far.

    Args:
        found: true score (0 if pruned), observed score and epochs of each trial.
    """
    best, epochs, curve = (0.0, -1.0), 0, []
    for true, shown, trained in found:
        epochs += trained
        if true and shown > best[1]:
            best = true, shown
        curve.append((best[0], epochs))
    return curve


def search_table(seeds: Sequence[int], trials: int, counts: Sequence[int]) -> str:
    surrogate = Surrogate()
    lines = [
        f"The surrogate explains {surrogate.explained:.0%} of the variance out of bag; the "
        f"standard deviation of the noise is {surrogate.noise:.4f}. There are {len(seeds)} seeds, "
        "the same for each row. In brackets: the mean difference from one trial at a time, with "
        "its standard error.",
        "",
        f"| In flight | after {trials // 2} trials | after {trials} | epochs of {trials} trials |",
        "| --- | --- | --- | --- |",
    ]
    alone = None
    for count in counts:
        curves = [search(surrogate, count, seed, trials) for seed in seeds]
        scores = np.array([[curve[n - 1][0] for n in (trials // 2, trials)] for curve in curves])
        alone = scores if alone is None else alone
        away = scores - alone
        error = away.std(axis=0, ddof=1) / np.sqrt(len(seeds))
        cells = [
            f"{mean:.4f}" + ("" if count == 1 else f" ({delta:+.4f} ± {e:.4f})")
            for mean, delta, e in zip(scores.mean(0), away.mean(0), error, strict=True)
        ]
        epochs = np.mean([curve[-1][1] for curve in curves])
        print(f"in flight {count}: done", file=sys.stderr, flush=True)
        lines.append(f"| {count} | {' | '.join(cells)} | {epochs:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("busy", "search"))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 4, 8, 16])
    options = parser.parse_args()
    quiet_optuna()
    if options.part == "busy":
        print(busy_table())
    else:
        print(search_table(range(options.seeds), options.trials, options.in_flight))


if __name__ == "__main__":
    main()
