"""Jobs of the server: long work that goes on without the page, and survives a restart.

The jobs of all libraries lie in one small SQLite file; each library sees its own. A job that was running when the
program ended is started again, so the work of a job must be safe to repeat.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from image_search.errors import ImageSearchError, StoreError

JobState = Literal["waiting", "running", "done", "failed", "cancelled"]

MAX_FAILURES = 200  # kept of one job; all of them are counted
KEPT_JOBS = 20  # that are over
_RATE_WINDOW = 15.0  # seconds
_PAUSE = 5.0  # seconds until the file of jobs is tried again

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    job_id INTEGER PRIMARY KEY AUTOINCREMENT,
    library TEXT NOT NULL,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0,
    counts TEXT NOT NULL DEFAULT '{}',
    failed INTEGER NOT NULL DEFAULT 0,
    failures TEXT NOT NULL DEFAULT '[]',
    error TEXT NOT NULL DEFAULT '',
    error_code TEXT NOT NULL DEFAULT ''
)
"""
_COLUMNS = "job_id, kind, target, state, done, total, counts, failed, failures, error, error_code"


@dataclass(frozen=True)
class Job:
    """One job and how far it is. failures: the first MAX_FAILURES sentences of failed; error: why a job failed.

    error_code: ModelUnavailable.code of the error. phase: the part that runs, of a job that has several.
    rate: items a second, seconds_left: until the phase is done; None while they are not known, and when it is over.
    """

    job_id: int
    kind: str
    target: str
    state: JobState = "waiting"
    done: int = 0
    total: int = 0
    counts: Mapping[str, int] | None = None
    failed: int = 0
    failures: tuple[str, ...] = ()
    error: str = ""
    error_code: str = ""
    phase: str = ""
    rate: float | None = None
    seconds_left: float | None = None


class JobControl:
    """The arguments of a job's work. stop: set when the job is to end early, between two batches.

    is_cancelled: whether stop is for good; otherwise the program ends, and its next start takes the job up.
    """

    def __init__(self, job: Job) -> None:
        self.stop = threading.Event()
        self.is_cancelled = False
        self.job = replace(job, state="running")
        self._looks: deque[tuple[float, int]] = deque()

    def report(
        self,
        done: int,
        total: int,
        counts: Mapping[str, int] | None = None,
        failures: Sequence[str] = (),
        phase: str = "",
    ) -> None:
        """Tell how far it is. failures: all sentences so far."""
        now = time.monotonic()
        if phase != self.job.phase:
            self._looks.clear()
        self._looks.append((now, done))
        while len(self._looks) > 2 and now - self._looks[0][0] > _RATE_WINDOW:
            self._looks.popleft()
        then, before = self._looks[0]
        rate = (done - before) / (now - then) if now - then > 1 and done > before else None
        self.job = replace(
            self.job,
            done=done,
            total=total,
            counts=dict(counts or {}),
            failed=len(failures),
            failures=self.job.failures + tuple(failures[len(self.job.failures) : MAX_FAILURES]),
            phase=phase,
            rate=rate,
            seconds_left=max(total - done, 0) / rate if rate else None,
        )


Work = Callable[[str, JobControl], None]  # target, control; may raise ImageSearchError


