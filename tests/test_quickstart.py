"""The notebook of docs/ does what it says."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.places import ROOT


@pytest.mark.slow
def test_the_quickstart_runs_a_study_and_draws_its_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTERFOLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(ROOT / "docs" / "quickstart.ipynb", as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    said = {
        cell.id: [output.get("data", {}) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    shown = [data for outputs in said.values() for data in outputs]
    assert any("image/png" in data for data in shown)
    texts = "\n".join(data.get("text/plain", "") for data in shown)
    assert "quickstart-run', multimodal, complete)" in texts
    assert "roc_auc" in texts
    assert "Cancer" in texts
    assert (tmp_path / "quickstart-run" / "report" / "report.html").exists()
