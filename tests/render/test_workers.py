"""Workers: every task ends exactly once, and the right shape is blamed for each failure."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pointcmt.errors import PointcmtError, Reason, StoreError
from pointcmt.render.jobs import supervisor
from pointcmt.render.jobs.supervisor import Work, Worker, WorkerPool
from tests.render import runners
from tests.render.runners import run_tasks


def run(tmp_path, faults, tasks=4, workers=2, timeout=60.0, memory_limit=0.0):
    work = Work(runners.make, (faults, str(tmp_path)), timeout, memory_limit)
    found = run_tasks(range(tasks), work, workers)
    results = {task: (process, ended) for task, process, ended in found}
    assert sorted(results) == list(range(tasks))
    ended = [end for task in range(tasks) for end in results[task][1]]
    assert [shape for shape, _, _ in ended] == list(range(tasks * runners.SHAPES))
    return {shape: how for shape, how, _ in ended if how != "done"}, results


def started(script, folder):
    """Start a script that runs a job, in its own process group."""
    (folder / "job.py").write_text(script)
    return subprocess.Popen(
        [sys.executable, folder / "job.py"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        start_new_session=True,
    )


def test_all_tasks_are_done_and_shared_among_processes(tmp_path):
    blamed, results = run(tmp_path, {0: "slow", 5: "slow", 10: "slow"}, tasks=6)
    assert blamed == {}
    assert len({process for process, _ in results.values()}) == 2


@pytest.mark.parametrize("fault", ["segfault", "killed", "exit"])
def test_a_shape_that_crashes_its_worker_is_the_only_one_blamed(tmp_path, fault):
    blamed, _ = run(tmp_path, {6: fault})
    assert blamed == {6: Reason.CRASHED}


def test_a_hanging_shape_is_stopped_and_blamed(tmp_path):
    started = time.monotonic()
    blamed, _ = run(tmp_path, {9: "hang"}, timeout=2.0)
    assert blamed == {9: Reason.TIMEOUT}
    assert time.monotonic() - started < 30


def test_compile_time_does_not_count_for_a_shape(tmp_path):
    ((blame, seconds),) = run_tasks(
        range(1), Work(runners.make_compiling, ({}, str(tmp_path)), 0.5), 1
    )
    assert seconds > 0.7, "it was compiled too fast for this test"
    assert blame == {}


def test_a_job_that_was_suspended_blames_no_shape(tmp_path):
    script = (
        "from pointcmt.render.jobs import supervisor\n"
        "from tests.render import runners\n"
        "supervisor.POLL_INTERVAL = 0.2\n"
        "if __name__ == '__main__':\n"
        f"    job = ({{1: 'wait'}}, {str(tmp_path)!r})\n"
        "    work = supervisor.Work(runners.make, job, 3.0)\n"
        "    for found in runners.run_tasks(range(1), work, 1):\n"
        "        print(found[2], flush=True)\n"
    )
    job = started(script, tmp_path)
    while not (tmp_path / "1").exists():
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGSTOP)
    time.sleep(4)  # longer than a shape may take
    os.killpg(job.pid, signal.SIGCONT)
    (tmp_path / "go").touch()
    out, _ = job.communicate(timeout=60)
    assert "timeout" not in out.lower()
    assert out.count("'done'") == 4


def test_several_faults_in_one_task_are_all_found(tmp_path):
    blamed, _ = run(tmp_path, {4: "segfault", 5: "hang", 7: "exit"}, timeout=2.0)
    assert blamed == {4: Reason.CRASHED, 5: Reason.TIMEOUT, 7: Reason.CRASHED}


def test_a_shape_that_exhausts_memory_is_stopped_at_once_and_blamed(tmp_path):
    blamed, _ = run(tmp_path, {6: "greedy"}, memory_limit=1.0)
    assert blamed == {6: Reason.TOO_LARGE}
    assert (tmp_path / "greedy").read_text() == "6 "


def test_memory_that_earlier_tasks_left_in_a_worker_is_not_blamed_on_a_shape(tmp_path):
    blamed, results = run(tmp_path, {0: "heavy", 4: "heavy"}, tasks=2, workers=1, memory_limit=0.45)
    assert blamed == {}
    assert results[0][0] != results[1][0], "the worker was not replaced, as this test needs"


def test_a_memory_limit_below_what_the_libraries_need_stops_the_job(tmp_path):
    with pytest.raises(
        PointcmtError, match=r"keep dying before they work on a shape: .* memory_limit=0\.01"
    ):
        run(tmp_path, {}, memory_limit=0.01)


def test_a_worker_killed_once_loses_nothing(tmp_path):
    blamed, _ = run(tmp_path, {3: "killed once", 8: "killed once", "task 2": "killed once"})
    assert blamed == {}


class SlowSupervisor(Worker):
    """Gets no processor time for a while after it has read which shape its process has begun."""

    def _messages(self):
        yield from super()._messages()
        if self._shape is not None:
            time.sleep(0.5)


@pytest.mark.parametrize("death", ["killed", "exit"])
def test_a_shape_that_ended_while_its_supervisor_was_paused_is_not_blamed(tmp_path, death):
    faults = {0: "slow", 2: f"{death} once", "task 0": f"{death} once"}
    worker = SlowSupervisor(Work(runners.make, (faults, str(tmp_path)), 60.0), 0)
    _, _, ended = worker.run(0)
    worker.close()
    assert [how for _, how, _ in ended] == ["done"] * runners.SHAPES


def test_the_shape_that_took_the_memory_is_blamed(tmp_path):
    work = Work(runners.make, ({0: "slow", 1: "greedy"}, str(tmp_path)), 60.0, memory_limit=0.3)
    worker = SlowSupervisor(work, 0)
    _, _, ended = worker.run(0)
    worker.close()
    assert [how for _, how, _ in ended] == ["done", Reason.TOO_LARGE, "done", "done"]


def test_the_detail_names_the_signal(tmp_path):
    work = Work(runners.make, ({2: "segfault"}, str(tmp_path)), 60.0)
    found = run_tasks(range(1), work, 1)
    ((_, _, ended),) = found
    assert "SIGSEGV" in ended[2][2]


def test_a_failure_of_the_machine_stops_the_job_with_its_own_error(tmp_path):
    with pytest.raises(StoreError, match="disk is full") as raised:
        run(tmp_path, {6: "disk full"})
    assert raised.value.fix == "free some space"


def test_workers_that_cannot_start_stop_the_job(tmp_path):
    with pytest.raises(PointcmtError, match="exited with code 1"):
        list(run_tasks(range(3), Work(runners.make_dead, None, 60.0), 2))


def test_workers_that_hang_before_any_shape_stop_the_job(monkeypatch):
    monkeypatch.setattr(supervisor, "LOADING_TIMEOUT", 1.0)
    with pytest.raises(
        PointcmtError, match="keep dying before they work on a shape: took longer than 1 s"
    ):
        list(run_tasks(range(1), Work(runners.make_hanging, None, 0.5), 1))


@pytest.fixture
def hold(monkeypatch):
    """Make the kernel keep a killed process for its tracer, as a driver that hangs would."""
    monkeypatch.setattr(supervisor, "KILL_TIMEOUT", 1.0)
    script = (
        "import ctypes, sys, time\n"
        "PTRACE_SEIZE = 0x4206\n"
        "print(ctypes.CDLL(None).ptrace(PTRACE_SEIZE, int(sys.argv[1]), 0, 0), flush=True)\n"
        "time.sleep(600)\n"
    )
    tracers = []

    def trace(process):
        command = [sys.executable, "-c", script, str(process)]
        tracers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        if tracers[-1].stdout.readline() != "0\n":
            pytest.skip("processes cannot be traced here")

    yield trace
    for tracer in tracers:
        tracer.kill()
        tracer.communicate()


@pytest.mark.timeout(60)
@pytest.mark.skipif(sys.platform != "linux", reason="ptrace")
def test_a_process_that_cannot_be_killed_is_left_behind(tmp_path, hold):
    work = Work(runners.make, ({1: "wait once", 5: "hang"}, str(tmp_path)), 5.0)
    workers = WorkerPool()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(workers.run, work, 0)
        while not (tmp_path / "1").exists():
            time.sleep(0.01)
        (process,) = running(workers)
        hold(process)
        _, another, ended = first.result()
        assert another != process
        assert ended[1][1:] == (
            Reason.TIMEOUT,
            f"took longer than 5 s; its worker process {process} on {socket.gethostname()} cannot "
            "be killed",
        )
        second = pool.submit(workers.run, work, 1)
        hold(another)
        workers.close()
        with pytest.raises(supervisor.Stopped):
            second.result()


def running(workers):
    return [worker._process.pid for worker in workers._busy]


def test_a_real_time_signal_is_named(tmp_path):
    ((_, _, ended),) = run_tasks(range(1), Work(runners.make, ({2: "odd"}, str(tmp_path)), 60.0), 1)
    assert ended[2][1:] == (Reason.CRASHED, "the worker process was killed by signal 40")


def test_no_process_is_left_when_the_caller_stops(tmp_path):
    work = Work(runners.make, ({20: "hang"}, str(tmp_path)), 60.0)
    found = run_tasks(range(6), work, 2)
    _, process, _ = next(found)
    found.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has PR_SET_PDEATHSIG")
def test_workers_die_with_a_parent_that_is_killed(tmp_path):
    script = (
        "from pointcmt.render.jobs.supervisor import Work\n"
        "from tests.render import runners\n"
        "if __name__ == '__main__':\n"
        f"    work = Work(runners.make, ({{13: 'hang'}}, {str(tmp_path)!r}), 60.0)\n"
        "    for found in runners.run_tasks(range(4), work, 2):\n"
        "        print(found[1], flush=True)\n"
    )
    job = started(script, tmp_path)
    with job:
        workers = {int(job.stdout.readline()) for _ in range(3)}
        job.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{worker}") for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
