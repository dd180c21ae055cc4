"""One import name, from a checkout that is not installed as from the wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import outerfold
from tests.places import ROOT
from tests.study.engines.servers import SECONDS, answers, free_port, until

TINY = [
    "--task",
    "multimodal",
    "--trials",
    "1",
    "--epochs",
    "1",
    "--outer-folds",
    "2",
    "--inner-folds",
    "2",
    "--networks",
    "1",
    "--final",
    "ensemble",
    "--encoder",
    "bundled:efficientnet_lite0",
    "--encoder-backend",
    "torch",
    "--quiet",
    "--workers",
    "1",
]
"""Options of a run that takes seconds."""
DECOYS = ("storage.py", "study.py", "reports.py")
"""Modules of a user's own, beside the script, with the names of our folders."""
HERE = "import sys; sys.path.append({tree!r})\n"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that no installation points to."""
    tree = tmp_path_factory.mktemp("checkout")
    for folder in (*outerfold.FOLDERS, "outerfold"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "run_study.py", tree)
    return tree


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from outerfold.storage.datasets.demo import write_demo

    return write_demo(tmp_path_factory.mktemp("data") / "demo", task="multimodal", patients=16)


def uninstalled(**more: str) -> dict[str, str]:
    """An environment for ``python -S``, which reads no .pth file: packages, but not outerfold."""
    packages = sysconfig.get_path("purelib")
    return {**os.environ, "PYTHONPATH": packages, **more}


def python(*words: str, cwd: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", *words],
        cwd=cwd,
        env=uninstalled(OUTERFOLD_CACHE=str(cache)),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A user's folder, in which modules bear the names of our folders."""
    folder = tmp_path / "user"
    folder.mkdir()
    for name in DECOYS:
        (folder / name).write_text("OWN = 'the user wrote this'\n")
    return folder


def test_without_an_installation_the_name_is_not_there(users: Path) -> None:
    done = python("-c", "import outerfold", cwd=users, cache=users)
    assert "ModuleNotFoundError: No module named 'outerfold'" in done.stderr


@pytest.mark.slow
def test_a_checkout_carries_a_study_to_its_report(tree: Path, data: Path, users: Path) -> None:
    """Its worker processes do not run the main module; they inherit the path."""
    script = str(tree / "run_study.py")
    done = python(script, *TINY, "--data", str(data), "--run", "run", cwd=users, cache=users)
    assert done.returncode == 0, done.stderr
    numbers = json.loads((users / "run" / "report" / "results.json").read_text())
    assert numbers["overall"]["roc_auc"]["by_fold"]


SPAWNED = """
import multiprocessing
from outerfold.study.engines.local import device_names
import storage
if __name__ == '__main__':
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        print(pool.apply(device_names, (), {'gpus': 2, 'cores': 1}), storage.OWN)
"""
LOKY = """
from outerfold.study.engines.local import LocalEngine, device_names
import storage
engine = LocalEngine(['cpu'])
print(engine._pool.submit(device_names, gpus=2, cores=1).result(), storage.OWN)
engine.close(kill=True)
"""


@pytest.mark.parametrize("code", [SPAWNED, LOKY], ids=["spawn", "loky"])
def test_worker_processes_of_a_users_script_find_the_package(
    code: str, tree: Path, users: Path
) -> None:
    script = users / "analysis.py"
    script.write_text(HERE.format(tree=str(tree)) + code)
    done = python(str(script), cwd=users, cache=users)
    assert done.stdout == "['cuda:0', 'cuda:1'] the user wrote this\n", done.stderr


def test_a_notebook_starts_workers_from_a_checkout(tree: Path, users: Path) -> None:
    """A kernel's main module is no file; docs/quickstart.ipynb runs a whole study in one."""
    from jupyter_client.manager import KernelManager

    kernel = KernelManager(kernel_name="python3")
    assert kernel.kernel_spec is not None
    kernel.kernel_spec.argv = [
        sys.executable,
        "-S",
        "-m",
        "ipykernel_launcher",
        "-f",
        "{connection_file}",
    ]
    kernel.start_kernel(cwd=str(users), env=uninstalled(OUTERFOLD_CACHE=str(users)))
    client = kernel.client()
    client.start_channels()
    said: list[str] = []
    try:
        client.wait_for_ready(timeout=SECONDS)
        reply = client.execute_interactive(
            HERE.format(tree=str(tree)) + LOKY,
            timeout=SECONDS,
            output_hook=lambda message: said.append(str(message["content"])),
        )
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok", said
    assert "['cuda:0', 'cuda:1'] the user wrote this" in "".join(said)


def test_a_dask_worker_finds_the_package_by_its_preload(tree: Path, users: Path) -> None:
    distributed = pytest.importorskip("distributed")
    from outerfold.study.engines.local import device_names

    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    preload = ("--preload", str(tree / "run_study.py"), "--no-dashboard", "--host", "127.0.0.1")
    parts = [
        ["distributed.cli.dask_scheduler", "--port", str(port)],
        ["distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1"],
    ]
    started = []
    try:
        for words in parts:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-S", "-m", *words, *preload],
                    cwd=users,
                    env=uninstalled(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            until(lambda: answers(port))
        with distributed.Client(address, timeout=SECONDS) as client:
            found = client.submit(device_names, gpus=2, cores=1).result(timeout=SECONDS)
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert found == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize("folder", outerfold.FOLDERS)
def test_the_old_names_are_refused(folder: str, users: Path) -> None:
    """A class that exists under two names is two classes."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {folder}.none"
    done = python("-c", code, cwd=users.parent, cache=users)
    said = f"ImportError: the folder {folder} is part of outerfold: import outerfold.{folder}"
    assert said in done.stderr


def test_a_public_name_is_loaded_when_it_is_asked_for(tmp_path: Path) -> None:
    code = (
        "import sys, outerfold\n"
        "assert 'numpy' not in sys.modules\n"
        "assert set(outerfold.__all__) <= set(dir(outerfold))\n"
        "print(all(getattr(outerfold, name).__module__.startswith('outerfold.') "
        "for name in outerfold.__all__), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True False\n"


def test_an_unknown_public_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'outerfold' has no attribute 'nothing'"):
        outerfold.nothing  # noqa: B018
