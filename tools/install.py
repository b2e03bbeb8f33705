"""Install the book into .venv, or leave it as it is when nothing that it depends on has changed.

Usage: python tools/install.py [requirements file ...]

Only the standard library is used, and only syntax that an old Python can parse, so that a Python that
is too old can say so in one line.
"""

import hashlib
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "installed.sha256")
FIRST, LAST = (3, 11), (3, 13)


def fail(message):
    sys.stderr.write("install: " + message + "\n")
    sys.exit(1)


def fingerprint(requirement_files):
    """One hash over the interpreter and everything that decides what is installed."""
    digest = hashlib.sha256(("%s %s" % (sys.version, sys.base_prefix)).encode())
    for name in requirement_files + ["requirements.lock", "pyproject.toml"]:
        with open(os.path.join(ROOT, name), "rb") as handle:
            digest.update(name.encode() + b"\0" + handle.read() + b"\0")
    return digest.hexdigest()


def installed():
    if not os.path.exists(STAMP):
        return ""
    with open(STAMP) as handle:
        return handle.read().strip()


def main(requirement_files):
    if not FIRST <= sys.version_info[:2] <= LAST:
        fail("the book needs Python %d.%d to %d.%d, and this is Python %d.%d; name another with PYTHON=, "
             "for example `make book PYTHON=python3.12`" % (FIRST + LAST + sys.version_info[:2]))
    try:
        import ensurepip
        import venv
    except ImportError:
        fail("this Python has no venv module; install it (on Debian and Ubuntu: apt install python%d.%d-venv) "
             "or name another Python with PYTHON=" % sys.version_info[:2])

    wanted = fingerprint(requirement_files)
    if installed() == wanted:
        return
    print("install: building .venv with Python %d.%d (a few minutes, once)" % sys.version_info[:2])
    sys.stdout.flush()
    venv.EnvBuilder(with_pip=ensurepip.version() is not None, clear=True).create(VENV)
    python = os.path.join(VENV, "Scripts", "python.exe") if os.name == "nt" else os.path.join(VENV, "bin", "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for name in requirement_files:
        pip += ["-r", os.path.join(ROOT, name)]
    try:
        subprocess.check_call(pip + ["-c", os.path.join(ROOT, "requirements.lock")])
        subprocess.check_call([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                               "--no-deps", "--editable", ROOT])
    except subprocess.CalledProcessError as error:
        fail("pip stopped with exit status %d; its message is above" % error.returncode)
    with open(STAMP, "w") as handle:
        handle.write(wanted + "\n")


if __name__ == "__main__":
    main(sys.argv[1:] or ["requirements.txt"])
