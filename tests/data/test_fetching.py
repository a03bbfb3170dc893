"""Downloads from servers that fail in every way, and archives that mean harm."""

import hashlib
import http.server
import io
import stat
import tarfile
import threading
import zipfile

import pytest

from mtlcourse.data.fetching import fetch, unpack

from ..folders import full_disk, names_in

CONTENT = bytes(range(256)) * 4_000
SUM = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the path says how: whole, breaks, early, noranges, wrong, missing, busy."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):  # noqa: N802 -- the name that the library calls
        how = self.path.strip("/").split("/")[0]
        asked = self.headers.get("Range")
        self.server.seen.append((how, asked))
        tag = self.server.tag
        if how == "missing" or (how == "busy" and len(self.server.seen) < 3):
            self.send_error(404 if how == "missing" else 503)
            return
        content = CONTENT[::-1] if how == "wrong" else self.server.content
        start = 0
        if asked and how != "noranges" and self.headers.get("If-Range") == tag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        rest = content[start:]
        if how in ("breaks", "noranges") and len(self.server.seen) < 4:
            sent = rest[: len(content) // 4]
        elif how == "never":
            sent = rest[:100]
        else:
            sent = rest
        self.send_header("ETag", tag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(sent) if how == "early" else len(rest)))
        self.end_headers()
        self.wfile.write(sent)
        self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        served.seen, served.tag, served.content = [], '"one"', CONTENT
        served.address = f"http://127.0.0.1:{served.server_address[1]}"
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def test_what_breaks_off_goes_on_where_it_stopped(server, tmp_path):
    path = fetch("set.zip", [f"{server.address}/breaks"], tmp_path, SUM)
    assert path.read_bytes() == CONTENT
    quarter = len(CONTENT) // 4
    assert [asked for _, asked in server.seen] == [None, *(f"bytes={n * quarter}-" for n in (1, 2, 3))]
    assert names_in(tmp_path) == [".set.zip.lock", "set.zip"]


def test_the_next_call_goes_on_too(server, tmp_path):
    with pytest.raises(OSError, match="could not be fetched. .*400 bytes, is kept.*give its folder with --source"):
        fetch("set.zip", [f"{server.address}/never"], tmp_path, SUM)
    server.seen.clear()
    with pytest.raises(OSError, match="800 bytes, is kept"):
        fetch("set.zip", [f"{server.address}/never"], tmp_path, SUM)
    assert server.seen[0] == ("never", "bytes=400-")


@pytest.mark.parametrize("how", ["whole", "noranges", "busy"])
def test_servers_that_ignore_ranges_or_are_busy_are_borne_with(server, tmp_path, how):
    assert fetch("set.zip", [f"{server.address}/{how}"], tmp_path, SUM).read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, tmp_path):
    with pytest.raises(OSError, match="is kept"):
        fetch("set.zip", [f"{server.address}/never"], tmp_path)
    server.tag, server.content = '"two"', CONTENT[::-1]
    (part,) = tmp_path.glob("*.part")
    part.rename(part.with_name(part.name.replace(hashlib.sha256(f"{server.address}/never".encode()).hexdigest()[:8],
                                                 hashlib.sha256(f"{server.address}/whole".encode()).hexdigest()[:8])))
    (version,) = tmp_path.glob("*.version")
    version.rename(version.with_name(next(tmp_path.glob("*.part")).name + ".version"))
    assert fetch("set.zip", [f"{server.address}/whole"], tmp_path).read_bytes() == CONTENT[::-1]


def test_wrong_bytes_do_not_stay_and_the_mirror_is_asked(server, tmp_path):
    with pytest.raises(OSError, match="wrong: what came is not the published file"):
        fetch("set.zip", [f"{server.address}/wrong"], tmp_path, SUM)
    assert not (tmp_path / "set.zip").exists()
    urls = [f"{server.address}/{how}" for how in ("wrong", "missing", "whole")]
    assert fetch("set.zip", urls, tmp_path, SUM).read_bytes() == CONTENT
    assert [how for how, _ in server.seen] == ["wrong", "wrong", "missing", "whole"]


def test_an_early_end_that_the_server_does_not_own_up_to_is_a_wrong_file(server, tmp_path):
    server.content = CONTENT[:1000]
    with pytest.raises(OSError, match="not the published file"):
        fetch("set.zip", [f"{server.address}/early"], tmp_path, SUM)


@pytest.mark.parametrize("checksum", [SUM, None])
def test_the_second_call_asks_nobody(server, tmp_path, checksum):
    fetch("set.zip", [f"{server.address}/whole"], tmp_path, checksum)
    fetch("set.zip", [f"{server.address}/whole"], tmp_path, checksum)
    assert len(server.seen) == 1
    (tmp_path / "set.zip").write_bytes(b"damaged")
    assert fetch("set.zip", [f"{server.address}/whole"], tmp_path, checksum).read_bytes() == CONTENT
    assert len(server.seen) == 2


