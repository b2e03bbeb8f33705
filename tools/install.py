"""Install the book into .venv, or leave it as it is when nothing that it depends on has changed.

Usage: python tools/install.py [--dev]

A reader's installation holds requirements.txt and the package itself; --dev adds requirements-dev.txt on top.
Each step has a stamp of its own, written when it is finished, so that only an interrupted step is repeated.

Only the standard library is used, and only syntax that an old Python can parse, so that one that is too old
can say so in one line.
"""

import hashlib
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))
PIP = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
LOCK = os.path.join(ROOT, "requirements.lock")
FIRST, LAST = (3, 11), (3, 13)


def fail(message):
    sys.stderr.write("install: " + message + "\n")
    sys.exit(1)


def say(message):
    sys.stdout.write("install: " + message + "\n")
    sys.stdout.flush()


def requirements(name):
    """The lines of a requirements file that decide what is installed: neither comments nor blank ones."""
    with open(os.path.join(ROOT, name), "rb") as handle:
        lines = [line.partition(b" #")[0].strip() for line in handle]
    return b"\n".join(line for line in lines if line and not line.startswith(b"#"))


def project():
    """The part of pyproject.toml that an installation depends on; the settings of tools are not."""
    import tomllib

    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as handle:
        tables = tomllib.load(handle)
    chosen = [tables.get("build-system"), tables.get("project"), tables.get("tool", {}).get("setuptools")]
    return json.dumps(chosen, sort_keys=True).encode()


def fingerprint(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part + b"\0")
    return digest.hexdigest()


class Stamp:
    """Says that an installation is finished, and of what."""

    def __init__(self, name, *parts):
        self.path = os.path.join(VENV, name)
        self.wanted = fingerprint(*parts)

    def current(self):
        try:
            with open(self.path) as handle:
                return handle.read().strip() == self.wanted
        except OSError:
            return False

    def clear(self):
        if os.path.exists(self.path):
            os.remove(self.path)

    def write(self):
        with open(self.path, "w") as handle:
            handle.write(self.wanted + "\n")


def check_python():
    version = "%d.%d" % sys.version_info[:2]
    if not FIRST <= sys.version_info[:2] <= LAST:
        fail("the book needs Python %d.%d to %d.%d, and this is Python %s; name another with PYTHON=, "
             "for example `make book PYTHON=python3.12`" % (FIRST + LAST + (version,)))
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        fail("this Python has no venv module; install it (on Debian and Ubuntu: apt install python%s-venv) "
             "or name another Python with PYTHON=" % version)


def wait_for_another_installation():
    """Let two commands that are started at once install one after the other. Windows goes without."""
    try:
        import fcntl
    except ImportError:
        return None
    handle = open(os.path.realpath(__file__))
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def build():
    import venv

    say("building .venv with Python %d.%d and requirements.txt (a few minutes, once)" % sys.version_info[:2])
    venv.EnvBuilder(with_pip=True, clear=True).create(VENV)
    subprocess.check_call(PIP + ["-r", os.path.join(ROOT, "requirements.txt"), "-c", LOCK])


def add_package():
    say("adding the package bnbook itself")
    subprocess.check_call(PIP + ["--no-deps", "--editable", ROOT])


def add_dev():
    say("adding what requirements-dev.txt names")
    subprocess.check_call(PIP + ["-r", os.path.join(ROOT, "requirements-dev.txt"), "-c", LOCK])


def main(arguments):
    if arguments not in ([], ["--dev"]):
        fail("usage: python tools/install.py [--dev]")
    check_python()
    # ROOT: a moved or copied folder is installed anew, for an environment holds absolute paths.
    base = Stamp("installed.sha256", sys.version.encode(), sys.base_prefix.encode(), ROOT.encode(),
                 requirements("requirements.txt"), requirements("requirements.lock"))
    package = Stamp("installed-package.sha256", base.wanted.encode(), project())
    dev = Stamp("installed-dev.sha256", base.wanted.encode(), requirements("requirements-dev.txt"))
    steps = [(base, build), (package, add_package)] + [(dev, add_dev)] * len(arguments)
    if all(stamp.current() for stamp, _ in steps):
        return
    lock = wait_for_another_installation()
    try:
        for stamp, step in steps:
            if not stamp.current():
                stamp.clear()
                step()
                stamp.write()
    except subprocess.CalledProcessError as error:
        fail("stopped with exit status %d, and the message above says why; the next run starts again"
             % error.returncode)
    except OSError as error:
        fail("stopped: %s" % error)
    except KeyboardInterrupt:
        fail("interrupted; the next run starts again")
    finally:
        if lock:
            lock.close()


if __name__ == "__main__":
    main(sys.argv[1:])
