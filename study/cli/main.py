"""The command line: what was typed to a verb, and every refusal to one sentence and exit code 2."""

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
Without a verb, `run` is meant. A research tool; not for clinical use."""


class Parser(argparse.ArgumentParser):
    """Argparse whose errors are one sentence with the nearest known name."""

    def error(self, message: str) -> NoReturn:
        """Refuse what was typed."""
        raise DataError(f"{message} (see {self.prog} --help)")

    def options(self) -> list[str]:
        """Every long option this parser knows."""
        return [name for action in self._actions for name in action.option_strings]


def main(argv: Sequence[str]) -> int:
    """Carry out a command line; returns the exit code."""
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
        options.columns, rest = _columns_of(rest)
    for name in rest:
        if name.startswith("-"):
            raise DataError(unknown("option", name.split("=")[0], chosen.options()))
        raise DataError(f"unexpected argument {name!r} (see {chosen.prog} --help)")
    if verb == "run" and options.encoder == "list":
        from rich.console import Console

        from outerfold.study.cli.encoder_list import show_encoders

        return show_encoders(Console(highlight=False))
    action: Callable[[argparse.Namespace], int] = _action(verb)
    return action(options)


def _columns_of(rest: list[str]) -> tuple[dict[str, str], list[str]]:
    """``--age 61 --density 2`` as columns; anything else is left over."""
    pairs: dict[str, str] = {}
    rest = [part for text in rest for part in (text.split("=", 1) if text[:2] == "--" else [text])]
    while len(rest) >= 2 and rest[0].startswith("--") and not rest[1].startswith("--"):
        pairs[rest[0][2:].replace("-", "_")] = rest[1]
        rest = rest[2:]
    return pairs, rest


def _action(verb: str) -> Callable[[argparse.Namespace], int]:
    # Loaded only now: `--help` must not wait for torch.
    if verb == "run":
        from outerfold.study.cli.run import run

        return run
    from outerfold.study.cli import verbs

    action: Callable[[argparse.Namespace], int] = getattr(verbs, verb)
    return action


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser of the whole command line, and that of each verb."""
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
        "run": (_run, "search, refit, score once, report (the default verb)"),
        "report": (_report, "write a run's report again"),
        "compare": (_compare, "the paired difference of two runs on the same splits"),
        "explain": (
            _explain,
            "what the outer models look at, and what image and columns are worth",
        ),
        "audit": (_audit, "check data for leaks and faults, train nothing"),
        "predict": (_predict, "score images with a run's shipped model"),
        "dashboard": (_dashboard, "watch a run's trials in optuna-dashboard on this machine"),
        "doctor": (_doctor, "find and mend what a crash left in a run directory"),
        "data": (_data, "write the demo, or fetch the task's public data set"),
    }
    verbs = {}
    for verb, (fill, about) in makers.items():
        verbs[verb] = group.add_parser(verb, help=about, description=about, allow_abbrev=False)
        fill(verbs[verb])
    parser.epilog = "Options of `run`: outerfold run --help"
    return parser, verbs


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("names at least one, separated by commas")
    return names


def _number_or(text: str, *, word: str) -> int | str:
    if text == word:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a whole number or {word}, found {text!r}") from None


def _data_options(parser: Parser, *, required: bool) -> None:
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        metavar="PATH",
        required=required,
        help="folder of class folders, Mini-DDSM folder or CSV manifest; left out, the task's "
        "public set if it can be had, else a synthetic demo with a banner",
    )
    data.add_argument("--classes", type=_names, metavar="A,B", help="keep these classes only")
    data.add_argument(
        "--positive",
        metavar="NAME",
        help="multimodal: the positive class (cancer or malignant unless said)",
    )
    data.add_argument(
        "--columns",
        type=_names,
        metavar="A,B",
        help="multimodal: clinical columns (those there are of age, density, family_history)",
    )
    data.add_argument(
        "--patient-regex", metavar="REGEX", help="one group names the patient in a file's path"
    )


