"""Command line: parses the arguments and calls the verb; user errors give exit code 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from outerfold.storage.errors import DataError, unknown
from outerfold.storage.images.framing import CROPS, FITS
from outerfold.study.config.record import (
    AGGREGATES,
    ALL,
    AUTO,
    ENGINES,
    FINALS,
    LEVELS,
    METRIC_NAMES,
    PROTOCOLS,
    PRUNER_NAMES,
    RULES,
    TASKS,
)
from outerfold.study.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE

VERBS = (
    "run",
    "report",
    "compare",
    "explain",
    "audit",
    "predict",
    "dashboard",
    "doctor",
    "data",
)

DESCRIPTION = """\
Honest hyper-parameter studies of medical-image classifiers: nested, patient-grouped
cross-validation around Optuna, then a refit and a report whose intervals cover.
The default verb is `run`. A research tool; not for clinical use."""


class Parser(argparse.ArgumentParser):
    """Argument parser that raises its errors as ``DataError``."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Raises:
            DataError: always, with ``message``.
        """
        raise DataError(f"{message} (see {self.prog} --help)")

    def options(self) -> list[str]:
        """Names of all options of this parser."""
        return [name for action in self._actions for name in action.option_strings]


def main(argv: Sequence[str]) -> int:
    """Carry out a command line, given without the program's name; return the exit code."""
    try:
        return _dispatch(list(argv))
    except DataError as error:
        print(f"outerfold: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("\nouterfold: interrupted", file=sys.stderr)  # noqa: T201
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_FAILED


def _dispatch(argv: list[str]) -> int:
    parser, verbs = build_parser()
    if argv and argv[0] in ("-h", "--help", "--version"):
        parser.parse_args(argv)
    verb = "run"
    if argv and not argv[0].startswith("-"):
        verb = argv.pop(0)
        if verb not in VERBS:
            raise DataError(unknown("verb", verb, list(VERBS)))
    chosen = verbs[verb]
    options, rest = chosen.parse_known_args(argv)
    if rest and verb == "predict":
        options.columns, rest = _parse_columns(rest)
    for name in rest:
        if name.startswith("-"):
            raise DataError(unknown("option", name.split("=")[0], chosen.options()))
        raise DataError(f"unexpected argument {name!r} (see {chosen.prog} --help)")
    if verb == "run" and options.encoder == "list":
        from rich.console import Console

        from outerfold.study.cli.encoder_list import show_encoders

        return show_encoders(Console(highlight=False))
    action: Callable[[argparse.Namespace], int] = _find_action(verb)
    return action(options)


def _parse_columns(rest: list[str]) -> tuple[dict[str, str], list[str]]:
    """Columns by name from words such as ``--age 61 --density 2``, and the words after them."""
    pairs: dict[str, str] = {}
    rest = [part for text in rest for part in (text.split("=", 1) if text[:2] == "--" else [text])]
    while len(rest) >= 2 and rest[0].startswith("--") and not rest[1].startswith("--"):
        pairs[rest[0][2:].replace("-", "_")] = rest[1]
        rest = rest[2:]
    return pairs, rest


def _find_action(verb: str) -> Callable[[argparse.Namespace], int]:
    # Imported only here, so that `--help` does not wait for torch.
    if verb == "run":
        from outerfold.study.cli.run import run

        return run
    from outerfold.study.cli import verbs

    action: Callable[[argparse.Namespace], int] = getattr(verbs, verb)
    return action


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """Parser of the whole command line, and the parser of each verb by name."""
    from outerfold.study.cli.version import own_version

    parser = Parser(
        prog="outerfold",
        description=DESCRIPTION,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"outerfold {own_version()}")
    group = parser.add_subparsers(title="verbs", metavar="VERB", parser_class=Parser)
    makers = {
        "run": (_add_run, "search, refit, score once, report (the default verb)"),
        "report": (_add_report, "write a run's report again"),
        "compare": (_add_compare, "show the paired difference of two runs on the same splits"),
        "explain": (
            _add_explain,
            "show heat maps of the outer models and the importance of image and columns",
        ),
        "audit": (_add_audit, "check data for leaks and faults, without any training"),
        "predict": (_add_predict, "predict images with a run's shipped model"),
        "dashboard": (_add_dashboard, "watch a run's trials in optuna-dashboard on this machine"),
        "doctor": (_add_doctor, "find and repair what a crash left in a run directory"),
        "data": (_add_data, "write the demo, or download the task's public data set"),
    }
    verbs = {}
    for verb, (fill, about) in makers.items():
        verbs[verb] = group.add_parser(verb, help=about, description=about, allow_abbrev=False)
        fill(verbs[verb])
    parser.epilog = "Options of `run`: outerfold run --help"
    return parser, verbs


def _parse_names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("needs at least one name; separate names by commas")
    return names


def _parse_number(text: str, *, word: str) -> int | str:
    if text == word:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"needs a whole number or {word}, found {text!r}"
        ) from None


