"""The examples of docs/api.md are run: by curl, gradio_client and an MCP client, against the program itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_search.settings import ROOT, Settings
from tests.fakes import draw_image_bytes
from tests.fakes.absent import leave_out
from tests.fakes.api_library import open_colours, serve_in_thread
from tests.fakes.browsing import fill_library, serve_page

pytestmark = pytest.mark.slow

SHOWN_ADDRESS = "http://127.0.0.1:8899"
PLAIN, WITH_PASSWORD = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").split("## With a password")


def list_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def list_commands(text: str) -> list[str]:
    return [line[2:] for block in list_blocks(text, "console") for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = fill_library(tmp_path_factory.mktemp("library"), 5)
    with serve_page(settings.database_url, APP_MCP="1") as address:
        yield address.rstrip("/")


@pytest.fixture(scope="module")
def guarded_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (
        open_colours(tmp_path_factory.mktemp("guarded"), 3) as searcher,
        serve_in_thread(searcher, Settings(app_password="password", app_mcp=True)) as address,
    ):
        yield address


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "query.jpg").write_bytes(draw_image_bytes("orange", (240, 180), "JPEG"))
    return tmp_path


def run_command(command: str, folder: Path) -> None:
    if shutil.which("curl") is None:
        leave_out("no curl here: apt-get install curl")
    command = command.replace("curl ", "curl --silent --show-error --fail ", 1)
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def run_program(program: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", list_commands(PLAIN))
def test_command_of_the_document_succeeds(command: str, address: str, folder: Path) -> None:
    assert SHOWN_ADDRESS in command
    run_command(command.replace(SHOWN_ADDRESS, address), folder)


def test_gradio_client_of_the_document_searches_and_registers(address: str, folder: Path) -> None:
    [program] = [block for block in list_blocks(PLAIN, "python") if "gradio_client" in block]
    names, total, tags, is_new = run_program(program.replace(SHOWN_ADDRESS, address), folder).splitlines()
    assert names.count(".png") == 3
    assert int(total) >= 3
    assert "english" in tags or tags == "[]"
    assert is_new in ("True", "False")


def test_tools_of_the_document_answer_a_real_client(address: str, folder: Path) -> None:
    [program] = [block for block in list_blocks(PLAIN, "python") if "mcp" in block]
    tools, *hits, previews = run_program(program.replace(SHOWN_ADDRESS, address), folder).splitlines()
    assert "find_similar_images" in tools
    assert len(hits) == 3 and all(".png" in hit for hit in hits)
    assert previews.count("image/jpeg") == 3


@pytest.mark.parametrize("command", list_commands(WITH_PASSWORD))
def test_command_with_the_password_succeeds_and_without_it_fails(
    command: str, guarded_address: str, folder: Path
) -> None:
    command = command.replace(SHOWN_ADDRESS, guarded_address)
    run_command(command, folder)
    with pytest.raises(AssertionError, match="401"):
        run_command(command.replace("password", "wrong"), folder)


def test_clients_of_the_document_send_the_password(guarded_address: str, folder: Path) -> None:
    [program] = list_blocks(WITH_PASSWORD, "python")
    count, *status = run_program(program.replace(SHOWN_ADDRESS, guarded_address), folder).splitlines()
    assert count == "3"
    assert "SQLite" in "".join(status)
