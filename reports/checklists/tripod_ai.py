"""TRIPOD+AI: 27 items in 52 parts for studies of prediction models."""

from __future__ import annotations

from outerfold.reports.checklists import answers
from outerfold.reports.checklists.item import Checklist, Item

TRIPOD_AI = Checklist(
    "TRIPOD+AI",
    "Checklist_TRIPOD_AI",
    "Collins et al., BMJ 2024;385:e078378",
    "Items are told in our own words; their numbers are those of the statement.",
    (
        Item(
            "1",
            "Title: development or evaluation of a prediction model, population, outcome",
            answers.kind_of_study,
        ),
        Item("2", "Abstract", answers.headline),
        Item("3a", "Healthcare context and reasons; existing models", paper="context"),
        Item("3b", "Target population, purpose and intended users", paper="purpose"),
        Item("3c", "Known inequalities between groups", paper="inequalities"),
        Item("4", "Objectives", answers.objectives),
        Item(
            "5a",
            "Sources of data, and whom they represent",
            answers.data,
            "source",
        ),
        Item("5b", "Dates of the data", paper="dates"),
        Item("6a", "Setting: kind, number and location of centres", paper="setting"),
        Item("6b", "Who was eligible", paper="eligibility"),
        Item("6c", "Treatments received", paper="treatments"),
        Item(
            "7",
            "Preparation and checks of the data",
            answers.preparation,
        ),
        Item(
            "8a",
            "Outcome: definition, time horizon, assessment",
            answers.outcome,
            "reference_standard",
        ),
        Item("8b", "Who assessed the outcome", paper="assessors"),
        Item("8c", "Blinding of the assessment of the outcome", paper="blinding"),
        Item(
            "9a",
            "Choice of predictors before modelling",
            answers.predictors,
        ),
        Item(
            "9b",
            "Definition of the predictors; how and when they were measured",
            answers.predictors,
            "predictors",
        ),
        Item("9c", "Who assessed predictors that need a judgement", paper="predictors"),
        Item("10", "Sample size", answers.sample, "sample_size"),
        Item("11", "Missing data", answers.missing),
        Item(
            "12a",
            "Use of the data: partitions",
            answers.partitions,
        ),
        Item(
            "12b",
            "Handling of predictors: scale, form",
            answers.missing,
        ),
        Item(
            "12c",
            "Kind of model, steps of building it, tuning, internal validation",
            answers.search,
        ),
        Item("12d", "Differences between clusters", answers.clusters),
        Item("12e", "Measures and plots of performance", answers.metrics),
        Item(
            "12f",
            "Updating of the model, such as recalibration",
            answers.updating,
        ),
        Item(
            "12g",
            "How predictions are calculated",
            answers.calculation,
        ),
        Item(
            "13",
            "Imbalance of classes, and recalibration after it",
            answers.imbalance,
        ),
        Item("14", "Fairness: what was done and why", paper="fairness"),
        Item(
            "15",
            "Output of the model; how thresholds were found",
            answers.prespecified,
        ),
        Item(
            "16",
            "Differences between data of development and of evaluation",
            answers.training_and_test,
            "external",
        ),
        Item("17", "Ethical approval and consent", paper="ethics"),
        Item("18a", "Funding", paper="funding"),
        Item("18b", "Conflicts of interest", paper="conflicts"),
        Item("18c", "Protocol", answers.protocol, "protocol"),
        Item("18d", "Registration", paper="registration"),
        Item("18e", "Availability of the data", paper="data_sharing"),
        Item(
            "18f",
            "Availability of the code",
            answers.software,
            "code_sharing",
        ),
        Item("19", "Involvement of patients and the public", paper="involvement"),
        Item(
            "20a",
            "Flow of participants, with and without the outcome",
            answers.flow,
        ),
        Item(
            "20b",
            "Characteristics, with missing data",
            answers.characteristics,
            "source",
        ),
        Item(
            "20c",
            "Comparison of development and evaluation data",
            answers.training_and_test,
        ),
        Item(
            "21",
            "Participants and events of each analysis",
            answers.sizes,
        ),
        Item("22", "The whole model", answers.specification),
        Item(
            "23a",
            "Performance with intervals, also of subgroups",
            answers.performance,
        ),
        Item(
            "23b",
            "Differences of performance between clusters",
            answers.heterogeneity,
        ),
        Item("24", "Results of updating", answers.updating),
        Item("25", "Interpretation, fairness included", paper="interpretation"),
        Item(
            "26",
            "Limitations",
            answers.limits,
            "limitations",
        ),
        Item(
            "27a",
            "Input of poor quality or missing, in use",
            answers.bad_input,
        ),
        Item("27b", "What users must do and know", paper="users"),
        Item("27c", "Next steps of research", paper="next_steps"),
    ),
)
