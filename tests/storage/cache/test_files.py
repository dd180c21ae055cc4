"""A file is the old one or the new one, whenever its writer was stopped."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from outerfold.storage.cache.files import (
    SHARED_VARIABLE,
    make_cache_folder,
    read_json,
    write_bytes,
    write_json,
    write_text,
)
from outerfold.storage.records import DataError
from tests.places import ROOT


def test_what_was_written_is_read_back_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.json"
    assert write_json(path, {"x": [1, 0.1, None, "ä\n"]}) == path
    assert read_json(path) == {"x": [1, 0.1, None, "ä\n"]}
    assert write_text(path, "grün\r\n").read_bytes() == b"gr\xc3\xbcn\r\n"
    assert write_bytes(path, b"").read_bytes() == b""


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = write_text(tmp_path / "file", "old")
    with pytest.raises(TypeError):
        write_bytes(path, "no bytes")  # type: ignore[arg-type]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_text("kept")
    with pytest.raises(OSError, match="folder"):
        write_text(tmp_path / "folder", "new")
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_json_has_no_nan_and_the_old_file_stays(tmp_path: Path) -> None:
    path = write_json(tmp_path / "file.json", {"x": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert read_json(path) == {"x": 1}


def test_numbers_come_back_to_the_last_digit(tmp_path: Path) -> None:
    values = [0.1 + 0.2, 1e-300, 1 / 3, 2**53 + 1, -0.0]
    path = write_json(tmp_path / "file.json", values)
    assert list(map(repr, read_json(path))) == list(map(repr, values))


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    mode = write_text(tmp_path / "file", "x").stat().st_mode
    assert stat.S_IMODE(mode) == 0o644


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe"])
def test_a_file_that_is_no_json_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "file.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"file.json: cannot be read as JSON \("):
        read_json(path)


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    code = (
        "import sys; from pathlib import Path\n"
        "from outerfold.storage.cache.files import write_bytes\n"
        "while True:\n"
        "    for letter in (b'a', b'b'):\n"
        "        write_bytes(Path(sys.argv[1]), letter * 500_000)\n"
    )
    seen = set()
    for moment in (0.0, 0.011, 0.023, 0.031):
        path.unlink(missing_ok=True)
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT)
        while not path.exists():
            time.sleep(0.005)
        time.sleep(moment)
        writer.kill()
        writer.wait()
        content = path.read_bytes()
        assert len(content) == 500_000
        assert len(set(content)) == 1
        seen.add(content[:1])
    assert seen <= {b"a", b"b"}


def test_folders_of_the_cache_are_their_owner_s_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SHARED_VARIABLE, raising=False)
    made = make_cache_folder(tmp_path / "cache" / "pooled" / "abc")
    for folder in (made, made.parent, made.parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv(SHARED_VARIABLE, "1")
    before = os.umask(0o027)
    try:
        assert make_cache_folder(tmp_path / "shared").stat().st_mode & 0o777 == 0o750
    finally:
        os.umask(before)
    assert make_cache_folder(made) == made
