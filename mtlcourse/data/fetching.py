"""Downloads that go on where they were cut off, and archives that are opened with care.

Imports `files`. pooch decides what is there already and checks it; how bytes come is decided here.
"""

import hashlib
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from ..files import alone, write_text, writing

TRIES = 4
PIECE = 1 << 16
WAIT = 30.0  # seconds without a byte


def fetch(name: str, addresses: Sequence[str], folder: str | Path, checksum: str | None = None) -> Path:
    """The file `name` in `folder`, from the first of `addresses` that has it whole; its path.

    addresses: http, https or file URLs, tried in turn. A download that breaks off is kept, and goes on where it stopped
        if the server can do that, now or in the next call.
    checksum: "md5:..." or "sha256:...", as published. None: that of what came first is written down
        beside, and held to.
    A second call checks the file and fetches nothing.
    Raises OSError, with what each address answered, when none had it; a damaged file does not stay.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it says of each file what its checksum is, and what to do about it
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    noted = folder / f"{name}.sha256"
    if checksum is None and noted.is_file() and (folder / name).is_file():
        checksum = f"sha256:{noted.read_text(encoding='utf-8').strip()}"
    path, reasons = folder / name, []
    with alone(folder / f".{name}.lock"):
        for address in addresses:
            try:
                pooch.retrieve(address, checksum, name, folder, downloader=_Resuming(folder, name))
            except ValueError as error:
                reasons.append(f"{address}: what came is not the published file ({error})")
            except OSError as error:
                reasons.append(f"{address}: {error}")
            else:
                if not checksum:
                    write_text(noted, pooch.file_hash(str(path)) + "\n")
                return path
    raise OSError(f"{name} could not be fetched. {'; '.join(reasons) or 'There is no address for it'}. Try again "
                  "later, or get it by hand and give its folder with --source.")


class _Resuming:
    """What pooch calls to fetch a file: writes beside it, and keeps what came if the rest did not."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, name

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        if urlsplit(url).scheme == "file":
            with writing(self.folder / self.name):
                shutil.copyfile(unquote(urlsplit(url).path), output_file)
            return
        # One for each address: halves of two servers' files do not fit together.
        part = self.folder / f".{self.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"
        last: Exception | str = "it ended early, each time"
        import requests

        for _ in range(TRIES):
            try:
                if self._more(url, part):
                    os.replace(part, output_file)
                    _version(part).unlink(missing_ok=True)
                    return
            except requests.HTTPError as error:
                if error.response.status_code < 500:
                    raise
                last = error
            except requests.RequestException as error:
                last = error
        raise OSError(f"{last}; what came, {part.stat().st_size if part.exists() else 0:,} bytes, is kept")

    def _more(self, url: str, part: Path) -> bool:
        """One request for what is missing; whether all is there."""
        import requests
        from tqdm.auto import tqdm

        have = part.stat().st_size if part.exists() and _version(part).exists() else 0
        headers = {"Accept-Encoding": "identity"}
        if have:  # the rest, if it is still the same file; else all of it
            headers |= {"Range": f"bytes={have}-", "If-Range": _version(part).read_text(encoding="utf-8")}
        with requests.get(url, headers=headers, stream=True, timeout=WAIT) as answer:
            if answer.status_code == 416:  # there is no rest: what is here was of another file
                part.unlink()
                return False
            answer.raise_for_status()
            goes_on = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            have = have if goes_on else 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length else None
            version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            with writing(part):
                _version(part).unlink(missing_ok=True)
                file = open(part, "ab" if goes_on else "wb")
                if version and not version.startswith("W/"):
                    write_text(_version(part), version)
            with file, tqdm(total=total, initial=have, desc=self.name, unit="B", unit_scale=True, leave=False,
                            disable=None) as bar:
                answer.raw.enforce_content_length = False  # it would drop what came before an early end
                for piece in answer.iter_content(PIECE):
                    with writing(part):
                        file.write(piece)
                        file.flush()
                    bar.update(len(piece))
        return total is None or part.stat().st_size == total


def _version(part: Path) -> Path:
    """Where it is written down which version of the file the part is of."""
    return part.with_name(part.name + ".version")


# --- archives ------------------------------------------------------------------------------------------------

def unpack(archive: str | Path, folder: str | Path, most: int) -> Path:
    """All files of a zip or tar archive in a new `folder`, whole or not at all; nothing is done if it is there.

    most: bytes; so many are there at the most in what the set's authors publish.
    Raises ValueError, naming the entry, for one that would lie outside of the folder, for links, devices and encrypted
    files, for a file that is larger than its header says, and for more bytes than `most`; for what is no archive, or is
    damaged. Then nothing of it stays.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.is_dir():
        return folder
    part = folder.with_name(f".{folder.name}.part")
    with alone(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():
            return folder
        shutil.rmtree(part, ignore_errors=True)
        try:
            with writing(part):
                part.mkdir(parents=True)
            left = most
            for name, size, file in _entries(archive):
                if size > left:
                    raise ValueError(f"{archive} has more than the {most:,} bytes that the published set has, at entry "
                                     f"{name!r}: it is another file, and not opened.")
                left -= size
                _copy(archive, name, size, file, part.joinpath(*PurePosixPath(name).parts))
            with writing(folder):
                os.replace(part, folder)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, RuntimeError) as error:
            raise ValueError(f"{archive} is damaged, or no archive ({str(error).partition(chr(10))[0]}). Remove it "
                             "and run again.") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def _entries(archive: Path) -> Iterator[tuple[str, int, BufferedIOBase]]:
    """Name, size and contents of each file in an archive, once its name and kind have been looked at."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                _inside(archive, entry.orig_filename)  # zipfile would mend some names
                if entry.flag_bits & 1:
                    raise ValueError(f"{archive} is encrypted at entry {entry.filename!r}; it is not opened.")
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise ValueError(_no_file(archive, entry.filename))
                if not entry.is_dir():
                    with opened.open(entry) as file:
                        yield entry.filename, entry.file_size, file
        return
    with tarfile.open(archive) as pack:
        for member in pack:
            _inside(archive, member.name)
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise ValueError(_no_file(archive, member.name))
            if member.isreg():
                contents = pack.extractfile(member)
                assert contents is not None
                with contents:
                    yield member.name, member.size, contents


def _inside(archive: Path, name: str) -> None:
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or ":" in parts[0] or not name.strip("./"):
        if name.strip("/") in (".", ""):  # the folder itself, which many archives name
            if not name.startswith("/"):
                return
        raise ValueError(f"{archive} has an entry that would lie outside of its folder, {name!r}; it is not opened.")


def _no_file(archive: Path, name: str) -> str:
    return f"{archive} has an entry that is no file, {name!r}: a link or a device; it is not opened."


def _copy(archive: Path, name: str, size: int, file: BufferedIOBase, path: Path) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        written = open(path, "xb")
    with written:
        left = size
        while piece := file.read(min(PIECE, left + 1)):
            left -= len(piece)
            if left < 0:
                break
            with writing(path):
                written.write(piece)
                written.flush()
    if left:
        raise ValueError(f"{archive} does not have the {size:,} bytes that it announces for {name!r}; it is damaged.")
