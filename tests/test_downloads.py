"""Fetching files: resumed, checked and unpacked without harm, whatever the server or the archive does."""
import gzip
import io
import socket
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from rdlib.datasets import downloads, folders, novelty
from rdlib.datasets import load as datasets
from rdlib.datasets.archives import unpack
from rdlib.datasets.downloads import Download, fetch, provide
from rdlib.utils.errors import DataError

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine.

    `files` maps a path to its content; `asked` lists each request's path and Range; `sent` each answer's status and
    length. `ranges`: whether it honours Range; `breaks_after`: bytes after which it hangs up, once; `moved`: redirects.
    """
    web = SimpleNamespace(files={}, asked=[], sent=[], ranges=True, breaks_after=None, moved={})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            web.asked.append((self.path, wanted))
            if self.path in web.moved:
                return self.answer(302, b"", {"Location": web.moved[self.path]})
            body = web.files.get(self.path)
            if body is None:
                return self.answer(404, b"")
            if not (wanted and web.ranges):
                return self.answer(200, body)
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                return self.answer(416, b"")
            self.answer(206, body[start:], {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"})

        def answer(self, status, body, headers=()):
            web.sent.append((status, len(body)))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **dict(headers)}.items():
                self.send_header(name, value)
            self.end_headers()
            stop, web.breaks_after = web.breaks_after, None
            self.wfile.write(body[:stop])
            if stop is not None:
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *arguments):
            pass

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloads, "SCHEMES", ("http",))
    host = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.url = f"http://127.0.0.1:{host.server_port}"
    threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield web
    host.shutdown()
    host.server_close()


def on_record(web, content=CONTENT, name="set.bin", **more):
    """A record of `content`, which the server has."""
    web.files[f"/{name}"] = content
    return Download(f"{web.url}/{name}", sha256(content).hexdigest(), len(content), name, "CC0", **more)


def failed(download, folder):
    """What is said of a download that fails; the file itself must not be there."""
    with pytest.raises(DataError) as caught:
        fetch(download, folder, progress=False)
    assert not (folder / download.name).exists()
    return str(caught.value)


def test_fetched_once_then_offline(server, tmp_path, capsys):
    record = on_record(server)
    path = fetch(record, tmp_path / "new")
    assert path == tmp_path / "new" / "set.bin" and path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["set.bin"]
    assert "set.bin" in capsys.readouterr().err
    server.files.clear()
    assert fetch(record, tmp_path / "new") == path and server.asked == [("/set.bin", None)]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    record = on_record(server)
    server.breaks_after = 1_234_567
    words = failed(record, tmp_path)
    part = tmp_path / "set.bin.part"
    got = part.stat().st_size
    assert "closed after" in words and 0 < got <= 1_234_567 and part.read_bytes() == CONTENT[:got]
    assert fetch(record, tmp_path, progress=False).read_bytes() == CONTENT
    assert server.asked == [("/set.bin", None), ("/set.bin", f"bytes={got}-")]
    assert server.sent[1] == (206, len(CONTENT) - got) and not part.exists()


def test_a_server_that_ignores_ranges_sends_all_again(server, tmp_path):
    record = on_record(server)
    server.ranges = False
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(record, tmp_path, progress=False).read_bytes() == CONTENT
    assert server.asked == [("/set.bin", "bytes=1000-")] and server.sent == [(200, len(CONTENT))]


@pytest.mark.parametrize("part", [b"of another file", CONTENT + b"!", b"x" * len(CONTENT)])
def test_a_part_that_does_not_fit_is_begun_anew(server, tmp_path, part):
    record = on_record(server)
    (tmp_path / "set.bin.part").write_bytes(part)
    assert fetch(record, tmp_path, progress=False).read_bytes() == CONTENT
    assert server.asked == [("/set.bin", f"bytes={len(part)}-"), ("/set.bin", None)]


def test_a_whole_part_is_not_sent_again(server, tmp_path):
    record = on_record(server)
    (tmp_path / "set.bin.part").write_bytes(CONTENT)
    assert fetch(record, tmp_path, progress=False).read_bytes() == CONTENT
    assert server.sent == [(416, 0)]


def test_wrong_bytes_leave_nothing(server, tmp_path):
    record = on_record(server)
    server.files["/set.bin"] = CONTENT[:-1] + b"?"
    words = failed(record, tmp_path)
    assert "SHA-256" in words and record.url in words and not list(tmp_path.iterdir())


def test_a_damaged_file_is_found_and_left(server, tmp_path):
    record = on_record(server)
    (tmp_path / "set.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=r"set\.bin is damaged.*Delete it and try again"):
        fetch(record, tmp_path)
    assert (tmp_path / "set.bin").read_bytes() == CONTENT[:-1] and not server.asked


def test_what_cannot_be_reached_says_what_to_do(server, tmp_path):
    record = on_record(server, offline="digits/3")
    server.files.clear()
    words = failed(record, tmp_path)
    assert "404" in words and record.url in words and str(tmp_path / "set.bin") in words and "CC0" in words
    assert 'load_dataset("digits/3")' in words
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = Download(f"http://127.0.0.1:{closed.getsockname()[1]}/x", "0" * 64, 1, "x", "CC0")
        assert "refused" in failed(nobody, tmp_path)


def test_a_server_that_falls_silent_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        record = Download(f"http://127.0.0.1:{silent.getsockname()[1]}/x", "0" * 64, 1, "x", "CC0")
        assert "timed out" in failed(record, tmp_path)


def test_only_https(server, tmp_path, monkeypatch):
    record = on_record(server)
    monkeypatch.undo()  # the schemes, too, are what they are for users
    assert downloads.SCHEMES == ("https",)
    assert "only https" in failed(record, tmp_path) and not server.asked


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_other_schemes_are_refused(server, tmp_path, url):
    assert "only http" in failed(Download(url, "0" * 64, 1, "x", "CC0"), tmp_path)


def test_redirects_are_followed_to_https_alone(server, tmp_path, monkeypatch):
    record = on_record(server, name="moved.bin")
    server.moved["/moved.bin"] = f"{server.url}/other.bin"
    server.files["/other.bin"] = CONTENT
    assert fetch(record, tmp_path, progress=False).read_bytes() == CONTENT
    (tmp_path / "moved.bin").unlink()
    monkeypatch.setattr(downloads, "SCHEMES", ("https",))
    secure = Download("https://example.org/moved.bin", record.sha256, record.size, "moved.bin", "CC0")
    monkeypatch.setattr(downloads, "urlopen", lambda request, timeout: urlopen(record.url, timeout=timeout))
    assert "it leads to http://" in failed(secure, tmp_path) and not list(tmp_path.iterdir())


def tarred(path, members, mode="w"):
    """A tar archive of (name or TarInfo, content)."""
    with tarfile.open(path, mode) as archive:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path, members):
    """A zip archive of (name, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


GOOD = [("set/a/0.txt", b"zero"), ("./set/b.txt", CONTENT[:100_000])]


def tree(folder):
    """Every file below a folder and its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.zip"])
def test_unpack(tmp_path, name):
    mode = {"gz": "w:gz", "tgz": "w:gz", "xz": "w:xz"}.get(name.rsplit(".", 1)[-1], "w")
    archive = zipped(tmp_path / name, GOOD) if name.endswith("zip") else tarred(tmp_path / name, GOOD, mode)
    (tmp_path / "out").mkdir()  # an empty folder is no obstacle
    unpack([archive], tmp_path / "out", progress=False)
    assert tree(tmp_path / "out") == {"set/a/0.txt": b"zero", "set/b.txt": CONTENT[:100_000]}
    assert {path.name for path in tmp_path.iterdir()} == {name, "out"}


def test_unpack_several_files_of_gz(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(name.encode() * 600))
    unpack([tmp_path / "a.gz", tmp_path / "b.gz"], tmp_path / "deep" / "raw", progress=False)
    assert tree(tmp_path / "deep") == {"raw/a": b"a" * 600, "raw/b": b"b" * 600}


def special(name, kind, target=""):
    """A tar member that is no file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


EVIL = {
    "above": [("../evil.txt", b"!")],
    "above later": [("a/../../evil.txt", b"!")],
    "absolute": [("/ABSOLUTE/evil.txt", b"!")],
    "windows": [("..\\evil.txt", b"!")],
    "drive": [("C:\\evil.txt", b"!")],
    "symlink": [special("out", tarfile.SYMTYPE, ".."), ("out/evil.txt", b"!")],
    "hard link": [special("evil.txt", tarfile.LNKTYPE, "../victim.txt")],
    "device": [special("evil.txt", tarfile.CHRTYPE)],
    "pipe": [special("evil.txt", tarfile.FIFOTYPE)],
}


PATHS = ["above", "above later", "absolute", "windows", "drive"]


@pytest.mark.parametrize(("suffix", "kind"), [("tar", kind) for kind in EVIL] + [("zip", kind) for kind in PATHS])
def test_archives_that_reach_outside_are_refused(tmp_path, kind, suffix):
    members = [(name.replace("/ABSOLUTE", str(tmp_path)) if isinstance(name, str) else name, content)
               for name, content in [("good.txt", b"good"), *EVIL[kind]]]
    (tmp_path / "victim.txt").write_bytes(b"safe")
    archive = (tarred if suffix == "tar" else zipped)(tmp_path / f"a.{suffix}", members)
    reason = "wants to write outside" if kind in PATHS else "holds a link or a device"
    with pytest.raises(DataError, match=rf"a\.{suffix} {reason}.*not unpacked"):
        unpack([archive], tmp_path / "inner" / "out", progress=False)
    assert tree(tmp_path) == {"victim.txt": b"safe", archive.name: archive.read_bytes()}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.zip", "a.gz", "a.rar"])
def test_damaged_archives_leave_nothing(tmp_path, name):
    members = [("x.txt", CONTENT[:400_000])]
    path = tmp_path / name
    if ".tar" in name:
        tarred(path, members, {"gz": "w:gz", "xz": "w:xz"}.get(name.rsplit(".", 1)[-1], "w"))
    elif name.endswith("zip"):
        zipped(path, members)
        path.write_bytes(path.read_bytes().replace(CONTENT[5000:5010], b"0123456789"))
    else:
        path.write_bytes(gzip.compress(CONTENT) if name == "a.gz" else CONTENT)
    if not name.endswith("zip"):
        path.write_bytes(path.read_bytes()[:200_000])
    with pytest.raises(DataError, match=r"could not be unpacked.*delete the archive and get it again"):
        unpack([path], tmp_path / "out", progress=False)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_folder_that_is_in_use_is_left(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_bytes(b"mine")
    with pytest.raises(DataError, match="could not be unpacked"):
        unpack([tarred(tmp_path / "a.tar", GOOD)], tmp_path / "out", progress=False)
    assert tree(tmp_path / "out") == {"mine.txt": b"mine"}
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "out"}


def test_provide_fills_a_folder_once(server, tmp_path):
    record = on_record(server, tarred(tmp_path / "x.tar", GOOD).read_bytes(), "set.tar")
    home = tmp_path / "cache" / "set"
    with ThreadPoolExecutor(4) as pool:  # as parallel runs would
        list(pool.map(lambda _: provide([record], home, progress=False), range(4)))
    assert set(tree(home)) == {"set/a/0.txt", "set/b.txt"} and server.asked == [("/set.tar", None)]
    assert not list(home.parent.glob("set.tar*"))


def test_provide_takes_an_archive_put_there_by_hand(server, tmp_path):
    content = tarred(tmp_path / "x.tar", GOOD).read_bytes()
    record = on_record(server, content, "set.tar")
    (tmp_path / "set.tar").write_bytes(content)
    provide([record], tmp_path / "set", progress=False)
    assert "set/b.txt" in tree(tmp_path / "set") and not server.asked


def test_provide_leaves_what_is_there(server, tmp_path):
    record = on_record(server)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "own.txt").touch()
    provide([record], tmp_path / "set")
    assert not server.asked


