"""The `kakehi` program with hostile servers."""

import contextlib
import json
import signal
import socket
import threading
import time

from harness import after, fault, wait_for, within
from programs import Ended

ECHO = '{"command":{"echo":{"text":"hello"}}}'


@contextlib.contextmanager
def fake(stage, serve):
    """A server that does `serve` with its first connection, once it has the request."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(stage.path))
    listener.listen()

    def run():
        stream, _ = listener.accept()
        with stream, contextlib.suppress(OSError):
            request = stream.recv(1 << 16)
            serve(stream, json.loads(request[:-1])["id"])
            stream.recv(1)

    serving = threading.Thread(target=run)
    serving.start()
    yield
    serving.join()
    listener.close()


def frame(id, status="OK", message=""):
    response = {"id": id, "version": 0, "status": status, "message": message}
    return json.dumps(response).encode() + b"\0"


@fault("Ctrl-C, with a server that does not answer", "130 interrupted, unknown within 4 s")
def _(stage):
    with fake(stage, lambda stream, id: stream.sendall(frame(id, "PROCESSING", "begun"))):
        client = stage.begun("status")
        client.process.send_signal(signal.SIGINT)
        start = time.monotonic()
        return f"{client.end()} {within(4, start)}"


@fault("Ctrl-C twice", "130 interrupted, unknown within 1 s")
def _(stage):
    with fake(stage, lambda stream, id: stream.sendall(frame(id, "PROCESSING", "begun"))):
        client = stage.begun("status")
        client.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        client.process.send_signal(signal.SIGINT)
        start = time.monotonic()
        return f"{client.end()} {within(1, start)}"


@fault("a full backlog", "75 busy, not_sent within 2 s")
def _(stage):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(stage.path))
    listener.listen(0)
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(str(stage.path))
        start = time.monotonic()
        return f"{stage.asked('status')} {within(2, start)}"


@fault("a server that never answers", "124 timeout, unknown after 1 s")
def _(stage):
    with fake(stage, lambda stream, id: None):
        start = time.monotonic()
        return f"{stage.asked('--timeout', '1s', 'status')} {after(1, start)}"


def drip(stream, id):
    for _ in range(1000):
        stream.sendall(frame(id, "PROCESSING", "Not done yet"))
        time.sleep(0.1)


@fault("a server that drips PROCESSING, with a deadline of 1 s", "124 deadline, unknown after 1 s")
def _(stage):
    with fake(stage, drip):
        start = time.monotonic()
        return f"{stage.asked('--timeout', '2s', '--deadline', '1s', 'status')} {after(1, start)}"


@fault("a server that drips half a response", "124 timeout, unknown after 1 s")
def _(stage):
    def serve(stream, id):
        for byte in frame(id)[:-1]:
            stream.sendall(bytes([byte]))
            time.sleep(0.1)

    with fake(stage, serve):
        start = time.monotonic()
        return f"{stage.asked('--timeout', '1s', 'status')} {after(1, start)}"


@fault("a server that writes without end", "76 too_large, unknown; the client has under 48 MiB")
def _(stage):
    peak = 0

    def serve(stream, id):
        nonlocal peak
        client = wait_for(lambda: stage.started)[0]
        while True:
            stream.sendall(b"x" * (1 << 16))
            with open(f"/proc/{client.pid}/status") as status:
                peak = max(peak, int(status.read().split("VmRSS:")[1].split()[0]) / 1024)

    with fake(stage, serve):
        ended = stage.asked("status")
    return f"{ended}; the client has {'under 48' if 16 < peak < 48 else f'{peak:.0f}'} MiB"


def answering(what, answer, expected):
    @fault(f"a server that {what}", expected)
    def _(stage):
        def serve(stream, id):
            stream.sendall(answer(id))
            stream.shutdown(socket.SHUT_RDWR)

        with fake(stage, serve):
            return str(stage.asked("status"))


answering(
    "answers in another language",
    lambda id: b"HTTP/1.1 400 Bad Request\r\n\r\n\0",
    "76 protocol, unknown",
)
answering("answers another request", lambda id: frame("another"), "76 protocol, unknown")
answering("ends within its answer", lambda id: frame(id)[:-5], "76 disconnected, unknown")
answering("ends without an answer", lambda id: b"", "76 disconnected, unknown")
answering("answers twice", lambda id: frame(id) + frame(id, "ERROR"), "0 OK")


@fault("a server that sends escape sequences", "0, none of them on stdout or stderr")
def _(stage):
    hostile = "\x1b[2J\x9b31m\x07\u202e\u2028\x7f"

    def serve(stream, id):
        stream.sendall(frame(id, "PROCESSING", hostile) + frame(id, "OK", hostile))

    with fake(stage, serve):
        ended = Ended(stage.client("send", ECHO))
    said = ended.stdout + ended.stderr
    through = [character for character in "\x1b\x9b\x07\u202e\u2028\x7f" if character in said]
    return f"{ended.code}, {through or 'none'} of them on stdout or stderr"
