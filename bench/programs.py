"""The release programs, a daemon with one job, and times: shared by `binaries` and `readers`."""

import contextlib
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
CLIENT, SERVER = RELEASE / "kakehi", RELEASE / "kakehid"
STATUS = rb'{"id":"a","version":0,"command":"status"}' + b"\0"
LINES, BYTES = 1_000_000, 80_000_000
# The job prints lines of 80 bytes.
JOB = f"yes {'x' * 79} | head -n {LINES}"


def build():
    command = ["cargo", "build", "--release", "--locked", "--bins", "-p", "kakehi-cli", "-p", "kakehid"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)


def wait_until(condition, what):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, f"not within 30 s: {what}"
        time.sleep(0.01)


@contextlib.contextmanager
def daemon(jobs):
    """Runs kakehid in a folder of its own, and returns the folder and the process."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        socket, file = folder / "s", folder / "jobs.toml"
        file.write_text(jobs.replace("FOLDER", str(folder)))
        file.chmod(0o600)
        command = [SERVER, "--socket", socket, "--jobs", file]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as running:
            try:
                wait_until(socket.exists, "the socket of kakehid")
                yield folder, running
            finally:
                running.terminate()


def timed(command, **options):
    start = time.perf_counter()
    subprocess.run(command, check=True, **options)
    return time.perf_counter() - start


def interleaved(rounds, *each):
    """The median of each, measured in turn."""
    columns = zip(*[[one() for one in each] for _ in range(rounds)])
    return [statistics.median(column) for column in columns]
