"""Names of classes: what is known to be the disease, its absence, or something between."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

DISEASE = """
    cancer cancerous cancers malignant malignancy malignancies malign maligne maligna
    maligno malignes maligni carcinoma carcinomas adenocarcinoma melanoma lymphoma
    sarcoma metastasis metastatic metastases insitu situ invasive paget luminal recurrence idc dcis
    ilc krebs karzinom karzinome
    bosartig boesartig bösartig cancereux cancereuse malin cancro tumormaligno
    kwaadaardig kanker rak złosliwy zlosliwy nowotwor zhoubny kanser kotuhuylu cancere
    злокачественный злокачественная злокачественное злокачественные рак κακοηθης
    κακοηθες καρκινος 恶性 惡性 癌 癌症
    恶性肿瘤 惡性腫瘤 悪性 がん 悪性腫瘍 악성 암
    خبيث خبيثة سرطان ממאיר ממאירה
    סרטן कैंसर घातक มะเร็ง actinh ungthu
"""
FINDING = """
    abnormal pathological pathologic pathologisch diseased disease sick ill positive pos
    present unhealthy + ++ +++ tumor tumour tumors tumours lesion mass suspicious
    affected case cases patient 异常 異常 阳性 陽性 양성반응 patologico pathologique auffallig krank
    malade patologisch positiv positif positivo
"""
BENIGN = """
    benign benigne benigna benigno benin benignes benigni gutartig goedaardig lagodny
    nezhoubny iyihuylu доброкачественный доброкачественная доброкачественное
    доброкачественные καλοηθης καλοηθες 良性 良性肿瘤 良性腫瘍 양성 حميد حميدة שפיר שפירה सौम्य
    lanhtinh
"""
HEALTHY = """
    normal normale normales healthy control controls negative neg absent - none gesund
    sain sano sana zdrowy zdravy saudavel gezond frisk saglikli norm норма нормальный
    здоровый negativ negatif negativo unauffallig 正常 健康 阴性 陰性 정상 음성 طبيعي سليم תקין בריא
    सामान्य ปกติ binhthuong
"""
NEGATIONS = """
    non no not without free kein keine ohne nicht sans pas sin senza geen zonder bez не
    без 非 无 無
