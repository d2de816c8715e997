"""register_images.py as a person meets it: what it prints where, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

import register_images
from image_search.cli import finishing_on_interrupt
from image_search.encoders.base import Embeddings
from image_search.errors import ModelUnavailable, StoreUnavailable
from image_search.records import Edits
from image_search.settings import ROOT, Settings
from image_search.stores import open_store
from tests.fakes import FakeLazyEncoder
from tests.fakes.film_files import make_scenes, write_film


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five images, an empty library, and an encoder named after EMBEDDING_MODEL."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/library/image_search.db")
    for name in ("DB_USER", "DB_PASSWORD", "DB_DSN", "EMBEDDING_MODEL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("image_search.cli.register.open_encoder", lambda settings: FakeLazyEncoder(settings.model))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", (16, 16), (number * 40, 9, 9)).save(folder / f"{number}.png")
    return folder


def run(*arguments: object) -> int:
    return register_images.main([str(argument) for argument in arguments])


def test_summary_goes_to_stdout_and_everything_else_to_stderr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder) == 0
    output = capsys.readouterr()
    assert output.out == "registered 5, already known 0, failed 0\n"
    assert "Model demo/model (1) on cpu in float32, batches of 4." in output.err
    assert "images/s" in output.err
    assert run(folder) == 0
    assert capsys.readouterr().out == "registered 0, already known 5, failed 0\n"


def test_file_that_cannot_be_read_is_a_line_and_exit_code_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.png").write_bytes(b"not a picture")
    assert run(folder) == 1
    output = capsys.readouterr()
    assert output.out == "registered 5, already known 0, failed 1\n"
    assert [line for line in output.err.splitlines() if "bad.png" in line] == [
        f"{folder}/bad.png is not a picture, or of a format that is not known here. Save it as PNG or JPEG."
    ]


def test_path_that_is_not_there_is_exit_code_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder / "none") == 1
    assert "none cannot be read" in capsys.readouterr().err


def test_json_is_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.png").touch()
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    assert run(folder, "--json") == 1
    assert json.loads(capsys.readouterr().out) == {
        "registered": 5,
        "already_known": 1,
        "updated": 0,
        "deleted_earlier": 0,
        "failed": 1,
        "moved": 0,
        "embedded": 0,
        "not_read": {},
        "films": 0,
        "frames": 0,
        "films_left_out": 0,
        "failures": [f"{folder}/bad.png is empty."],
    }


def test_files_of_kinds_that_are_not_read_are_counted_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("1.svg", "2.svg", "3.pdf", "caption.txt"):
        (folder / name).write_bytes(b"other")
    assert run(folder, "--exclude", "0.*", "--exclude", "4.png") == 0
    output = capsys.readouterr()
    assert output.out == "registered 3, already known 0, failed 0\nnot read: 3 files (.svg 2, .pdf 1)\n"
    assert run(folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["not_read"] == {".svg": 2, ".pdf": 1}


def test_exclude_that_is_no_pattern_is_one_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--exclude", "!") == 2
    assert "--exclude has what is no pattern" in capsys.readouterr().err


def test_moved_file_is_named_in_the_summary(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder)
    (folder / "0.png").rename(folder / "new.png")
    capsys.readouterr()
    assert run(folder) == 0
    assert capsys.readouterr().out == "registered 0, already known 4, failed 0, moved 1\n"


def test_run_that_cannot_begin_says_so_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Missing(FakeLazyEncoder):
        @property
        def version(self) -> str:
            raise ModelUnavailable("EMBEDDING_MODEL is not there.")

        @version.setter
        def version(self, value: str) -> None: ...

    monkeypatch.setattr("image_search.cli.register.open_encoder", Missing)
    assert run(folder) == 2
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "register_images.py: EMBEDDING_MODEL is not there.\n")
    monkeypatch.setenv("DATABASE_URL", "nosuch://x")
    assert run(folder) == 2
    assert capsys.readouterr().err.startswith("register_images.py: DATABASE_URL")


def test_run_that_breaks_off_still_says_what_it_did(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreUnavailable("The database is away.")

    monkeypatch.setattr("image_search.stores.sqlite.SqliteStore.add_images", fail)
    monkeypatch.setattr("image_search.registration.RETRY_DELAYS", (0, 0))
    assert run(folder) == 2
    output = capsys.readouterr()
    assert output.out == "registered 0, already known 0, failed 0\n"
    assert output.err.endswith("register_images.py: The database is away.\n")


# --- models -----------------------------------------------------------------------------------------------------------


def test_second_model_is_embedded_beside_the_first_and_then_made_current(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(folder)
    for path in folder.iterdir():
        path.unlink()
    capsys.readouterr()
    assert run("--model", "second") == 0
    output = capsys.readouterr()
    assert output.out == "registered 0, already known 0, failed 0, embedded 5\n"
    assert "Searches still use demo/model; --make-current switches to second." in output.err
    assert run("--model", "second", "--make-current") == 0
    assert "Searches use second (1) from now on." in capsys.readouterr().err
    assert run("--list-models") == 0
    assert capsys.readouterr().out == "1\tdemo/model\t1\t16\t5\t\n2\tsecond\t1\t16\t5\tcurrent\n"


def test_model_is_removed_unless_it_is_the_current_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder)
    run("--model", "second")
    capsys.readouterr()
    assert run("--remove-model", "1") == 2
    assert "current" in capsys.readouterr().err
    assert run("--remove-model", "2") == 0
    run("--list-models")
    assert capsys.readouterr().out == "1\tdemo/model\t1\t16\t5\tcurrent\n"


# --- clearing up ------------------------------------------------------------------------------------------------------


def test_pruning_lists_first_and_removes_only_with_yes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder)
    (folder / "3.png").unlink()
    capsys.readouterr()
    assert run("--prune", folder) == 0
    output = capsys.readouterr()
    assert output.out == f"4\t{folder}/3.png\n" and "--yes moves their images to the trash" in output.err
    assert run("--prune", folder, "--yes") == 0
    assert "1 images moved to the trash." in capsys.readouterr().err
    with open_store(Settings.load(env_file=None)) as store:
        assert store.count_images() == 4


def test_changed_file_and_a_deleted_one_are_named_in_the_summary(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(folder)
    with open_store(Settings.load(env_file=None)) as store:
        store.trash_images([1])
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes() + b" ")
    capsys.readouterr()
    assert run(folder) == 0
    output = capsys.readouterr()
    assert output.out == "registered 0, already known 3, failed 0, updated 1, deleted earlier 1\n"
    assert "--include-deleted takes it in" in output.err
    assert run(folder, "--include-deleted", "--json") == 0
    assert json.loads(capsys.readouterr().out)["registered"] == 1


def test_trash_is_listed_restored_emptied_and_forgotten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder)
    with open_store(Settings.load(env_file=None)) as store:
        store.trash_images([1, 2])
    capsys.readouterr()
    assert run("--list-trash") == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert sorted((line[0], line[2], line[3]) for line in lines) == [
        ("1", "deleted", f"{folder}/0.png"),
        ("2", "deleted", f"{folder}/1.png"),
    ]
    assert run("--restore", "2", "99", "3") == 1
    output = capsys.readouterr().err
    assert "1 images are back." in output and "Not in the trash: 99, 3." in output
    assert run("--empty-trash") == 0
    assert "1 images removed for good" in capsys.readouterr().out and (folder / "0.png").exists()
    run(folder)
    assert "deleted earlier 1" in capsys.readouterr().out
    assert run("--forget-deleted") == 0
    assert "1 deleted images are forgotten" in capsys.readouterr().out
    run(folder)
    assert "registered 1, already known 4" in capsys.readouterr().out


def test_samples_are_removed_by_one_flag(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder)
    monkeypatch.setattr("image_search.cli.main.SAMPLES", folder)
    assert run("--remove-samples") == 0
    assert "5 samples moved to the trash." in capsys.readouterr().out
    with open_store(Settings.load(env_file=None)) as store:
        assert (store.count_images(), store.has_held_images()) == (0, True)


def test_sidecars_are_written_and_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder)
    with open_store(Settings.load(env_file=None)) as store:
        store.set_edits(1, Edits(keywords=("Paris, France",)))
    capsys.readouterr()
    assert run("--write-sidecars", folder) == 0 == run("--write-sidecars")
    assert capsys.readouterr().out.splitlines() == [
        "written 1, unchanged 0, failed 0",
        "written 0, unchanged 1, failed 0",
    ]
    assert b"Paris, France" in (folder / "0.png.xmp").read_bytes()
    assert run("--write-sidecars", folder / "gone") == 1
    assert "gone: there is no such file or folder; check the path." in capsys.readouterr().err


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["--shard", "0/2"], ["--shard", "3/2"], ["--shard", "x"], ["--batch-size", "0"], ["--batch-size", "x"]],
)
def test_malformed_options_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        register_images.main(arguments)
    assert arguments[0] in capsys.readouterr().err


def test_shards_share_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [run(folder, "--shard", shard) for shard in ("1/2", "2/2")] == [0, 0]
    with open_store(Settings.load(env_file=None)) as store:
        assert store.count_images() == 5
    assert "registered 5" not in capsys.readouterr().out


def test_batch_size_can_be_chosen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--batch-size", "2") == 0
    assert "batches of 2." in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_oracle_options_ask_for_oracle(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--vector-index", "auto") == 2
    assert "DB_USER, DB_PASSWORD and DB_DSN" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_schema_is_printed_without_a_database(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--create-schema", "--print") == 0
    assert "CREATE TABLE IF NOT EXISTS embedding_models" in capsys.readouterr().out


def test_interrupting_sets_stop_first_and_raises_second(capsys: pytest.CaptureFixture[str]) -> None:
    stop = threading.Event()
    with finishing_on_interrupt(stop):
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set() and "Finishing the batch in hand" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_help_is_there_before_torch_is() -> None:
    program = "import sys, register_images; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"torch", "transformers", "gradio", "faiss", "oracledb"} & set(loaded.stdout.split())


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


def test_watching_goes_on_until_ctrl_c_and_then_prints_its_summary(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main_thread = threading.main_thread().ident
    assert main_thread is not None

    def interrupt_when_all_are_in() -> None:
        with open_store(Settings.load(env_file=None)) as store:
            while store.count_images() < 5:
                time.sleep(0.02)
        signal.pthread_kill(main_thread, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt_when_all_are_in)
    interrupter.start()
    assert run(folder, "--watch") == 130
    interrupter.join()
    output = capsys.readouterr()
    assert output.out == "registered 5, already known 0, failed 0\n"
    assert "Finishing the batch in hand" in output.err


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_or_a_closed_terminal_finishes_the_batch_in_hand_and_the_next_run_does_the_rest(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ending: signal.Signals
) -> None:
    class Interrupted(FakeLazyEncoder):
        def encode_images(self, images: Sequence[Image.Image]) -> Embeddings:
            signal.pthread_kill(threading.main_thread().ident, ending)
            return super().encode_images(images)

    with monkeypatch.context() as patch:
        patch.setattr("image_search.cli.register.open_encoder", lambda _: Interrupted("demo/model"))
        assert run(folder, "--batch-size", "5") == 130
    assert capsys.readouterr().out == "registered 5, already known 0, failed 0\n"
    assert run(folder) == 0
    assert capsys.readouterr().out == "registered 0, already known 5, failed 0\n"


def test_films_and_their_frames_are_counted_in_the_summary(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_film(folder / "film.mp4", make_scenes(3, 2))
    assert run(folder) == 0
    assert capsys.readouterr().out == "registered 6, already known 0, failed 0, films 1, frames 3\n"
    assert run(folder, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["already_known"], summary["films"], summary["films_left_out"]) == (6, 0, 0)


def test_films_without_pyav_are_one_line_and_no_failure(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_film(folder / "film.mp4", make_scenes(3, 2))
    monkeypatch.setitem(sys.modules, "av", None)
    assert run(folder) == 0
    output = capsys.readouterr()
    assert output.out == "registered 5, already known 0, failed 0, films left out 1\n"
    assert "Films need the Python package av. Install it: pip install -r requirements-video.txt" in output.err
