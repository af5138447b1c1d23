"""The system runs out of descriptors, processes or memory."""

import subprocess
import time

from harness import fault, wait_for

ECHO = '{"command":{"echo":{"text":"hello"}}}'
STRACE = ["strace", "-D", "-f", "-qq", "-o", "/dev/null"]
SLEEP = '[job.short]\nrun = ["sleep", "0.01"]\n'


def refused_by_the_system(stage, call, error, times):
    """A server whose first calls fail with `error`, and the result of its first client."""
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when=1..{times}"]
    server = stage.server(before=[*STRACE, *inject], ready=False)
    wait_for(lambda: "listening" in server.log())
    return server, str(stage.asked("send", ECHO))


def accepting(error):
    @fault(f"{error} from the first 5 accepts", "0 OK, said in the log", needs=["strace"])
    def _(stage):
        server, answer = refused_by_the_system(stage, "accept4", error, 5)
        said = "said" if "cannot accept" in server.log() else "nothing"
        return f"{answer}, {said} in the log"


for number in ("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"):
    accepting(number)


@fault("ECONNABORTED from the first 5 accepts", "0 OK", needs=["strace"])
def _(stage):
    return refused_by_the_system(stage, "accept4", "ECONNABORTED", 5)[1]


@fault(
    "EMFILE from every accept, for 2 s",
    "under 5 % of a processor, one client waits",
    needs=["strace"],
)
def _(stage):
    inject = ["-e", "trace=accept4", "-e", "inject=accept4:error=EMFILE"]
    server = stage.server(before=[*STRACE, *inject], ready=False)
    wait_for(lambda: "listening" in server.log())
    client = stage.client("--json", "send", ECHO)
    wait_for(lambda: "cannot accept" in server.log())
    before = server.ticks()
    time.sleep(2)
    used = (server.ticks() - before) / 2
    waits = "one client waits" if client.poll() is None else "the client ends"
    share = "under 5 %" if used < 5 else f"{used} %"
    return f"{share} of a processor, {waits}"


@fault(
    "no descriptor left for clients",
    "some wait, all are served once others leave",
    needs=["prlimit"],
)
def _(stage):
    server = stage.server(before=["prlimit", "--nofile=40"])
    clients = [server.connect().ask("list") for _ in range(60)]
    wait_for(lambda: "cannot accept" in server.log())
    some = "some wait" if server.descriptors() <= 40 else "none waits"
    served = 0
    for client in clients:
        served += client.word() == "OK"
        client.close()
    return f"{some}, {'all' if served == 60 else served} are served once others leave"


@fault("no descriptor left for a job", "ERROR, others prompt", needs=["prlimit"])
def _(stage):
    server = stage.server(jobs=SLEEP)
    client = server.connect().ask("list")
    client.last()
    free = server.descriptors() + 2
    subprocess.run(["prlimit", f"--pid={server.pid}", f"--nofile={free}:"], check=True)
    answer = client.ask({"run": {"job": "short"}}).last()
    why = answer["status"] if "Too many open files" in answer["message"] else str(answer)
    subprocess.run(["prlimit", f"--pid={server.pid}", "--nofile=500:"], check=True)
    return f"{why}, {server.others()}"


@fault("no process left for a job", "ERROR, others prompt", needs=["root", "setpriv", "prlimit"])
def _(stage):
    user = 65437
    place = stage.folder / "own"
    place.mkdir()
    subprocess.run(["chown", str(user), place], check=True)
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    server = stage.server(jobs=SLEEP, path=place / "socket", before=become)
    client = server.connect().ask("list")
    client.last()
    subprocess.run([*become, "prlimit", f"--pid={server.pid}", "--nproc=1:"], check=True)
    answer = client.ask({"run": {"job": "short"}}).last()
    why = answer["status"] if "temporarily unavailable" in answer["message"] else str(answer)
    return f"{why}, {server.others()}"


@fault(
    "no thread left for the server's start",
    "exit 101, said in the log",
    needs=["root", "setpriv", "prlimit"],
)
def _(stage):
    user = 65438
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    server = stage.server(before=["prlimit", "--nproc=1", *become], ready=False)
    end = server.end()
    return f"{end}, {'said in the log' if 'unavailable' in server.log() else server.log()}"
