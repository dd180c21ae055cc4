"""References of the methods section, and the file ``references.bib``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """One cited work.

    Attributes:
        kind: BibTeX type of the entry.
        authors, title, venue: as BibTeX writes them; ``venue`` is a journal or a book title.
        year: year of publication.
        where: volume and pages, or another place; empty for none.
    """

    kind: str
    authors: str
    title: str
    venue: str
    year: int
    where: str = ""

    @property
    def line(self) -> str:
        """The reference as one line of a list."""
        names = self.authors.replace(" and ", "; ")
        place = f" {self.where}." if self.where else ""
        return f"{names} ({self.year}). {self.title}. {self.venue}.{place}"

    def bibtex(self, key: str) -> str:
        """Entry of a BibTeX file."""
        venue = "journal" if self.kind == "article" else "booktitle"
        fields = {"author": self.authors, "title": f"{{{self.title}}}", venue: self.venue}
        fields |= {"year": str(self.year)} | ({"note": self.where} if self.where else {})
        body = ",\n".join(f"  {name} = {{{text}}}" for name, text in fields.items())
        return f"@{self.kind}{{{key},\n{body}\n}}\n"


REFERENCES = {
    "bergstra2011": Reference(
        "inproceedings",
        "Bergstra, James and Bardenet, Rémi and Bengio, Yoshua and Kégl, Balázs",
        "Algorithms for hyper-parameter optimization",
        "Advances in Neural Information Processing Systems 24",
        2011,
    ),
    "akiba2019": Reference(
        "inproceedings",
        "Akiba, Takuya and Sano, Shotaro and Yanase, Toshihiko and Ohta, Takeru and "
        "Koyama, Masanori",
        "Optuna: A next-generation hyperparameter optimization framework",
        "Proceedings of KDD",
        2019,
    ),
    "jamieson2016": Reference(
        "inproceedings",
        "Jamieson, Kevin and Talwalkar, Ameet",
        "Non-stochastic best arm identification and hyperparameter optimization",
        "Proceedings of AISTATS",
        2016,
    ),
    "li2018": Reference(
        "article",
        "Li, Lisha and Jamieson, Kevin and DeSalvo, Giulia and Rostamizadeh, Afshin and "
        "Talwalkar, Ameet",
        "Hyperband: A novel bandit-based approach to hyperparameter optimization",
        "Journal of Machine Learning Research",
        2018,
        "18(185)",
    ),
    "varma2006": Reference(
        "article",
        "Varma, Sudhir and Simon, Richard",
        "Bias in error estimation when using cross-validation for model selection",
        "BMC Bioinformatics",
        2006,
        "7:91",
    ),
    "kingma2015": Reference(
        "inproceedings",
        "Kingma, Diederik P. and Ba, Jimmy",
        "Adam: A method for stochastic optimization",
        "Proceedings of ICLR",
        2015,
    ),
    "loshchilov2019": Reference(
        "inproceedings",
        "Loshchilov, Ilya and Hutter, Frank",
        "Decoupled weight decay regularization",
        "Proceedings of ICLR",
        2019,
    ),
    "platt1999": Reference(
        "incollection",
        "Platt, John",
        "Probabilistic outputs for support vector machines",
        "Advances in Large Margin Classifiers",
        1999,
    ),
    "guo2017": Reference(
        "inproceedings",
        "Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.",
        "On calibration of modern neural networks",
        "Proceedings of ICML",
        2017,
    ),
    "youden1950": Reference(
        "article", "Youden, W. J.", "Index for rating diagnostic tests", "Cancer", 1950, "3:32-35"
    ),
    "efron1981": Reference(
        "article",
        "Efron, Bradley and Stein, Charles",
        "The jackknife estimate of variance",
        "The Annals of Statistics",
        1981,
        "9:586-596",
    ),
    "nadeau2003": Reference(
        "article",
        "Nadeau, Claude and Bengio, Yoshua",
        "Inference for the generalization error",
        "Machine Learning",
        2003,
        "52:239-281",
    ),
    "vickers2006": Reference(
        "article",
        "Vickers, Andrew J. and Elkin, Elena B.",
        "Decision curve analysis: a novel method for evaluating prediction models",
        "Medical Decision Making",
        2006,
        "26:565-574",
    ),
    "steyerberg2010": Reference(
        "article",
        "Steyerberg, Ewout W. and Vickers, Andrew J. and Cook, Nancy R. and Gerds, Thomas and "
        "Gonen, Mithat and Obuchowski, Nancy and Pencina, Michael J. and Kattan, Michael W.",
        "Assessing the performance of prediction models: a framework for traditional and novel "
        "measures",
        "Epidemiology",
        2010,
        "21:128-138",
    ),
    "cohen1968": Reference(
        "article",
        "Cohen, Jacob",
        "Weighted kappa: nominal scale agreement with provision for scaled disagreement or partial "
        "credit",
        "Psychological Bulletin",
        1968,
        "70:213-220",
    ),
    "vancalster2019": Reference(
        "article",
        "Van Calster, Ben and McLernon, David J. and van Smeden, Maarten and Wynants, Laure and "
        "Steyerberg, Ewout W.",
        "Calibration: the Achilles heel of predictive analytics",
        "BMC Medicine",
        2019,
        "17:230",
    ),
}
"""Works that a methods section may cite, by key."""
