"""CLAIM 2024: 44 items for studies of artificial intelligence in medical imaging."""

from __future__ import annotations

from outerfold.reports.checklists import answers
from outerfold.reports.checklists.item import Checklist, Item

CLAIM = Checklist(
    "CLAIM 2024",
    "Checklist_CLAIM_2024",
    "Tejani et al., Radiology: Artificial Intelligence 2024;6(4):e240300",
    "Items are told in our own words; their numbers are those of the update of 2024.",
    (
        Item(
            "1",
            "Title names the method of artificial intelligence",
            answers.kind_of_study,
        ),
        Item("2", "Structured abstract", answers.headline),
        Item("3", "Background and intended role", paper="context"),
        Item("4", "Aims and hypotheses", answers.objectives),
        Item("5", "Prospective or retrospective", paper="design"),
        Item("6", "Goal of the study", answers.objectives),
        Item(
            "7",
            "Sources of data",
            answers.data,
            "source",
        ),
        Item("8", "Who was included and excluded", paper="eligibility"),
        Item(
            "9",
            "Preprocessing of the data",
            answers.preparation,
        ),
        Item("10", "Selection of parts of the data", paper="eligibility"),
        Item("11", "Removal of identities", paper="deidentification"),
        Item("12", "Missing data", answers.missing),
        Item("13", "Acquisition of the images", paper="acquisition"),
        Item(
            "14",
            "Definition of the reference standard",
            answers.outcome,
            "reference_standard",
        ),
        Item("15", "Reasons for the reference standard", paper="reference_standard"),
        Item("16", "Who gave the reference standard", paper="assessors"),
        Item("17", "How test data were annotated", paper="assessors"),
        Item("18", "Variation between and within readers", paper="assessors"),
        Item(
            "19",
            "How data were assigned to partitions",
            answers.partitions,
        ),
        Item(
            "20",
            "Level at which partitions are disjoint",
            answers.partitions,
        ),
        Item("21", "Intended sample size", answers.sample, "sample_size"),
        Item(
            "22",
            "Description of the model",
            answers.calculation,
        ),
        Item(
            "23",
            "Software and its versions",
            answers.software,
        ),
        Item(
            "24",
            "Initial weights",
            answers.initialisation,
        ),
        Item(
            "25",
            "Training: augmentation, hyper-parameters, number of models",
            answers.search,
        ),
        Item(
            "26",
            "How the final model was selected",
            answers.search,
        ),
        Item("27", "Ensembles", answers.ensembling),
        Item("28", "Metrics of performance", answers.metrics),
        Item("29", "Statistical measures of uncertainty", answers.metrics),
        Item("30", "Robustness", answers.heterogeneity),
        Item("31", "Explanations of the model's decisions", paper="interpretation"),
        Item(
            "32",
            "Evaluation on internal data",
            answers.training_and_test,
        ),
        Item("33", "Tests on external data", paper="external"),
        Item("34", "Registration of a trial", paper="registration"),
        Item("35", "Flow of patients", answers.flow),
        Item(
            "36",
            "Characteristics in each partition",
            answers.characteristics,
            "source",
        ),
        Item(
            "37",
            "Performance with its uncertainty, of all partitions",
            answers.performance,
        ),
        Item(
            "38",
            "Estimates of diagnostic accuracy and their precision",
            answers.performance,
        ),
        Item("39", "Analysis of failures", answers.failures),
        Item(
            "40",
            "Limitations",
            answers.limits,
            "limitations",
        ),
        Item("41", "Implications for practice", paper="interpretation"),
        Item("42", "Protocol", answers.protocol, "protocol"),
        Item(
            "43",
            "Availability of software, model and data",
            answers.specification,
            "code_sharing",
        ),
        Item("44", "Funding and the funders' role", paper="funding"),
    ),
)
