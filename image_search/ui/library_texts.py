"""Jobs, models, duplicates and checks of the library page in the visitor's language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from image_search.images import make_printable
from image_search.library import DOWNLOAD, ModelChoice
from image_search.records import Finding
from image_search.registration.files import describe_unread
from image_search.registration.folders import UNREAD
from image_search.registration.jobs import Job
from image_search.search.duplicates import DuplicateGroup, load_groups
from image_search.settings import DEFAULT_MODEL, ROOT
from image_search.stores.base import ImageStore
from image_search.stores.text import decode_path, get_folder
from image_search.ui import render
from image_search.ui.messages import ERRORS, MESSAGES, Language, compile_sentences, find_text, translate
from image_search.ui.results import get_version
from image_search.ui.viewer import describe_size

# Sentences of files that could not be registered. A file with any other fault counts as damaged.
_FAILURES = (
    *compile_sentences((r"(?P<name>.+) did not arrive\.", "failure_missing")),
    *ERRORS,
    *compile_sentences(
        (r"(?P<name>.+?\.\w{1,5}) is .*", "failure_damaged"),
        (r"(?:The original file of )?[Ii]mage (?P<name>\d+)\b.*", "failure_original"),
    ),
)
# Sentences of the check (cli/health.py, originals.py, stores/sqlite/database.py), and their keys.
_ROOM = r"(?P<folder>.+?)(?: \(made when it is needed\))?, (?P<free>[\d,.]+) GiB free"
_FOUND = compile_sentences(
    (r"image-search (?P<version>\S+), Python (?P<python>[\d.]+).*", "found_program"),
    (r"missing: (?P<names>.+); installed: .*", "found_missing_packages"),
    (r"(?P<count>[\d,]+) images in (?P<engine>[^,]+), .*", "found_library"),
    (r"(?P<name>.+) \(.*\), \d+ dimensions: (?P<count>[\d,]+) of (?P<total>[\d,]+) images.*", "found_model"),
    (r".* made by an older version of the program", "found_old"),
    (r"(?P<name>.+), [\d,]+ KiB read", "found_newest"),
    (r"(?P<name>.+\.\w{1,5}) cannot be read", "found_unreadable"),
    (r"finds an image by its own embedding", "found_search"),
    (r"does not find an image by its own embedding", "found_no_search"),
    (rf"left where they are; uploads: {_ROOM}", "found_by_reference"),
    (_ROOM, "found_room"),
    (r"(?P<folder>.+) is not (?:there|a folder)", "found_no_folder"),
    (r"(?P<folder>.+) cannot be (?:read and written|used)", "found_no_right"),
    (r"in the database", "found_in_database"),
    (r"(?P<name>.+), readable and writable", "found_usable"),
    (r"(?P<name>.+), (?P<size>[\d,.]+) MiB, undamaged", "found_whole"),
    (r"(?P<name>.+), (?P<size>[\d,.]+) MiB, too large .*", "found_too_large"),
    (r"(?P<name>.+), (?P<size>[\d,.]+) MiB, damaged: .*", "found_damaged"),
    (r"(?P<name>FAISS \S+), uncompressed, made .*", "found_no_index"),
    (r"(?P<name>FAISS \S+): .+ of (?P<count>[\d,]+), .*", "found_index"),
    (r"originals of (?P<count>[\d,]+) images are there", "found_files"),
    (r"missing: (?P<count>[\d,]+) \((?P<names>.+)\)", "found_lost"),
    (r"no original without a record", "found_no_orphans"),
    (r"(?P<count>[\d,]+) originals without a record", "found_orphans"),
    (r"cannot be (?:checked|used)|the check itself failed .*", "found_nothing"),
    (r"Run (?P<command>ImageSearch.py --check --repair): it moves them to (?P<folder>.+)\. .*", "remedy_orphans"),
    (r"Run (?P<command>ImageSearch.py --check --deep --repair), which .*", "remedy_lost"),
    (r"Register the folder that they are in now: .*", "remedy_moved"),
    (r"(?:Run|Embed the images again): (?P<command>.+)", "remedy_run"),
    (r"(?:Make it|Remove it), or correct (?P<setting>[A-Z_]+)\.", "remedy_no_folder"),
    (r"Free some room, or set (?P<setting>[A-Z_]+) to a larger disk\.", "remedy_room"),
    (r"Give this .* write (?P<folder>.+), or set (?P<setting>[A-Z_]+) to another place\.", "remedy_right"),
    (r"Restore the file from a backup, .*", "remedy_restore"),
)
_MAX_GROUPS = 50  # of duplicates shown at once; the rest follows when these are done
_COUNTS = ("registered", "updated", "moved", "known", "deleted", "left_out", "embedded", "groups", "read", "with_text")
_NOTHING = {
    "scan": "job_nothing",
    "duplicates": "no_duplicates",
    "read_text": "job_nothing_to_read",
    "forget_text": "job_forgotten",
}
_HUB = "https://huggingface.co"
# The folder of the program as a whole path or its beginning, not that of a folder beside it whose name begins alike.
_ROOT = re.compile(rf"(?<![\w.-]){re.escape(str(ROOT))}(?=[/\\]|\.?(?:[\s,;:)'\"]|$))")


def describe_model(choice: ModelChoice, is_current: bool, total: int, language: Language) -> dict[str, Any]:
    """A model for the page. total: images of the library, each frame of a film as one."""
    known = choice.known
    facts = []
    if known:
        facts.append(_describe_languages(known.languages, language))
        facts.append(translate(language, "model_size", size=describe_bytes(known.parameters * 4_000_000)))
        facts.append(translate(language, "model_under_licence", licence=known.licence))
    elif choice.name == DEFAULT_MODEL:
        facts.append(translate(language, "model_knows_scenes"))
    if choice.count:  # as a share: people count a film once
        percent = min(100 * choice.count // max(total, 1), 100)
        facts.append(translate(language, "model_facts", percent=percent))
    return {
        "name": choice.name,
        "address": f"{_HUB}/{choice.name}" if known else "",
        "current": is_current,
        "is_here": choice.count > 0 or choice.name == DEFAULT_MODEL,
        "facts": facts,
        "obstacle": translate(language, f"model_needs_{choice.obstacle}") if choice.obstacle else "",
    }


def _describe_languages(languages: str, language: Language) -> str:
    if not languages:
        return translate(language, "model_knows_images")
    names = [translate(language, f"language_{code}") for code in languages.split()]
    return translate(language, "model_knows_words", languages=translate(language, "list_separator").join(names))


def describe_bytes(size: float) -> str:
    """1.5 GB, 350 MB, 12 KB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}" if size < 10 * factor else f"{size / factor:,.0f} {unit}"
    return f"{size / 1e3:,.0f} KB"


