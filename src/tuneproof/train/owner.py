"""What a checkpoint is of, so that one of something else is not gone on with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A digest of all that a training depends on, and of that the recipe's settings by their dotted
    names.
    """

    digest: str
    settings: Mapping[str, str] = field(default_factory=dict)

    def differences(self, saved: Mapping[str, str]) -> list[str]:
        """Where the settings of a checkpoint are others: ``train.batch_size was 8, is 16``."""
        return [
            f"{name} was {saved.get(name, 'not there')}, is {value}"
            for name, value in self.settings.items()
            if saved.get(name) != value
        ]
