"""Generated command lines, configuration files, sheets and images: never a traceback."""

from __future__ import annotations

import io
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.faults.tiny import Called, call, quick_runs
from outerfold.storage.errors import DataError
from outerfold.storage.images.read import examine_image, read_image
from outerfold.study.cli.main import build_parser

WORDS = (
    *("", " ", "0", "1", "-1", "7", "1e9", "nan", "inf", "-inf", "10" * 30, "1" * 5_000, "None"),
    *("true", "a", "a,b", "a,,b", "=1+1", "../x", "/", "~", "\x00", "\n", "é", "日本", "[x]", "%s"),
    *("--", "-", "--task", "multimodal", "dbt", "cpu", "30s", "1h", "auto", "all", "list", "demo"),
    *("clip:x", "timm:", "bundled:efficientnet_lite0", "x.toml", "max", "patient", "{", "a" * 300),
)
VALUES = (
    *("1", "-1", "0", "1e400", "inf", "nan", "true", '""', '"a"', '"multimodal"', "[]", "[1, 2]"),
    *(
        '["a"]',
        "{}",
        "{low = 1}",
        "{values = []}",
        "1" * 6_000,
        "[" * 400 + "]" * 400,
        "1979-05-27",
    ),
    *("'''x", '"\\u0000"', "0x10", "{low = 0.1, high = inf, step = inf}", "[[1]]", "9" * 18),
)
CELLS = (
    *(
        "",
        " ",
        "a.png",
        "b.png",
        "../a.png",
        "/etc/passwd",
        "cancer",
        "Cancer ",
        "benign",
        "1",
        "0",
    ),
    *(
        "-",
        "?",
        "nan",
        "NaN",
        "None",
        "unknown",
        "1.0",
        "1.2E+12",
        "007",
        "P7",
        "=1+1",
        "+x",
        "40,5",
    ),
    *("999", "-9", "inf", "1e999", "061Y", "61 years", "\x00", "\x0b", "é", "日本", "a\nb", 'a"b'),
    *(";", ",", "\t", "9" * 400, "a" * 5_000, "#N/A", "1,234", "left", "R", "[x]", "<b>"),
)
NAMES = (
    *("file", "label", "patient_id", "age", "density", "side", "image_path", "pathology", "", " "),
    *("subject", "abnormality id", "file", "BI-RADS", "é", "=x", "a" * 300, "assessment", "0"),
)


def command_line(chance: random.Random) -> list[str]:
    """Words of a command line: a verb, options that it knows or not, and values of any kind."""
    _, verbs = build_parser()
    verb = chance.choice([*verbs, "", "rnu"])
    known = verbs[verb].options() if verb in verbs else ["--task"]
    words = [verb] if verb else []
    for _ in range(chance.randint(0, 6)):
        words.append(chance.choice([*known, "--nonsense"]) if chance.random() < 0.6 else "")
        if chance.random() < 0.8:
            words.append(chance.choice(WORDS))
    harmless = {"--help", "-h", "--follow", "--version", "--port"}
    return [word for word in words if word not in harmless and word != "dashboard"]


def configuration(chance: random.Random) -> str:
    """Text of a TOML file with keys of `run` and values of any kind."""
    _, verbs = build_parser()
    keys = [name[2:].replace("-", "_") for name in verbs["run"].options() if name[:2] == "--"]
    lines = ['task = "multimodal"'] if chance.random() < 0.8 else []
    for _ in range(chance.randint(1, 5)):
        key = chance.choice([*keys, "space.dropout", "nonsense", "space"])
        lines.append(f"{key} = {chance.choice(VALUES)}")
    text = "\n".join(lines)
    return text if chance.random() < 0.9 else text[: chance.randrange(len(text) + 1)]


SOUND = 40
"""Pictures that sheets name which are sound but for a few cells."""


