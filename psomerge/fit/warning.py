"""What a user should know about an expert that can be merged all the same."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FitWarning:
    """Something about an expert that is otherwise than with a plain fine-tune of the base."""

    expert: str
    what: str
    expected: str
    found: str
    advice: str

    def __str__(self) -> str:
        return f'expert "{self.expert}": {self.what}: expected {self.expected}, found {self.found}; {self.advice}'