def describe_job(job: Job, language: Language) -> dict[str, Any]:
    """A job for the page: what it does, how far it is, which files failed, and why it ended."""
    counts: Mapping[str, int] = job.counts or {}
    facts = []
    if job.state == "running":
        facts += _describe_progress(job, language)
    elif job.state in ("done", "cancelled", "failed"):
        facts += [translate(language, f"job_{name}", count=counts[name]) for name in _COUNTS if counts.get(name)]
        if counts.get("films"):
            facts.append(translate(language, "job_films", films=counts["films"], frames=counts["frames"]))
        if unread := {name.removeprefix(UNREAD): n for name, n in counts.items() if name.startswith(UNREAD)}:
            total, kinds = describe_unread(unread, translate(language, "job_unread_other"))
            facts.append(translate(language, "job_unread", count=total, kinds=kinds))
        if job.state == "done" and not any(map(counts.get, _COUNTS)) and not job.failed and job.kind in _NOTHING:
            facts.append(translate(language, _NOTHING[job.kind]))
    return {
        "id": job.job_id,
        "kind": job.kind,
        "title": translate(language, f"job_{job.kind}", name=make_printable(decode_path(job.target))),
        "state": job.state,
        "state_text": translate(language, f"job_{job.state}"),
        "done": job.done,
        "total": job.total,
        "facts": facts,
        "failed": job.failed,
        "failed_text": translate(language, "job_failures", count=job.failed) if job.failed else "",
        "failures": [describe_failure(sentence, language) for sentence in job.failures],
        "error": _describe_error(job, language),
    }


