"""image-search: its commands run the same functions as the scripts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from image_search.cli import Exit, name_commands
from image_search.cli.main import build_parser, main
from image_search.settings import DEFAULT_MODEL, ROOT
from tests.fakes import FakeLazyEncoder, draw_image_bytes

COMMANDS = (
    "serve", "search", "tags", "text", "check", "register", "refresh", "sidecars", "models", "prune", "trash", "copy",
    "oracle", "backup", "restore",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two images, and settings for an empty library beside it."""
    for name in ("red", "green"):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        (tmp_path / "pictures" / f"{name}.png").write_bytes(draw_image_bytes(name))
    for module in ("search", "register"):
        target = "image_search.encoders" if module == "search" else "image_search.cli.register"
        monkeypatch.setattr(f"{target}.open_encoder", lambda _: FakeLazyEncoder(DEFAULT_MODEL))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/library.db")
    return tmp_path / "pictures"


def test_help_lists_every_command_and_loads_no_model() -> None:
    program = "import sys\nfrom image_search.cli.main import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(f"\n    {name} " in ended.stdout for name in COMMANDS)
    assert not {"torch", "transformers", "gradio", "faiss", "oracledb"} & set(ended.stdout.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        build_parser().parse_args([command, "--help"])
    assert f"usage: image-search {command}" in capsys.readouterr().out


def test_library_is_registered_searched_cleared_up_and_backed_up(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object, code: int = 0) -> str:
        assert main([str(argument) for argument in arguments]) == code
        return capsys.readouterr().out

    assert run("register", folder) == "registered 2, already known 0, failed 0\n"
    assert [line.split("\t")[2] for line in run("search", "--like", "1").splitlines()] == ["red.png"]
    assert run("models").startswith("1\tdemo/model")
    assert run("refresh", folder).count("\n") == 2
    assert run("sidecars") == "written 0, unchanged 0, failed 0\n"
    run("backup", folder.parent / "backup.db")
    (folder / "red.png").unlink()
    assert "red.png" in run("prune", folder, "--yes")
    [line] = run("trash").splitlines()
    run("trash", "--restore", line.split("\t")[0])
    assert run("trash") == ""
    run("trash", "--samples")
    run("restore", folder.parent / "backup.db")
    assert run("search", "nothing of that name", "--folder", "/elsewhere", code=1) == ""


def test_error_of_a_user_is_one_sentence_with_the_command_before_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DB_USER", "DB_PASSWORD", "DB_DSN", "DATABASE_URL"):
        monkeypatch.setenv(name, "")
    assert main(["oracle"]) == Exit.COULD_NOT_RUN
    assert "image-search oracle: Nothing to do." in capsys.readouterr().err
    monkeypatch.setenv("DATABASE_URL", "mysql://x")
    assert main(["models"]) == Exit.COULD_NOT_RUN
    assert capsys.readouterr().err.startswith("image-search models: DATABASE_URL begins with 'mysql'")


@pytest.mark.parametrize(
    ("of_a_clone", "of_an_installation"),
    [
        ("Run: python register_images.py --create-schema", "Run: image-search oracle --create-schema"),
        ("python register_images.py --remove-model 3", "image-search models --remove 3"),
        (
            "a.png is not registered. Run register_images.py first.",
            "a.png is not registered. Run image-search register first.",
        ),
        ("python ImageSearch.py --check --deep", "image-search check --deep"),
        ("(python -m image_search restore FILE)", "(image-search restore FILE)"),
        ("Run: pip install -r requirements-ocr.txt", "Run: pip install '.[ocr]' in the clone of this program"),
    ],
)
def test_messages_of_an_installed_program_name_its_own_commands(
    of_a_clone: str, of_an_installation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert name_commands(of_a_clone) == of_a_clone
    monkeypatch.setattr("image_search.cli.IS_INSTALLED", True)
    assert name_commands(of_a_clone) == of_an_installation


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("image_search.cli.main.load_settings", interrupt)
    assert main(["models"]) == Exit.INTERRUPTED
