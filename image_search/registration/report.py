"""What a registration did so far."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class RegistrationReport:
    """Counts of files; they grow while the registration runs.

    registered: new in the store
    known:      in the store already, whether under this path or as a copy elsewhere
    moved:      in the store already, but its file had moved or been renamed; the store knows the new path now
    failed:     could not be read, each with a sentence in failures
    embedded:   images of the store that lacked an embedding of the model and got one from their original
    total:      files to look at and images to embed, as far as known
    """

    registered: int = 0
    known: int = 0
    moved: int = 0
    failed: int = 0
    embedded: int = 0
    total: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        return self.registered + self.known + self.moved + self.failed + self.embedded

    def add_failure(self, sentence: str) -> None:
        self.failed += 1
        self.failures.append(sentence)
