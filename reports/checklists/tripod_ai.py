"""TRIPOD+AI: 27 items in 52 parts for studies of prediction models."""

from __future__ import annotations

from outerfold.reports.checklists import answers
from outerfold.reports.checklists.item import Checklist, Item, Known

OUTCOME = ("dataset.classes", "tested.patients_by_class")
RESULTS = ("overall", "confusion", "tested")

TRIPOD_AI = Checklist(
    "TRIPOD+AI",
    "Checklist_TRIPOD_AI",
    "Collins et al., BMJ 2024;385:e078378",
    "Items are told in our own words; their numbers are those of the statement.",
    (
        Item(
            "1",
            "Title: development or evaluation of a prediction model, population, outcome",
            Known(answers.kind_of_study, ("dataset.classes", "dataset.columns")),
        ),
        Item("2", "Abstract", Known(answers.headline, RESULTS)),
        Item("3a", "Healthcare context and reasons; existing models", paper="context"),
        Item("3b", "Target population, purpose and intended users", paper="purpose"),
        Item("3c", "Known inequalities between groups", paper="inequalities"),
        Item("4", "Objectives", Known(answers.objectives, ("protocol.metric",))),
        Item(
            "5a",
            "Sources of data, and whom they represent",
            Known(answers.data, ("dataset.name", "dataset.classes", "dataset.fingerprint")),
            "source",
        ),
        Item("5b", "Dates of the data", paper="dates"),
        Item("6a", "Setting: kind, number and location of centres", paper="setting"),
        Item("6b", "Who was eligible", paper="eligibility"),
        Item("6c", "Treatments received", paper="treatments"),
        Item(
            "7",
            "Preparation and checks of the data",
            Known(answers.preparation, ("protocol.fit", "protocol.crop", "dataset.assumptions")),
        ),
        Item(
            "8a",
            "Outcome: definition, time horizon, assessment",
            Known(answers.outcome, ("dataset.classes",)),
            "reference_standard",
        ),
        Item("8b", "Who assessed the outcome", paper="assessors"),
        Item("8c", "Blinding of the assessment of the outcome", paper="blinding"),
        Item(
            "9a",
            "Choice of predictors before modelling",
            Known(answers.predictors, ("dataset.columns",)),
        ),
        Item(
            "9b",
            "Definition of the predictors; how and when they were measured",
            Known(answers.predictors, ("dataset.columns",)),
            "predictors",
        ),
        Item("9c", "Who assessed predictors that need a judgement", paper="predictors"),
        Item("10", "Sample size", Known(answers.sample, ("tested",)), "sample_size"),
        Item("11", "Missing data", Known(answers.missing, ("dataset.columns",))),
        Item(
            "12a",
            "Use of the data: partitions",
            Known(
                answers.partitions,
                ("protocol.outer_folds", "protocol.inner_folds", "dataset.patients_known"),
            ),
        ),
        Item(
            "12b",
            "Handling of predictors: scale, form",
            Known(answers.missing, ("dataset.columns",)),
        ),
        Item(
            "12c",
            "Kind of model, steps of building it, tuning, internal validation",
            Known(answers.search, ("protocol", "provenance.search_space")),
        ),
        Item("12d", "Differences between clusters", Known(answers.clusters, ("folds",))),
        Item("12e", "Measures and plots of performance", Known(answers.metrics, ("overall",))),
        Item(
            "12f",
            "Updating of the model, such as recalibration",
            Known(answers.updating, ("protocol.threshold",)),
        ),
        Item(
            "12g",
            "How predictions are calculated",
            Known(answers.calculation, ("protocol.encoder", "protocol.tta")),
        ),
        Item(
            "13",
            "Imbalance of classes, and recalibration after it",
            Known(answers.imbalance, ("outer.params.sampler", "protocol.threshold")),
        ),
        Item("14", "Fairness: what was done and why", paper="fairness"),
        Item(
            "15",
            "Output of the model; how thresholds were found",
            Known(answers.prespecified, ("protocol.threshold", "protocol.protocol")),
        ),
        Item(
            "16",
            "Differences between data of development and of evaluation",
            Known(answers.training_and_test, ("protocol.outer_folds", "outer")),
            "external",
        ),
        Item("17", "Ethical approval and consent", paper="ethics"),
        Item("18a", "Funding", paper="funding"),
        Item("18b", "Conflicts of interest", paper="conflicts"),
        Item("18c", "Protocol", Known(answers.protocol, ("protocol",)), "protocol"),
        Item("18d", "Registration", paper="registration"),
        Item("18e", "Availability of the data", paper="data_sharing"),
        Item(
            "18f",
            "Availability of the code",
            Known(answers.software, ("provenance.versions", "provenance.git")),
            "code_sharing",
        ),
        Item("19", "Involvement of patients and the public", paper="involvement"),
        Item(
            "20a",
            "Flow of participants, with and without the outcome",
            Known(answers.flow, ("tested", "outer")),
        ),
        Item(
            "20b",
            "Characteristics, with missing data",
            Known(answers.characteristics, ("dataset.columns",)),
            "source",
        ),
        Item(
            "20c",
            "Comparison of development and evaluation data",
            Known(answers.training_and_test, ("protocol.outer_folds", "outer")),
        ),
        Item(
            "21",
            "Participants and events of each analysis",
            Known(answers.sizes, ("outer.train_patients", "outer.test_patients")),
        ),
        Item("22", "The whole model", Known(answers.specification, ("final",))),
        Item(
            "23a",
            "Performance with intervals, also of subgroups",
            Known(answers.performance, (*RESULTS, "questions")),
        ),
        Item(
            "23b",
            "Differences of performance between clusters",
            Known(answers.heterogeneity, ("overall.roc_auc.fold_range",)),
        ),
        Item("24", "Results of updating", Known(answers.updating, ("protocol.threshold",))),
        Item("25", "Interpretation, fairness included", paper="interpretation"),
        Item(
            "26",
            "Limitations",
            Known(answers.limits, ("protocol.protocol", "synthetic_data", "folds")),
            "limitations",
        ),
        Item(
            "27a",
            "Input of poor quality or missing, in use",
            Known(answers.bad_input, ("dataset.columns",)),
        ),
        Item("27b", "What users must do and know", paper="users"),
        Item("27c", "Next steps of research", paper="next_steps"),
    ),
)
