"""The command line refuses in one sentence and exit code 2, and never with a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch

from outerfold.storage.cache.inventory import record_stores
from outerfold.storage.cache.row_store import RowCache
from outerfold.study.cli.main import VERBS, main
from outerfold.study.exit_codes import EXIT_USAGE
from tests.places import ROOT
from tests.storage.images.image_factories import class_folders, write_metadata, write_picture

PATIENT = "(P[0-9]+)_"
SMALL = ("--trials", "1", "--outer-folds", "3", "--inner-folds", "2", "--epochs", "1")

Refuse = Callable[..., str]


@pytest.fixture
def refuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Refuse:
    """Carry out a command that must be refused; returns its one sentence."""
    monkeypatch.setenv("OUTERFOLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def command(*words: str | Path) -> str:
        assert main([str(word) for word in words]) == EXIT_USAGE == 2
        said = capsys.readouterr().err
        assert said.startswith("outerfold: ")
        assert said.count("\n") == 1
        assert said.endswith("\n")
        assert "Traceback" not in said
        return said[len("outerfold: ") : -1]

    return command


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients of either class, one image each; nothing writes to it."""
    return class_folders(tmp_path_factory.mktemp("good"), {"benign": 8, "cancer": 8})


def study(data: Path, *words: str | Path) -> list[str | Path]:
    """A small run on ``data``, by the encoder that needs no download."""
    return [
        "--task",
        "multimodal",
        "--data",
        data,
        "--patient-regex",
        PATIENT,
        "--encoder",
        "bundled:efficientnet_lite0",
        *SMALL,
        *words,
    ]


# -- data ------------------------------------------------------------------------------------


def test_a_folder_that_does_not_exist_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    said = refuse(*study(tmp_path / "none"))
    assert said == f"--data {tmp_path}/none: no such folder or file; check the path"


def test_data_that_is_a_text_file_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    said = refuse(*study(tmp_path / "notes.txt"))
    assert "a data source is a folder or a .csv or .xlsx manifest, found a .txt file" in said


def test_an_empty_class_folder_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", {"benign": 3})
    (data / "cancer").mkdir()
    said = refuse(*study(data))
    assert said.startswith(f"{data}/cancer: the class folder holds no image")
    assert said.endswith("fill or remove it")


def test_one_patient_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    for i in range(8):
        write_picture(tmp_path / "data" / ("cancer" if i % 2 else "benign") / f"P1_{i}.png", i)
    said = refuse(*study(tmp_path / "data"))
    assert (
        "has 1 patients (4 images) for 3 outer folds, and every test fold needs one patient; "
        in said
    )
    assert "find more patients, or leave the class out with --classes" in said


def test_three_patients_in_a_class_with_five_folds_are_refused_with_numbers_that_work(
    refuse: Refuse, tmp_path: Path
) -> None:
    data = class_folders(tmp_path / "data", {"benign": 12, "cancer": 3}, views=2)
    said = refuse(*study(data, "--outer-folds", "5"))
    assert "class 'cancer' has 3 patients (6 images) for 5 outer folds" in said
    assert "use --outer-folds 3 --inner-folds 2" in said
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("*/config.toml"))


def test_too_few_patients_for_the_inner_folds_are_refused_with_numbers_that_work(
    refuse: Refuse, tmp_path: Path
) -> None:
    data = class_folders(tmp_path / "data", {"benign": 12, "cancer": 3}, views=2)
    said = refuse(*study(data, "--inner-folds", "4"))
    assert "class 'cancer' has 3 patients, too few for 3 outer folds with 4 inner folds" in said
    assert said.endswith("--outer-folds 3 --inner-folds 2 would work")


def test_a_column_that_does_not_exist_is_refused_with_the_nearest_there_is(
    refuse: Refuse, tmp_path: Path
) -> None:
    data = class_folders(tmp_path / "data", {"benign": 4, "cancer": 4})
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png"))
    write_metadata(data, "file,age", [f"{name},{50 + i}" for i, name in enumerate(names)])
    said = refuse(*study(data, "--columns", "agee"))
    assert said == (
        "column 'agee' is not in metadata.csv; did you mean 'age'?; available: ['age', 'file']"
    )


def test_columns_without_a_table_are_refused(refuse: Refuse, good: Path) -> None:
    assert "column 'age' is not in the data, which have no table" in refuse(
        *study(good, "--columns", "age")
    )


