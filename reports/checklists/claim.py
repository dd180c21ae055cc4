"""CLAIM 2024: 44 items for studies of artificial intelligence in medical imaging."""

from __future__ import annotations

from outerfold.reports.checklists import answers
from outerfold.reports.checklists.item import Checklist, Item, Known

CLAIM = Checklist(
    "CLAIM 2024",
    "Checklist_CLAIM_2024",
    "Tejani et al., Radiology: Artificial Intelligence 2024;6(4):e240300",
    "Items are told in our own words; their numbers are those of the update of 2024.",
    (
        Item(
            "1",
            "Title names the method of artificial intelligence",
            Known(answers.kind_of_study, ("dataset.classes", "dataset.columns")),
        ),
        Item("2", "Structured abstract", Known(answers.headline, ("overall", "tested"))),
        Item("3", "Background and intended role", paper="context"),
        Item("4", "Aims and hypotheses", Known(answers.objectives, ("protocol.metric",))),
        Item("5", "Prospective or retrospective", paper="design"),
        Item("6", "Goal of the study", Known(answers.objectives, ("protocol.metric",))),
        Item(
            "7",
            "Sources of data",
            Known(answers.data, ("dataset.name", "dataset.classes", "dataset.fingerprint")),
            "source",
        ),
        Item("8", "Who was included and excluded", paper="eligibility"),
        Item(
            "9",
            "Preprocessing of the data",
            Known(answers.preparation, ("protocol.fit", "protocol.crop", "dataset.assumptions")),
        ),
        Item("10", "Selection of parts of the data", paper="eligibility"),
        Item("11", "Removal of identities", paper="deidentification"),
        Item("12", "Missing data", Known(answers.missing, ("dataset.columns",))),
        Item("13", "Acquisition of the images", paper="acquisition"),
        Item(
            "14",
            "Definition of the reference standard",
            Known(answers.outcome, ("dataset.classes",)),
            "reference_standard",
        ),
        Item("15", "Reasons for the reference standard", paper="reference_standard"),
        Item("16", "Who gave the reference standard", paper="assessors"),
        Item("17", "How test data were annotated", paper="assessors"),
        Item("18", "Variation between and within readers", paper="assessors"),
        Item(
            "19",
            "How data were assigned to partitions",
            Known(answers.partitions, ("protocol.outer_folds", "dataset.patients_known")),
        ),
        Item(
            "20",
            "Level at which partitions are disjoint",
            Known(answers.partitions, ("protocol.outer_folds", "dataset.patients_known")),
        ),
        Item("21", "Intended sample size", Known(answers.sample, ("tested",)), "sample_size"),
        Item(
            "22",
            "Description of the model",
            Known(answers.calculation, ("protocol.encoder", "protocol.tta")),
        ),
        Item(
            "23",
            "Software and its versions",
            Known(answers.software, ("provenance.versions", "provenance.git")),
        ),
        Item(
            "24",
            "Initial weights",
            Known(answers.initialisation, ("provenance.encoders", "protocol.seed")),
        ),
        Item(
            "25",
            "Training: augmentation, hyper-parameters, number of models",
            Known(answers.search, ("protocol", "provenance.search_space")),
        ),
        Item(
            "26",
            "How the final model was selected",
            Known(answers.search, ("protocol.metric", "protocol.trials")),
        ),
        Item("27", "Ensembles", Known(answers.ensembling, ("protocol.final", "protocol.networks"))),
        Item("28", "Metrics of performance", Known(answers.metrics, ("overall",))),
        Item("29", "Statistical measures of uncertainty", Known(answers.metrics, ("overall",))),
        Item("30", "Robustness", Known(answers.heterogeneity, ("overall.roc_auc.fold_range",))),
        Item("31", "Explanations of the model's decisions", paper="interpretation"),
        Item(
            "32",
            "Evaluation on internal data",
            Known(answers.training_and_test, ("protocol.outer_folds", "outer")),
        ),
        Item("33", "Tests on external data", paper="external"),
        Item("34", "Registration of a trial", paper="registration"),
        Item("35", "Flow of patients", Known(answers.flow, ("tested", "outer"))),
        Item(
            "36",
            "Characteristics in each partition",
            Known(answers.characteristics, ("dataset.columns",)),
            "source",
        ),
        Item(
            "37",
            "Performance with its uncertainty, of all partitions",
            Known(answers.performance, ("overall", "validation")),
        ),
        Item(
            "38",
            "Estimates of diagnostic accuracy and their precision",
            Known(answers.performance, ("overall", "confusion")),
        ),
        Item("39", "Analysis of failures", Known(answers.failures, ("confusion",))),
        Item(
            "40",
            "Limitations",
            Known(answers.limits, ("protocol.protocol", "synthetic_data", "folds")),
            "limitations",
        ),
        Item("41", "Implications for practice", paper="interpretation"),
        Item("42", "Protocol", Known(answers.protocol, ("protocol",)), "protocol"),
        Item(
            "43",
            "Availability of software, model and data",
            Known(answers.specification, ("final",)),
            "code_sharing",
        ),
        Item("44", "Funding and the funders' role", paper="funding"),
    ),
)
