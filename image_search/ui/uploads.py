"""Files dropped on the page, into the library at once: read, embedded and stored one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from image_search.errors import UnreadableImage
from image_search.image_files import read_file
from image_search.registration import ImageReader, clean_name, register_upload
from image_search.search import Searcher


@dataclass(frozen=True)
class UploadedFile:
    """path: where this computer keeps it for now; name: what the person calls it."""

    path: str
    name: str


@dataclass(frozen=True)
class UploadReport:
    """How far it is. refusals: one sentence for every file that is not in the library now."""

    count: int
    registered: int = 0
    known: int = 0
    refusals: tuple[str, ...] = ()

    @property
    def done(self) -> int:
        return self.registered + self.known + len(self.refusals)


def register_uploads(searcher: Searcher, reader: ImageReader, files: Sequence[UploadedFile]) -> Iterator[UploadReport]:
    """Register files; yields a report before the first and after each. Raises EncoderError or StoreError."""
    report = UploadReport(len(files))
    yield report
    for file in files:
        try:
            if _register_upload(searcher, reader, file):
                report = replace(report, registered=report.registered + 1)
            else:
                report = replace(report, known=report.known + 1)
        except UnreadableImage as error:
            # Where this computer keeps uploads means nothing to the person, and is nobody's business.
            sentence = str(error).replace(file.path, clean_name(file.name))
            report = replace(report, refusals=(*report.refusals, sentence))
        yield report


def _register_upload(searcher: Searcher, reader: ImageReader, file: UploadedFile) -> bool:
    """Whether the file was new."""
    data = read_file(file.path)
    store, model = searcher.store, searcher.model
    return register_upload(store, model.encoder, lambda: model.get_entry().model_id, reader, data, file.name)[1]
