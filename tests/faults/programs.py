"""The programs under test, and the measurements of them."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

from harness import PATIENCE, wait_for


class Wire:
    """A client that writes and reads the protocol by itself."""

    def __init__(self, path):
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.settimeout(PATIENCE)
        self.stream.connect(str(path))
        self.buffer = b""

    def ask(self, command=None, **more):
        request = {"id": "a", "version": 0, "command": command, **more}
        self.stream.sendall(json.dumps(request).encode() + b"\0")
        return self

    def next(self):
        """The next response; `None` at the end of the connection."""
        while b"\0" not in self.buffer:
            try:
                data = self.stream.recv(1 << 16)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.buffer += data
        frame, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(frame)

    def last(self):
        """The final response; `None` if there is none."""
        while (response := self.next()) and response["status"] == "PROCESSING":
            pass
        return response

    def word(self):
        """The final response in a word, for a comparison."""
        response = self.last()
        return "the end" if response is None else response.get("refused") or response["status"]

    def close(self):
        self.stream.close()


class Ended:
    """The exit status and the output of a client."""

    def __init__(self, process):
        self.stdout, self.stderr = process.communicate(timeout=2 * PATIENCE)
        self.code = process.returncode

    def __str__(self):
        """The exit status of a client with --json, and its last line in a word or two."""
        lines = self.stdout.splitlines()
        last = json.loads(lines[-1]) if lines else {}
        if "error" in last:
            return f"{self.code} {last['error']}, {last['outcome']}"
        return f"{self.code} {last.get('refused') or last.get('status') or self.stderr.strip()}"


class Begun:
    """A client with --json that has printed its first line."""

    def __init__(self, process):
        self.process, self.first = process, process.stdout.readline()

    def end(self):
        # `communicate` would lose the bytes that this file object has buffered.
        rest = self.process.stdout.read()
        ended = Ended(self.process)
        ended.stdout = self.first + rest
        return ended


class Server:
    """A server, its socket and its log."""

    def __init__(self, process, path, log, question):
        self.process, self.path, self.log_file, self.question = process, path, log, question
        self.pid = process.pid

    def connect(self):
        return Wire(self.path)

    def log(self):
        return self.log_file.read_text(errors="replace")

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()

    def end(self, patience=PATIENCE):
        """Its exit status or signal, in words."""
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return "runs"
        return f"exit {code}" if code >= 0 else signal.Signals(-code).name

    def others(self):
        """Whether another client is answered within 1 s. Three tries, for busy machines."""
        for _ in range(3):
            start, wire = time.monotonic(), self.connect()
            wire.ask(self.question).word()
            wire.close()
            if time.monotonic() - start < 1:
                return "others prompt"
        return "others wait"

    def memory(self):
        """Its anonymous memory, in MiB."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) / 1024

    def ticks(self):
        """The processor time that it has used, in hundredths of a second."""
        stat = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) * 100 / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def is_idle(self, before):
        """Waits until it holds at most `before` descriptors."""
        gone = wait_for(lambda: self.descriptors() <= before)
        return "nothing left" if gone else f"{self.descriptors() - before} descriptors left"
