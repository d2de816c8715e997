"""Jobs of the server, with work that a test holds in its hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from image_search.errors import StoreError, StoreUnavailable
from image_search.registration import jobs as jobs_module
from image_search.registration.jobs import KEPT_JOBS, MAX_FAILURES, Job, JobControl, JobQueue


def wait_for(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


class Work:
    """Runs until go is set, or until it is told to stop."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun: list[str] = []

    def __call__(self, target: str, control: JobControl) -> None:
        self.begun.append(target)
        control.report(1, 4, {"registered": 1}, [])
        while not self.go.is_set() and not control.stop.is_set():
            time.sleep(0.01)
        if self.go.is_set():
            control.report(4, 4, {"registered": 4}, [])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "jobs.db"


@pytest.fixture
def open_queue(path: Path) -> Iterator[Callable[..., JobQueue]]:
    queues = []

    def open_queue(work: Callable[[str, JobControl], None], library: str = "a") -> JobQueue:
        queues.append(JobQueue(path, library, {"scan": work}))
        return queues[-1]

    yield open_queue
    for queue in queues:
        queue.stop()


def find(queue: JobQueue, job: Job) -> Job:
    return next(found for found in queue.list_jobs() if found.job_id == job.job_id)


def test_jobs_run_one_after_the_other_and_tell_how_far_they_are(open_queue: Callable[..., JobQueue]) -> None:
    work = Work()
    queue = open_queue(work)
    first, second = queue.add("scan", "/a"), queue.add("scan", "/b")
    wait_for(lambda: find(queue, first).done == 1)
    assert (find(queue, first).state, find(queue, first).total) == ("running", 4)
    assert find(queue, second).state == "waiting"
    work.go.set()
    wait_for(lambda: find(queue, second).state == "done")
    assert work.begun == ["/a", "/b"]
    assert find(queue, first).counts == {"registered": 4}


def test_job_that_waits_or_runs_is_not_queued_twice(open_queue: Callable[..., JobQueue]) -> None:
    work = Work()
    queue = open_queue(work)
    first = queue.add("scan", "/a")
    assert queue.add("scan", "/a").job_id == first.job_id
    work.go.set()
    wait_for(lambda: find(queue, first).state == "done")
    assert queue.add("scan", "/a").job_id != first.job_id


def test_job_is_cancelled_while_it_runs_and_while_it_waits(open_queue: Callable[..., JobQueue]) -> None:
    queue = open_queue(Work())
    running, waiting = queue.add("scan", "/a"), queue.add("scan", "/b")
    wait_for(lambda: find(queue, running).state == "running")
    assert queue.cancel(waiting.job_id)
    assert queue.cancel(running.job_id)
    wait_for(lambda: find(queue, running).state == "cancelled")
    assert find(queue, waiting).state == "cancelled"
    assert not queue.cancel(running.job_id)


def test_job_that_ran_when_the_program_ended_runs_again(open_queue: Callable[..., JobQueue]) -> None:
    work = Work()
    before = open_queue(work)
    job = before.add("scan", "/a")
    wait_for(lambda: work.begun == ["/a"])
    before.stop()
    assert find(before, job).state == "running"
    work.go.set()
    after = open_queue(work)
    after.start()
    wait_for(lambda: find(after, job).state == "done")
    assert work.begun == ["/a", "/a"]


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_end_that_cannot_be_saved_is_saved_later_and_the_job_runs_once(
    open_queue: Callable[..., JobQueue], monkeypatch: pytest.MonkeyPatch, is_cancelled: bool
) -> None:
    work, refused, save = Work(), threading.Event(), JobQueue._save
    may_save = threading.Event()

    def refuse(queue: JobQueue, job: Job) -> None:
        if not may_save.is_set():
            refused.set()
            raise StoreError("The list of jobs is locked.")
        save(queue, job)

    monkeypatch.setattr(jobs_module, "_PAUSE", 0.05)
    monkeypatch.setattr(JobQueue, "_save", refuse)
    queue = open_queue(work)
    job = queue.add("scan", "/a")
    wait_for(lambda: find(queue, job).state == "running")
    if is_cancelled:
        assert queue.cancel(job.job_id)
    else:
        work.go.set()
    assert refused.wait(20)
    end = "cancelled" if is_cancelled else "done"
    wait_for(lambda: find(queue, job).state == end)
    assert not queue.cancel(job.job_id)
    may_save.set()
    work.go.set()
    other = queue.add("scan", "/b")
    wait_for(lambda: find(queue, other).state == "done")
    assert (find(queue, job).state, work.begun) == (end, ["/a", "/b"])


def test_library_sees_its_own_jobs_only(open_queue: Callable[..., JobQueue]) -> None:
    queue, other = open_queue(Work()), open_queue(Work(), library="b")
    job = queue.add("scan", "/a")
    other.start()
    assert other.list_jobs() == []
    assert not other.cancel(job.job_id)


def test_failures_are_counted_and_the_first_of_them_kept(open_queue: Callable[..., JobQueue]) -> None:
    def work(_: str, control: JobControl) -> None:
        sentences: list[str] = []
        for number in range(MAX_FAILURES + 50):
            sentences.append(f"{number}.png is empty.")
            control.report(number + 1, 500, {}, sentences)

    queue = open_queue(work)
    job = queue.add("scan", "/a")
    wait_for(lambda: find(queue, job).state == "done")
    assert find(queue, job).failed == MAX_FAILURES + 50
    assert len(find(queue, job).failures) == MAX_FAILURES
    assert find(queue, job).failures[-1] == f"{MAX_FAILURES - 1}.png is empty."


@pytest.mark.parametrize("error", [StoreUnavailable("The database is away."), ZeroDivisionError("division by zero")])
def test_job_that_fails_says_why_and_the_next_one_runs(open_queue: Callable[..., JobQueue], error: Exception) -> None:
    def work(target: str, _: JobControl) -> None:
        if target == "/a":
            raise error

    queue = open_queue(work)
    first, second = queue.add("scan", "/a"), queue.add("scan", "/b")
    wait_for(lambda: find(queue, second).state == "done")
    assert find(queue, first).state == "failed"
    assert str(error) in find(queue, first).error


def test_only_the_last_jobs_are_kept(open_queue: Callable[..., JobQueue]) -> None:
    queue = open_queue(lambda _target, _control: None)
    for number in range(KEPT_JOBS + 5):
        job = queue.add("scan", f"/{number}")
    wait_for(lambda: find(queue, job).state == "done")
    assert len(queue.list_jobs()) == KEPT_JOBS


def test_file_of_jobs_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the place of a folder")
    queue = JobQueue(tmp_path / "data" / "jobs.db", "a", {"scan": Work()})
    with pytest.raises(StoreError, match=r"jobs\.db cannot be used"):
        queue.add("scan", "/a")
    queue.stop()