class _Lane:
    """Jobs of these kinds run one after the other in one thread."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds = kinds
        self.places = ", ".join("?" * len(kinds))
        self.wake = threading.Event()
        self.running: JobControl | None = None
        self.ended: Job | None = None  # whose end is not saved yet
        self.thread: threading.Thread | None = None


class JobQueue:
    """The jobs of one library. Safe to use from several threads."""

    def __init__(self, path: Path, library: str, works: Mapping[str, Work], *lanes: Collection[str]) -> None:
        """path: the SQLite file; made when it is first needed. library: names the library. works: by kind of job.

        lanes: kinds of jobs that do not wait for the others: those of a lane run one after the other in a thread.
        """
        self._path = path
        self._library = library
        self._works = works
        self._lock = threading.Lock()
        self._is_closing = False
        others = set(works).difference(*lanes)
        self._lanes = [_Lane(sorted(kinds)) for lane in (others, *lanes) if (kinds := set(lane) & set(works))]

    def start(self) -> None:
        """Take up what an earlier run of the program left, in threads of its own. A second call does nothing."""
        with self._lock:
            if self._is_closing or any(lane.thread for lane in self._lanes):
                return
            for lane in self._lanes:
                lane.thread = threading.Thread(target=self._work, args=[lane], name="jobs", daemon=True)
        for lane in self._lanes:
            if lane.thread:
                lane.thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End after the batch in hand, or after that many seconds; what is running is taken up at the next start."""
        with self._lock:
            self._is_closing = True
            for lane in self._lanes:
                if lane.running:
                    lane.running.stop.set()
        self._wake()
        for lane in self._lanes:
            if lane.thread:
                lane.thread.join(timeout)

    def add(self, kind: str, target: str) -> Job:
        """Queue a job, or give the one that is waiting or running already. Raises StoreError."""
        if kind not in self._works:
            raise StoreError(f"There is no job of the kind {kind}.")
        self.start()
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            found = connection.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE library = ? AND kind = ? AND target = ? "
                "AND state IN ('waiting', 'running')",
                (self._library, kind, target),
            ).fetchone()
            if found:
                return _read_row(found)
            cursor = connection.execute(
                "INSERT INTO jobs (library, kind, target, state) VALUES (?, ?, ?, 'waiting')",
                (self._library, kind, target),
            )
            job = Job(int(cursor.lastrowid or 0), kind, target)
        self._wake()
        return job

    def cancel(self, job_id: int) -> bool:
        """End a job early. Returns whether it was waiting or running. Raises StoreError."""
        with self._lock:
            for lane in self._lanes:
                if lane.running and lane.running.job.job_id == job_id:
                    lane.running.is_cancelled = True
                    lane.running.stop.set()
                    return True
        with self._open() as connection:
            cursor = connection.execute(
                "UPDATE jobs SET state = 'cancelled' WHERE library = ? AND job_id = ? AND state = 'waiting'",
                (self._library, job_id),
            )
            return cursor.rowcount > 0

    def list_jobs(self) -> list[Job]:
        """Running, waiting and recently finished jobs, newest first. Raises StoreError."""
        if not self._path.exists():
            return []
        with self._open() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE library = ? ORDER BY job_id DESC", (self._library,)
            ).fetchall()
        known = {job.job_id: job for lane in self._lanes if (job := lane.ended)}
        known |= {control.job.job_id: control.job for lane in self._lanes if (control := lane.running)}
        return [known.get(job.job_id, job) for job in map(_read_row, rows)]

    def _wake(self) -> None:
        for lane in self._lanes:
            lane.wake.set()

    def _work(self, lane: _Lane) -> None:
        is_first = True
        while not self._is_closing:
            lane.wake.clear()
            try:
                if is_first and self._path.exists():
                    with self._open() as connection:
                        connection.execute(
                            "UPDATE jobs SET state = 'waiting' WHERE library = ? AND state = 'running' "
                            f"AND kind IN ({lane.places})",
                            (self._library, *lane.kinds),
                        )
                is_first = False
                self._save_end(lane)
                job = self._take(lane)
                if job:
                    self._run(job, lane)
                    continue
            except StoreError:  # the file of jobs is away; the page learns it from its own requests
                lane.wake.wait(_PAUSE)
                continue
            lane.wake.wait()

    def _take(self, lane: _Lane) -> Job | None:
        if not self._path.exists():
            return None
        with self._open() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE library = ? AND state = 'waiting' AND kind IN ({lane.places}) "
                "ORDER BY job_id LIMIT 1",
                (self._library, *lane.kinds),
            ).fetchone()
            if row is None:
                return None
            job = _read_row(row)
            # Cancelled between the two statements, it is left alone.
            taken = connection.execute(
                "UPDATE jobs SET state = 'running' WHERE job_id = ? AND state = 'waiting'", (job.job_id,)
            )
            return job if taken.rowcount else None

    def _run(self, job: Job, lane: _Lane) -> None:
        control = JobControl(job)
        with self._lock:
            lane.running = control
            if self._is_closing:
                control.stop.set()
        error = code = ""
        try:
            self._works[job.kind](job.target, control)
        except ImageSearchError as failure:
            error, code = str(failure), getattr(failure, "code", "")
        except Exception as failure:  # a mistake of the program must not end every job after it
            error = f"The program made a mistake ({type(failure).__name__}: {failure})."
        state: JobState = "failed" if error else "cancelled" if control.stop.is_set() else "done"
        with self._lock:
            lane.running = None
            if not self._is_closing or state == "done":
                lane.ended = replace(control.job, state=state, error=error, error_code=code)
        self._save_end(lane)

    def _save_end(self, lane: _Lane) -> None:
        if lane.ended:
            self._save(lane.ended)
            lane.ended = None

    def _save(self, job: Job) -> None:
        with self._open() as connection:
            connection.execute(
                "UPDATE jobs SET state = ?, done = ?, total = ?, counts = ?, failed = ?, failures = ?, error = ?, "
                "error_code = ? "
                "WHERE job_id = ?",
                (
                    job.state,
                    job.done,
                    job.total,
                    json.dumps(job.counts or {}),
                    job.failed,
                    json.dumps(job.failures),
                    job.error,
                    job.error_code,
                    job.job_id,
                ),
            )
            connection.execute(
                "DELETE FROM jobs WHERE library = ? AND state NOT IN ('waiting', 'running') AND job_id NOT IN "
                "(SELECT job_id FROM jobs WHERE library = ? AND state NOT IN ('waiting', 'running') "
                "ORDER BY job_id DESC LIMIT ?)",
                (self._library, self._library, KEPT_JOBS),
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction of its own. Raises StoreError."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=10)) as connection, connection:
                connection.execute(_SCHEMA)
                columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(jobs)")}
                if "error_code" not in columns:  # written by an older program
                    connection.execute("ALTER TABLE jobs ADD COLUMN error_code TEXT NOT NULL DEFAULT ''")
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"The list of jobs {self._path} cannot be used ({error}). Check its folder and the free disk."
            ) from error


def _read_row(row: tuple[object, ...]) -> Job:
    job_id, kind, target, state, done, total, counts, failed, failures, error, error_code = row
    read_counts, read_failures = {}, ()
    with suppress(ValueError):
        read_counts, read_failures = json.loads(str(counts)), tuple(json.loads(str(failures)))
    return Job(
        job_id,  # type: ignore[arg-type]  # the columns' types
        str(kind),
        str(target),
        state,  # type: ignore[arg-type]
        done,  # type: ignore[arg-type]
        total,  # type: ignore[arg-type]
        read_counts,
        failed,  # type: ignore[arg-type]
        read_failures,
        str(error),
        str(error_code),
    )
