"""Plugins: what is loaded, how it is identified, and what is refused in a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from outerfold.objectives.metrics import METRICS
from outerfold.storage.errors import DataError
from outerfold.study import plugins
from outerfold.study.cli.main import main
from outerfold.study.plugins import identities, load_plugins, require_plugins

METRIC = """
from outerfold.objectives.measures.metric import Metric, Whole
from outerfold.objectives.metrics import METRICS
METRICS.add(Metric(name={name!r}, label="Own", direction="maximize", needs="decisions",
                   how=Whole(lambda labels, probabilities, predicted: {value})))
"""


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    load_plugins(())
    yield
    load_plugins(())


def write(path: Path, name: str = "own", value: str = "0.5") -> Path:
    path.write_text(METRIC.format(name=name, value=value), encoding="utf-8")
    return path


def test_only_the_plugins_that_a_run_names_are_there(tmp_path: Path) -> None:
    before = list(METRICS)
    one, other = write(tmp_path / "one.py", "one"), write(tmp_path / "other.py", "other")
    load_plugins([str(one), str(other)])
    assert list(METRICS) == [*before, "one", "other"]
    load_plugins([str(other)])
    assert list(METRICS) == [*before, "other"]
    load_plugins(())
    assert list(METRICS) == before


def test_changed_contents_are_run_again_and_have_another_identity(tmp_path: Path) -> None:
    path = write(tmp_path / "one.py", value="0.25")
    load_plugins([str(path)])
    first, kept = identities(), METRICS["own"]
    load_plugins([str(path)])
    assert METRICS["own"] is kept  # the same contents are not run twice
    write(path, value="0.75")
    load_plugins([str(path)])
    assert identities() != first
    assert METRICS["own"].how.score(None, None, None) == 0.75  # type: ignore[union-attr,arg-type]


def test_modules_beside_a_plugin_belong_to_its_identity(tmp_path: Path) -> None:
    (tmp_path / "inner_values.py").write_text("VALUE = 0.25")
    (tmp_path / "outer_values.py").write_text("from inner_values import VALUE")
    path = tmp_path / "one.py"
    path.write_text("from outer_values import VALUE" + METRIC.format(name="own", value="VALUE"))
    load_plugins([str(path)])
    first = identities()
    (tmp_path / "stranger.py").write_text("VALUE = 1")
    load_plugins([str(path)])
    assert identities() == first
    (tmp_path / "inner_values.py").write_text("VALUE = 0.75")
    load_plugins([str(path)])
    assert identities() != first
    assert METRICS["own"].how.score(None, None, None) == 0.75  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:\n    pass", r"bad.py, line 1: SyntaxError: "),
        ("x = 1\ny = x / 0", r"bad.py, line 2: ZeroDivisionError: division by zero"),
        ("import nowhere_at_all", r"bad.py, line 1: ModuleNotFoundError: No module named"),
        ("import sys\nsys.exit(3)", r"bad.py, line 2: SystemExit: 3"),
        ("x = 1", r"bad.py: adds nothing; a plugin adds a record to a registry"),
        (METRIC.format(name="brier", value="0.5"), r"bad.py, line 4: metric 'brier' is added twic"),
    ],
)
def test_a_broken_plugin_is_one_sentence_with_its_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.py"
    path.write_text(text)
    before = list(METRICS)
    assert main(["--task", "dbt", "--plugin", str(path)]) == 2
    told = capsys.readouterr().err
    assert re.search(message, told)
    assert told.count("\n") == 1
    assert list(METRICS) == before


def test_a_plugin_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--plugin .*none\.py: cannot be read \(No such file"):
        load_plugins([str(tmp_path / "none.py")])
    with pytest.raises(DataError, match=r"unknown entry point 'nameless'.* a file ends in \.py"):
        load_plugins(["nameless"])
    path = write(tmp_path / "one.py")
    with pytest.raises(DataError, match=r"names one\.py sha256:\w+ twice"):
        load_plugins([str(path), str(path)])


def test_what_is_defined_in_a_notebook_is_refused_with_the_reason() -> None:
    with pytest.raises(DataError, match=r"outside a plugin, such as in a notebook, and worker"):
        METRICS.add(METRICS["brier"])


def test_an_entry_point_is_known_by_the_version_of_its_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "entry_of_a_test.py")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("mine", "entry_of_a_test", plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    load_plugins(["mine"])
    assert identities() == ("mine (no distribution)",)
    load_plugins(())
    assert "own" not in METRICS
    load_plugins(["mine"])  # its module was imported before
    assert "own" in METRICS


def test_the_metric_of_a_plugin_is_a_choice_also_by_a_configuration_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.toml"
    config.write_text(f'task = "dbt"\nmetric = "own"\nplugin = ["{write(tmp_path / "one.py")}"]\n')
    nowhere = ["--data", str(tmp_path / "nowhere")]
    assert main(["--config", str(config), *nowhere]) == 2
    assert "nowhere" in capsys.readouterr().err  # all options were accepted
    assert main(["--task", "dbt", "--metric", "own", *nowhere]) == 2
    assert "invalid choice: 'own'" in capsys.readouterr().err


def test_a_run_asks_for_its_plugin_again(tmp_path: Path) -> None:
    path = write(tmp_path / "one.py")
    load_plugins([str(path)])
    kept = identities()
    require_plugins(kept, "runs/x")
    load_plugins(())
    with pytest.raises(
        DataError, match=r"runs/x was made with the plugin one\.py sha256:\w+, and code is never .*"
    ):
        require_plugins(kept, "runs/x")
