"""ImageSearch.py as the program that serves the page, ended by its owner."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.fakes.browsing import start_program


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_server_ends_well_and_quietly_while_a_page_is_open_and_the_model_is_loading(
    tmp_path: Path, ending: signal.Signals
) -> None:
    database = f"sqlite:///{tmp_path}/library.db"
    program, address = start_program(database, subprocess.PIPE, TMPDIR=str(tmp_path))
    assert program.stdout is not None
    program.stdout.readline()  # it can be reached
    assert list(tmp_path.glob("image_search_*"))
    with urlopen(f"{address}/gradio_api/heartbeat/tab") as page:
        page.readline()
        program.send_signal(ending)
        output, log = program.communicate(timeout=90)
    assert program.returncode == 0 and output == ""
    lines = log.splitlines()
    assert "Serving sqlite" in lines[0] and "Stopped" in lines[-1]
    assert all(re.match(r"[\d-]{10} [\d:,]{12} (INFO|WARNING) image_search\.", line) for line in lines), log
    assert not list(tmp_path.glob("image_search_*"))


def test_uploads_that_a_killed_server_left_are_deleted_by_the_next_one_at_its_address(tmp_path: Path) -> None:
    database, place = f"sqlite:///{tmp_path}/library.db", {"TMPDIR": str(tmp_path), "LOG_LEVEL": "error"}
    program, address = start_program(database, subprocess.PIPE, **place)
    assert program.stdout is not None
    program.stdout.readline()
    program.kill()
    program.communicate()
    [left] = tmp_path.glob("image_search_*")
    assert left.stat().st_mode & 0o777 == 0o700
    (left / "uploads" / "cut-off").write_bytes(b"x")
    program, _ = start_program(database, subprocess.PIPE, **place, APP_PORT=address.rpartition(":")[2])
    assert program.stdout is not None
    program.stdout.readline()
    [made] = tmp_path.glob("image_search_*")
    assert made != left and not (made / "uploads" / "cut-off").exists()
    program.terminate()
    assert program.communicate(timeout=90) == ("", "")
