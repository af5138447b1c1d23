"""The server cannot create its socket: it reports why and changes nothing."""

import os
import re

from harness import fault

ECHO = '{"command":{"echo":{"text":"hello"}}}'
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def refusal(stage, path=None, before=()):
    """The exit status and the error of a server that cannot listen."""
    server = stage.server(path=path, before=before, ready=False)
    end = server.end()
    why = re.search(r"cannot listen on [^:]*: (.*?);", server.log())
    why = re.sub(r"/tmp/[^ ,)]*/", "", why[1]) if why else server.log()
    return f"{end}: {re.sub('pid [0-9]+', 'pid N', why)}"


@fault(
    "ENOSPC: no inode for the socket",
    "exit 1: its lock file socket.lock cannot be opened: No space left on device (os error 28)",
    needs=["mount"],
)
def _(stage):
    place = stage.mount("full", "nr_inodes=1")
    return refusal(stage, place / "socket")


@fault(
    "ENOSPC: no block for the lock file",
    "exit 1: its lock file socket.lock cannot be written to: No space left on device (os error 28)",
    needs=["mount"],
)
def _(stage):
    place = stage.mount("full", "size=4k")
    (place / "filler").write_bytes(bytes(4096))
    return refusal(stage, place / "socket")


@fault(
    "EROFS on bind",
    "exit 1: its lock file socket.lock cannot be opened: Read-only file system (os error 30)",
    needs=["mount"],
)
def _(stage):
    place = stage.mount("frozen", "ro")
    return refusal(stage, place / "socket")


@fault(
    "ENAMETOOLONG on bind",
    "exit 1: the path has 108 bytes, and the path of a socket at most 107; nothing is created",
)
def _(stage):
    name = "x" * (107 - len(str(stage.folder)))
    path = stage.folder / name
    before = os.listdir(stage.folder)
    ends = refusal(stage, path)
    new = set(os.listdir(stage.folder)) - set(before) - {"log-0"}
    return f"{ends}; {new or 'nothing'} is created"


@fault(
    "EACCES on bind",
    "exit 1: its lock file socket.lock cannot be opened: Permission denied (os error 13)",
    needs=["root", "setpriv"],
)
def _(stage):
    return refusal(stage, before=NOBODY)


@fault("the socket's directory is missing", "exit 1: the directory none does not exist")
def _(stage):
    return refusal(stage, stage.folder / "none/socket")


@fault(
    "the socket's directory can be written to by others",
    "exit 1: others can write to the directory open (mode 0777)",
)
def _(stage):
    place = stage.folder / "open"
    place.mkdir()
    place.chmod(0o777)
    return refusal(stage, place / "socket")


@fault(
    "the socket's directory is another user's",
    "exit 1: the directory theirs belongs to uid 65534, who could replace the socket",
    needs=["root"],
)
def _(stage):
    place = stage.folder / "theirs"
    place.mkdir()
    os.chown(place, 65534, 65534)
    return refusal(stage, place / "socket")
