"""Command line: parses the arguments and calls the verb; user errors give exit code 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from outerfold.storage.errors import DataError, suggest_name, unknown_name
from outerfold.storage.network import go_offline
from outerfold.storage.tasks import TASKS
from outerfold.study.cli.options import (
    add_data_options,
    add_options,
    add_run_options,
    split_names,
)
from outerfold.study.cli.process import (
    FAULT,
    describe_os_error,
    sigterm_as_interrupt,
    write_any_name,
)
from outerfold.study.config.execution import ReportOptions
from outerfold.study.config.gather import read_toml
from outerfold.study.config.option import check_types, options_of
from outerfold.study.config.record import StudyConfig
from outerfold.study.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from outerfold.study.plugins import load_plugins

VERBS = (
    "run",
    "report",
    "compare",
    "explain",
    "audit",
    "predict",
    "dashboard",
    "status",
    "doctor",
    "verify",
    "forget",
    "data",
    "cache",
)

DESCRIPTION = """\
Honest hyper-parameter studies of medical-image classifiers: nested, patient-grouped
cross-validation around Optuna, then a refit and a report with intervals over patients.
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
    write_any_name()
    try:
        with sigterm_as_interrupt():
            return _dispatch(list(argv))
    except DataError as error:
        print(f"outerfold: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("\nouterfold: interrupted", file=sys.stderr)  # noqa: T201
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_FAILED
    except Exception as error:
        if not isinstance(error, OSError) or error.errno is None:
            print(FAULT, file=sys.stderr)  # noqa: T201
            raise
        print(f"outerfold: {describe_os_error(error)}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE


def _dispatch(argv: list[str]) -> int:
    load_plugins(_named_plugins(argv))  # before the choices of options are read
    parser, verbs = build_parser()
    if argv and argv[0] in ("-h", "--help", "--version"):
        parser.parse_args(argv)
    verb = "run"
    if argv and not argv[0].startswith("-"):
        verb = argv.pop(0)
        if verb not in VERBS:
            raise DataError(unknown_name("verb", verb, list(VERBS)))
    chosen = verbs[verb]
    options, rest = chosen.parse_known_args(argv)
    if rest and verb == "predict":
        options.columns, rest = _parse_columns(rest)
    if rest:
        raise _refuse_word(rest[0], verb, chosen, argv)
    if verb == "run" and options.encoder == "list":
        from rich.console import Console

        from outerfold.study.cli.encoder_list import show_encoders

        return show_encoders(Console(highlight=False))
    if getattr(options, "offline", None):
        go_offline()
    action: Callable[[argparse.Namespace], int] = _find_action(verb)
    return action(options)


def _refuse_word(word: str, verb: str, parser: Parser, argv: list[str]) -> DataError:
    """Refusal of a word that is no option and no argument of a verb.

    Args:
        argv: the words after the verb.
    """
    if not word.startswith("-"):
        return DataError(f"unexpected argument {word!r} (see {parser.prog} --help)")
    name, known = word.split("=")[0], parser.options()
    if verb == "predict" and name.startswith("--") and not suggest_name(name, known):
        after = [value for one, value in pairwise(argv) if one == name and value[:1] != "-"]
        if after:  # argparse took the value for an image
            return DataError(
                f"{name} {after[0]} stands where an image is expected; images come before columns, "
                f"as in: outerfold predict RUN IMAGE {name} {after[0]}"
            )
        return DataError(f"{name} needs a value, as --age 61 has one; give it, or leave {name} out")
    return DataError(unknown_name("option", name, known))


def _named_plugins(argv: Sequence[str]) -> tuple[str, ...]:
    """Plugins that a command line names, else those of its configuration file."""
    first = Parser(add_help=False, allow_abbrev=False)
    first.add_argument("--plugin", type=split_names, default=None)
    first.add_argument("--config", type=Path)
    found, _ = first.parse_known_args(argv)
    if found.plugin is not None or found.config is None:
        return found.plugin or ()
    table = read_toml(found.config)
    check_types(table, StudyConfig)
    return tuple(table.get("plugin", ()))


def _parse_columns(rest: list[str]) -> tuple[dict[str, str], list[str]]:
    """Columns by name from words such as ``--age 61 --density 2``, and the words after them.

    Raises:
        DataError: a column is named twice.
    """
    pairs: dict[str, str] = {}
    rest = [part for text in rest for part in (text.split("=", 1) if text[:2] == "--" else [text])]
    while len(rest) >= 2 and rest[0].startswith("--") and not rest[1].startswith("--"):
        name = rest[0][2:]
        if name in pairs:
            raise DataError(
                f"{rest[0]} is given twice, as {pairs[name]} and {rest[1]}; give it once"
            )
        pairs[name] = rest[1]
        rest = rest[2:]
    return pairs, rest


def _find_action(verb: str) -> Callable[[argparse.Namespace], int]:
    # Imported only here, so that `--help` does not wait for torch.
    if verb == "run":
        from outerfold.study.cli.run import run

        return run
    from outerfold.study.cli import private, verbs

    if verb == "forget":
        return private.forget
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
    verbs = {}
    for verb, (fill, about) in _describe_verbs().items():
        verbs[verb] = group.add_parser(verb, help=about, description=about, allow_abbrev=False)
        fill(verbs[verb])
    parser.epilog = "Options of `run`: outerfold run --help"
    return parser, verbs


def _describe_verbs() -> dict[str, tuple[Callable[[Parser], None], str]]:
    """Function that adds the options of each verb, and its help, by name of the verb."""
    return {
        "run": (add_run_options, "search, refit, score once, report (the default verb)"),
        "report": (_add_report, "write a run's report again"),
        "compare": (_add_compare, "show the paired difference of two runs on the same splits"),
        "explain": (
            _add_explain,
            "show heat maps of the outer models and the importance of image and columns",
        ),
        "audit": (_add_audit, "check data for leaks and faults, without any training"),
        "predict": (_add_predict, "predict images with a run's shipped model"),
        "dashboard": (_add_dashboard, "watch a run's trials in optuna-dashboard on this machine"),
        "status": (_add_status, "show how far a run is, from any terminal that sees its folder"),
        "doctor": (_add_doctor, "find and repair what a crash left in a run directory"),
        "verify": (
            _add_verify,
            "check a run's files and compute its numbers again, or check a table of predictions",
        ),
        "forget": (_add_forget, "remove a patient from a run, its report and the cache"),
        "data": (_add_data, "write the demo, or download the task's public data set"),
        "cache": (_add_cache, "list what the cache holds, and remove what no run reads"),
    }


def _add_run_argument(parser: Parser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")


def _add_report(parser: Parser) -> None:
    _add_run_argument(parser)
    _add_plugin(parser)
    usual = dict.fromkeys(("level", "aggregate"), "as in the run")
    kept = "that of the report that lies there, or plain"
    add_options(parser, {**usual, "style": kept, "quiet": "off"})
    add_options(parser, {one.name: "" for one in options_of(ReportOptions)}, [ReportOptions])
    parser.add_argument(
        "--docx-template",
        type=Path,
        metavar="FILE",
        help="Word file (.docx) whose page, styles, header and footer Report.docx takes",
    )
    parser.add_argument(
        "--pseudonymise",
        type=Path,
        metavar="DIR",
        help="write a copy to share into this folder, with running numbers for images and patients",
    )
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="copy the pages of explain there too, which show images",
    )


def _add_compare(parser: Parser) -> None:
    parser.add_argument("run_a", type=Path, metavar="RUN_A", help="a run directory")
    parser.add_argument("run_b", type=Path, metavar="RUN_B", help="another, of the same data")
    parser.add_argument("--to", type=Path, metavar="DIR", help="write CSV, DOCX and JPG there too")
    _add_plugin(parser)


def _add_explain(parser: Parser) -> None:
    _add_run_argument(parser)
    _add_plugin(parser)
    parser.add_argument(
        "--cases",
        type=int,
        default=3,
        metavar="N",
        help="images of each class that are most surely right, most surely wrong, and borderline, "
        "N of each, 1 to 6 (3)",
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda:0, ... (a GPU if there is one)")
    add_options(parser, {"offline": "off"})


def _add_audit(parser: Parser) -> None:
    parser.add_argument("--task", choices=tuple(TASKS), default="multimodal")
    add_data_options(parser)
    add_options(parser, {"outer_folds": "5"}, default=5)
    add_options(parser, {"inner_folds": "4"}, default=4)
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help="write these answers as a TOML file that run --config takes, if there are no errors",
    )


def _add_predict(parser: Parser) -> None:
    _add_run_argument(parser)
    _add_plugin(parser)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    add_options(parser, {"max_pixels": "200 million", "offline": "off"})
    parser.epilog = "Give clinical columns by name, such as --age 61; others count as missing."
    parser.set_defaults(columns={})


def _add_plugin(parser: Parser) -> None:
    add_options(parser, {"plugin": "those of the run must be given"})


def _add_dashboard(parser: Parser) -> None:
    _add_run_argument(parser)
    parser.add_argument("--port", type=int, default=8080, metavar="N")
    parser.add_argument("--storage", metavar="URL", help="the run's database, if it has one")
    parser.add_argument(
        "--allow-changes",
        action="store_true",
        help="let its buttons change and delete studies, while no run works on the folder",
    )


def _add_status(parser: Parser) -> None:
    _add_run_argument(parser)
    parser.add_argument(
        "--follow", action="store_true", help="show it again every few seconds until it is finished"
    )
    parser.add_argument("--storage", metavar="URL", help="the run's database, if it has one")
    _add_plugin(parser)


def _add_doctor(parser: Parser) -> None:
    _add_run_argument(parser)


def _add_verify(parser: Parser) -> None:
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN|CSV",
        help="a run directory, or a CSV file with the columns id, patient, fold, label, p_CLASS...",
    )
    parser.add_argument(
        "--positive", metavar="NAME", help="positive class of a CSV file with two classes"
    )
    _add_plugin(parser)


def _add_forget(parser: Parser) -> None:
    parser.add_argument("patient", metavar="PATIENT", help="name of the patient in the run")
    _add_run_argument(parser)
    _add_plugin(parser)


def _add_data(parser: Parser) -> None:
    parser.add_argument("what", choices=("demo", "kaggle"))
    parser.add_argument("--task", choices=("dbt", "multimodal"), required=True)
    parser.add_argument("--to", type=Path, metavar="DIR", help="folder of the demo")
    parser.add_argument("--patients", type=int, metavar="N", help="number of patients in the demo")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the demo (0)")


def _add_cache(parser: Parser) -> None:
    parser.add_argument(
        "runs", type=Path, nargs="*", metavar="RUN", help="run directories whose tables stay"
    )
    parser.add_argument(
        "--remove",
        action="store_true",
        help="remove every table that none of the named runs reads",
    )