def test_an_unreadable_image_among_good_ones_is_refused_by_name(
    refuse: Refuse, tmp_path: Path
) -> None:
    data = class_folders(tmp_path / "data", {"benign": 5, "cancer": 5})
    (data / "cancer" / "P099_0.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    said = refuse(*study(data))
    assert said.startswith("['cancer/P099_0.png: cannot be decoded as an image (")
    assert (
        "cannot be used, more than 5% of class 'cancer'; correct them, or add --set-aside" in said
    )


def test_a_pattern_that_names_no_patient_is_refused(refuse: Refuse, good: Path) -> None:
    said = refuse("--task", "multimodal", "--data", good, "--patient-regex", "(X[0-9]+)")
    assert (
        "--patient-regex '(X[0-9]+)' finds no patient in the names of files ['benign/P001_0.png',"
        in said
    )


def test_a_class_that_does_not_exist_is_refused(refuse: Refuse, good: Path) -> None:
    assert "'malign'" in refuse(*study(good, "--classes", "benign,malign"))


def test_data_without_the_positive_class_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", {"left": 4, "right": 4})
    assert "--positive" in refuse(*study(data))


# -- options ---------------------------------------------------------------------------------


def test_no_task_is_refused_with_the_tasks_there_are(refuse: Refuse) -> None:
    assert refuse() == "--task must be one of ['dbt', 'multimodal'], found nothing"
    assert refuse("run", "--trials", "3").startswith("--task must be one of")


def test_no_trials_are_refused(refuse: Refuse, good: Path) -> None:
    said = refuse("--task", "multimodal", "--data", good, "--trials", "0")
    assert said == "--trials must be a whole number of at least 1, found 0"


def test_bad_options_are_refused_before_data_are_sought(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --data that is a download of gigabytes, or the writing of a demo."""

    def sought(*words: object, **more: object) -> None:
        raise AssertionError("data were sought")

    monkeypatch.setattr("outerfold.study.driver.begin.find_source", sought)
    said = refuse("--task", "dbt", "--trials", "0")
    assert said == "--trials must be a whole number of at least 1, found 0"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--trails", "3"), "unknown option '--trails'; did you mean '--trials'?"),
        (("--trails=3",), "unknown option '--trails'; did you mean '--trials'?"),
        (("--tri", "3"), "unknown option '--tri'; did you mean '--trials'?"),
        (("runn",), "unknown verb 'runn'; did you mean 'run'?"),
        (("zzz",), f"unknown verb 'zzz'; known are {sorted(VERBS)}"),
        (
            ("--trials", "many"),
            "argument --trials: invalid int value: 'many' (see outerfold run --h",
        ),
        (("--trials",), "argument --trials: expected one argument (see outerfold run --help)"),
        (("--task", "dbtt"), "argument --task: invalid choice: 'dbtt' (choose from "),
        (("--metric", "auc"), "argument --metric: invalid choice: 'auc' (choose from "),
        (
            ("--columns", " , "),
            "argument --columns: needs at least one name; separate names by commas",
        ),
        (
            ("report", "x", "--level", "breats"),
            "argument --level: invalid choice: 'breats' (choose",
        ),
        (("--task", "dbt", "more"), "unexpected argument 'more' (see outerfold run --help)"),
        (("report",), "the following arguments are required: RUN (see outerfold report --help)"),
        (("audit",), "the following arguments are required: --data (see outerfold audit --help)"),
        (("audit", "--data", "x", "--trials", "3"), "unknown option '--trials'; "),
        (("data", "demo"), "the following arguments are required: --task"),
        (("predict", "run", "--age", "61"), "--age 61 stands where an image is "),
        (("predict", "run", "a.png", "--age"), "--age needs a value"),
        (("predict", "run", "a.png", "--age", "--density", "2"), "--age needs a value"),
        (
            ("predict", "run", "a.png", "--age", "61", "--age=40"),
            "--age is given twice, as 61 and ",
        ),
        (("predict", "run", "a.png", "--offlin"), "unknown option '--offlin'; did you mean"),
        (("predict", "run", "a.png", "--age", "61", "-x"), "unknown option '-x'"),
    ],
)
def test_what_is_unknown_or_malformed_is_refused_with_the_nearest_known_name(
    refuse: Refuse, words: tuple[str, ...], message: str
) -> None:
    assert refuse(*words).startswith(message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--task", "dbt", "--columns", "age"), "--columns has no effect on the dbt task"),
        (("--task", "dbt", "--threshold-target", "0.8"), "--threshold-target has no effect with"),
        (
            ("--task", "dbt", "--trainable-blocks", "two"),
            "argument --trainable-blocks: needs a whole num",
        ),
        (
            ("--task", "dbt", "--trainable-blocks", "-1"),
            "--trainable-blocks must be a whole number",
        ),
        (
            ("--task", "dbt", "--checkpointing"),
            "--checkpointing has no effect with --trainable-blo",
        ),
        (
            ("--task", "dbt", "--batch-size", "auto"),
            "--batch-size auto has no effect with --traina",
        ),
        (
            ("--task", "dbt", "--seed", "-1"),
            "--seed must be a whole number of at least 0, found -1",
        ),
        (
            ("--task", "dbt", "--max-time", "2 h"),
            "--max-time '2 h': a time is hours, minutes and s",
        ),
        (
            ("--task", "dbt", "--max-time", "2h", "--ablate", "sampler"),
            "--max-time would end the sea",
        ),
        (("--task", "dbt", "--trials", "5", "--patience", "4"), "--patience 4 has no effect with"),
        (("--task", "dbt", "--workers", "-1"), "--workers must be a whole number of at least 0"),
        (
            ("--task", "dbt", "--workers", "2", "--workers-per-gpu", "2"),
            "--workers and --workers-per-",
        ),
    ],
)
def test_an_option_without_effect_is_refused(
    refuse: Refuse, good: Path, words: tuple[str, ...], message: str
) -> None:
    assert refuse(*words, "--data", good).startswith(message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--level", "breast"), "--level breast needs the side of every image; "),
        (("--level", "patient"), "--level patient has no effect: each patient has one image"),
        (("--aggregate", "max"), "--aggregate max has no effect: each patient has one image"),
    ],
)
def test_a_level_that_the_data_do_not_have_is_refused_before_any_work(
    refuse: Refuse, good: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    assert refuse(*study(good, "--run", tmp_path / "run", *words)).startswith(message)
    assert not (tmp_path / "run").exists()


def test_an_unknown_key_of_a_configuration_file_is_refused_with_file_and_nearest_name(
    refuse: Refuse, good: Path, tmp_path: Path
) -> None:
    path = tmp_path / "study.toml"
    path.write_text('task = "multimodal"\ntrails = 3\n')
    said = refuse("--data", good, "--config", path)
    assert said == f"--config {path}: unknown key 'trails'; did you mean 'trials'?"


def test_a_range_that_is_none_is_refused_before_any_work(
    refuse: Refuse, good: Path, tmp_path: Path
) -> None:
    path = tmp_path / "study.toml"
    path.write_text("[space]\ndropout = 0.3\n")
    said = refuse(*study(good, "--config", path, "--run", tmp_path / "run"))
    assert said == (
        "[space.dropout]: a range is low and high (and log or step), or values; found 0.3"
    )
    assert not (tmp_path / "run" / "config.toml").exists()


def test_attention_over_columns_that_are_not_there_is_refused(
    refuse: Refuse, good: Path, tmp_path: Path
) -> None:
    path = tmp_path / "study.toml"
    path.write_text("[space]\nattention = {values = [true]}\n")
    said = refuse(*study(good, "--config", path))
    assert said.startswith("[space.attention]: attention combines the image with clinical columns")


# -- run directory, storage, weights ---------------------------------------------------------


def test_a_run_directory_below_a_file_is_refused(
    refuse: Refuse, good: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    said = refuse(*study(good, "--run", tmp_path / "file" / "run"))
    assert said.startswith(f"--run {tmp_path}/file/run: cannot be written (")
    assert said.endswith("; name another folder with --run")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_directory_without_leave_to_write_is_refused(
    refuse: Refuse, good: Path, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert "cannot be written (Permission denied)" in refuse(*study(good, "--run", closed / "r"))


def test_sqlite_is_refused_as_storage_with_the_reason(
    refuse: Refuse, good: Path, tmp_path: Path
) -> None:
    said = refuse(*study(good, "--run", tmp_path / "run", "--storage", "sqlite:///trials.db"))
    assert said == (
        "--storage sqlite:///trials.db: SQLite can hand the same trial to two writers; leave "
        "--storage out for the journal file, or name a PostgreSQL or MySQL server"
    )


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgres", "postgres"),
        ("mongodb://here/db", "mongodb://here/db"),
        ("mysqll://me:secret@a/b", "mysqll://me:***@a/b"),
    ],
)
def test_a_storage_that_is_no_database_is_refused_without_its_password(
    refuse: Refuse, good: Path, tmp_path: Path, url: str, named: str
) -> None:
    said = refuse(*study(good, "--run", tmp_path / "run", "--storage", url))
    assert said.startswith(f"--storage {named}: cannot be opened (")
    assert said.endswith("as in postgresql+psycopg://USER:PASSWORD@HOST/DATABASE")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--engine", "dask"],
            "--engine dask needs --engine-address tcp://HOST:PORT, which `dask sch",
        ),
        (
            ["--engine-address", "tcp://a:1"],
            "--engine-address tcp://a:1 has no effect with --engine l",
        ),
        (["--engine", "dask", "--engine-address", "head"], "--engine-address head: no Dask schedu"),
    ],
)
def test_an_engine_without_its_address_or_the_other_way_round_is_refused(
    refuse: Refuse,
    good: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("outerfold.study.engines.dask.CONNECT_SECONDS", 1.0)
    assert refuse(*study(good, "--run", tmp_path / "run", *words)).startswith(message)


def test_dask_that_is_not_installed_is_refused_with_how_to_have_it(
    refuse: Refuse, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "outerfold.study.engines.dask", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    words = ["--engine", "dask", "--engine-address", "tcp://a:1"]
    said = refuse(*study(good, "--run", tmp_path / "run", *words))
    assert said.startswith("--engine dask needs the package distributed; ")
    assert said.endswith("install it with: pip install 'outerfold[dask]'")


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it has an effect")
def test_workers_per_gpu_without_a_gpu_are_refused_before_anything_is_written(
    refuse: Refuse, good: Path, tmp_path: Path
) -> None:
    said = refuse(*study(good, "--run", tmp_path / "run", "--workers-per-gpu", "2"))
    assert said.startswith("--workers-per-gpu 2 has no effect: this machine has no GPU")
    assert not (tmp_path / "run").exists()


def test_a_weights_file_that_is_not_there_is_refused(
    refuse: Refuse, good: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "none.pt"
    said = refuse(*study(good, "--run", tmp_path / "run", "--weights", weights))
    assert said == f"--weights {weights}: no such file"


def test_the_list_of_encoders_needs_no_task_and_loads_no_torch() -> None:
    code = (
        "import sys; from outerfold.study.cli.main import main; "
        "code = main(['--encoder', 'list']); "
        "print(code, [name for name in ('torch', 'timm', 'clip') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[-1] == "0 []"
    assert lines[0].split() == ["Encoder", "Family", "Width", "Tokens", "Size", "Weights"]
    row = next(line.split() for line in lines if line.startswith("bundled:efficientnet_lite0"))
    assert row[1:] == ["bundled", "1280", "16", "x", "1280", "224", "installed"]
    assert any(line.startswith("clip:ViT-L/14") for line in lines)
    assert "timm:NAME" in done.stdout


def test_a_weights_file_of_something_else_is_refused(
    refuse: Refuse, good: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "notes.pt"
    weights.write_text("hello")
    said = refuse(*study(good, "--encoder", "timm:efficientnet_b0", "--weights", weights))
    assert said.startswith(f"{weights}: not a file of weights alone (")


def test_an_unknown_encoder_is_refused_with_the_nearest(
    refuse: Refuse, good: Path, tmp_path: Path
) -> None:
    said = refuse(*study(good, "--run", tmp_path / "run", "--encoder", "bundled:efficientnet"))
    assert said.startswith(
        "unknown encoder 'bundled:efficientnet'; did you mean 'bundled:efficientnet_lite0'?"
    )


def test_weights_that_cannot_be_had_name_all_three_places(
    refuse: Refuse, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file, an empty cache and no network: nothing is made up."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    said = refuse(*study(good, "--run", tmp_path / "run", "--encoder", "timm:efficientnet_b0"))
    assert said.startswith("timm:efficientnet_b0: no pretrained weights. Tried ")
    for context in ("--weights FILE (not given)", "the local cache", "the hub"):
        assert context in said
    assert not (tmp_path / "run").exists(), "nothing is written before the weights are there"


def test_changed_options_and_changed_data_are_refused_by_name_on_resumption(
    refuse: Refuse, tmp_path: Path
) -> None:
    data = class_folders(tmp_path / "data", {"benign": 8, "cancer": 8})
    started = study(data, "--run", tmp_path / "run", "--storage", "sqlite://")
    assert "SQLite" in refuse(*started)  # stops after the run was begun
    said = refuse(*started, "--seed", "3")
    assert said.startswith(f"--run {tmp_path}/run: was started with other options (seed was 0, no")
    write_picture(data / "benign" / "P050_0.png", 77)
    said = refuse(*started)
    assert "was started on other data (1 images are new, such as benign/P050_0.png)" in said


# -- the smaller verbs -----------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["report", "dashboard", "doctor"])
def test_a_folder_that_is_no_run_is_refused(refuse: Refuse, tmp_path: Path, verb: str) -> None:
    said = refuse(verb, tmp_path)
    assert said.startswith(f"{tmp_path}: not a run directory (no config.toml)")


def test_a_run_without_a_model_cannot_predict(refuse: Refuse, tmp_path: Path) -> None:
    said = refuse("predict", tmp_path, "image.png")
    assert said.startswith(f"{tmp_path}: holds no shipped model (final/model.pt)")
    said = refuse("predict", tmp_path / "none", "image.png")
    assert said.startswith(f"{tmp_path}/none: does not exist")


def test_an_audit_that_finds_errors_ends_with_two_and_one_that_finds_none_with_nought(
    good: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OUTERFOLD_CACHE", str(tmp_path / "cache"))
    words = ["audit", "--data", str(good), "--patient-regex", PATIENT]
    assert main(words) == 0
    assert "0 errors" in capsys.readouterr().out
    assert main([*words, "--outer-folds", "9"]) == EXIT_USAGE
    assert "error: class 'other' has 8 patients (8 images) for 9 outer" in capsys.readouterr().out


def test_ctrl_c_ends_with_130_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str) -> Callable[..., int]:
        raise KeyboardInterrupt

    monkeypatch.setattr("outerfold.study.cli.main._find_action", interrupted)
    assert main(["doctor", "somewhere"]) == 130
    assert capsys.readouterr().err == "\nouterfold: interrupted\n"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"], ["predict", "-h"]])
def test_help_is_given_without_loading_torch(words: list[str]) -> None:
    code = (
        "import sys; from outerfold.study.cli.main import main\n"
        f"try: main({words!r})\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules and 'optuna' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "outerfold" in done.stdout


@pytest.mark.parametrize(
    ("module", "left"),
    [
        ("outerfold.study.cli.run", {"torch", "sklearn", "timm"}),
        (
            "outerfold.study.worker.jobs",
            {"torchvision", "imblearn", "sklearn", "timm", "matplotlib", "pandas"},
        ),
    ],
)
def test_what_the_first_trial_need_not_wait_for_is_not_loaded(module: str, left: set[str]) -> None:
    """Before its workers load the command loads little, and a worker what most trials need."""
    code = f"import sys, {module}; print(sorted({left!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_report_waits_for_neither_torch_nor_the_dashboard() -> None:
    code = (
        "import sys, outerfold.study.cli.verbs\n"
        "print({'torch', 'optuna', 'optuna_dashboard', 'sklearn'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "set()"


def test_the_cache_is_listed_and_gives_up_what_no_named_run_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, run = tmp_path / "cache", tmp_path / "run"
    monkeypatch.setenv("OUTERFOLD_CACHE", str(cache))
    stores = [
        RowCache.open(cache / "pooled", {"encoder": n, "device": "cpu"}, (2,), "f4") for n in "ab"
    ]
    names = [store.folder.relative_to(cache).as_posix() for store in stores]
    run.mkdir()
    (run / "config.toml").write_text("")
    record_stores(run, cache, names[:1])
    assert main(["cache", str(run)]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert "yes" in listed
    assert "no" in listed
    assert main(["cache", "--remove"]) == EXIT_USAGE
    assert "--remove needs the run directories" in capsys.readouterr().err
    assert all(store.folder.exists() for store in stores)
    assert main(["cache", "--remove", str(run)]) == 0
    assert "removed 1 tables" in capsys.readouterr().out
    assert [store.folder.exists() for store in stores] == [True, False]


def test_audit_shows_names_with_brackets_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate(["benign [b]", "cancer [red]"]):
        write_picture(tmp_path / name / "P1_a.png", seed)
    main(["audit", "--task", "dbt", "--data", str(tmp_path), "--positive", "cancer [red]"])
    shown = capsys.readouterr().out
    assert "- benign [b]: 1 images" in shown
    assert "'cancer [red]'" in shown
