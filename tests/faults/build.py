"""Builds the project's programs."""

import json
import pathlib
import subprocess


def build(release):
    """The folder of the workspace's programs."""
    root = pathlib.Path(__file__).resolve().parents[2]
    command = "cargo build --quiet --workspace --bins --locked --message-format=json".split()
    if release:
        command.append("--release")
    output = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    messages = (json.loads(line) for line in output.stdout.splitlines())
    programs = [message["executable"] for message in messages if message.get("executable")]
    return pathlib.Path(programs[0]).parent