def _run(parser: Parser) -> None:
    parser.add_argument("--task", choices=TASKS, help="dbt (images, 4 classes) or multimodal")
    _data_options(parser, required=False)
    protocol = parser.add_argument_group("protocol")
    number = {"type": int, "metavar": "N"}
    protocol.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        help="nested, or what usual practice would claim, in a report stamped as biased (nested)",
    )
    protocol.add_argument(
        "--ablate",
        type=_names,
        metavar="A,B",
        help="one study a level of each factor (attention, sampler, ...), and paired differences",
    )
    protocol.add_argument("--trials", **number, help="trials of each study (100)")  # type: ignore[arg-type]
    protocol.add_argument(
        "--patience",
        **number,  # type: ignore[arg-type]
        help="end a study after N trials in a row, complete or pruned, without a better inner "
        "score; the same for any number of workers (0: never)",
    )
    protocol.add_argument(
        "--in-flight",
        **number,  # type: ignore[arg-type]
        help="trials of a study at once, for more workers than studies; changes the search, the "
        "same for any number of workers (1)",
    )
    protocol.add_argument(
        "--max-time",
        metavar="TIME",
        help="end the search so that refits and report are done by then (2h, 30m, 90s, 1h30m); "
        "how far it comes, and so the results, then depend on the machine",
    )
    protocol.add_argument("--outer-folds", **number, help="(5)")  # type: ignore[arg-type]
    protocol.add_argument("--inner-folds", **number, help="(4)")  # type: ignore[arg-type]
    protocol.add_argument("--repeats", **number, help="of the outer folds (1)")  # type: ignore[arg-type]
    protocol.add_argument("--metric", choices=METRIC_NAMES, help="what is searched for (roc_auc)")
    protocol.add_argument("--seed", **number, help="of the whole run (0)")  # type: ignore[arg-type]
    protocol.add_argument("--pruner", choices=PRUNER_NAMES, help="(halving)")
    protocol.add_argument("--threshold", choices=RULES, help="two classes: how to decide (youden)")
    protocol.add_argument(
        "--threshold-target", type=float, metavar="X", help="of that sensitivity or specificity"
    )
    _level_options(protocol, ("image", "mean"))
    model = parser.add_argument_group("model")
    model.add_argument(
        "--encoder",
        metavar="NAME",
        help="clip:NAME, timm:NAME or bundled:...; A,B to search over both; list for a table",
    )
    model.add_argument(
        "--weights", metavar="FILE", help="of the encoder (NAME=FILE,... of several)"
    )
    model.add_argument(
        "--fit",
        choices=FITS,
        help="an image into the encoder's square: keep its shape and pad, or stretch it (pad)",
    )
    model.add_argument(
        "--crop", choices=CROPS, help="cut away a mammogram's empty background first (none)"
    )
    model.add_argument(
        "--trainable-blocks",
        type=partial(_number_or, word=ALL),
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
        help="trained of the chosen configuration, their probabilities averaged (5; with "
        "trainable blocks 1)",
    )
    model.add_argument(
        "--final",
        choices=FINALS,
        help="what ships: a refit on all rows, by a search of its own, or the mean of the outer "
        "models, without that search (refit)",
    )
    model.add_argument(
        "--tta",
        **number,  # type: ignore[arg-type]
        help="augmented views over which, with the image itself, every score is averaged (0)",
    )
    model.add_argument("--epochs", **number, help="at most (dbt 30, multimodal 100)")  # type: ignore[arg-type]
    model.add_argument("--patience-epochs", **number, help="without a new best (20)")  # type: ignore[arg-type]
    model.add_argument(
        "--batch-size",
        type=partial(_number_or, word=AUTO),
        metavar="N",
        help="fixed instead of searched; auto: with trainable blocks, the largest that fits",
    )
    model.add_argument("--config", type=Path, metavar="FILE", help="TOML; options here win over it")
    how = parser.add_argument_group("execution (changes no result)")
    how.add_argument("--run", type=Path, metavar="DIR", help="run directory (runs/...)")
    how.add_argument(
        "--workers",
        **number,  # type: ignore[arg-type]
        help="processes (one a GPU, else one a core); with dask at most so many (all)",
    )
    how.add_argument(
        "--workers-per-gpu",
        **number,  # type: ignore[arg-type]
        help="processes on each GPU instead; small heads leave most of a GPU idle (1)",
    )
    how.add_argument("--engine", choices=ENGINES, help="how work reaches processes (local)")
    how.add_argument("--engine-address", metavar="URL", help="of a Dask scheduler, tcp://HOST:PORT")
    how.add_argument("--storage", metavar="URL", help="database for trials (a journal file)")
    how.add_argument("--quiet", action="store_true", default=None, help="no live progress")


def _level_options(group: argparse._ActionsContainer, unless: tuple[str, str]) -> None:
    """``unless`` says what they are where they are left out."""
    group.add_argument("--level", choices=LEVELS, help=f"what the report leads with ({unless[0]})")
    group.add_argument(
        "--aggregate",
        choices=AGGREGATES,
        help=f"how a patient's images make one probability ({unless[1]})",
    )


def _run_argument(parser: Parser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")


def _report(parser: Parser) -> None:
    _run_argument(parser)
    _level_options(parser, ("as in the run", "as in the run"))


def _compare(parser: Parser) -> None:
    parser.add_argument("run_a", type=Path, metavar="RUN_A", help="a run directory")
    parser.add_argument("run_b", type=Path, metavar="RUN_B", help="another, of the same data")
    parser.add_argument("--to", type=Path, metavar="DIR", help="write CSV, DOCX and JPG there too")


def _explain(parser: Parser) -> None:
    _run_argument(parser)
    parser.add_argument(
        "--cases",
        type=int,
        default=3,
        metavar="N",
        help="images a class that are surest right, surest wrong and borderline, 1 to 6 (3)",
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda:0, ... (a GPU where there is one)")


def _audit(parser: Parser) -> None:
    parser.add_argument("--task", choices=TASKS, default="multimodal")
    _data_options(parser, required=True)
    parser.add_argument("--outer-folds", type=int, default=5, metavar="N")
    parser.add_argument("--inner-folds", type=int, default=4, metavar="N")


def _predict(parser: Parser) -> None:
    _run_argument(parser)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.epilog = "Clinical columns by name, such as --age 61; those left out count as missing."
    parser.set_defaults(columns={})


def _dashboard(parser: Parser) -> None:
    _run_argument(parser)
    parser.add_argument("--port", type=int, default=8080, metavar="N")
    parser.add_argument("--storage", metavar="URL", help="the run's database, if it has one")


def _doctor(parser: Parser) -> None:
    _run_argument(parser)


def _data(parser: Parser) -> None:
    parser.add_argument("what", choices=("demo", "kaggle"))
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--to", type=Path, metavar="DIR", help="where the demo is written")
    parser.add_argument("--patients", type=int, metavar="N", help="of the demo")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the demo")
