"""Midjourney: the command as it was typed, with its job's number, in "Description"."""

from __future__ import annotations

import re

from image_search.metadata.fields import Fields
from image_search.metadata.generators.generation import Generation, read_settings

_JOB = re.compile(r"Job ID: *[0-9a-f-]{8,40}", re.IGNORECASE)
_SWITCH = re.compile(r"\s--([a-z]+)(?:\s+(?!--)([^\n]*?))?(?=\s--|\s*$)")


def read_midjourney(fields: Fields) -> Generation | None:
    """Known by the job's number behind the prompt."""
    text = fields.get("Description") or fields.get("parameters")
    if not isinstance(text, str) or not _JOB.search(text[-8192:]):
        return None
    command = _JOB.sub(" ", text[:4096]).strip()
    switches = dict(_SWITCH.findall(command))
    return read_settings(
        "Midjourney",
        {"seed": switches.get("seed")},
        prompt=_SWITCH.sub("", command).strip(),
        negative_prompt=switches.get("no"),
        model=f"{'niji' if 'niji' in switches else 'v'} {switches.get('niji') or switches.get('v') or ''}".strip()
        if {"niji", "v"} & switches.keys()
        else None,
        written=command,
    )