def test_provide_where_nothing_can_be_written(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be written.*RDLIB_DATA"):
        provide([on_record(server)], tmp_path / "file" / "set")


RECORDS = [folders.VISA, folders.BTAD, *(record for family in novelty.DOWNLOADS.values() for record in family)]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.url)
def test_records_are_whole(record):
    assert record.url.startswith("https://") and record.url.endswith(record.name) and "/" not in record.name
    assert len(bytes.fromhex(record.sha256)) == 32 and record.sha256.islower() and record.size > 1000 and record.licence
    assert record.offline in ("synthetic/weave", "digits/3")
    assert datasets.load_dataset(record.offline, n_train=1).train  # what is offered offline is there


def test_no_two_records_share_a_hash():
    assert len({record.sha256 for record in RECORDS}) == len(RECORDS) == 12


@pytest.mark.network
@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.url)
def test_every_address_answers(record):
    request = Request(record.url, method="HEAD", headers={"User-Agent": "rdlib"})
    with urlopen(request, timeout=30) as answer:
        assert answer.status == 200 and answer.url.startswith("https://")
        assert int(answer.headers["Content-Length"]) == record.size


def test_visa_from_the_first_call(server, tmp_path, monkeypatch):
    """Asked for by name, the archive is fetched, unpacked where it belongs, and read; once for all categories."""
    table = "object,split,label,image,mask\n"
    members = []
    for category in ("candle", "pcb1"):
        for split, label, image, mask in (("train", "normal", "Images/Normal/0.png", None),
                                          ("test", "normal", "Images/Normal/1.png", None),
                                          ("test", "anomaly", "Images/Anomaly/0.png", "Masks/Anomaly/0.png")):
            paths = [f"{category}/Data/{part}" if part else "" for part in (image, mask)]
            members += [(path, picture(5)) for path in paths if path]
            table += ",".join((category, split, label, *paths)) + "\n"
    tarred(tmp_path / "v.tar", [*members, ("split_csv/1cls.csv", table.encode())])
    monkeypatch.setattr(folders, "VISA", on_record(server, (tmp_path / "v.tar").read_bytes(), "visa.tar"))
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path / "cache"))
    for category in ("candle", "pcb1"):
        data = datasets.load_dataset(f"visa/{category}", size=32)
        assert len(data.train) == 1 and data.test.labels == [1, 0] and data.test[0].mask.all()
    assert server.asked == [("/visa.tar", None)]
    with pytest.raises(ValueError, match="candle"):
        datasets.load_dataset("visa/candles")


