"""Errors a user can cause. The command line prints each as one line on stderr and exits with code 2.

RapbenchError
├── UnknownName        no such method, model, dataset or metric
├── BadConfig          options or parameters that are wrong or contradict each other
├── DataMissing        data or weights are not where they were looked for
├── BadData            one file is unreadable or says something impossible
├── BadWeights         a weight file does not fit its model
├── UnsupportedLayer   no rule of the method covers a layer of the model
└── SpecMismatch       a results folder holds another experiment
"""


class RapbenchError(Exception):
    """Base of every error that a user can cause and cure; its message is one line."""


class UnknownName(RapbenchError):
    """No such method, model, dataset or metric."""


class BadConfig(RapbenchError):
    """Options or parameters that are wrong or contradict each other."""


class DataMissing(RapbenchError):
    """Data or weights are not where they were looked for; the message says where and what to do."""


class BadData(RapbenchError):
    """One file is unreadable or says something impossible.

    `reason` is a short phrase under which a run counts such files; the message names the file.
    """

    def __init__(self, reason: str, where: object, detail: str = "") -> None:
        super().__init__(reason, str(where), detail)  # as given, so that it survives the way between processes
        self.reason = reason

    def __str__(self) -> str:
        reason, where, detail = self.args
        return f"{reason}: {where}" + (f" ({detail})" if detail else "")


class BadWeights(RapbenchError):
    """A weight file does not fit its model; the message names the keys."""


class UnsupportedLayer(RapbenchError):
    """No rule of the method covers a layer of the model; the message names node, operation and method."""


class SpecMismatch(RapbenchError):
    """A results folder holds another experiment than the one asked for."""


def first_line(error: BaseException) -> str:
    """What an error says in one line: its message's first line that is not blank, its kind where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def last_line(error: BaseException) -> str:
    """An error as the last line of its traceback: where it is ours, its message alone."""
    if isinstance(error, RapbenchError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
