"""ImageSearch.py as the program that serves the page, ended by its owner."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.fakes.browsing import start_program


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_well_and_quietly_while_a_page_is_open_and_the_model_is_loading(
    tmp_path: Path, ending: signal.Signals
) -> None:
    database = f"sqlite:///{tmp_path}/library.db"
    program, address = start_program(database, subprocess.PIPE, TMPDIR=str(tmp_path))
    assert program.stdout is not None
    program.stdout.readline()  # it can be reached
    with urlopen(f"{address}/gradio_api/heartbeat/tab") as page:
        page.readline()
        program.send_signal(ending)
        assert program.communicate(timeout=20) == ("", "")
    assert program.returncode == 0
    assert not list(tmp_path.glob("image_search_*"))
