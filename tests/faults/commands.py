"""The `kakehi` program with broken outputs, inputs and settings."""

import json
import os
import pty
import signal
import subprocess
import time

from harness import fault, wait_for, within
from programs import Ended

ECHO = '{"command":{"echo":{"text":"hello"}}}'
LONG = '[job.long]\nrun = ["sh", "-c", "echo begun; exec sleep 1000"]\n'
MANY = '[job.many]\nrun = ["seq", "1000000"]\n'


@fault("stdout is closed", "0, nothing is written anywhere")
def _(stage):
    stage.server()
    command = ["sh", "-c", 'exec "$0" "$@" >&-', stage.programs / "kakehi", "--socket", stage.path]
    ended = Ended(stage.run([*command, "status"], stderr=subprocess.PIPE, text=True))
    return f"{ended.code}, {ended.stderr or 'nothing'} is written anywhere"


@fault("stdout is on a full disk", "74, said on stderr, its job ended")
def _(stage):
    server = stage.server(jobs=MANY)
    with open("/dev/full", "wb") as full:
        client = stage.client("run", "many", stdout=full)
        ended = Ended(client)
    said = "said" if "No space left" in ended.stderr else repr(ended.stderr)
    job = "ended" if wait_for(lambda: 'by="' in server.log()) else "runs"
    return f"{ended.code}, {said} on stderr, its job {job}"


@fault("the reader of stdout leaves, as head does", "141, nothing on stderr, its job ended")
def _(stage):
    server = stage.server(jobs=MANY)
    client = stage.client("run", "many")
    client.stdout.readline()
    client.stdout.close()
    client.stdout = None
    ended = Ended(client)
    job = "ended" if wait_for(lambda: 'by="' in server.log()) else "runs"
    return f"{ended.code}, {ended.stderr or 'nothing'} on stderr, its job {job}"


@fault("stderr is on a full disk", "0, the result on stdout")
def _(stage):
    stage.server()
    with open("/dev/full", "wb") as full:
        client = stage.client(
            "send", '{"command":{"countdown":{"steps":2,"interval_ms":10}}}', stderr=full
        )
        ended = Ended(client)
    result = "the result" if "Done" in ended.stdout else repr(ended.stdout)
    return f"{ended.code}, {result} on stdout"


@fault("no terminal, no stdin, no environment", "0 hello")
def _(stage):
    stage.server()
    command = ["env", "-i", stage.programs / "kakehi", "--socket", stage.path, "send", ECHO]
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
    ended = Ended(stage.run(closed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    return f"{ended.code} {ended.stdout.strip()}"


@fault("its terminal hangs up", "ends within 3 s, its job ended")
def _(stage):
    server = stage.server(jobs=LONG)
    ours, theirs = pty.openpty()
    client = stage.client("run", "long", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    wait_for(lambda: "started" in server.log())
    os.close(ours)
    client.send_signal(signal.SIGHUP)
    start = time.monotonic()
    client.wait(20)
    job = "ended" if wait_for(lambda: 'by="' in server.log()) else "runs"
    return f"ends {within(3, start)}, its job {job}"


@fault("Ctrl-C", "130, how the job ended within 3 s, no process left")
def _(stage):
    stage.server(jobs=LONG)
    client = stage.begun("run", "long")
    client.process.send_signal(signal.SIGINT)
    start = time.monotonic()
    ended = client.end()
    last = json.loads(ended.stdout.splitlines()[-1])
    how = "how the job ended" if "cancelled by uid" in last["message"] else str(last)
    return f"{ended.code}, {how} {within(3, start)}, {stage.left(1)}"