def _describe_progress(job: Job, language: Language) -> list[str]:
    facts = [translate(language, f"job_phase_{job.phase}")] if job.phase else []
    if not job.total:
        return facts
    facts.append(f"{100 * job.done // job.total}%")
    is_download = job.phase == DOWNLOAD
    if is_download:
        done, total = (describe_bytes(count) for count in (job.done, job.total))
        facts.append(translate(language, "job_bytes", done=done, total=total))
    else:
        facts.append(translate(language, "job_progress", done=job.done, total=job.total))
    if job.rate:
        rate = f"{job.rate:.1f}" if job.rate < 10 else f"{job.rate:,.0f}"
        facts.append(f"{describe_bytes(job.rate)}/s" if is_download else translate(language, "job_rate", rate=rate))
    if job.seconds_left is not None:
        facts.append(_describe_time_left(job.seconds_left, language))
    return facts


def _describe_time_left(seconds: float, language: Language) -> str:
    if seconds < 60:
        return translate(language, "job_seconds_left", count=max(round(seconds), 1))
    if seconds < 3600:
        return translate(language, "job_minutes_left", count=round(seconds / 60))
    return translate(language, "job_hours_left", hours=int(seconds // 3600), minutes=int(seconds % 3600 // 60))


def describe_failure(sentence: str, language: Language) -> str:
    """A sentence about a file in the visitor's language; one that is not known is named at least."""
    text = find_text(sentence, _FAILURES, language)
    if text or language == "en":
        return text or sentence
    named = re.match(r"\S.*?\.\w{1,5}(?=\W|$)", sentence)
    return translate(language, "failure_other", name=named[0] if named else "?")


def _describe_error(job: Job, language: Language) -> str:
    """Why a job failed. The sentences of the program are in English; those without a text here are in its log."""
    if not job.error:
        return ""
    key = f"model_error_{job.error_code}"
    if key in MESSAGES[language]:
        return translate(language, key)
    return job.error if language == "en" else translate(language, "job_error")


def describe_finding(finding: Finding, language: Language) -> dict[str, Any]:
    """One line of the check. details: words that have no translation, in English."""
    name, number = re.fullmatch(r"(.*?)( \d+)?", finding.name, re.DOTALL).groups("")  # type: ignore[union-attr]
    text = MESSAGES[language].get(f"check_{name.replace(' ', '_')}", translate(language, "check_other"))
    sentences = [_ROOT.sub(".", part) for part in (finding.what, finding.remedy)]  # where it is kept is private
    said = [find_text(sentence, _FOUND, language) for sentence in sentences]
    return {
        "name": text + number,
        "ok": finding.ok,
        "state": translate(language, "check_ok" if finding.ok else "check_problem"),
        "what": said[0],
        "remedy": said[1],
        "details": [sentence for sentence, known in zip(sentences, said, strict=True) if sentence and not known],
    }


def describe_duplicates(store: ImageStore, language: Language) -> dict[str, Any]:
    """{html, count} of the groups found last; html "" before the first look. Raises StoreError."""
    found = load_groups(store, _MAX_GROUPS)
    if found is None:
        return {"html": "", "count": 0}
    groups, count = found
    described = [_describe_group(group, language) for group in groups]
    return {"html": render("duplicates.html", language, groups=described, count=count), "count": count}


def _describe_group(group: DuplicateGroup, language: Language) -> list[dict[str, Any]]:
    described = []
    for place, (image, date) in enumerate(zip(group.images, group.dates, strict=True)):
        facts = [describe_size(image), f"{date:%Y-%m-%d}"]
        facts += [make_printable(get_folder(image.file_path))] if image.file_path else []
        reason = "" if place else translate(language, f"kept_{group.kept_because}")
        described.append({"image": image, "version": get_version(image), "facts": facts, "reason": reason})
    return described
