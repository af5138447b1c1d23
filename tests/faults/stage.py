"""The folder, the server and the clients of one fault."""

import itertools
import os
import pathlib
import signal
import socket
import subprocess

from harness import wait_for
from programs import Begun, Ended, Server, Wire


class Stage:
    """Where one fault happens: a folder, and programs that end with it."""

    numbers = itertools.count()

    def __init__(self, programs, root):
        self.programs = programs
        self.folder = pathlib.Path(root) / str(next(self.numbers))
        self.folder.mkdir(mode=0o755)
        self.path = self.folder / "socket"
        self.started, self.mounts = [], []

    def run(self, arguments, before=(), **options):
        """Starts a program. Its HOME identifies all processes of this fault."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        options = {"stdin": subprocess.DEVNULL, **options}
        command = [*map(str, before), *map(str, arguments)]
        process = subprocess.Popen(command, env=environment, start_new_session=True, **options)
        self.started.append(process)
        return process

    def server(self, *flags, jobs=None, before=(), path=None, ready=True, name="kakehid", **options):
        """A server at `path`. With `ready`, waits until it listens."""
        path, log = path or self.path, self.folder / f"log-{len(self.started)}"
        if jobs is not None:
            (self.folder / "jobs.toml").write_text(jobs)
            flags = (*flags, "--jobs", self.folder / "jobs.toml")
        start = ("--demo", "--socket", path) if name == "kakehid" else (path,)
        with open(log, "wb") as file:
            options = {"stderr": file, **options}
            arguments = [self.programs / name, *start, *flags]
            process = self.run(arguments, before, **options)
        server = Server(process, path, log, "list" if name == "kakehid" else "stats")
        if ready and not wait_for(lambda: self.answers(path)):
            raise AssertionError(f"it does not listen: {server.log()}")
        return server

    def misbehaving(self, connections=200):
        return self.server(connections, name="misbehaving")

    @staticmethod
    def answers(path):
        """Whether the server accepts connections. The connection of this check is closed again."""
        try:
            wire = Wire(path)
            wire.stream.shutdown(socket.SHUT_WR)
            ended = wire.next() is None
            wire.close()
            return ended
        except OSError:
            return False

    def client(self, *arguments, path=None, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        socket_path = path or self.path
        return self.run([self.programs / "kakehi", "--socket", socket_path, *arguments], **options)

    def asked(self, *arguments, **options):
        """The result of a client, in words."""
        return Ended(self.client("--json", *arguments, **options))

    @staticmethod
    def words(process):
        return str(Ended(process))

    def begun(self, *arguments, **options):
        return Begun(self.client("--json", *arguments, **options))

    def mount(self, name, options):
        """A file system in memory."""
        place = self.folder / name
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], check=True)
        self.mounts.append(place)
        return place

    def running(self):
        """The processes whose HOME is this folder, with the clients and servers."""
        home, found = f"HOME={self.folder}\0".encode(), []
        for entry in os.listdir("/proc"):
            try:
                with open(f"/proc/{entry}/environ", "rb") as file:
                    if home in b"\0" + file.read() + b"\0":
                        found.append(int(entry))
            except (OSError, ValueError):
                pass
        return found

    def left(self, servers):
        """Waits until at most `servers` processes are left."""
        gone = wait_for(lambda: len(self.running()) <= servers)
        return "no process left" if gone else f"{len(self.running()) - servers} processes left"

    def close(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
        for pid in self.running():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for place in self.mounts:
            subprocess.run(["umount", "--lazy", place], check=False)
