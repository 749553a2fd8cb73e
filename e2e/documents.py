"""Runs every command of the documents, and compares what they print.

In a fence ```console a line that begins with `$ ` is a command, with the lines
that continue it; what follows is what it prints. `...` stands for anything;
times, durations and numbers of runs may differ. In a fence ```sh every line is
a command that has to succeed, and output is not shown. Commands of a document
run in its order, in one shell and an empty directory. `trialog serve` goes on
in the background, on a port of its own.

`cat FILE` of a file that is not there yet writes it, with what is shown.
Building and the tests themselves (`cargo`, `.ci/run`) are left to `.ci/run`,
and what needs another machine is marked `not-run`, with the reason:
```sh not-run="needs systemd"
"""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from harness import BINARY, CHECKOUT, main

DOCUMENTS = ["README.md", *sorted(str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "docs").glob("*.md"))]
COMMAND_SECONDS = 120
FENCE = re.compile(r"^```(\w+)(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LEFT_TO_CI = ("cargo ", ".ci/", "e2e/", "bench/", "git clone", "export PATH=")
SERVER = re.compile(r"^trialog (?:-\S+ \S+ )*serve\b")
# What differs between two runs of the same command.
VOLATILE = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
    (r'"(duration_ms|run_id)": ?\d+', r'"\1":<n>'),
    (r"\bin \d+(\.\d+)? (ms|s)\b", "in <duration>"),
    (r"\brun \d+\b", "run <n>"),
    (r"\bat \d\d:\d\d UTC \(in [^)]*\)", "at <time> (in <duration>)"),
]


class Shell:
    """One bash that runs commands in turn; what it starts in the background ends with it."""

    def __init__(self, directory, port):
        environment = {
            **os.environ,
            "PATH": f"{directory / 'bin'}:{os.environ['PATH']}",
            "TRIALOG_LISTEN": f"127.0.0.1:{port}",
            "LC_ALL": "C.UTF-8",
        }
        (directory / "bin").mkdir()
        (directory / "bin" / "trialog").symlink_to(BINARY)
        (directory / "work").mkdir()
        self.process = subprocess.Popen(
            ["bash", "--norc"], cwd=directory / "work", env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )

    def run(self, command):
        """The exit code and what was printed."""
        timer = threading.Timer(COMMAND_SECONDS, lambda: os.killpg(self.process.pid, signal.SIGKILL))
        timer.start()
        try:
            return self._run(command)
        finally:
            timer.cancel()

    def _run(self, command):
        mark = "--- end of command"
        self.process.stdin.write(f"{command}\ncode=$?; echo; echo '{mark}' $code\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            if line.startswith(mark):
                printed = "".join(lines)
                return int(line.split()[-1]), printed.removesuffix("\n")
            lines.append(line)
        raise TimeoutError(f"{command}: did not end within {COMMAND_SECONDS} s, or ended the shell")

    def serve(self, command):
        """Starts a server; gives what it printed until it listens."""
        return self.run(f"coproc {{ exec {command} 2>&1; }}; read -r -u ${{COPROC[0]}} line; echo \"$line\"")[1]

    def close(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def commands(language, body):
    """Commands, each with the lines that are printed after it; nothing for fences of other languages."""
    if language == "sh":
        for command in joined(body.splitlines()):
            yield command, None
    elif language == "console":
        parts = re.split(r"^\$ ", body, flags=re.MULTILINE)
        for part in parts[1:]:
            lines = part.splitlines()
            n_lines = next(n for n in range(1, len(lines) + 1) if is_whole("\n".join(lines[:n])) or n == len(lines))
            yield "\n".join(lines[:n_lines]), lines[n_lines:]


def joined(lines):
    """Lines put together into whole commands; comments and empty lines left out."""
    pending = []
    for line in lines:
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        pending.append(line)
        if is_whole("\n".join(pending)):
            yield "\n".join(pending)
            pending = []
    if pending:
        yield "\n".join(pending)


def is_whole(text):
    """Whether bash needs no further line to end the command."""
    if text.rstrip().endswith(("|", "\\", "&&")):
        return False
    # An open here-document is a warning, an open quote or block an error.
    parsed = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    return parsed.returncode == 0 and not parsed.stderr


def same(expected, printed):
    pattern = []
    for line in settled("\n".join(expected)).splitlines():
        if line.strip() == "...":
            pattern.append(r"(?:.*\n)*?")
        else:
            pattern.append(re.escape(line.rstrip()).replace(re.escape("..."), ".*") + r"[ ]*\n")
    text = "".join(f"{line.rstrip()}\n" for line in settled(printed).splitlines())
    return re.fullmatch("".join(pattern), text) is not None


def settled(text):
    for pattern, stand_in in VOLATILE:
        text = re.sub(pattern, stand_in, text)
    return text


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run_document(checks, directory, document):
    port = free_port()
    shell = Shell(directory, port)
    n_run, wrong = 0, []
    try:
        for language, info, body in FENCE.findall((CHECKOUT / document).read_text()):
            options = dict(option.split("=", 1) for option in shlex.split(info))
            if "not-run" in options:
                checks.skip(f"{document}: {body.splitlines()[0]}", options["not-run"])
                continue
            for command, expected in commands(language, body):
                if command.startswith(LEFT_TO_CI):
                    continue
                shown = re.fullmatch(r"cat ([\w.-]+)", command)
                if shown and not (directory / "work" / shown[1]).exists():
                    (directory / "work" / shown[1]).write_text("".join(f"{line}\n" for line in expected))
                    continue
                n_run += 1
                problem = run_command(shell, port, command, expected)
                if problem:
                    wrong.append(problem)
    finally:
        shell.close()
    checks.check(f"{document}: {n_run} commands do what it says", not wrong, " / ".join(wrong))


def run_command(shell, port, command, expected):
    """What is wrong, or nothing."""
    here = re.sub(r"\b(localhost|127\.0\.0\.1):8080\b", f"127.0.0.1:{port}", command)
    if SERVER.match(command):
        printed = shell.serve(here)
        return "" if printed.startswith("listening on") else f"`{command}` printed {printed!r}"
    code, printed = shell.run(here)
    printed = printed.replace(f"127.0.0.1:{port}", "127.0.0.1:8080")
    if expected is None:
        return "" if code == 0 else f"`{command}` ended with {code}: {printed!r}"
    return "" if same(expected, printed) else f"`{command}` printed {printed!r} where {expected!r} was expected"


def documents(checks, directory):
    for document in DOCUMENTS:
        own = directory / document.replace("/", "-")
        own.mkdir()
        checks.attempt(run_document, own, document)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        DOCUMENTS = sys.argv[1:]
    main(documents)