def _add_data_options(parser: Parser, *, required: bool) -> None:
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        metavar="PATH",
        required=required,
        help="folder of class folders, Mini-DDSM folder or CSV manifest (the task's public set "
        "if it is available, else a synthetic demo with a banner)",
    )
    data.add_argument("--classes", type=_parse_names, metavar="A,B", help="keep these classes only")
    data.add_argument(
        "--positive",
        metavar="NAME",
        help="multimodal: the positive class (cancer or malignant)",
    )
    data.add_argument(
        "--columns",
        type=_parse_names,
        metavar="A,B",
        help="multimodal: clinical columns (age, density and family_history, where present)",
    )
    data.add_argument(
        "--patient-regex",
        metavar="REGEX",
        help="pattern for file paths; its one group is the patient",
    )


def _add_run(parser: Parser) -> None:
    parser.add_argument("--task", choices=TASKS, help="dbt (images, 4 classes) or multimodal")
    _add_data_options(parser, required=False)
    protocol = parser.add_argument_group("protocol")
    number = {"type": int, "metavar": "N"}
    protocol.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        help="nested; or non-nested as in common practice, in a report marked as biased (nested)",
    )
    protocol.add_argument(
        "--ablate",
        type=_parse_names,
        metavar="A,B",
        help="one run for each level of each factor (attention, sampler, ...), and their paired "
        "differences",
    )
    protocol.add_argument("--trials", **number, help="trials of each study (100)")  # type: ignore[arg-type]
    protocol.add_argument(
        "--patience",
        **number,  # type: ignore[arg-type]
        help="end a search after N trials in a row, complete or pruned, without a better inner "
        "score; the number of workers makes no difference (0: never)",
    )
    protocol.add_argument(
        "--in-flight",
        **number,  # type: ignore[arg-type]
        help="trials of a study at once, for more workers than studies; it changes the search, but "
        "the number of workers does not (1)",
    )
    protocol.add_argument(
        "--max-time",
        metavar="TIME",
        help="end the search so that refits and report are finished within this time (2h, 30m, "
        "90s, 1h30m); the number of trials, and so the results, then depend on the machine",
    )
    protocol.add_argument("--outer-folds", **number, help="number of outer folds (5)")  # type: ignore[arg-type]
    protocol.add_argument("--inner-folds", **number, help="number of inner folds (4)")  # type: ignore[arg-type]
    protocol.add_argument("--repeats", **number, help="repeats of the outer folds (1)")  # type: ignore[arg-type]
    protocol.add_argument("--metric", choices=METRIC_NAMES, help="metric of the search (roc_auc)")
    protocol.add_argument("--seed", **number, help="seed of the whole run (0)")  # type: ignore[arg-type]
    protocol.add_argument(
        "--pruner", choices=PRUNER_NAMES, help="rule that prunes trials (halving)"
    )
    protocol.add_argument(
        "--threshold", choices=RULES, help="two classes: rule of the threshold (youden)"
    )
    protocol.add_argument(
        "--threshold-target",
        type=float,
        metavar="X",
        help="sensitivity or specificity that the threshold must reach (0.9)",
    )
    _add_level_options(protocol, ("image", "mean"))
    model = parser.add_argument_group("model")
    model.add_argument(
        "--encoder",
        metavar="NAME",
        help="clip:NAME, timm:NAME or bundled:...; A,B searches over both; list prints a table",
    )
    model.add_argument(
        "--weights",
        metavar="FILE",
        help="weights file of the encoder; NAME=FILE,... for several encoders",
    )
    model.add_argument(
        "--fit",
        choices=FITS,
        help="way to make an image square: pad it, or stretch it (pad)",
    )
    model.add_argument(
        "--crop", choices=CROPS, help="breast cuts away a mammogram's empty background (none)"
    )
    model.add_argument(
        "--trainable-blocks",
        type=partial(_parse_number, word=ALL),
        metavar="N",
        help="last blocks of the encoder that are trained, or all (2 on a GPU, else 0)",
    )
    model.add_argument(
        "--checkpointing",
        action="store_true",
        default=None,
        help="with trainable blocks: compute activations twice instead of keeping them",
    )
    model.add_argument(
        "--networks",
        **number,  # type: ignore[arg-type]
        help="networks that the refit trains and whose probabilities are averaged (5; with "
        "trainable blocks 1)",
    )
    model.add_argument(
        "--final",
        choices=FINALS,
        help="shipped model: refit searches and trains on all rows, ensemble is the mean of the "
        "outer models and needs no further search (refit)",
    )
    model.add_argument(
        "--tta",
        **number,  # type: ignore[arg-type]
        help="augmented views whose probabilities are averaged with those of the image (0)",
    )
    model.add_argument("--epochs", **number, help="most epochs (dbt 30, multimodal 100)")  # type: ignore[arg-type]
    model.add_argument(
        "--patience-epochs",
        **number,  # type: ignore[arg-type]
        help="end a training after N epochs without a new best score (20)",
    )
    model.add_argument(
        "--batch-size",
        type=partial(_parse_number, word=AUTO),
        metavar="N",
        help="fixed batch size in place of the search; auto: with trainable blocks, the largest "
        "that fits in memory",
    )
    model.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file with options; options of the command line replace them",
    )
    how = parser.add_argument_group("execution (changes no result)")
    how.add_argument("--run", type=Path, metavar="DIR", help="run directory (runs/...)")
    how.add_argument(
        "--workers",
        **number,  # type: ignore[arg-type]
        help="worker processes (one for each GPU, else for each core); with dask, at most N (all)",
    )
    how.add_argument(
        "--workers-per-gpu",
        **number,  # type: ignore[arg-type]
        help="worker processes on each GPU; small heads use little of a GPU (1)",
    )
    how.add_argument("--engine", choices=ENGINES, help="local processes, or a Dask cluster (local)")
    how.add_argument(
        "--engine-address", metavar="URL", help="address of a Dask scheduler, tcp://HOST:PORT"
    )
    how.add_argument("--storage", metavar="URL", help="database for trials (a journal file)")
    how.add_argument("--quiet", action="store_true", default=None, help="no live progress")


