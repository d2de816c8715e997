"""Files to decoded pictures to embeddings to the store, in batches, with a report. No argparse, no print."""

from __future__ import annotations

from image_search.registration.files import FileList, FoundFile, find_files
from image_search.registration.pruning import find_gone
from image_search.registration.reading import ImageReader
from image_search.registration.registrar import Registrar
from image_search.registration.report import RegistrationReport
from image_search.registration.uploads import clean_name, register_upload
from image_search.registration.watching import watch_folders

__all__ = [
    "FileList",
    "FoundFile",
    "ImageReader",
    "Registrar",
    "RegistrationReport",
    "clean_name",
    "find_files",
    "find_gone",
    "register_upload",
    "watch_folders",
]