"""
"""Words of classes, by rank, and words that deny; in lower case, separated by blanks."""
_NOT = frozenset(NEGATIONS.split())

CANCER_COLUMNS = re.compile(
    r"(?:is_|has_|label_|y_)?(?:breast_)?(?:cancer|malignant|malignancy|malign|carcinoma|tumou?r_malignant)"
    r"(?:_label|_status|_yn|_flag|_y_n|_01|_diagnosis|_present|_positive)?"
)
"""Normalised names of columns of labels where 1, yes and True mean the disease."""

_TRUTH = {
    **dict.fromkeys(("1", "true", "yes", "y", "t"), True),
    **dict.fromkeys(("0", "false", "no", "n", "f"), False),
}
_BIRADS = re.compile(r"bi-?rads[-_]?(\d)([abc]?)")


CLINICAL_ORDER = {"normal": 1, "actionable": 2, "benign": 3, "cancer": 4, "malignant": 4}
"""Order of classes of which each is one of these."""


def _plain(name: str) -> str:
    """Name in lower case, without accents of Latin letters."""
    text = unicodedata.normalize("NFKD", name).casefold()
    return unicodedata.normalize("NFKC", "".join(c for c in text if not "\u0300" <= c <= "\u036f"))


_VOCABULARY = {
    _plain(word): rank
    for rank, words in ((0, HEALTHY), (2, BENIGN), (3, FINDING), (4, DISEASE))
    for word in words.split()
}


@lru_cache(maxsize=4096)
def severity(name: str) -> int | None:
    """Rank of a class by its name: 0 healthy, 1 no cancer, 2 benign, 3 a finding, 4 cancer.

    None where the name is not known. A negation, as in ``non-cancer`` or ``no finding``, is 1.

    Example:
        >>> [severity(name) for name in ("Normal", "non-cancer", "Benign mass", "IDC", "xyz")]
        [0, 1, 2, 4, None]
    """
    plain = _plain(name)
    joined = "".join(plain.split())
    if joined in _VOCABULARY:
        return _VOCABULARY[joined]
    words = [word for word in re.split(r"[^\w+]+|_", plain) if word]
    ranks = {_VOCABULARY[word] for word in words if word in _VOCABULARY}
    if set(words) & _NOT or _negated(joined):
        return 3 if ranks and max(ranks) <= 2 else 1  # "not normal" is a finding
    if not ranks:
        return None
    if 4 in ranks and ranks & {0, 2}:  # "cancer negative", "benign carcinoma": no one knows
        return 1 if {"negative", "neg"} & set(words) else None
    return 2 if 2 in ranks else 0 if 0 in ranks else max(ranks)


def _negated(joined: str) -> bool:
    """Whether a name in one word denies a finding, such as ``noncancer`` or ``非癌``."""
    for word in _NOT:
        rest = joined.removeprefix(word).strip("-_")
        if joined.startswith(word) and _VOCABULARY.get(rest, 0) >= 3:
            return True
        rest = joined.removesuffix(word).strip("-_")
        if word == "free" and joined.endswith(word) and _VOCABULARY.get(rest, 0) >= 3:
            return True
    return False


def is_disease(name: str) -> bool:
    """Whether a class is cancer by its name, in any of the known languages."""
    return severity(name) == 4


def positive_of_two(names: Sequence[str], column: str) -> str | None:
    """Positive class of two by their names; None where the names do not say.

    It is the more severe one: ``cancer`` beside any name that is not as severe, ``abnormal`` beside
    ``normal``, the higher BI-RADS category. ``1``, ``True`` and ``yes`` are positive where the
    column of labels is called cancer, malignant or the like, else they say nothing.

    Args:
        names: the two class names.
        column: normalised name of the column of labels; empty for class folders.
    """
    one, other = names
    orders = [CLINICAL_ORDER.get(name.strip().lower(), 0) for name in names]
    if 0 not in orders and orders[0] != orders[1]:
        return names[orders.index(max(orders))]
    truth = [_TRUTH.get(name.strip().lower().removesuffix(".0")) for name in names]
    if None not in truth and truth[0] != truth[1]:
        return names[truth.index(True)] if CANCER_COLUMNS.fullmatch(column) else None
    grades = [_BIRADS.fullmatch(re.sub(r"\s", "", _plain(name))) for name in names]
    if grades[0] and grades[1] and grades[0].groups() != grades[1].groups():
        return max(names, key=lambda name: _plain(name))
    ranks = [severity(name) for name in names]
    if ranks[0] == ranks[1]:
        return None
    if 4 in ranks:
        return names[ranks.index(4)]
    if (
        None in ranks
    ):  # beside health, every other name is a finding; beside benign it may be health
        at = 1 - ranks.index(None)
        known = ranks[at]
        if known == 0:
            return other if at == 0 else one
        return names[at] if known == 3 else None
    return one if (ranks[0] or 0) > (ranks[1] or 0) else other


def is_cancer(text: str, column: str) -> bool | None:
    """Whether a cell says that there is cancer; None where it does not say.

    Args:
        text: the cell.
        column: normalised name of its column; where it is called cancer, malignant or the like, 1
            and yes mean cancer.

    Example:
        >>> [is_cancer(text, "pathology") for text in ("malignant", "benign", "1", "lesion")]
        [True, False, None, None]
        >>> is_cancer("0", "cancer")
        False
    """
    truth = _TRUTH.get(text.strip().lower().removesuffix(".0"))
    if truth is not None:
        return truth if CANCER_COLUMNS.fullmatch(column) else None
    rank = severity(text)
    return None if rank in {None, 3} else rank == 4