def _add_level_options(group: argparse._ActionsContainer, defaults: tuple[str, str]) -> None:
    """Add --level and --aggregate; ``defaults`` are their defaults in the help text."""
    group.add_argument(
        "--level", choices=LEVELS, help=f"level of the report's main results ({defaults[0]})"
    )
    group.add_argument(
        "--aggregate",
        choices=AGGREGATES,
        help=f"way to make one probability of a patient's images ({defaults[1]})",
    )


def _add_run_argument(parser: Parser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")


def _add_report(parser: Parser) -> None:
    _add_run_argument(parser)
    _add_level_options(parser, ("as in the run", "as in the run"))


def _add_compare(parser: Parser) -> None:
    parser.add_argument("run_a", type=Path, metavar="RUN_A", help="a run directory")
    parser.add_argument("run_b", type=Path, metavar="RUN_B", help="another, of the same data")
    parser.add_argument("--to", type=Path, metavar="DIR", help="write CSV, DOCX and JPG there too")


def _add_explain(parser: Parser) -> None:
    _add_run_argument(parser)
    parser.add_argument(
        "--cases",
        type=int,
        default=3,
        metavar="N",
        help="images of each class that are most surely right, most surely wrong, and borderline, "
        "N of each, 1 to 6 (3)",
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda:0, ... (a GPU if there is one)")


def _add_audit(parser: Parser) -> None:
    parser.add_argument("--task", choices=TASKS, default="multimodal")
    _add_data_options(parser, required=True)
    parser.add_argument("--outer-folds", type=int, default=5, metavar="N")
    parser.add_argument("--inner-folds", type=int, default=4, metavar="N")


def _add_predict(parser: Parser) -> None:
    _add_run_argument(parser)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.epilog = "Give clinical columns by name, such as --age 61; others count as missing."
    parser.set_defaults(columns={})


def _add_dashboard(parser: Parser) -> None:
    _add_run_argument(parser)
    parser.add_argument("--port", type=int, default=8080, metavar="N")
    parser.add_argument("--storage", metavar="URL", help="the run's database, if it has one")


def _add_doctor(parser: Parser) -> None:
    _add_run_argument(parser)


def _add_data(parser: Parser) -> None:
    parser.add_argument("what", choices=("demo", "kaggle"))
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--to", type=Path, metavar="DIR", help="folder of the demo")
    parser.add_argument("--patients", type=int, metavar="N", help="number of patients in the demo")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the demo (0)")