def sheet(chance: random.Random) -> bytes:
    """Bytes of a sheet of any kind, or of a sound one with a few other cells, in any encoding."""
    if chance.random() < 0.6:
        return _nearly_sound_sheet(chance)
    names = [chance.choice(NAMES) for _ in range(chance.randint(1, 5))]
    if chance.random() < 0.7:
        names[:2] = ["file", "label"]
    comma = chance.choice(",,,;\t|")
    rows = [
        [chance.choice(CELLS) for _ in range(len(names) + (chance.random() < 0.05))]
        for _ in range(chance.randint(0, 12))
    ]
    text = "\n".join(comma.join(row) for row in [names, *rows])
    data = text.encode(chance.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16"]))
    return _spoil(data, chance) if chance.random() < 0.2 else data


def _nearly_sound_sheet(chance: random.Random) -> bytes:
    rows = [
        ["file", "label", "patient_id", "age", "density"],
        *(
            [f"{n:02}.png", ("benign", "cancer")[n % 2], f"P{n // 2}", str(40 + n), "ABCD"[n % 4]]
            for n in range(SOUND)
        ),
    ]
    if chance.random() < 0.3:
        rows[0] = [chance.choice([name, name, *NAMES]) for name in rows[0]]
    for _ in range(chance.choice([0, 1, 3, 30])):
        row = chance.randrange(1, len(rows))
        rows[row][chance.randrange(5)] = chance.choice(CELLS)
    if chance.random() < 0.3:  # a whole column of one kind
        column, cell = chance.randrange(5), chance.choice([*CELLS, "72 mm", "1976-01-02", "P7_L"])
        for row in range(1, len(rows)):
            rows[row][column] = cell
    if chance.random() < 0.2:
        rows[1:] = chance.sample(rows[1:], SOUND)
    text = "\n".join(";".join(row) for row in rows)
    return text.encode(chance.choice(["utf-8", "utf-8-sig", "utf-16"]))


def image(chance: random.Random) -> tuple[str, bytes]:
    """Suffix and bytes of an image file with some damage."""
    numbers = np.random.default_rng(chance.randrange(2**32))
    side = chance.choice([1, 3, 16, 64])
    suffix, mode = chance.choice(
        [
            *((".png", m) for m in ("L", "RGB", "RGBA", "1", "P", "I;16", "LA")),
            *((".tif", m) for m in ("L", "RGB", "F", "I", "CMYK")),
            *((".jpg", m) for m in ("L", "RGB", "CMYK")),
            *((s, "L") for s in (".bmp", ".gif", ".webp", ".pgm", ".jp2", ".dcm")),
        ]
    )
    buffer = io.BytesIO()
    kinds = {"F": np.float32, "I": np.int32, "I;16": np.uint16}
    if suffix == ".dcm":
        return suffix, _spoil(b"\x00" * 128 + b"DICM" + numbers.bytes(400), chance)
    bands = {"RGB": 3, "RGBA": 4, "CMYK": 4, "LA": 2}.get(mode, 1)
    values = numbers.integers(0, 256, (side, side, bands)[: 2 + (bands > 1)])
    made = Image.fromarray(values.astype(kinds.get(mode, np.uint8)))
    if mode in ("1", "P"):
        made = made.convert(mode)
    elif bands > 1:
        made = Image.fromarray(values.astype(np.uint8), mode)
    formats = {".jp2": "JPEG2000", ".pgm": "PPM", ".tif": "TIFF", ".jpg": "JPEG"}
    made.save(buffer, formats.get(suffix, suffix[1:].upper()))
    return suffix, _spoil(buffer.getvalue(), chance)


def _spoil(data: bytes, chance: random.Random) -> bytes:
    """The bytes cut, with flipped bits, zeros or garbage; one time in five as they are."""
    kind = chance.randrange(5)
    if kind == 0 or not data:
        return data
    at = chance.randrange(len(data))
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + bytes(min(64, len(data) - at)) + data[at + 64 :]
    changed = bytearray(data)
    for _ in range(1 if kind == 3 else 20):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def try_command_line(folder: Path, chance: random.Random) -> Called:
    """A generated command line, in an empty folder."""
    return call(*command_line(chance))


def try_configuration(folder: Path, chance: random.Random) -> Called:
    """A generated configuration file, for data that no study can be begun with."""
    path = folder / "options.toml"
    path.write_text(configuration(chance), encoding="utf-8")
    return call("run", "--config", path, "--data", folder / "poor", "--run", folder / "run")


def try_sheet(folder: Path, chance: random.Random) -> Called:
    """An audit of a generated sheet beside small pictures."""
    path = folder / "sound" / chance.choice(["sheet.csv", "sheet.csv", "sheet.tsv", "sheet.xlsx"])
    path.write_bytes(sheet(chance))
    found = call("audit", "--data", path, "--task", chance.choice(["multimodal", "dbt"]))
    path.unlink()
    return found


def try_image(folder: Path, chance: random.Random) -> Called:
    """A generated image, read as an audit and as an encoder do."""
    suffix, data = image(chance)
    path = folder / f"image{suffix}"
    path.write_bytes(data)
    try:
        examine_image(path, 32)
        read_image(path)
    except DataError as error:
        return Called(2, f"outerfold: {error}")
    except Exception:  # noqa: BLE001 - a traceback is what is looked for
        import traceback

        return Called(None, "", traceback.format_exc())
    return Called(0, "")


DOORS: dict[str, Callable[[Path, random.Random], Called]] = {
    "command lines": try_command_line,
    "configurations": try_configuration,
    "sheets": try_sheet,
    "images": try_image,
}


def make_pictures(folder: Path) -> None:
    """Two pictures of which no study can be made, and some that sheets name."""
    numbers = np.random.default_rng(0)
    for number in range(SOUND):
        path = folder / "sound" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    for name in ("a", "b"):
        path = folder / "poor" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), ord(name[0]), np.uint8)).save(path)


def try_doors(folder: Path, count: int, seed: int) -> dict[str, Counter[str]]:
    """Ends of generated input by its kind, ``count`` of all kinds together.

    Returns:
        Numbers of ``done``, ``refused``, ``exit code N`` and ``traceback`` by kind.
    """
    shutil.rmtree(folder / "doors", ignore_errors=True)
    make_pictures(folder / "doors")
    found: dict[str, Counter[str]] = {name: Counter() for name in DOORS}
    with quick_runs():
        for number in range(count):
            name = list(DOORS)[number % len(DOORS)]
            chance = random.Random(f"{seed} {number}")
            called = DOORS[name](folder / "doors", chance)
            found[name][describe(called)] += 1
            if called.trace:
                print(f"case {number} ({name}):\n{called.trace}", file=sys.stderr)
    return found


def describe(called: Called) -> str:
    """End of a call in a word or two."""
    if called.trace:
        return "traceback"
    if called.code == 0:
        return "done"
    return "refused" if called.refused else f"exit code {called.code}"
