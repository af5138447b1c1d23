"""Clients that disconnect, do not read or are hostile: they lose at most their own connection."""

import array
import signal
import socket
import subprocess
import threading
import time

from harness import PATIENCE, after, fault, wait_for, within

FLOOD = '[job.flood]\nrun = ["yes", "%s"]\n' % ("y" * 100)
LINES = '[job.lines]\nrun = ["seq", "50000"]\n'
ECHO = b'{"id":"a","version":0,"command":{"echo":{"text":"hello"}}}\0'


@fault(
    "a client stopped in mid-stream, and continued",
    "the server grows under 4 MiB, others prompt, 0 and every line",
)
def _(stage):
    server = stage.server(jobs=LINES)
    before = server.memory()
    client = stage.begun("run", "lines")
    client.process.send_signal(signal.SIGSTOP)
    time.sleep(1)
    grown, others = server.memory() - before, server.others()
    client.process.send_signal(signal.SIGCONT)
    ended = client.end()
    lines = sum("stdout" in line for line in ended.stdout.splitlines())
    every = "every line" if lines == 50_001 else f"{lines} lines"
    grows = "under 4 MiB" if grown < 4 else f"{grown:.1f} MiB"
    return f"the server grows {grows}, {others}, {ended.code} and {every}"


@fault(
    "a client that never reads, of a job with reader_timeout = '1s'",
    "others prompt, its job ended after 1 s, nothing left",
)
def _(stage):
    server = stage.server(jobs=FLOOD + "reader_timeout = '1s'\n")
    before, start = server.descriptors(), time.monotonic()
    client = server.connect().ask({"run": {"job": "flood"}})
    wait_for(lambda: "started" in server.log())
    others = server.others()
    ended = wait_for(lambda: 'by="reader"' in server.log())
    job, took = "ended" if ended else "runs", after(1, start)
    left = server.is_idle(before)
    client.close()
    return f"{others}, its job {job} {took}, {left}"


@fault("a request of one byte a second", "too_slow after 2 s, the end, others prompt")
def _(stage):
    server = stage.server("--request-time", "2s")
    client, start, stop = server.connect(), time.monotonic(), threading.Event()

    def drip():
        for byte in ECHO:
            try:
                client.stream.sendall(bytes([byte]))
            except OSError:
                return
            if stop.wait(1):
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    others, word, took = server.others(), client.word(), after(2, start)
    stop.set()
    dripping.join()
    return f"{word} {took}, {client.word()}, {others}"


@fault(
    "a connection reset: closed with its answer unread",
    "its job ended within 2 s, others prompt, nothing left",
)
def _(stage):
    server = stage.server(jobs='[job.long]\nrun = ["sh", "-c", "echo; exec sleep 1000"]\n')
    before = server.descriptors()
    client = server.connect().ask({"run": {"job": "long"}})
    time.sleep(0.3)
    client.close()
    start = time.monotonic()
    left = stage.left(1)
    took = within(2, start)
    ended = "its job ended" if left == "no process left" else left
    return f"{ended} {took}, {server.others()}, {server.is_idle(before)}"


@fault("253 descriptors with a request", "OK, none is held; nothing left")
def _(stage):
    server = stage.server()
    before = server.descriptors()
    client = server.connect()
    rights = array.array("i", [client.stream.fileno()] * 253)
    client.stream.sendmsg([ECHO], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    word, held = client.word(), server.descriptors() - before - 1
    client.close()
    return f"{word}, {max(held, 0) or 'none'} is held; {server.is_idle(before)}"


@fault("1,000 connects a second, for 2 s", "all answered or told busy, others prompt, nothing left")
def _(stage):
    server = stage.server()
    before, start, words = server.descriptors(), time.monotonic(), {}
    for number in range(2000):
        client = server.connect()
        client.stream.sendall(ECHO)
        if number % 10 == 0:
            word = client.word()
            words[word] = words.get(word, 0) + 1
        client.close()
        time.sleep(max(0, start + number / 1000 - time.monotonic()))
    took = time.monotonic() - start
    all_told = set(words) <= {"OK", "busy"} and took < 20
    told = "all answered or told busy" if all_told else f"{words} in {took:.1f} s"
    return f"{told}, {server.others()}, {server.is_idle(before)}"


@fault(
    "100 connections of one user", "68 OK, 32 busy, root's own prompt", needs=["root", "setpriv"]
)
def _(stage):
    server = stage.server(
        "--mode", "666", jobs='[job.a]\nrun = ["true"]\nallow = { users = ["nobody"] }\n'
    )
    code = """
import socket, sys, json
streams = []
for _ in range(100):
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(sys.argv[1])
    try:
        stream.sendall(b'{"id":"a","version":0,"command":"list"}\\0')
    except BrokenPipeError:
        pass
    streams.append(stream)
words = []
for stream in streams:
    frame = json.loads(stream.recv(65536)[:-1])
    words.append(frame.get("refused") or frame["status"])
print(words.count("OK"), words.count("busy"), flush=True)
sys.stdin.read()
"""
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    client = stage.run(["python3", "-c", code, stage.path], become, **pipes)
    ok, busy = client.stdout.readline().split()
    others = server.others().replace("others", "root's own")
    client.stdin.close()
    return f"{ok} OK, {busy} busy, {others}"


@fault(
    "a client that asks on and reads nothing",
    "the server grows under 2 MiB, others prompt, every answer in the end",
)
def _(stage):
    server = stage.server()
    before, client = server.memory(), server.connect()
    chunk, sent = 1000 * ECHO, 0
    client.stream.setblocking(False)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        try:
            sent += client.stream.send((2 * chunk)[sent % len(ECHO) :][: len(chunk)])
        except BlockingIOError:
            time.sleep(0.01)
    grown, others = server.memory() - before, server.others()
    client.stream.settimeout(PATIENCE)
    client.stream.shutdown(socket.SHUT_WR)
    answers = 0
    while (response := client.next()) is not None:
        answers += response["status"] == "OK"
    grows = "under 2 MiB" if grown < 2 else f"{grown:.1f} MiB"
    every = "every answer" if answers == sent // len(ECHO) else f"{answers} of {sent // len(ECHO)}"
    return f"the server grows {grows}, {others}, {every} in the end"


@fault(
    "a megabyte of empty frames, unread",
    "the server grows under 2 MiB, others prompt, nothing left",
)
def _(stage):
    server = stage.server()
    descriptors, before, client = server.descriptors(), server.memory(), server.connect()
    client.stream.setblocking(False)
    end, zeros = time.monotonic() + 1, bytes(1 << 20)
    while time.monotonic() < end:
        try:
            client.stream.send(zeros)
        except BlockingIOError:
            time.sleep(0.01)
    grown, others = server.memory() - before, server.others()
    client.close()
    grows = "under 2 MiB" if grown < 2 else f"{grown:.1f} MiB"
    return f"the server grows {grows}, {others}, {server.is_idle(descriptors)}"
