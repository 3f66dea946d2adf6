"""Every error that tuneproof raises on purpose.

The tree, with the exit code that the command line gives for each branch::

    TuneproofError
    ├── UsageError              2   what the user gave cannot work; nothing was written
    │   ├── RecipeError             a key, value or combination in a recipe or a --set
    │   ├── DataError               a source that is missing, malformed or empty
    │   ├── ModelError              a model, tokenizer or adapter that cannot be used
    │   ├── RunDirError             a run folder that belongs to something else
    │   │   └── BusyRunError    1       … or that another process is working in
    │   ├── CredentialError         a key that an endpoint needs is absent or refused
    │   └── EndpointError           a server that cannot be reached or does not know the model
    └── StageError              1   a stage that began and could not finish
        └── AssetError              a file from elsewhere that is not what it should be
            └── MissingAssetError       … or that is nowhere to be had

What a stage meets when it has begun ends with 1, whatever its kind: a server that checked out and
then refuses the key or goes away, say (``pipeline.execute``).

Each error says where (``place``), what was found there (``value``) and what to do about it
(``remedy``). Bugs of our own are ``AssertionError`` and show a traceback.
"""

from __future__ import annotations


class TuneproofError(Exception):
    """An error meant to be read: place, value, problem, remedy.

    Args:
        problem: what is wrong, as a clause ("expected 1 or 2").
        place: file, file and line, recipe key or endpoint.
        value: what was found there; shown with ``repr`` unless it is a string.
        remedy: what the reader can do, as an imperative sentence.
    """

    exit_code: int = 1

    def __init__(
        self, problem: str, *, place: str = "", value: object = None, remedy: str = ""
    ) -> None:
        self.problem = problem
        self.place = place
        self.value = value
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = []
        if self.place and self.value is not None:
            shown = self.value if isinstance(self.value, str) else repr(self.value)
            parts.append(f"{self.place} = {shown}" if shown else self.place)
        elif self.place:
            parts.append(self.place)
        parts.append(self.problem)
        text = ": ".join(parts)
        return f"{text}\n  {self.remedy}" if self.remedy else text


class UsageError(TuneproofError):
    """What the user gave cannot work; found before anything was written."""

    exit_code = 2


class RecipeError(UsageError):
    """A key, a value or a combination in a recipe (or in a ``--set``) that cannot be used."""


class DataError(UsageError):
    """A data source that is missing, malformed, lacks a column or has no usable row."""


class ModelError(UsageError):
    """A model, tokenizer or adapter that cannot be found or cannot be used."""


class RunDirError(UsageError):
    """A run folder that belongs to another recipe, or is no run folder."""


class BusyRunError(RunDirError):
    """A run folder that another process is working in: later the same command may succeed."""

    exit_code = 1


class CredentialError(UsageError):
    """A key that an endpoint needs is absent or refused."""


class EndpointError(UsageError):
    """A server that cannot be reached, or that does not know what is asked of it."""


class StageError(TuneproofError):
    """A stage that began and could not finish; what it finished is kept."""


class AssetError(StageError):
    """A file from elsewhere that could not be fetched, or is not the file it should be."""


class MissingAssetError(AssetError):
    """A file from elsewhere that is not on this machine and could not be fetched."""
