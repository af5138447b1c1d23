"""Jobs that misbehave: each run ends once and leaves no process behind."""

import os
import shutil
import signal
import time

from harness import fault, wait_for, within


def shell(script, *more):
    """A jobs file with one job, `job`."""
    lines = ["[job.job]", f"run = ['''sh''', '''-c''', '''{script}''']", *more]
    return "\n".join(lines) + "\n"


def run(stage, script, *more):
    server = stage.server(jobs=shell(script, *more))
    client = stage.client("run", "job")
    stdout, stderr = client.communicate(timeout=40)
    return server, client.returncode, stdout, stderr


@fault("a job on a full disk", "its own code 1, and why", needs=["mount"])
def _(stage):
    place = stage.mount("full", "size=64k")
    _, code, _, stderr = run(stage, f"LC_ALL=C dd if=/dev/zero of={place}/file bs=1k count=100")
    return f"its own code {code}, {'and why' if 'No space left' in stderr else stderr}"


@fault("a job that forks, and ends", "0 within 3 s, no process left")
def _(stage):
    start = time.monotonic()
    code = run(stage, "sleep 1000 & sleep 1000 & echo parent")[1]
    return f"{code} {within(3, start)}, {stage.left(1)}"


@fault("a job whose daemon keeps its output open", "0 within 3 s")
def _(stage):
    start = time.monotonic()
    code = run(stage, "setsid sh -c 'exec sleep 1000' & sleep 0.2; echo parent")[1]
    return f"{code} {within(3, start)}"


@fault("a job that ignores SIGTERM", "killed 5 s after its client left, no process left")
def _(stage):
    server = stage.server(jobs=shell("trap : TERM; echo begun; while :; do sleep 0.1; done"))
    client = stage.client("run", "job")
    client.stdout.readline()
    client.kill()
    start = time.monotonic()
    wait_for(lambda: 'by="request"' in server.log(), 12)
    took = time.monotonic() - start
    killed = "killed 5 s" if 4.5 < took < 8 else f"killed {took:.1f} s"
    return f"{killed} after its client left, {stage.left(1)}"


@fault("a job that closes its output early", "its own code 3, waited for")
def _(stage):
    start = time.monotonic()
    code = run(stage, "exec >&- 2>&-; sleep 1; exit 3")[1]
    waited = "waited for" if time.monotonic() - start > 0.9 else "not waited for"
    return f"its own code {code}, {waited}"


@fault("a job that stops itself by SIGSTOP, cancelled", "cancelled, no process left")
def _(stage):
    server = stage.server(jobs=shell("echo begun; kill -STOP $$"))
    client = server.connect().ask({"run": {"job": "job"}}, id="this")
    client.next()
    answer = server.connect().ask({"cancel": {"id": "this"}}).last()
    word = "cancelled" if answer["status"] == "OK" else str(answer)
    client.last()
    return f"{word}, {stage.left(1)}"


@fault("a job that kills its group", "137")
def _(stage):
    return str(run(stage, "kill -9 0")[1])


@fault("a job that is killed from outside", "143, by which signal")
def _(stage):
    _, code, _, stderr = run(stage, "kill -TERM $$")
    return f"{code}, {'by which signal' if 'SIGTERM' in stderr else stderr}"


@fault("a job that writes without end, and its client leaves", "ended within 2 s, no process left")
def _(stage):
    server = stage.server(jobs=shell("exec yes"))
    client = stage.client("run", "job")
    client.stdout.readline()
    client.kill()
    start = time.monotonic()
    ended = wait_for(lambda: 'by="request"' in server.log())
    return f"{'ended' if ended else 'runs'} {within(2, start)}, {stage.left(1)}"


@fault("a job that writes a line without end", "16 MiB arrive, the server grows under 2 MiB")
def _(stage):
    server = stage.server(jobs=shell("yes | tr -d '\\n' | head -c 16777216"))
    before, peak = server.memory(), 0
    client = stage.client("run", "job", text=False)
    size = 0
    while data := client.stdout.read1(1 << 20):
        size += len(data)
        peak = max(peak, server.memory())
    grows = "under 2 MiB" if peak - before < 2 else f"{peak - before:.1f} MiB"
    return f"{size >> 20} MiB arrive, the server grows {grows}"


@fault("a job whose program no longer exists", "126, others prompt")
def _(stage):
    program = stage.folder / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    server = stage.server(jobs=f'[job.job]\nrun = ["{program}"]\n')
    program.unlink()
    client = stage.client("run", "job")
    client.communicate()
    return f"{client.returncode}, {server.others()}"


@fault(
    "a job that may run once, and 10 callers that leave while they wait",
    "the first goes on, no other is run",
)
def _(stage):
    server = stage.server(jobs=shell("echo begun; exec sleep 1000"))
    first = server.connect().ask({"run": {"job": "job"}})
    first.next()
    for _ in range(10):
        waiting = server.connect().ask({"run": {"job": "job"}})
        waiting.next()
        waiting.close()
    time.sleep(0.5)
    started = server.log().count("started")
    running = server.connect().ask("status").last()["content"]["running"]
    going = "the first goes on" if len(running) == 1 else f"{len(running)} go on"
    return f"{going}, {'no other is' if started == 1 else f'{started} are'} run"


@fault("the jobs file is replaced by garbage, and SIGHUP", "the jobs stay, and why")
def _(stage):
    server = stage.server(jobs=shell("echo hello"))
    (stage.folder / "jobs.toml").write_text("garbage")
    server.signal(signal.SIGHUP)
    wait_for(lambda: "stay as they were" in server.log())
    client = stage.client("run", "job")
    stdout, _ = client.communicate()
    stay = "the jobs stay" if stdout == "hello\n" else "the jobs are gone"
    return f"{stay}, {'and why' if 'jobs.toml' in server.log() else 'not why'}"


@fault("the server is killed in a job", "the client 76; the job goes on without a server")
def _(stage):
    server = stage.server(jobs=shell("echo begun; exec sleep 1000"))
    client = stage.client("run", "job")
    client.stdout.readline()
    server.kill()
    client.wait()
    job = "goes on without a server" if len(stage.running()) == 1 else "has ended"
    return f"the client {client.returncode}; the job {job}"


@fault(
    "a job that has become another user, and is cancelled",
    "ERROR; it is listed, and no other is run, until it has ended",
    needs=["root", "setpriv"],
)
def _(stage):
    # As sudo does: the server, which is not root's, may not signal it any more.
    program = stage.folder / "become-root"
    shutil.copy(shutil.which("setpriv"), program)
    program.chmod(0o4755)
    user, place = 65439, stage.folder / "own"
    place.mkdir()
    os.chown(place, user, user)
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    jobs = shell(f"echo begun; exec {program} --reuid=0 sleep 1000")
    server = stage.server(jobs=jobs, path=place / "socket", before=become)
    client, other = server.connect().ask({"run": {"job": "job"}}), server.connect()
    client.next()
    time.sleep(0.5)
    answer = server.connect().ask({"cancel": {"id": "a"}}).last()
    running = server.connect().ask("status").last()["content"]["running"]
    waits = other.ask({"run": {"job": "job"}}).next()["message"].startswith("waiting")
    held = "it is listed, and no other is run" if running and waits else f"{running}, {waits}"
    for pid in set(stage.running()) - {server.pid}:
        os.kill(pid, signal.SIGKILL)
    begun = wait_for(lambda: server.log().count("started") == 2)
    return f"{answer['status']}; {held}, until it has ended" + ("" if begun else ", and after that")
