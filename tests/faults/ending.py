"""The server ends or stops."""

import concurrent.futures
import os
import signal
import time

from harness import fault, wait_for, within

ECHO = '{"command":{"echo":{"text":"hello"}}}'


def countdown(steps, interval):
    return ["send", '{"command":{"countdown":{"steps":%d,"interval_ms":%d}}}' % (steps, interval)]


@fault("the server is killed before a request", "69 not_running, not_sent")
def _(stage):
    stage.server().kill()
    return str(stage.asked("send", ECHO))


@fault("the server is killed in a stream", "76 disconnected, unknown")
def _(stage):
    server = stage.server()
    client = stage.begun(*countdown(5, 300))
    server.kill()
    return str(client.end())


@fault("the server is killed after a stream", "0 OK; then 69 not_running, not_sent")
def _(stage):
    server = stage.server()
    answer = stage.asked(*countdown(2, 10))
    server.kill()
    return f"{answer}; then {stage.asked('send', ECHO)}"


@fault("the server is killed and started again", "its dead socket is taken over, 0 OK")
def _(stage):
    stage.server().kill()
    server = stage.server()
    taken = "its dead socket is taken over" if "dead server" in server.log() else server.log()
    return f"{taken}, {stage.asked('send', ECHO)}"


@fault("SIGTERM in mid-stream", "0 OK, new ones 75 shutting_down, server exit 0, socket gone")
def _(stage):
    server = stage.server()
    client = stage.begun(*countdown(4, 300))
    server.signal(signal.SIGTERM)
    wait_for(lambda: "draining" in server.log())
    new = stage.asked("send", ECHO)
    stream, end = client.end(), server.end()
    there = "socket there" if stage.path.exists() else "socket gone"
    return f"{stream}, new ones {new}, server {end}, {there}"


@fault("SIGTERM in a stream that outlasts the drain of 1 s", "1 ERROR, server exit 0 within 3 s")
def _(stage):
    server = stage.server("--drain", "1s")
    client = stage.begun(*countdown(100, 300))
    start = time.monotonic()
    server.signal(signal.SIGTERM)
    end, took = server.end(), within(3, start)
    return f"{client.end()}, server {end} {took}"


@fault("SIGTERM twice", "server exit 143 within 2 s, no process left")
def _(stage):
    server = stage.server(jobs='[job.long]\nrun = ["sleep", "1000"]\n')
    client = stage.client("run", "long")
    wait_for(lambda: "started" in server.log())
    server.signal(signal.SIGTERM)
    wait_for(lambda: "draining" in server.log())
    start = time.monotonic()
    server.signal(signal.SIGTERM)
    end, took = server.end(), within(2, start)
    client.wait()
    return f"server {end} {took}, {stage.left(0)}"


@fault("the server is stopped by SIGSTOP", "124 timeout, unknown within 3 s; continued: 0 OK")
def _(stage):
    server = stage.server()
    server.signal(signal.SIGSTOP)
    start = time.monotonic()
    answer = stage.asked("--timeout", "500ms", "send", ECHO)
    took = within(3, start)
    server.signal(signal.SIGCONT)
    return f"{answer} {took}; continued: {stage.asked('send', ECHO)}"


@fault("four restarts under load", "each client ends as it should, at last 0 OK")
def _(stage):
    should = {"0 OK", "69 not_running, not_sent", "75 shutting_down", "76 disconnected, unknown"}
    server, over = stage.server(), []

    def load(_):
        seen = set()
        while not over:
            seen.add(str(stage.asked("--timeout", "10s", *countdown(1, 20))))
        return seen

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        loads = [pool.submit(load, n) for n in range(6)]
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
            time.sleep(0.4)
            server.signal(number)
            server.process.wait()
            server = stage.server()
        over.append(True)
        seen = set().union(*(load.result() for load in loads))
    ends = "each client ends as it should" if seen <= should and "0 OK" in seen else str(seen)
    return f"{ends}, at last {stage.asked('send', ECHO)}"


@fault("the log is on a full disk", "0 OK")
def _(stage):
    with open("/dev/full", "wb") as full:
        stage.server(stderr=full)
        return str(stage.asked("send", ECHO))


@fault("the reader of the log has gone", "0 OK")
def _(stage):
    reading, writing = os.pipe()
    stage.server(stderr=writing)
    os.close(writing)
    os.close(reading)
    return str(stage.asked("send", ECHO))
