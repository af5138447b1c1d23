"""Other files are at the path of the socket or of its lock file."""

import os
import shutil
import socket
import subprocess

from binding import NOBODY, refusal
from harness import fault, wait_for

ECHO = '{"command":{"echo":{"text":"hello"}}}'


@fault(
    "the socket file is deleted under the server",
    "clients 69 not_running, not_sent; connected ones OK; "
    "a second server exit 1: another server holds it (pid N, by socket.lock)",
)
def _(stage):
    connected = stage.server().connect()
    stage.path.unlink()
    clients, second = stage.asked("send", ECHO), refusal(stage)
    word = connected.ask("list").word()
    return f"clients {clients}; connected ones {word}; a second server {second}"


@fault(
    "the socket file is replaced by another server's",
    "clients reach the other; the first exit 0 and leaves it",
)
def _(stage):
    first = stage.server()
    stage.path.unlink()
    other = socket.socket(socket.AF_UNIX)
    other.bind(str(stage.path))
    other.listen()
    client = stage.client("status", "--timeout", "1s")
    reached = "reach the other" if other.accept() else "go nowhere"
    client.wait()
    first.signal(15)
    end = first.end()
    leaves = "leaves" if stage.path.exists() else "removes"
    return f"clients {reached}; the first {end} and {leaves} it"


def made(what, words, make, left):
    """Another file is at the socket's path: the server refuses to start and keeps the file."""

    @fault(
        f"the socket file is {what}",
        f"exit 1: {words}; clients 69 not_running, not_sent; it is left",
    )
    def _(stage):
        make(stage.path)
        ends, clients = refusal(stage), stage.asked("send", ECHO)
        return f"{ends}; clients {clients}; {'it is left' if left(stage.path) else 'it is gone'}"


made(
    "a regular file",
    "a regular file is there",
    lambda path: path.write_text("precious"),
    lambda path: path.read_text() == "precious",
)
made("a directory", "a directory is there", lambda path: path.mkdir(), lambda path: path.is_dir())
made(
    "a link to nothing",
    "a symbolic link is there",
    lambda path: path.symlink_to("nothing"),
    lambda path: path.is_symlink(),
)
made("a named pipe", "a named pipe is there", os.mkfifo, lambda path: path.is_fifo())


@fault(
    "the socket file is a link to a live socket",
    "exit 1: a symbolic link is there; clients through it 0 OK",
)
def _(stage):
    stage.server(path=stage.folder / "real")
    stage.path.symlink_to("real")
    return f"{refusal(stage)}; clients through it {stage.asked('send', ECHO)}"


@fault(
    "the socket file is another user's",
    "exit 1: a socket of another user is there, of uid 65534; it is left",
    needs=["root"],
)
def _(stage):
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(stage.path))
    dead.close()
    os.chown(stage.path, 65534, 65534)
    return f"{refusal(stage)}; {'it is left' if stage.path.is_socket() else 'it is gone'}"


@fault("a client may not open the socket", "77 permission, not_sent", needs=["root", "setpriv"])
def _(stage):
    stage.server()
    command = [*NOBODY, stage.programs / "kakehi", "--socket", stage.path, "--json", "status"]
    return stage.words(
        stage.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    )


@fault("two servers race for one path, ten times", "one wins and one says why, each time")
def _(stage):
    for number in range(10):
        path = stage.folder / f"race-{number}"
        servers = [stage.server(path=path, ready=False) for _ in range(2)]
        ended = wait_for(lambda: [s for s in servers if s.process.poll() is not None])
        wait_for(lambda: any("listening" in s.log() for s in servers))
        log = ended[0].log() if ended else ""
        live = sum(s.process.poll() is None for s in servers)
        if live != 1 or "another server" not in log:
            return f"{live} live: {log}"
    return "one wins and one says why, each time"


def locked(what, words, make):
    @fault(f"the lock file is {what}", f"exit 1: {words}; nothing is harmed", needs=["root"])
    def _(stage):
        precious = stage.folder / "precious"
        precious.write_text("precious")
        make(stage.folder / "socket.lock", precious)
        ends = refusal(stage)
        harm = "nothing is" if precious.read_text() == "precious" else "a file is"
        return f"{ends}; {harm} harmed"


locked(
    "a symbolic link",
    "its lock file socket.lock is not a regular file",
    lambda lock, precious: lock.symlink_to(precious),
)
locked(
    "a second name of a file",
    "its lock file socket.lock has other hard links",
    lambda lock, precious: lock.hardlink_to(precious),
)
locked(
    "another user's",
    "its lock file socket.lock belongs to uid 65534",
    lambda lock, precious: (shutil.copy(precious, lock), os.chown(lock, 65534, 65534)),
)
locked(
    "a named pipe",
    "its lock file socket.lock is not a regular file",
    lambda lock, precious: os.mkfifo(lock),
)


@fault(
    "the lock file is deleted, and the live server stopped by SIGSTOP",
    "a second server exit 1: another server listens there (pid N)",
)
def _(stage):
    stage.server().signal(19)
    (stage.folder / "socket.lock").unlink()
    return f"a second server {refusal(stage)}"
