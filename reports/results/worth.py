"""Entries of ``results.json`` on the searches, and on what they were worth against the default."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from outerfold.objectives.choice import Candidate, choose_trial
from outerfold.objectives.metrics import METRICS
from outerfold.reports.intervals.jackknife import Of
from outerfold.reports.intervals.variation import Variation
from outerfold.reports.results.entries import fold_scores, interval_of, paired_entries
from outerfold.reports.results.predictions import join_predictions
from outerfold.reports.wording import Json, is_biased
from outerfold.storage.records import FoldResult, Predictions, Run, Search

NOT_KEPT = "an earlier version of outerfold made the run and kept no default configuration"
NOTHING_HELD_OUT = (
    "the folds that gave the scores also chose the configuration, so nothing was held out"
)
ALWAYS_CHOSEN = "the search chose the default configuration in every outer fold"


def worth_entry(run: Run) -> Json:
    """Entry of the search's worth: the chosen minus the default configuration, on the same rows.

    The rows are the outer test rows of all finished folds. Every overall metric has both
    estimates and the paired difference with its interval. ``overall`` is empty and ``reason`` says
    why where a fold has no result of the default configuration.
    """
    studies = [*run.outer, *([run.final] if run.final else [])]
    defaults = {s.name: s.default for s in studies if s.default is not None}
    final = defaults.get("final")
    reason = _missing(run)
    return {
        "metric": run.protocol["metric"],
        "params": next((found.params for found in defaults.values() if found.params), {}),
        "chosen": [s.name for s in run.outer if s.default is not None and s.default.chosen],
        "final_chosen": final.chosen if final is not None and final.params else None,
        "reason": reason,
        "overall": {} if reason else _overall(run.outer, interval_of(run.protocol)),
    }


def default_entry(study: FoldResult) -> Json | None:
    """Entry of the default configuration of one outer fold; None where none was kept."""
    found = study.default
    if found is None or not found.params:
        return None
    return {
        "chosen": found.chosen,
        "epochs": study.epochs if found.chosen else found.epochs,
        "reason": found.reason or None,
        "metrics": fold_scores(_default_rows(study)),
    }


def _missing(run: Run) -> str | None:
    if is_biased(run.protocol):
        return NOTHING_HELD_OUT
    if not run.outer:
        return "no outer fold has finished"
    if any(study.default is None for study in run.outer):
        return NOT_KEPT
    reasons = [study.default.reason for study in run.outer if study.default is not None]
    return next(filter(None, reasons), None)


def _overall(outer: tuple[FoldResult, ...], of: Of) -> Json:
    tuned = join_predictions(study.test for study in outer if study.test is not None)
    default = join_predictions(rows for rows in map(_default_rows, outer) if rows is not None)
    if tuned is None or default is None:
        return {}
    found = paired_entries({"tuned": tuned, "default": default}, _variations(outer), of)
    if all(study.default is not None and study.default.chosen for study in outer):
        for each in found.values():
            each["difference"]["reason"] = ALWAYS_CHOSEN
    return found


def _variations(outer: tuple[FoldResult, ...]) -> tuple[Variation, Variation]:
    """Rows of the inner folds' models, of the chosen and of the default configuration."""
    chosen, default = {}, {}
    for study in outer:
        if study.variation is not None and study.default is not None:
            chosen[study.name] = study.variation
            own = study.variation if study.default.chosen else study.default.variation
            if own is not None:
                default[study.name] = own
    return chosen, default


def _default_rows(study: FoldResult) -> Predictions | None:
    """Test rows of the default configuration; those of the study itself where it was chosen."""
    if study.default is None:
        return None
    return study.test if study.default.chosen else study.default.test


def search_entries(run: Run) -> Json:
    """Entry of each study's search, by name; empty where the trials were not recorded."""
    maximise = METRICS[str(run.protocol["metric"])].direction == "maximize"
    return {name: _search_entry(search, maximise=maximise) for name, search in run.search.items()}


def _search_entry(search: Search, *, maximise: bool) -> Json:
    scored = [Candidate(one.number, one.value) for one in search.trials if one.value is not None]
    best = choose_trial(scored, maximise=maximise)
    return {
        "trials": len(search.trials),
        "complete": len(scored),
        "epochs": sum(one.epochs for one in search.trials),
        "chosen": None if best is None else best.number,
        "best": None if best is None else best.value,
        "first": next((one.value for one in scored if one.number == 0), None),
        "importance": dict(search.importance),
    }


def stability_entries(run: Run) -> Json:
    """How far apart the outer folds' choices lie, by parameter that could take several values.

    The number of epochs, from 1 to that of the run's options, is among them. Empty where the search
    space was not kept, or where fewer than two searches of outer folds have finished.
    """
    space: Mapping[str, Any] = run.provenance.get("search_space") or {}  # type: ignore[assignment]
    if not space or is_biased(run.protocol) or len(run.outer) < 2:
        return {}
    entries = {
        name: _stability(one, [s.params[name] for s in run.outer if name in s.params])
        for name, one in space.items()
        if _is_searched(one)
    }
    most = int(str(run.protocol.get("epochs", 0)))
    if most > 1:
        drawn = {"low": 1, "high": most, "log": False}
        entries["epochs"] = _stability(drawn, [study.epochs for study in run.outer])
    return entries


def _is_searched(drawn: Mapping[str, Any]) -> bool:
    return len(drawn["values"]) > 1 if "values" in drawn else drawn["low"] < drawn["high"]


def _stability(drawn: Mapping[str, Any], chosen: list[Any]) -> Json:
    apart = None
    if "values" not in drawn and chosen:
        scale = math.log if drawn["log"] else float
        length = scale(drawn["high"]) - scale(drawn["low"])
        apart = (scale(max(chosen)) - scale(min(chosen))) / length
    counts = Counter(map(str, chosen))
    return {"apart": apart, "agree": max(counts.values(), default=0), "folds": len(chosen)}
