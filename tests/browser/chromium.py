"""Where Chromium is: `python tests/browser/chromium.py` prints its path, and installs it where root may do so.

The standard library is enough for this. The variable `CHROMIUM` names another browser of the kind.
"""

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (f"The browser tests need Chromium, and none of {', '.join(NAMES)} is there: install it (Debian: sudo apt "
           "install chromium, macOS: brew install --cask chromium) or name one, as in CHROMIUM=/path/to/chrome.")


def find() -> str | None:
    """The path of Chromium, None if there is none. Raises ValueError for a `CHROMIUM` that cannot be run."""
    named = os.environ.get("CHROMIUM")
    if named:
        path = shutil.which(named)
        if path is None:
            raise ValueError(f"CHROMIUM={named} is not a program that can be run; name the browser's file.")
        return path
    return next(filter(None, map(shutil.which, NAMES)), None)


def install() -> None:
    """Install Debian's package, where that needs nobody's password; what it says goes to stderr."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return
    print("Installing Debian's chromium, once.", file=sys.stderr)
    for command in (["update", "--quiet"], ["install", "--quiet", "--yes", "--no-install-recommends", "chromium"]):
        subprocess.run(["apt-get", *command], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                       env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})


def main() -> None:
    try:
        if find() is None:
            install()
        path = find()
    except ValueError as error:
        sys.exit(str(error))
    print(path or sys.exit(MISSING))


if __name__ == "__main__":
    main()