def picture(level):
    """A small grey PNG."""
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), level, np.uint8)).save(file, "png")
    return file.getvalue()


def test_mnist_from_the_first_call(server, tmp_path, monkeypatch):
    """Four files of gz become what torchvision reads."""
    records = []
    for part, classes in (("train", [3, 1, 3]), ("t10k", [3, 4])):
        labels = bytes([0, 0, 8, 1, 0, 0, 0, len(classes), *classes])
        images = bytes([0, 0, 8, 3, 0, 0, 0, len(classes), 0, 0, 0, 28, 0, 0, 0, 28])
        images += b"".join(bytes([20 * c]) * 784 for c in classes)
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            records.append(on_record(server, gzip.compress(content), f"{part}-{kind}-ubyte.gz", folder="MNIST/raw"))
    monkeypatch.setitem(novelty.DOWNLOADS, "mnist", tuple(records))
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path))
    data = datasets.load_dataset("mnist/3")
    assert [len(data.train), data.test.defect_types] == [2, ["good", "4"]]
    assert data.test[1].image.shape == (3, 32, 32) and data.test[1].image.mul(255).eq(80).all()
    assert len(server.asked) == 4 and len(list((tmp_path / "mnist" / "MNIST" / "raw").iterdir())) == 4
    assert len(datasets.load_dataset("mnist/1").train) == 1 and len(server.asked) == 4


def test_a_set_that_cannot_be_fetched_offers_another(server, tmp_path, monkeypatch):
    record = Download(f"{server.url}/gone.gz", "0" * 64, 1, "gone.gz", "CC0", "MNIST/raw", "digits/3")
    monkeypatch.setitem(novelty.DOWNLOADS, "mnist", (record,))
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"(?s)gone\.gz.*404.*load_dataset\(\"digits/3\"\)"):
        datasets.load_dataset("mnist/3")
