from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from outerfold.pipelines.augmentation.views import STYLES, Views
from outerfold.pipelines.images import ahead as module
from outerfold.pipelines.images.ahead import Ahead
from outerfold.pipelines.images.embed import embed
from outerfold.storage.records import DataError
from tests.pipelines.images.test_embed import Bands, make_images, stored
from tests.places import ROOT


def square_and_pid(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def fail_at_three(number: int) -> int:
    if number == 3:
        raise DataError("0003.png: cannot be read")
    return number


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes from the first image on, and this folder on the path of those that start."""
    monkeypatch.setattr(module, "PROCESSES_FROM", 1)


def test_results_come_in_order_from_other_processes(processes: None) -> None:
    with Ahead(2) as ahead:
        found = list(ahead.map(square_and_pid, range(30), images=30))
    assert [value for value, _ in found] == [number * number for number in range(30)]
    assert os.getpid() not in {process for _, process in found}


@pytest.mark.parametrize(("cores", "images"), [(1, 10_000), (2, module.PROCESSES_FROM - 1)])
def test_a_few_images_or_one_core_stay_in_this_process(cores: int, images: int) -> None:
    with Ahead(cores) as ahead:
        found = list(ahead.map(square_and_pid, range(5), images=images))
    assert {process for _, process in found} == {os.getpid()}


def test_work_is_a_bounded_number_of_tasks_ahead() -> None:
    taken: list[int] = []

    def tasks() -> object:
        for number in range(100):
            taken.append(number)
            yield number

    with Ahead(2) as ahead:
        found = ahead.map(square_and_pid, tasks(), images=100)  # type: ignore[arg-type]
        next(found)
        assert len(taken) <= 2 * (1 + module.LEAD) + 1


@pytest.mark.parametrize("from_images", [1, 1000])
def test_an_error_comes_back_as_it_is_in_processes_and_in_threads(
    monkeypatch: pytest.MonkeyPatch, from_images: int
) -> None:
    monkeypatch.setattr(module, "PROCESSES_FROM", from_images)
    with pytest.raises(DataError) as caught, Ahead(2) as ahead:
        list(ahead.map(fail_at_three, range(30), images=30))
    assert str(caught.value) == "0003.png: cannot be read"


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_process_that_dies_is_told_in_a_sentence(processes: None) -> None:
    said = r"a process that reads images died .* run the same command again"
    with pytest.raises(DataError, match=said), Ahead(2) as ahead:
        list(ahead.map(die, range(4), images=4))


@pytest.mark.parametrize("style", STYLES)
def test_processes_and_threads_keep_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    rows = make_images(tmp_path / "images", 30)
    for name, first in (("processes", 1), ("threads", 10**9)):
        monkeypatch.setattr(module, "PROCESSES_FROM", first)
        embed(rows, Bands(), cache=tmp_path / name, views=Views((0, 1, 2), style), threads=2)
    assert stored(tmp_path / "processes") == stored(tmp_path / "threads")


def test_an_unreadable_image_is_named_by_a_process_as_by_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, said = make_images(tmp_path / "images", 30), []
    Path(rows.images[7]).write_bytes(b"no image")
    for first in (1, 10**9):
        monkeypatch.setattr(module, "PROCESSES_FROM", first)
        with pytest.raises(DataError) as caught:
            embed(rows, Bands(), cache=tmp_path / str(first), threads=2)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "0007.png" in said[0]


WITHOUT_GUARD = """
import sys
sys.path.insert(0, {root!r})
print("script runs", flush=True)
from pathlib import Path
from outerfold.pipelines.images import ahead
from outerfold.pipelines.images.embed import embed
from tests.pipelines.images.test_embed import Bands, make_images

ahead.PROCESSES_FROM = 1
rows = make_images(Path(sys.argv[1]) / "images", int(sys.argv[2]), side=int(sys.argv[3]))
print("starting", flush=True)
kept = embed(rows, Bands(pause=0.05), cache=Path(sys.argv[1]) / "cache", views=2, threads=2)
print("done", kept.pooled(["row3"], 1).tolist(), flush=True)
"""


def write_script(folder: Path) -> Path:
    path = folder / "script.py"
    path.write_text(WITHOUT_GUARD.format(root=str(ROOT)), encoding="utf-8")
    return path


def small_shared_memory() -> list[str]:
    """Words before a command that give it 64 KB of /dev/shm; none where nobody may mount."""
    tool = shutil.which("unshare")
    mount = 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"'
    words = [str(tool), "-rm", "sh", "-c", mount, "sh"]
    may = tool is not None and subprocess.run([*words, "true"], capture_output=True).returncode == 0
    return words if may else []


def test_a_script_without_a_main_guard_runs_once_in_a_small_shared_memory(tmp_path: Path) -> None:
    """Containers have 64 MB; a batch of views is larger than the 64 KB here."""
    script = [sys.executable, str(write_script(tmp_path)), str(tmp_path), "24", "40"]
    done = subprocess.run(
        [*small_shared_memory(), *script], capture_output=True, text=True, check=False
    )
    lines = [line.split()[0] for line in done.stdout.splitlines()]
    assert lines == ["script", "starting", "done"], done.stderr


def children_of(process: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == process and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def wait_until(true: object, seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_or_killed_process_leaves_no_worker(tmp_path: Path, how: int) -> None:
    run = subprocess.Popen(
        [sys.executable, str(write_script(tmp_path)), str(tmp_path), "400", "40"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    cache = tmp_path / "cache"
    begun = lambda: any(p.stat().st_size for p in cache.glob("squares/*/rows.index"))  # noqa: E731
    assert wait_until(begun)
    workers = children_of(run.pid)
    assert len(workers) >= 2
    if how == signal.SIGINT:
        os.killpg(run.pid, how)  # as the terminal does
    else:
        run.kill()
    run.wait(60)
    assert run.returncode not in (0, None)
    assert wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


DAEMON = """
import multiprocessing, sys
sys.path.insert(0, {root!r})
from pathlib import Path


def work(folder):
    from outerfold.pipelines.images import ahead
    from outerfold.pipelines.images.embed import embed
    from tests.pipelines.images.test_embed import Bands, make_images

    ahead.PROCESSES_FROM = 1
    embed(make_images(Path(folder) / "images", 8), Bands(), cache=Path(folder) / "c", threads=2)
    print("embedded", flush=True)


if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    one = spawn.Process(target=work, args=(sys.argv[1],), daemon=True)
    one.start()
    one.join()
"""


def test_a_daemonic_process_which_may_start_none_embeds_by_itself(tmp_path: Path) -> None:
    script = tmp_path / "daemon.py"
    script.write_text(DAEMON.format(root=str(ROOT)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "embedded", done.stderr
