"""Handlers that misbehave: each request still receives one final response."""

import signal
import time

from harness import after, fault, wait_for, within


def told(client):
    """The statuses of the responses, and the message of the last one."""
    answer = client.last()
    return f"{answer['status']} ({answer['message'][:60]})" if answer else "the end"


def answered(what, command, expected, **request):
    @fault(f"a handler that {what}", f"{expected}; others prompt")
    def _(stage):
        server = stage.misbehaving()
        client = server.connect().ask(command, **request)
        return f"{told(client)}; {server.others()}"


answered("panics", "panic", "ERROR (the handler panicked)")
answered(
    "hangs, with a deadline of 300 ms",
    "hang",
    "ERROR (cancelled: the deadline has passed)",
    deadline_ms=300,
)
answered(
    "panics when it is dropped at its deadline",
    "panic when dropped",
    "ERROR (cancelled: the deadline has passed)",
    deadline_ms=300,
)
answered(
    "does not listen to its cancellation",
    "do not listen",
    "ERROR (cancelled: the deadline has passed)",
    deadline_ms=300,
)
answered("blocks its thread for 2 s", "block", "OK (blocked)")
answered(
    "answers with 17 MiB",
    "too large",
    "ERROR (the answer cannot be sent: a frame of 16777217 bytes or more)",
)
answered(
    "answers what cannot be written as JSON",
    "unwritable",
    "ERROR (the answer cannot be sent: cannot encode the message: it can)",
)


@fault("a handler that hangs, with keep-alives asked for", "5 keep-alives in 3 s")
def _(stage):
    client = stage.misbehaving().connect().ask("hang", timeout_ms=500)
    start, count = time.monotonic(), 0
    while count < 5:
        response = client.next()
        count += response["status"] == "PROCESSING" and response["message"] == ""
    return f"{count} keep-alives {within(3, start)}".replace("within", "in")


@fault(
    "a handler that hangs in a server that ends",
    "ERROR (cancelled: the server is shutting down), server exit 0 after 1 s",
)
def _(stage):
    server = stage.misbehaving()
    client = server.connect().ask("hang")
    wait_for(lambda: stats(server)[0]["running"] == 2)
    start = time.monotonic()
    server.signal(signal.SIGTERM)
    answer, end = told(client), server.end()
    return f"{answer}, server {end} {after(1, start)}"


def stats(server):
    client = server.connect().ask("stats")
    content = client.last()["content"]
    client.close()
    return content


@fault(
    "a handler that floods a client that does not read",
    "the server grows under 2 MiB, others prompt, cancelled when it leaves",
)
def _(stage):
    server = stage.misbehaving()
    before = server.memory()
    client = server.connect().ask("flood")
    time.sleep(1)
    grown, others = server.memory() - before, server.others()
    client.close()
    gone = wait_for(lambda: stats(server)[0]["cancelled"] == 1)
    grows = "under 2 MiB" if grown < 2 else f"{grown:.1f} MiB"
    return (
        f"the server grows {grows}, {others}, {'cancelled' if gone else 'goes on'} when it leaves"
    )


@fault("a handler that hangs, and its client leaves", "cancelled within 1 s")
def _(stage):
    server = stage.misbehaving()
    client = server.connect().ask("hang")
    wait_for(lambda: stats(server)[0]["running"] == 2)
    client.close()
    start = time.monotonic()
    gone = wait_for(lambda: stats(server)[0]["cancelled"] == 1)
    return f"{'cancelled' if gone else 'goes on'} {within(1, start)}"


@fault("a handler that answers after its client left", "ended, others prompt, nothing left")
def _(stage):
    server = stage.misbehaving()
    before = server.descriptors()
    client = server.connect().ask("outlive")
    wait_for(lambda: stats(server)[0]["running"] == 2)
    client.close()
    ended = "ended" if wait_for(lambda: stats(server)[1] == 1) else "lost"
    return f"{ended}, {server.others()}, {server.is_idle(before)}"


@fault(
    "a handler that speaks after the end", "OK (ended), then the next request's own OK (as asked)"
)
def _(stage):
    client = stage.misbehaving().connect().ask("speak after the end")
    first = told(client)
    time.sleep(0.4)
    return f"{first}, then the next request's own {told(client.ask('stats'))}"
