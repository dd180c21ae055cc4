"""The section *Throughput* of RESULTS.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.coverage_report import markdown
from study.provenance import versions

KNOWN = ("python", "numpy", "scikit-learn", "optuna", "torch")


def section(found: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> str:
    """All tables; the first of ``found`` holds the costs besides."""
    known = versions()
    seeds = " ".join(str(seed) for seed in options["seeds"])
    parts = [
        f"`python -m benchmarks.throughput --data DATA/bus-bra --patients {options['patients']} "
        f"--trials {options['trials']} --seeds {seeds} --page` on 2 cores that other work shared, "
        "so CPU time tells more than wall time; "
        + ", ".join(f"{name} {known[name]}" for name in KNOWN) + ".",
        studies(found, options), trials(found), image_loop(found[0], found), steps(found[0]),
    ]  # fmt: skip
    if (options["patients"], options["trials"], found[0]["images"]) == (500, 8, 884):
        parts.append(FOUND)
    return "\n\n".join(parts)


FOUND = """### Against what was aimed at

| aim | found | |
| --- | --- | --- |
| at least 10 times the wall-clock throughput of the skorch study | 1.7 | **missed** |
| outer ROC-AUC not lower by more than 0.01 | +0.003 (0.009) | met, though two seeds tell little |
| at least 3 times a trial and thread, pruning off | 1.3 | **missed** |
| at least 50 times the image loop, from the second trial on | 55 | met, extrapolated |
| study, storage and scheduling under 5 % of a trial | 1.1 % of CPU time | met |
| half of the matrix rate in a step, 40 % in a trial | 52 % and 52 % at batches of 128; 26 % and \
27 % at 32 | met at 128 alone |

About twenty other processes ran on the two cores meanwhile: each study as a whole had a fifth of
one core, so that two workers could not be faster than one, and the caches were never warm. Of
outerfold's 40 CPU seconds 24 are a fixed cost, which includes two workers that import torch and
scikit-learn. What a further trial costs is 4.1 times less than a trial of the other study, pruning
included. Without pruning, a plain torch loop over the folds is as fast as the stack, here and with
layers this wide: stacking saved little more than skorch's own overhead. The wall-clock ratio on
free cores was not measured. Each seed took 15 minutes.

The embeddings of this run were of images stretched to squares; the command now pads them. Neither
is faster than the other.

### What was changed for speed, and what was not

Measured side by side on the busy cores, CPU time, before and after:

- Batches are no wider than their longest part: an epoch of breast-usg at batches of 128 takes 28 ms
  instead of 35, of bus-bra 174 instead of 178 (dbt) and 103 instead of 106 (multimodal); at batches
  of 32 there is no difference. This includes dropout masks from raw bits, 0.17 instead of 0.43 ms
  for 4 x 128 x 256.
- The journal waited for the disk after each line: 127 ms of a trial with 20 reports, 73 ms for its
  suggestions, 26 ms for the rest, nearly all of it waiting. It now waits twice a trial.
- ROC-AUC by ranks was there already: 0.017 ms for 313 rows, scikit-learn 1.7 ms; of four classes
  0.056 and 4.0 ms. Not touched.
- Matrix products run at the machine's rate already (72 to 96 of 91 GFLOP/s), fold after fold or
  stacked, in either layout of the weights. Not touched.
- At batches of 32 a step of 9.6 ms is 3.4 ms backward pass, 1.8 ms Adam, 1.6 ms the first layer,
  0.6 ms the second, 0.5 ms normalisation, 0.4 ms gathering; its matrix products alone would take
  2.3 ms at the machine's rate. Leaving the first layer's gradient where autograd makes it would
  save a further 0.4 ms; not done.
