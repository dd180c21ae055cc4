"""Layouts of folders: which level names the class, and whether one above it names patients."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from outerfold.storage.errors import DataError
from outerfold.storage.words.class_names import severity

SPLITS = re.compile(
    r"(?:train|training|test|testing|val|valid|validation|dev|holdout)(?:_?set)?"
    r"|(?:fold|cv|k_?fold|split|part|batch|subset)[_\- ]?\d+"
)
"""Names of splits, in lower case."""
MOST_CLASSES = 12
"""Folders beside each other from which on names with digits look like patients."""

MOST_WORDS = 3
"""Words of a class; the name of a set, such as Breast-Cancer-Screening-DBT, has more."""

JUNK = frozenset({"__MACOSX", "@eaDir", "__pycache__", "$RECYCLE.BIN"})
"""Folders of machines, which hold copies or previews of images."""

_DRAWN = (
    "mask|masks|seg|segmentation|segmented|gt|groundtruth|roi|annotation|annotations|annotated|"
    "annot|contour|contours|outline|overlay|label|labels|heatmap|cam|gradcam|thumb|thumbnail"
)
_MASK = re.compile(rf"[_\- ](?:{_DRAWN})[_ ]?(?:\d+|\(\d+\))?$", re.IGNORECASE)
_MASK_BEFORE = re.compile(rf"^(?:{_DRAWN})[_\- ]", re.IGNORECASE)
_MASK_FOLDER = re.compile(
    r"gt|rois?|outlines?|(?:grad)?cams?|thumbs?|thumbnails?|previews?|labels?(?:Tr|Ts)"
    r"|(?:.*[_\- ])?(?:masks?|segmentations?|ground_?truths?|overlays?|annotations?|annotated"
    r"|contours?|heat_?maps?)(?:[_\- ].*)?",
    re.IGNORECASE,
)
_EDITION = re.compile(
    r"(?:^|[^a-z])(?:jpe?gs?|pngs?|tiffs?|tif|dicoms?|dcms?|pgms?|bmps?|raw|originals?|processed"
    r"|preprocessed|resized|cropped|enhanced|subtracted|images?|images?t[rs]|augmented|aug|clahe"
    r"|flipped|rotated|normali[sz]ed|filtered|denoised|rgb|gr[ae]y(?:scale)?)(?:$|[^a-z])"
    r"|^\d{2,3}$|^(?:1024|1536|2048|4096)$|^\d+x\d+$"
)
_VIEW = re.compile(r"(?:left|right|l|r|both|bilateral)?[_\- ]?(?:cc|mlo|ml|lm|views?|breasts?)?")
_YEAR = re.compile(r"(?:19[5-9]\d|20[0-4]\d)")


@dataclass(frozen=True)
class Layout:
    """Labels of n paths, patients where folders above the classes name them, and sentences."""

    labels: tuple[str, ...]
    patients: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def is_junk(path: str) -> bool:
    """Whether a path below the root is hidden or in a folder that a machine made."""
    return any(part.startswith(".") or part in JUNK for part in path.split("/"))


def find_masks(paths: Sequence[str]) -> set[str]:
    """Paths that show an outline: ``masks/a.png`` or ``a_seg.png`` where ``a.png`` exists.

    A name that ends in ``_mask`` is one without the other, too; ``a_roi.png`` alone is a picture.

    Example:
        >>> sorted(find_masks(["c/a.png", "c/a_seg.png", "c/masks/a.png", "c/b_roi.png"]))
        ['c/a_seg.png', 'c/masks/a.png']
    """
    around = _shared_folders(paths)
    inside = {path for path in paths if any(map(is_mask_folder, path.split("/")[around:-1]))}
    plain = {path: _stem(path) for path in paths if path not in inside}
    stems = Counter(plain.values())
    beside = {(path.rpartition("/")[0], stem) for path, stem in plain.items()}
    return {path for path in paths if _is_mask(path, path in inside, stems, beside)}


def _shared_folders(paths: Sequence[str]) -> int:
    """Number of folders around all paths."""
    folders = [path.split("/")[:-1] for path in paths] or [[]]
    pairs = zip(min(folders), max(folders), strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), len(min(folders)))


def _is_mask(path: str, inside: bool, stems: Counter[str], beside: set[tuple[str, str]]) -> bool:
    stem = _stem(path)
    bare = _MASK_BEFORE.sub("", _MASK.sub("", stem))
    if inside:
        return stem in stems or bare in stems
    if bare == stem:
        return False
    marks_itself = "mask" in stem.replace(bare, "", 1).lower() and _MASK.search(stem)
    return (path.rpartition("/")[0], bare) in beside or bool(marks_itself)


def is_mask_folder(name: str) -> bool:
    """Whether a folder of this name holds outlines, as ``masks`` does."""
    return bool(_MASK_FOLDER.fullmatch(name))


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def read_layout(paths: Sequence[str]) -> Layout:
    """Labels of images by their paths below the root, each with at least one folder.

    A folder around all classes, and folders of splits, years, sites or patients above the classes,
    are passed over. Splits are joined, since outerfold makes its own.

    Raises:
        DataError: the folders are splits or patients without classes, editions of one set, one of
            them holds the folders of the others once more, or a class holds another one.
    """
    level, notes = 0, []
    while len(_names(paths, level)) == 1 and _is_wrapper(paths, level):
        level += 1
    tops = _names(paths, level)
    if len(tops) > 1 and all(SPLITS.fullmatch(name.lower()) for name in tops):
        _require_classes_below(paths, level)
        notes.append(
            f"folders {sorted(tops)} are splits: their images were joined, and the classes are the "
            f"folders below, {_below(paths, level)}; no split of outerfold follows them"
        )
        level += 1
    level, patients, told = _pass_patients(paths, level)
    _refuse_copies(paths, level)
    _refuse_mixed(paths, level)
    _refuse_patients(paths, level)
    _refuse_editions(paths, level)
    if _holds_classes_each(paths, level):
        told = (
            *told,
            f"the folders {sorted(_names(paths, level))[:4]} each hold the classes "
            f"{_below(paths, level)}: their images were joined",
        )
        level += 1
    told = (*told, *_tell_views(paths, level))
    return Layout(tuple(path.split("/")[level] for path in paths), patients, (*notes, *told))


def _pass_patients(
    paths: Sequence[str], level: int
) -> tuple[int, tuple[str, ...] | None, tuple[str, ...]]:
    """The level below folders of patients or years, the patients, and a sentence."""
    if not _stands_above_classes(paths, level):
        return level, None, ()
    tops = _names(paths, level)
    years = all(_YEAR.fullmatch(name) for name in tops)
    patients = None if years else tuple(path.split("/")[level] for path in paths)
    note = (
        f"the {len(tops)} folders above the classes {_below(paths, level)} "
        f"were read as {'years' if years else 'patients'}"
    )
    return level + 1, patients, (note,)


def _below(paths: Sequence[str], level: int) -> list[str]:
    return sorted(_names(paths, level + 1))[:4]


def _names(paths: Iterable[str], level: int) -> set[str]:
    """Folders at a level; empty where an image lies above it."""
    parts = [path.split("/")[:-1] for path in paths]
    if any(len(each) <= level for each in parts):
        return set()
    return {each[level] for each in parts}


def _is_wrapper(paths: Sequence[str], level: int) -> bool:
    """Whether the one folder of a level, by itself or in a chain of such, stands above classes."""
    if severity(next(iter(_names(paths, level)))) is not None:
        return False
    below = _names(paths, level + 1)
    if len(below) == 1:
        return _is_wrapper(paths, level + 1)
    return any(severity(n) is not None or SPLITS.fullmatch(n.lower()) for n in below)


def _require_classes_below(paths: Sequence[str], level: int) -> None:
    if len(_names(paths, level + 1)) < 2:
        raise DataError(
            f"the folders {sorted(_names(paths, level))} are names of splits, and there are no "
            f"class folders below each of them:\n{draw(paths)}\nname a manifest as --data, a .csv "
            "with the columns file, label and patient_id"
        )


def _stands_above_classes(paths: Sequence[str], level: int) -> bool:
    """Whether many folders with digits hold the same few folders, as PATIENT/CLASS/ does."""
    tops, below = _names(paths, level), _names(paths, level + 1)
    if len(tops) < 5 or not 2 <= len(below) <= min(10, len(tops) - 1):
        return False
    under: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        under[path.split("/")[level + 1]].add(path.split("/")[level])
    repeated = all(len(folders) >= 2 for folders in under.values())
    return repeated and all(any(c.isdigit() for c in name) for name in tops)


def _holds_classes_each(paths: Sequence[str], level: int) -> bool:
    """Whether folders that are no classes by their names each hold the same known classes."""
    tops = _names(paths, level)
    if len(tops) < 2 or any(severity(name) is not None for name in tops):
        return False
    below: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        parts = path.split("/")[:-1]
        if len(parts) <= level + 1:
            return False
        below[parts[level]].add(parts[level + 1])
    classes = next(iter(below.values()))
    same = all(names == classes for names in below.values())
    return same and len(classes) > 1 and all(severity(name) is not None for name in classes)


def _refuse_copies(paths: Sequence[str], level: int) -> None:
    """Refuse a folder beside the classes that holds folders of the same names, as copies do."""
    below: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        parts = path.split("/")[:-1]
        below[parts[level]].update(parts[level + 1 : level + 2])
    for top, names in sorted(below.items()):
        again = sorted(names & (set(below) - {top}))
        if len(again) > 1:
            raise DataError(
                f"folder {top!r} holds the folders {again[:4]}, and so does the data folder; "
                f"images of all classes would be one class {top!r}: move it away, or name it as "
                f"--data:\n{draw(paths)}"
            )


def _refuse_mixed(paths: Sequence[str], level: int) -> None:
    """Refuse a class that holds folders of other classes, such as ``cancer/benign``.

    Raises:
        DataError: a folder of a finding holds one without, or the other way round.
    """
    for path in paths:
        top, *below = path.split("/")[level:-1]
        rank = severity(top)
        wrong = [name for name in below if rank is not None and not _fits(rank, name)]
        if wrong:
            raise DataError(
                f"folder {top!r} holds the folder {wrong[0]!r}, so one of them is not the class:\n"
                f"{draw(paths)}\nmove the folders that are the classes beside each other, or name "
                f"a .csv with the columns file, label and patient_id as --data, such as "
                f"{path},LABEL,PATIENT"
            )


def _fits(outer: int, name: str) -> bool:
    """Whether a class of this rank (see ``severity``) may hold a folder of the name.

    A finding says less than the benign or malignant that stands below it. Names with digits, such
    as those of cases, say nothing.
    """
    inner = None if any(letter.isdigit() for letter in name) else severity(name)
    if inner not in {2, 4}:
        return True
    return outer != 3 and (outer == 4) == (inner == 4)


def _tell_views(paths: Sequence[str], level: int) -> tuple[str, ...]:
    """A sentence on classes that are sides or views by their names."""
    tops = sorted({path.split("/")[level] for path in paths})
    if not tops or not all(_VIEW.fullmatch(name.lower()) for name in tops):
        return ()
    return (
        f"the folders {tops[:4]} are classes here, and by their names they are sides or views; "
        "where they are, name a .csv with the columns file, label and patient_id as --data",
    )


def _refuse_patients(paths: Sequence[str], level: int) -> None:
    tops = _names(paths, level)
    numbered = [name for name in tops if any(c.isdigit() for c in name)]
    if len(tops) > MOST_CLASSES and len(numbered) >= 0.8 * len(tops):
        raise DataError(
            f"the {len(tops)} folders {sorted(tops)[:3]} look like patients and not like "
            f"classes:\n{draw(paths)}\nname a manifest as --data, a .csv with the columns file, "
            "label and patient_id, such as "
            f"{paths[0]},LABEL,{paths[0].split('/')[level]}"
        )


def _refuse_editions(paths: Sequence[str], level: int) -> None:
    """Refuse folders that are no classes by their names: editions of one set, or one folder.

    Raises:
        DataError: the layout, and the manifest to write.
    """
    tops = sorted(_names(paths, level))
    long = len(tops) == 1 and len(re.findall(r"[^\W_]+", tops[0])) > MOST_WORDS
    known = any(severity(name) is not None for name in tops) and not long
    if known or not tops:
        return
    manifest = (
        f"\n{draw(paths)}\nname a manifest as --data, a .csv with the columns file, label and "
        f"patient_id, such as {paths[0]},LABEL,PATIENT"
    )
    if len(tops) == 1:
        raise DataError(
            f"at least two classes are needed, and the only folder is {tops[0]!r}:{manifest}"
        )
    if any(_EDITION.search(name.lower()) for name in tops) and (
        all(_EDITION.search(name.lower()) for name in tops) or _holds_classes_each(paths, level)
    ):
        raise DataError(
            f"the folders {tops[:4]} look like editions of one set and not like classes; where one "
            f"of them holds class folders, name it as --data:{manifest}"
        )


def draw(paths: Sequence[str], most: int = 4) -> str:
    """The first folders and their images as a tree."""
    folders: dict[str, list[str]] = defaultdict(list)
    for path in sorted(paths):
        folder, _, name = path.rpartition("/")
        folders[folder].append(name)
    lines = [f"  {folder}/  {names[0]} ({len(names)} images)" for folder, names in folders.items()]
    more = [f"  ... {len(lines) - most} more folders"] if len(lines) > most else []
    return "\n".join([*lines[:most], *more])
