from benchmarks.search.worth_runs import page, plain, row


def _numbers(low: float | None) -> dict:
    found = {"estimate": 0.012, "low": low, "high": 0.03}
    names = ("roc_auc", "balanced_accuracy", "brier")
    return {
        "dataset": {"name": "set", "images": 30, "patients": 12},
        "protocol": {"trials": 9},
        "outer": [{}] * 5,
        "worth": {
            "chosen": ["outer-1"],
            "overall": {name: {"difference": found} for name in names},
        },
        "provenance": {"command": "run_study.py --data /a/data/set --run /b/c --workers 1 --quiet"},
    }


def test_a_run_is_one_line_and_a_gain_is_an_interval_above_nought():
    cells = row(_numbers(-0.01))
    assert cells == ["set", "30 of 12", "9", "1 of 5", *["+0.012 (-0.010 to +0.030)"] * 3]
    assert row(_numbers(None))[-1] == "0, without an interval"
    assert "In 1 of 3 runs" in page([_numbers(0.01), _numbers(-0.01), _numbers(None)])


def test_the_page_names_no_folder_of_a_machine():
    command = _numbers(0)["provenance"]["command"]
    assert plain(command) == "run_study.py --data DATA/set"
