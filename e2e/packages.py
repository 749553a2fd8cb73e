"""Installs the published packages that the end-to-end scripts run, once for each version."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))) / "trialog" / "packages"


def npm(directory):
    """A directory with `package.json` of `directory`, its scripts and its packages; none without npm."""
    if not shutil.which("npm") or not shutil.which("node"):
        return None
    place = _place(directory / "package.json")
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        shutil.copy(directory / "package.json", place)
        _run("npm", "install", "--no-audit", "--no-fund", "--silent", cwd=place)
        (place / "complete").touch()
    for script in directory.glob("*.mjs"):
        shutil.copy(script, place)
    return place


def python(requirements):
    """An interpreter that has the packages of a file of requirements."""
    place = _place(requirements)
    interpreter = place / "bin" / "python"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        _run(sys.executable, "-m", "venv", place)
        _run(interpreter, "-m", "pip", "install", "--quiet", "-r", requirements)
        (place / "complete").touch()
    return interpreter


def maven(pom):
    """A directory with the jars of a Maven project and what they need."""
    place = _place(pom)
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        _run("mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={place}")
        (place / "complete").touch()
    return place


def java(directory):
    """A class path with the compiled sources of `directory` and the packages of its `pom.xml`; none without Java and Maven."""
    if not all(map(shutil.which, ("java", "javac", "mvn"))):
        return None
    place = maven(directory / "pom.xml")
    _run("javac", "-d", place, "-cp", f"{place}/*", *directory.glob("*.java"))
    return f"{place}:{place}/*"


def go(directory):
    """The program of a Go module; none without Go."""
    if not shutil.which("go"):
        return None
    place = _place(directory / "go.mod")
    # Go keeps modules and what it compiled in caches of its own.
    _run("go", "build", "-o", place / "client", ".", cwd=directory)
    return place / "client"


def _place(file):
    return CACHE / f"{file.parent.name}-{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"


def _run(*command, cwd=None):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout[-1000:]} {done.stderr[-2000:]}")
