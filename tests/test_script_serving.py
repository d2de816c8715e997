"""ImageSearch.py as the program that serves the page, ended by its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from image_search.settings import ROOT
from tests.browsing import find_free_port
from tests.checkpoints import get_checkpoint


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_well_and_quietly_while_a_page_is_open_and_the_model_is_loading(
    tmp_path: Path, ending: signal.Signals
) -> None:
    environment = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/library.db",
        "EMBEDDING_MODEL": str(get_checkpoint("clip")),
        "APP_PORT": str(find_free_port()),
        "TMPDIR": str(tmp_path),
    }
    program = subprocess.Popen(
        [sys.executable, "ImageSearch.py"],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    program.stdout.readline()  # it can be reached
    with urlopen(f"http://127.0.0.1:{environment['APP_PORT']}/gradio_api/heartbeat/tab") as page:
        page.readline()
        program.send_signal(ending)
        assert program.communicate(timeout=20) == ("", "")
    assert program.returncode == 0
    assert not list(tmp_path.glob("image_search_*"))