- A worker's start is torch (12 of 21 s on the busy machine) and scikit-learn with imbalanced-learn
  (7 s), which samplers need. Not touched."""


def studies(found: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> str:
    """The nested study by both."""
    own, rival = ([one[name] for one in found] for name in ("own", "rival"))
    apart = np.array([np.mean(a["scores"]) - np.mean(b["scores"])
                      for a, b in zip(own, rival, strict=True)])  # fmt: skip
    error = " (one seed: no error can be told)"
    if len(apart) > 1:
        error = f" (standard error over seeds {apart.std(ddof=1) / len(apart) ** 0.5:.4f})"
    rows = [_study("outerfold", own), _study("OptunaSearchCV + skorch", rival)]
    wall, cpu = (
        np.mean([b[key] / a[key] for a, b in zip(own, rival, strict=True)])
        for key in ("wall", "cpu")
    )
    rows.append(["ratio, mean over seeds", f"{wall:.1f}", f"{cpu:.1f}", f"{wall:.1f}", "", ""])
    epochs = sum(one["epochs"] for one in own) / sum(one["trials"] for one in own)
    head = ["", "wall s", "CPU s", "trials/min", "outer ROC-AUC", "sd over outer folds"]
    return "\n\n".join([
        "### The same nested study",
        f"BUS-BRA pathology, {found[0]['images']} images of {found[0]['patients']} patients drawn "
        f"for each seed; {options['outer_folds']} outer and {options['inner_folds']} inner folds, "
        f"{options['trials']} trials a study, at most {options['epochs']} epochs; learning rate, "
        "dropout, weight decay, batch size (32, 64, 128) and label smoothing searched. outerfold: "
        f"{found[0]['workers']} workers, whose start is counted, pruner `halving` "
        f"({epochs:.1f} epochs a trial), one network refitted. skorch: "
        f"{_threads(found)}, whichever was quicker, no pruning, as is its default. The first ten "
        "trials of both samplers are random, and differ.",
        markdown(head, rows),
f"outerfold's outer ROC-AUC minus the other's: {apart.mean():+.4f}{error}. Of its CPU time "
        f"{np.mean([one['own']['cpu'] - _trials_cpu(one) for one in found]):.0f} s are the start "
        "of the workers, replays and refits, which more trials do not add to.",
    ])  # fmt: skip


def trials(found: Sequence[Mapping[str, Any]]) -> str:
    """A trial by both, without pruning, on one thread."""
    each = [one["each"]["cpu"] / one["each"]["trials"] for one in found]
    rival = [one["rival"]["cpu"] / one["rival"]["trials"] for one in found]
    inside = sum(one["each"]["training_cpu"] for one in found)
    cpu, wall = (sum(one["each"][key] for one in found) for key in ("cpu", "wall"))
    waiting = sum(one["each"]["training_wall"] for one in found)
    pruned = [_trials_cpu(one) / one["own"]["trials"] for one in found]
    rows = [
        ["CPU s a trial, skorch (search and refit)", f"{np.mean(rival):.2f}"],
        ["CPU s a trial, outerfold, pruning off, one thread", f"{np.mean(each):.2f}"],
        ["ratio", f"{np.mean(np.array(rival) / np.array(each)):.1f}"],
        ["CPU s a trial, outerfold, of as many epochs as with pruning", f"{np.mean(pruned):.2f}"],
        ["ratio", f"{np.mean(np.array(rival) / np.array(pruned)):.1f}"],
        ["of its CPU time outside training (Optuna, journal, scores, once a study: rows)",
         f"{1 - inside / cpu:.1%}"],
        ["of its wall time outside training (the same, and the disk)", f"{1 - waiting / wall:.1%}"],
        ["of its time away from the driver but not at work (median)",
         f"{np.median([one['own']['waited'] for one in found]):.1%}"],
    ]  # fmt: skip
    return "\n\n".join(["### A trial", markdown(["", ""], rows)])


def image_loop(costs: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> str:
    """Images encoded anew against the cache."""
    trial = float(np.mean([one["each"]["cpu"] / one["each"]["trials"] for one in found]))
    once = costs["image_seconds"] * costs["train_images"]
    anew = once * costs["inner_folds"]
    epochs = anew * costs["epochs"]
    rows = [
        ["cached, from the second trial on", f"{trial:.2f}", ""],
        ["cached, the first trial, which encodes", f"{once + trial:.0f}", ""],
        ["anew in every fold and trial", f"{anew + trial:.0f}", f"{(anew + trial) / trial:.0f}"],
        ["anew in every epoch besides", f"{epochs + trial:.0f}", f"{(epochs + trial) / trial:.0f}"],
    ]  # fmt: skip
    return "\n\n".join([
        "### The image loop",
        f"An image takes {1000 * costs['image_seconds']:.0f} ms of CPU to decode, flip, frame and "
        f"encode (EfficientNet-Lite0), measured on {costs['encoded']} images in batches of 16 and "
        f"**extrapolated** to the {costs['train_images']} training images of an outer fold in "
        f"{costs['inner_folds']} inner folds, each of which reads all of them, to fit or to "
        "validate; training is added to each.",
        markdown(["", "CPU s a trial", "against the cache"], rows),
    ])  # fmt: skip


def steps(costs: Mapping[str, Any]) -> str:
    """A trial beside its bare optimiser steps and the machine's matrix rate."""
    rate, rows = costs["rate"], []
    for one in costs["costs"]:
        rows.append([
            str(one["batch_size"]), f"{one['training']:.2f}", f"{one['stacked']:.2f}",
            f"{one['plain']:.2f}", f"{one['training'] / one['plain'] - 1:+.0%}",
            f"{one['training'] / one['stacked'] - 1:+.0%}",
            f"{one['step_flops'] / one['stacked'] / rate:.0%}",
            f"{one['trial_flops'] / one['training'] / rate:.0%}",
        ])  # fmt: skip
    head = ["batch", "trial's training, CPU s", "bare stacked steps", "bare torch loop",
            "over the torch loop", "over stacked steps", "of the matrix rate, a step",
            "of the matrix rate, a trial"]  # fmt: skip
    return "\n\n".join([
        "### A trial beside its bare steps",
        "The same optimiser steps (all inner folds and epochs, no pruning) on batches that lie "
        "ready in memory, without order, gathering, validation, scores or Optuna: all folds in one "
        "stacked product, or fold after fold in torch's own layers and fused Adam. The matrix rate "
        f"is that of a 1024 x 1024 fp32 product on one thread in the same call, {rate / 1e9:.0f} "
        "GFLOP/s; counted are the matrix products of rows that are no padding. The quickest of "
        "three is taken of each.",
        markdown(head, rows),
    ])  # fmt: skip


def _trials_cpu(one: Mapping[str, Any]) -> float:
    """CPU seconds of the epochs that the study with pruning trained."""
    each: float = one["each"]["cpu"] / one["each"]["epochs"]
    return each * int(one["own"]["epochs"])


def _study(name: str, each: Sequence[Mapping[str, Any]]) -> list[str]:
    wall, cpu = (np.mean([one[key] for one in each]) for key in ("wall", "cpu"))
    rate = np.mean([60 * one["trials"] / one["wall"] for one in each])
    scores = np.array([one["scores"] for one in each])
    return [name, f"{wall:.1f}", f"{cpu:.1f}", f"{rate:.0f}", f"{scores.mean():.4f}",
            f"{scores.std(axis=1, ddof=1).mean():.3f}"]  # fmt: skip


def _threads(found: Sequence[Mapping[str, Any]]) -> str:
    number = {one["threads"] for one in found}
    return " or ".join(f"{n} thread{'s' if n > 1 else ''}" for n in sorted(number))
