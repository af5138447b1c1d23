"""Unfinished, malformed and unusual requests: each is answered, and the next one too."""

import itertools
import socket
import struct

from harness import fault

ECHO = b'{"id":"a","version":0,"command":{"echo":{"text":"hello"}}}\0'


def cut(what, sent, expected, then=lambda client: None, flags=()):
    """A client that sends bytes and may act; the server's responses."""

    @fault(what, expected + ", the end; others prompt, nothing left")
    def _(stage):
        server = stage.server(*flags)
        before = server.descriptors()
        client = server.connect()
        client.stream.sendall(sent)
        then(client)
        came = []
        while (response := client.next()) is not None:
            came.append(response.get("refused") or response["status"])
        client.close()
        groups = [(word, len(list(same))) for word, same in itertools.groupby(came)]
        words = [word if count == 1 else f"{count} {word}" for word, count in groups]
        came = ", ".join(words) or "nothing"
        return f"{came}, the end; {server.others()}, {server.is_idle(before)}"


def half_close(client):
    client.stream.shutdown(socket.SHUT_WR)


SLOW = b'{"id":"a","version":0,"command":{"countdown":{"steps":2,"interval_ms":300}}}\0'
cut("a quarter of a request, then nothing", ECHO[:14], "too_slow", flags=("--request-time", "1s"))
cut("three quarters of a request, then half-close", ECHO[:-14], "malformed", half_close)
cut("half-close behind a request", SLOW, "2 PROCESSING, OK", half_close)
cut("half-close without a request", b"", "nothing", half_close)
cut("five requests in one write, then half-close", 5 * ECHO, "5 OK", half_close)
cut("garbage, and a request", b"\xff\xfe{]\0[]\0\0" + ECHO, "3 malformed, OK", half_close)
cut(
    "nesting of 100,000 levels",
    b'{"id":"a","version":0,"command":' + b"[" * 100_000 + b"\0",
    "malformed",
    half_close,
)
cut("a key that comes twice", b'{"id":"a","id":"b","version":0}\0', "malformed", half_close)
cut(
    "an id of 1 MB",
    b'{"id":"' + b"x" * 1_000_000 + b'","version":0,"command":{"echo":{"text":""}}}\0',
    "other",
    half_close,
)
cut("a request over the limit", b'"' + b"x" * (1 << 20), "too_large")
cut("Sozu's framing", struct.pack("<Q", 12) + b"\x0a\x02hi", "8 malformed", half_close)
