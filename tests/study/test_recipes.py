"""Recipes of docs/architecture.md: each is one file, and a whole study uses it to its report."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import log_loss

from outerfold.reports import drawing
from outerfold.storage.cache.files import read_json
from outerfold.storage.runs.folder import RunFolder
from outerfold.storage.trials.journal import open_trials
from outerfold.study.cli.main import main
from outerfold.study.plugins import load_plugins
from tests.places import ROOT

RECIPES = dict(
    re.findall(
        r"```python\n# recipe: (\w+\.py)\n(.*?)```",
        (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
)
SPACE = """
[space.sampler]
values = ["under"]
[space.batch_size]
values = [32]
[space.augmented_views]
values = [0]
"""


def write_images(root: Path) -> Path:
    """Images of 24 patients of three grades, and the list that names them."""
    rng, lines = np.random.default_rng(0), []
    for patient in range(24):
        label = ("low", "middle", "severe")[patient % 3]
        pixels = rng.integers(0, 200 - 40 * (patient % 3), (32, 32, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"i{patient:02}.png")
        lines.append(f"i{patient:02}.png;{label};P{patient:02};{40 + patient}")
    (root / "rows.txt").write_text("\n".join(lines))
    return root / "rows.txt"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("plugins")
    for name, text in RECIPES.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "space.toml").write_text(SPACE)
    return {name: folder / name for name in (*RECIPES, "space.toml")}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, files: dict[str, Path]) -> Iterator[Path]:
    """A run with all recipes, whose trials a worker process trained."""
    root = tmp_path_factory.mktemp("recipes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTERFOLD_CACHE", str(root / "cache"))
        assert main([*words(files, write_images(root)), "--run", str(root / "run")]) == 0
    yield root / "run"
    load_plugins(())


def words(files: dict[str, Path], data: Path) -> list[str]:
    few = ["--trials", "1", "--outer-folds", "2", "--inner-folds", "2", "--epochs", "2"]
    own = ["--metric", "log_loss", "--encoder", "colour:grid", "--encoder-backend", "torch"]
    quiet = ["--workers", "1", "--quiet", "--config", str(files["space.toml"])]
    return [
        "--task",
        "grades",
        "--columns",
        "age",
        "--data",
        str(data),
        *named(files),
        *few,
        *own,
        *quiet,
    ]


def named(files: dict[str, Path]) -> list[str]:
    return ["--plugin", ",".join(str(files[name]) for name in RECIPES)]


def test_there_is_a_recipe_for_each_kind() -> None:
    assert list(RECIPES) == [
        "log_loss.py",
        "under.py",
        "colour.py",
        "text_list.py",
        "spread.py",
        "grades.py",
    ]


def test_the_table_counts_the_lines_of_the_recipes() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| an? [\w ]+ \([\w ]+\) \|.*\| 1 \| (\d+) \|$", page, re.MULTILINE)
    counted = [sum(bool(line.strip()) for line in text.splitlines()) for text in RECIPES.values()]
    assert list(map(int, told)) == counted


def test_the_metric_is_searched_and_is_in_the_tables_with_its_interval(run: Path) -> None:
    numbers = read_json(run / "report" / "results.json")
    assert numbers["protocol"]["metric"] == "log_loss"
    rows = pd.read_csv(run / "report" / "predictions.csv")
    own = numbers["overall"]["log_loss"]
    probabilities = rows[["p_low", "p_middle", "p_severe"]]
    assert own["estimate"] == pytest.approx(log_loss(rows["label"], probabilities), abs=1e-4)
    assert 0 < own["low"] < own["estimate"] < own["high"]
    trials = open_trials(RunFolder(run), None).get_all_trials(0)
    assert trials[0].value > 0.3  # of the metric that is minimised
    page = (run / "report" / "report.html").read_text(encoding="utf-8")
    assert "Log loss" in page
    assert (run / "report" / "Figure_Spread.jpg").stat().st_size > 5_000
    assert "Probabilities of the outer test rows" in page


def test_the_other_recipes_made_the_run(run: Path, files: dict[str, Path]) -> None:
    numbers = read_json(run / "report" / "results.json")
    assert numbers["dataset"]["patients"] == 24  # of the list that the reader reads
    assert list(numbers["dataset"]["classes"]) == ["low", "middle", "severe"]  # of the task
    assert numbers["protocol"]["encoder"] == "colour:grid"
    kept = numbers["protocol"]["plugin"]
    assert [one.split()[0] for one in kept] == list(RECIPES)
    assert all(fold["params"]["sampler"] == "under" for fold in numbers["outer"])


@pytest.mark.parametrize("verb", ["report", "explain", "predict", "compare"])
def test_a_verb_asks_for_the_files_again(
    verb: str, run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = {"predict": [str(run.parent / "i00.png")], "compare": [str(tmp_path)]}.get(verb, [])
    assert main([verb, str(run), *other]) == 2
    assert "was made with the plugin log_loss.py sha256:" in capsys.readouterr().err


def test_with_the_files_a_verb_works_and_the_terminal_shows_the_metric(
    run: Path,
    files: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drawing, "vectors", lambda *_, **__: {})  # they take most of the time
    assert (
        main(["predict", str(run), str(run.parent / "i00.png"), "--age", "50", *named(files)]) == 0
    )
    assert "i00.png" in capsys.readouterr().out
    assert main(["report", str(run), *named(files)]) == 0
    assert "Log loss" in capsys.readouterr().out


def test_a_resumption_with_another_plugin_is_refused(
    run: Path, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {name: Path(shutil.copy(path, tmp_path)) for name, path in files.items()}
    other["log_loss.py"].write_text(RECIPES["log_loss.py"] + "\n# another\n")
    asked = words(other, run.parent / "rows.txt")
    assert main([*asked, "--run", str(run)]) == 2
    assert "plugin was ('log_loss.py sha256:" in capsys.readouterr().err
