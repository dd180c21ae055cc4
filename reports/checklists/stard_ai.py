"""STARD-AI: items for studies of diagnostic accuracy, those of STARD 2015 and what AI adds."""

from __future__ import annotations

from outerfold.reports.checklists import answers
from outerfold.reports.checklists.item import Checklist, Item

STARD_AI = Checklist(
    "STARD-AI",
    "Checklist_STARD_AI",
    "Sounderajah et al., Nature Medicine 2025; Bossuyt et al., BMJ 2015;351:h5527",
    "Numbers are those of STARD 2015, which STARD-AI extends. What STARD-AI adds is marked AI and "
    "told in our own words, without its own numbers.",
    (
        Item(
            "1",
            "Title: diagnostic accuracy, with a measure of it",
            answers.kind_of_study,
        ),
        Item("2", "Structured abstract", answers.headline),
        Item("3", "Background and intended role of the test", paper="purpose"),
        Item("4", "Objectives and hypotheses", answers.objectives),
        Item("5", "Prospective or retrospective", paper="design"),
        Item("6", "Who was eligible", paper="eligibility"),
        Item("7", "How eligible patients were identified", paper="eligibility"),
        Item("8", "Where and when: setting, location, dates", paper="setting"),
        Item("9", "Consecutive, random or convenience series", paper="eligibility"),
        Item(
            "AI: data",
            "Sources of data of development and test, preparation, and partitions",
            answers.partitions,
            "source",
        ),
        Item(
            "10a",
            "Index test, so that it can be repeated",
            answers.calculation,
        ),
        Item(
            "AI: test",
            "Version of the software, input of the model and its preparation",
            answers.preparation,
        ),
        Item("10b", "Reference standard, so that it can be repeated", paper="reference_standard"),
        Item("11", "Reasons for the reference standard", paper="reference_standard"),
        Item(
            "12a",
            "Threshold of the index test; fixed before or explored",
            answers.prespecified,
        ),
        Item("12b", "Threshold of the reference standard", paper="reference_standard"),
        Item("13a", "What was known to those who did the index test", paper="blinding"),
        Item("13b", "What was known to those who assessed the reference", paper="blinding"),
        Item("14", "Methods of estimating accuracy", answers.metrics),
        Item("15", "Indeterminate results", paper="reference_standard"),
        Item("16", "Missing data", answers.missing),
        Item(
            "17",
            "Variability of accuracy; fixed before or explored",
            answers.clusters,
        ),
        Item("18", "Intended sample size", answers.sample, "sample_size"),
        Item("AI: fairness", "Bias and fairness between groups", paper="fairness"),
        Item("19", "Flow of participants", answers.flow),
        Item(
            "20",
            "Characteristics of the participants",
            answers.characteristics,
            "source",
        ),
        Item(
            "21a",
            "Severity of disease in those who have it",
            paper="source",
        ),
        Item("21b", "Other diagnoses in those who do not have it", paper="source"),
        Item("22", "Time between index test and reference", paper="reference_standard"),
        Item("23", "Index test against reference", answers.failures),
        Item(
            "24",
            "Accuracy with its precision",
            answers.performance,
        ),
        Item("AI: errors", "Analysis of errors", answers.failures),
        Item("25", "Adverse events of either test", paper="treatments"),
        Item(
            "26",
            "Limitations",
            answers.limits,
            "limitations",
        ),
        Item("27", "Implications for practice", paper="interpretation"),
        Item("28", "Registration", paper="registration"),
        Item("29", "Protocol", answers.protocol, "protocol"),
        Item("30", "Funding", paper="funding"),
        Item("AI: sharing", "Availability of model, code and data", paper="code_sharing"),
        Item("AI: interests", "Commercial interests", paper="conflicts"),
    ),
)
