"""Section *Throughput* of RESULTS.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.shared.markdown import markdown
from outerfold.storage.records import FloatArray
from outerfold.study.setup.provenance import versions

SIZES = ("patients", "trials", "epochs", "outer_folds", "inner_folds", "workers")
KNOWN = ("python", "numpy", "scikit-learn", "optuna", "torch")


def section(found: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> str:
    """Text of the section with all tables; only the first of ``found`` has the costs."""
    known = versions()
    seeds = " ".join(str(seed) for seed in options["seeds"])
    size = " ".join(f"--{name.replace('_', '-')} {options[name]}" for name in SIZES)
    return "\n\n".join(
        [
            f"`python -m benchmarks.speed.throughput --data DATA/bus-bra {size} --seeds {seeds} "
            "--page`; " + ", ".join(f"{name} {known[name]}" for name in KNOWN) + ".",
            studies(found, options),
            trials(found),
            image_loop(found[0]),
            steps(found[0]),
            aims(found),
        ]
    )


def aims(found: Sequence[Mapping[str, Any]]) -> str:
    """Table of the targets and the results."""
    apart, wall = _apart(found).mean(), _ratio(found, "wall")
    quicker, each = _quicker(found[0]), _each(found[0])
    loop = (_anew(found[0]) + each) / each
    outside = _outside(found[0], "cpu")
    shares = [
        (
            f"a step reaches at least half of the matrix rate, batches of {one['batch_size']}",
            one["step_flops"] / one["bare"] / found[0]["rate"],
            0.5,
        )
        for one in found[0]["costs"]
    ] + [
        (
            f"a trial reaches at least 40 % of the matrix rate, batches of {one['batch_size']}",
            one["trial_flops"] / one["training"] / found[0]["rate"],
            0.4,
        )
        for one in found[0]["costs"]
    ]
    rows = [
        [
            "wall-clock time of the skorch study at least 10 times that of outerfold",
            f"{wall:.1f}",
            wall >= 10,
        ],
        ["outer ROC-AUC not lower by more than 0.01", f"{apart:+.3f}", apart >= -0.01],
        [
            "a trial of one configuration, pruning off, one thread: at most a third of skorch's "
            "CPU time",
            f"1 / {quicker:.1f}",
            quicker >= 3,
        ],
        [
            "at least 50 times as fast as the image loop, from the second trial on (extrapolated)",
            f"{loop:.0f}",
            loop >= 50,
        ],
        ["study, storage and scheduling under 5 % of a trial", f"{outside:.1%}", outside < 0.05],
        *([text, f"{share:.0%}", share >= least] for text, share, least in shares),
    ]
    cells = [[text, value, "met" if met else "**missed**"] for text, value, met in rows]
    return "\n\n".join(["### Targets", markdown(["target", "result", ""], cells)])


def studies(found: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> str:
    """Part on the nested study by both programs."""
    own, rival = ([one[name] for one in found] for name in ("own", "rival"))
    apart = _apart(found)
    error = " (one seed, so there is no standard error)"
    if len(apart) > 1:
        error = f" (standard error over seeds {apart.std(ddof=1) / len(apart) ** 0.5:.4f})"
    rows = [_study("outerfold", own), _study("OptunaSearchCV + skorch", rival)]
    wall, cpu = (_ratio(found, key) for key in ("wall", "cpu"))
    rows.append(["ratio, mean over seeds", f"{wall:.1f}", f"{cpu:.1f}", f"{wall:.1f}", "", ""])
    epochs = sum(one["epochs"] for one in own) / sum(one["trials"] for one in own)
    head = ["", "wall s", "CPU s", "trials/min", "outer ROC-AUC", "sd over outer folds"]
    return "\n\n".join(
        [
            "### The same nested study",
            f"BUS-BRA pathology, {found[0]['images']} images of {found[0]['patients']} patients "
            f"drawn for each seed; {options['outer_folds']} outer and {options['inner_folds']} "
            f"inner folds, {options['trials']} trials per study, at most {options['epochs']} "
            "epochs. The search covers learning rate, dropout, weight decay, batch size (32, 64, "
            f"128) and label smoothing. outerfold: {found[0]['workers']} workers (their start is "
            f"counted), pruner `halving` ({epochs:.1f} epochs per trial), five networks refitted "
            "and averaged, which is its default. skorch: "
            f"{_threads(found)}, the faster of one and two, and no pruning, which is its default. "
            "The first ten trials of both samplers are random, and differ.",
            markdown(head, rows),
            f"Outer ROC-AUC of outerfold minus that of skorch: {apart.mean():+.4f}{error}. Of "
            f"outerfold's CPU time, {np.mean([one['cpu'] - one['worked'] for one in own]):.0f} s "
            "are the start of the workers, replays and refits; more trials do not add to these. "
            "By seed, outerfold and skorch: "
            + "; ".join(
                f"{o['wall']:.0f} s and {r['wall']:.0f} s, {np.mean(o['scores']):.4f} and "
                f"{np.mean(r['scores']):.4f}"
                for o, r in zip(own, rival, strict=True)
            )
            + ".",
        ]
    )


def trials(found: Sequence[Mapping[str, Any]]) -> str:
    """Part on a trial by both programs: of one configuration, and as in the searches."""
    first = found[0]
    rows = [
        [
            f"one configuration to its last epoch, batches of {one['batch_size']}, one thread",
            f"{one['rival']:.2f}",
            f"{one['own']:.2f}",
            f"{one['rival'] / one['own']:.1f}",
        ]
        for one in first["alike"]
    ]
    rival, own = (
        np.array([one[key][of] / one[key]["trials"] for one in found])
        for key, of in (("rival", "cpu"), ("own", "worked"))
    )
    rows.append(
        [
            "trials of the searches, in outerfold with pruning",
            f"{rival.mean():.2f}",
            f"{own.mean():.2f}",
            f"{np.mean(rival / own):.1f}",
        ]
    )
    outside = [
        [
            "of a trial's CPU time outside training (Optuna, journal, scores; rows once per study)",
            f"{_outside(first, 'cpu'):.1%}",
        ],
        [
            "of its wall time outside training (the same and the disk)",
            f"{_outside(first, 'wall'):.1%}",
        ],
        [
            "of its time away from the driver but not at work (median)",
            f"{np.median([one['own']['waited'] for one in found]):.1%}",
        ],
    ]
    return "\n\n".join(
        [
            "### A trial",
            markdown(["CPU s per trial", "skorch", "outerfold", "ratio"], rows),
            "In a search the batch size is drawn, the two samplers prefer different batch sizes, "
            "and skorch's threads wait for each other; the first rows do not have these effects. "
            "The matrix products of such a trial alone would take "
            f"{first['costs'][0]['trial_flops'] / first['rate']:.2f} s at the machine's matrix "
            "rate. Shares for outerfold's trials without pruning:",
            markdown(["share", ""], outside),
        ]
    )


def image_loop(costs: Mapping[str, Any]) -> str:
    """Part on encoding the images again, compared with the cache."""
    trial = _each(costs)
    once, anew = costs["image_seconds"] * costs["train_images"], _anew(costs)
    epochs = anew * costs["epochs"]
    rows = [
        ["cached, from the second trial on", f"{trial:.2f}", ""],
        ["cached, the first trial, which encodes", f"{once + trial:.0f}", ""],
        [
            "encoded again in every fold and trial",
            f"{anew + trial:.0f}",
            f"{(anew + trial) / trial:.0f}",
        ],
        [
            "encoded again in every fold, trial and epoch",
            f"{epochs + trial:.0f}",
            f"{(epochs + trial) / trial:.0f}",
        ],
    ]
    return "\n\n".join(
        [
            "### The image loop",
            f"An image takes {1000 * costs['image_seconds']:.0f} ms of CPU to decode, flip, frame "
            f"and encode (EfficientNet-Lite0). This was measured on {costs['encoded']} images in "
            f"batches of 16 and **extrapolated** to the {costs['train_images']} training images of "
            f"an outer fold in {costs['inner_folds']} inner folds; each of these reads all images, "
            "to fit or to validate. The time of training is added to each row.",
            markdown(["", "CPU s per trial", "times the cached trial"], rows),
        ]
    )


def steps(costs: Mapping[str, Any]) -> str:
    """Part on a trial compared with its bare optimiser steps and with the matrix rate."""
    rate, rows = costs["rate"], []
    for one in costs["costs"]:
        rows.append(
            [
                str(one["batch_size"]),
                f"{one['training']:.2f}",
                f"{one['bare']:.2f}",
                f"{one['plain']:.2f}",
                f"{one['training'] / one['plain'] - 1:+.0%}",
                f"{one['training'] / one['bare'] - 1:+.0%}",
                f"{one['step_flops'] / one['bare'] / rate:.0%}",
                f"{one['trial_flops'] / one['training'] / rate:.0%}",
            ]
        )
    head = [
        "batch",
        "trial's training, CPU s",
        "its bare steps",
        "bare torch loop",
        "over the torch loop",
        "over its bare steps",
        "of the matrix rate, a step",
        "of the matrix rate, a trial",
    ]
    return "\n\n".join(
        [
            "### A trial compared with its bare steps",
            "Bare steps are the same optimiser steps (all inner folds and epochs, no pruning) on "
            "batches that are already in memory, without ordering or gathering rows, validation, "
            "scores or Optuna: by the code of the trial, or with torch's own layers and fused "
            "Adam. The matrix rate is that of a 1024 x 1024 fp32 product on one thread in the same "
            f"call, {rate / 1e9:.0f} GFLOP/s; only matrix products of rows without padding are "
            "counted. Each time is the fastest of three.",
            markdown(head, rows),
        ]
    )


def _ratio(found: Sequence[Mapping[str, Any]], key: str) -> float:
    """Ratio of skorch's ``wall`` or ``cpu`` seconds to outerfold's, a mean over seeds."""
    return float(np.mean([one["rival"][key] / one["own"][key] for one in found]))


def _apart(found: Sequence[Mapping[str, Any]]) -> FloatArray:
    """Outer ROC-AUC of outerfold minus that of skorch (seeds,)."""
    means = ([np.mean(one[key]["scores"]) for one in found] for key in ("own", "rival"))
    return np.subtract(*means)


def _each(costs: Mapping[str, Any]) -> float:
    """CPU seconds of an outerfold trial without pruning, with drawn configurations."""
    return float(costs["each"]["cpu"] / costs["each"]["trials"])


def _quicker(costs: Mapping[str, Any]) -> float:
    """Ratio of skorch's CPU seconds per trial to outerfold's, a mean over batch sizes."""
    return float(np.mean([one["rival"] / one["own"] for one in costs["alike"]]))


def _outside(costs: Mapping[str, Any], key: str) -> float:
    """Share of all trials' ``cpu`` or ``wall`` time that is not training."""
    each = costs["each"]
    return float(1 - each[f"training_{key}"] / each[key])


def _anew(costs: Mapping[str, Any]) -> float:
    """CPU seconds of encoding the images again in every inner fold of a trial."""
    return float(costs["image_seconds"] * costs["train_images"] * costs["inner_folds"])


def _study(name: str, each: Sequence[Mapping[str, Any]]) -> list[str]:
    wall, cpu = (np.mean([one[key] for one in each]) for key in ("wall", "cpu"))
    rate = np.mean([60 * one["trials"] / one["wall"] for one in each])
    scores = np.array([one["scores"] for one in each])
    return [
        name,
        f"{wall:.1f}",
        f"{cpu:.1f}",
        f"{rate:.0f}",
        f"{scores.mean():.4f}",
        f"{scores.std(axis=1, ddof=1).mean():.3f}",
    ]


def _threads(found: Sequence[Mapping[str, Any]]) -> str:
    number = {one["threads"] for one in found}
    return " or ".join(f"{n} thread{'s' if n > 1 else ''}" for n in sorted(number))
