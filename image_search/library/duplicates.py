"""The job that looks for copies of one image."""

from __future__ import annotations

from image_search.registration.jobs import JobControl, Work
from image_search.search.duplicates import find_duplicates, save_groups
from image_search.search.searcher import Searcher


def make_duplicate_search(searcher: Searcher) -> Work:
    """The work of a job that compares all images and keeps the groups with the library."""

    def search(_: str, control: JobControl) -> None:
        for found in find_duplicates(searcher):
            control.report(found.done, found.count, {"groups": len(found.groups)} if found.groups else {})
            if control.stop.is_set():
                return
            if found.is_over:
                save_groups(searcher.store, found.groups)

    return search