def test_file_addresses_and_none(tmp_path):
    (tmp_path / "a b.zip").write_bytes(CONTENT)
    assert fetch("set.zip", [(tmp_path / "a b.zip").as_uri()], tmp_path / "to", SUM).read_bytes() == CONTENT
    with pytest.raises(OSError, match="There is no address for it"):
        fetch("set.zip", [], tmp_path)
    with pytest.raises(OSError, match="no.zip"):
        fetch("set.zip", [(tmp_path / "no.zip").as_uri()], tmp_path)


def test_nobody_there_and_a_full_disk(server, tmp_path):
    with pytest.raises(OSError, match="set.zip could not be fetched. http://127.0.0.1:9/: "):
        fetch("set.zip", ["http://127.0.0.1:9/"], tmp_path)
    with full_disk(), pytest.raises(OSError, match="free some space or choose another folder"):
        fetch("set.zip", [f"{server.address}/whole"], tmp_path, SUM)


# --- archives --------------------------------------------------------------------------------------------------

def zipped(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries:
            file.writestr(name, content)
    return path


def tarred(path, members):
    with tarfile.open(path, "w:gz") as file:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(content) if kind == tarfile.REGTYPE else 0
            member.linkname = "/etc/passwd"
            file.addfile(member, io.BytesIO(content) if kind == tarfile.REGTYPE else None)
    return path


def test_good_archives_are_unpacked_once(tmp_path):
    good = zipped(tmp_path / "good.zip", [("a/b.txt", b"b"), ("a/c d.txt", b""), ("e/", b"")])
    folder = unpack(good, tmp_path / "zip", 100)
    assert (folder / "a" / "b.txt").read_bytes() == b"b" and (folder / "a" / "c d.txt").read_bytes() == b""
    (folder / "a" / "b.txt").write_bytes(b"mine")
    assert (unpack(good, folder, 100) / "a" / "b.txt").read_bytes() == b"mine"
    other = tarred(tmp_path / "good.tgz", [("./", tarfile.DIRTYPE, b""), ("./x", tarfile.DIRTYPE, b""),
                                           ("./x/y", tarfile.REGTYPE, b"y")])
    assert (unpack(other, tmp_path / "tar", 1) / "x" / "y").read_bytes() == b"y"


def linked(name):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/out", "C:/out", "a\\..\\out", ".."])
def test_entries_outside_are_refused(tmp_path, name):
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    for archive in (zipped(tmp_path / "x.zip", [("good", b"1"), (name, b"2")]),
                    tarred(tmp_path / "x.tgz", [("good", tarfile.REGTYPE, b"1"), (name, tarfile.REGTYPE, b"2")])):
        before = [path for path in sorted(tmp_path.rglob("*")) if path.name != ".to.lock"]
        with pytest.raises(ValueError, match="would lie outside of its folder, .*; it is not opened"):
            unpack(archive, folder / "to", 100)
        assert [path for path in sorted(tmp_path.rglob("*")) if path.name != ".to.lock"] == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    with pytest.raises(ValueError, match="no file, 'link': a link or a device"):
        unpack(tarred(tmp_path / "x.tgz", [("link", kind, b"")]), tmp_path / "to", 100)
    with pytest.raises(ValueError, match="no file, 'link': a link or a device"):
        unpack(zipped(tmp_path / "x.zip", [(linked("link"), b"/etc/passwd")]), tmp_path / "to", 100)
    assert not (tmp_path / "to").exists()


def test_more_bytes_than_published_are_refused(tmp_path):
    bomb = zipped(tmp_path / "x.zip", [("a", bytes(600)), ("b", bytes(600))])
    with pytest.raises(ValueError, match="more than the 1,000 bytes that the published set has, at entry 'b'"):
        unpack(bomb, tmp_path / "to", 1000)
    assert unpack(bomb, tmp_path / "to", 1200).is_dir()


def test_sizes_that_are_not_those_announced_are_refused(tmp_path):
    content = zipped(tmp_path / "x.zip", [("a", bytes(600))]).read_bytes()
    size = (600).to_bytes(4, "little")
    assert content.count(size) == 2
    (tmp_path / "x.zip").write_bytes(content.replace(size, (100).to_bytes(4, "little")))
    with pytest.raises(ValueError, match="damaged"):
        unpack(tmp_path / "x.zip", tmp_path / "to", 10_000)
    (tmp_path / "x.zip").write_bytes(content.replace(size, (700).to_bytes(4, "little")))
    with pytest.raises(ValueError, match="damaged"):
        unpack(tmp_path / "x.zip", tmp_path / "to", 10_000)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("cut", [0, 10, 400])
def test_half_an_archive_and_none(tmp_path, cut):
    whole = tarred(tmp_path / "x.tgz", [("a", tarfile.REGTYPE, hashlib.shake_256(b"1").digest(3_000))]).read_bytes()
    (tmp_path / "x.tgz").write_bytes(whole[:cut] if cut < 400 else whole[:-400])
    with pytest.raises(ValueError, match="x.tgz is damaged, or no archive .*Remove it and run again"):
        unpack(tmp_path / "x.tgz", tmp_path / "to", 10_000)
    assert not (tmp_path / "to").exists()
