"""Downloads: https only, checked by SHA-256, unpacked inside their folder, whatever the server or the archive does."""
import gzip
import io
import lzma
import multiprocessing
import re
import socket
import tarfile
import threading
import zipfile
from contextlib import nullcontext
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from rdlib import load_dataset
from rdlib.datasets.downloads import CATEGORIES, SOURCES, unpack_dataset
from rdlib.utils import files
from rdlib.utils.errors import DataError
from rdlib.utils.files import Source, download, folder_written_atomically, provide, unpack

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine; http is allowed.

    `files` maps a path to its content, `moved` to another address; `asked` lists the requested paths; `breaks_after`:
    number of bytes after which the server closes the connection.
    """
    web = SimpleNamespace(files={}, moved={}, asked=[], breaks_after=None)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            web.asked.append(self.path)
            body = web.files.get(self.path, b"")
            self.send_response(302 if self.path in web.moved else 200 if self.path in web.files else 404)
            self.send_header("Content-Length", str(len(body)))
            if self.path in web.moved:
                self.send_header("Location", web.moved[self.path])
            self.end_headers()
            self.wfile.write(body[:web.breaks_after])

        def log_message(self, *arguments):
            pass

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(files, "SCHEMES", ("http",))
    host = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.url = f"http://127.0.0.1:{host.server_port}"
    threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield web
    host.shutdown()
    host.server_close()


def on_record(web, content=CONTENT, name="set.bin"):
    """(URL, SHA-256, size) of a file that the server has."""
    web.files[f"/{name}"] = content
    return f"{web.url}/{name}", sha256(content).hexdigest(), len(content)


def refused(url, hash_, folder):
    """The message of a download that fails and leaves no file."""
    with pytest.raises((OSError, ValueError)) as caught:
        download(url, hash_, folder)
    assert not list(folder.glob("*"))
    return str(caught.value)


def test_a_file_is_downloaded_once(server, tmp_path, capsys):
    url, hash_, _ = on_record(server)
    path = download(url, hash_, tmp_path / "new")
    assert path == tmp_path / "new" / "set.bin" and path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["set.bin"] and "100%" in capsys.readouterr().err
    assert download(url, hash_, tmp_path / "new") == path and server.asked == ["/set.bin"]


def test_a_damaged_file_is_replaced(server, tmp_path):
    (tmp_path / "set.bin").write_bytes(CONTENT[:-1])
    assert download(*on_record(server)[:2], tmp_path).read_bytes() == CONTENT


def test_failed_downloads_leave_no_file(server, tmp_path):
    url, hash_, _ = on_record(server)
    assert "does not match" in refused(url, hash_[::-1], tmp_path)
    server.breaks_after = 1_234_567
    refused(url, hash_, tmp_path)
    assert "404" in refused(f"{server.url}/gone", hash_, tmp_path)


def test_servers_that_do_not_answer(server, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        assert "refused" in refused(url, "0" * 64, tmp_path)
        silent.listen()
        assert "timed out" in refused(url, "0" * 64, tmp_path)


def test_https_only(server, tmp_path, monkeypatch):
    """Neither the address nor one that it redirects to may have another scheme."""
    url, hash_, _ = on_record(server)
    server.moved = {"/moved": "/set.bin", "/file": "file:///etc/hostname", "/https": url.replace("http:", "https:")}
    assert download(f"{server.url}/moved", hash_, tmp_path).read_bytes() == CONTENT
    (tmp_path / "moved").unlink()
    server.asked.clear()
    for name in ("/file", "/https"):  # https stands for any scheme but the allowed one
        assert f"{server.moved[name]} is refused: only http is allowed" in refused(server.url + name, hash_, tmp_path)
    monkeypatch.undo()
    assert files.SCHEMES == ("https",)
    for other in (url, "file:///etc/hostname", "ftp://127.0.0.1/x"):
        assert f"{other} is refused: only https is allowed" in refused(other, hash_, tmp_path)
    assert server.asked == ["/file", "/https"]


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
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.zip"])
def test_unpack(tmp_path, name):
    mode = {"gz": "w:gz", "xz": "w:xz"}.get(name.rsplit(".", 1)[-1], "w")
    archive = zipped(tmp_path / name, GOOD) if name.endswith("zip") else tarred(tmp_path / name, GOOD, mode)
    (tmp_path / "out").mkdir()  # an empty folder is no obstacle
    with folder_written_atomically(tmp_path / "out") as content:
        unpack(archive, content)
    assert tree(tmp_path / "out") == {"set/a/0.txt": b"zero", "set/b.txt": CONTENT[:100_000]}
    assert {path.name for path in tmp_path.iterdir()} == {name, "out"}
    assert (tmp_path / "out").stat().st_mode == tmp_path.joinpath("out", "set").stat().st_mode  # readable as any folder


def special(name, kind, target=""):
    """A tar member that is no file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


OUTSIDE = {"above": "../evil.txt", "above later": "a/../../evil.txt", "absolute": "/ABSOLUTE/evil.txt",
           "above inside": "a/../evil.txt"}
UNSAFE = {kind: [(name, b"!")] for kind, name in OUTSIDE.items()} | {
    "symbolic link": [special("out", tarfile.SYMTYPE, ".."), ("out/evil.txt", b"!")],
    "hard link": [special("evil.txt", tarfile.LNKTYPE, "../victim.txt")],
    "device": [special("evil.txt", tarfile.CHRTYPE)],
    "pipe": [special("evil.txt", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("kind", UNSAFE)
def test_unsafe_members_are_refused(tmp_path, kind):
    members = [(name.replace("/ABSOLUTE", str(tmp_path)) if isinstance(name, str) else name, content)
               for name, content in [("good.txt", b"good"), *UNSAFE[kind]]]
    (tmp_path / "victim.txt").write_bytes(b"safe")
    archive = tarred(tmp_path / "a.tar", members)
    with pytest.raises(ValueError, match="is a link, a device or outside the folder"), \
            folder_written_atomically(tmp_path / "inner" / "out") as content:
        unpack(archive, content)
    assert tree(tmp_path) == {"victim.txt": b"safe", "a.tar": archive.read_bytes()}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_unsafe_members_of_a_zip_are_refused(tmp_path, kind):
    """Cleaning their paths would put them over other files."""
    name = OUTSIDE[kind].replace("/ABSOLUTE", str(tmp_path))
    archive = zipped(tmp_path / "a.zip", [("evil.txt", b"good"), (name, b"!")])
    with pytest.raises(ValueError, match=f"{re.escape(name)} is a link, a device or outside the folder"), \
            folder_written_atomically(tmp_path / "inner" / "out") as content:
        unpack(archive, content)
    assert [*tree(tmp_path)] == ["a.zip"]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip", "a.gz"])
def test_archives_that_unpack_to_too_much_are_refused(tmp_path, name, monkeypatch):
    """Content of 10 MB in some 10 kB: refused before it is on the disk, unless the limit allows it."""
    path, content = tmp_path / name, b"x" * 10_000_000
    if name == "a.gz":
        path.write_bytes(gzip.compress(content))
    else:
        members = [(f"{i}.bin", content[:2_500_000]) for i in range(4)]
        zipped(path, members) if name == "a.zip" else tarred(path, members, "w:gz")
    assert path.stat().st_size < 50_000
    with folder_written_atomically(tmp_path / "a") as out:
        unpack(path, out)
    assert sum(map(len, tree(tmp_path / "a").values())) == 10_000_000
    monkeypatch.setattr(files, "LEAST_LIMIT", 5_000_000)
    with pytest.raises(ValueError, match=r"needs more than 0\.0 GB, the limit for its size"), \
            folder_written_atomically(tmp_path / "b") as out:
        try:
            unpack(path, out)
        finally:
            assert sum(map(len, tree(out).values())) <= 5_000_000
    assert not (tmp_path / "b").exists()
    monkeypatch.undo()
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: SimpleNamespace(free=5_000_000))
    with pytest.raises(OSError, match=r"needs more than 0\.0 GB, the free space"), \
            folder_written_atomically(tmp_path / "b") as out:
        unpack(path, out)


@pytest.mark.parametrize("other", ["set/a.txt", "./set/a.txt", "set//a.txt", "SET/A.txt", "set/./a.txt"])
@pytest.mark.parametrize("pack", [tarred, zipped])
def test_two_files_of_one_name_are_refused(tmp_path, other, pack):
    (tmp_path / "out").mkdir()
    with pytest.warns(UserWarning) if pack is zipped and other == "set/a.txt" else nullcontext():
        archive = pack(tmp_path / "a.bin", [("set/a.txt", b"first"), (other, b"second")])
    with pytest.raises(ValueError, match="(?i)two files named .*a.txt, perhaps in another case"):
        unpack(archive, tmp_path / "out")


def test_a_folder_may_stand_twice_in_a_tar(tmp_path):
    (tmp_path / "out").mkdir()
    unpack(tarred(tmp_path / "a.tar", [special("set", tarfile.DIRTYPE), special("set/", tarfile.DIRTYPE),
                                       ("set/a.txt", b"a")]), tmp_path / "out")
    assert tree(tmp_path / "out") == {"set/a.txt": b"a"}


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz"])
def test_a_tar_that_ends_between_two_members_is_refused(tmp_path, suffix):
    members = [(f"{i}.txt", bytes([i]) * 700) for i in range(4)]
    whole = tarred(tmp_path / "whole.tar", members).read_bytes()
    pack = {"tar": bytes, "tar.gz": gzip.compress, "tar.xz": lzma.compress}[suffix]
    for n, name in ((2, "half"), (4, "no zeros")):
        (tmp_path / f"{name}.{suffix}").write_bytes(pack(whole[:n * 1536]))  # a header and two blocks each
        with pytest.raises(ValueError, match="it ends early"), folder_written_atomically(tmp_path / "out") as out:
            unpack(tmp_path / f"{name}.{suffix}", out)
        assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match=r"cannot be unpacked \(it ends early\)\. .*download it again"):
        unpack_dataset(tmp_path / f"half.{suffix}", tmp_path / "cache")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip", "a.gz", "a.rar"])
def test_archives_of_the_right_hash_that_cannot_be_read(server, tmp_path, name):
    """Then the record is wrong; the message has all that is needed, and no part of the content is there."""
    path = tmp_path / name
    if name == "a.zip":
        zipped(path, [("x.txt", CONTENT[:400_000])])
        path.write_bytes(path.read_bytes().replace(CONTENT[5000:5010], b"0123456789"))
    else:
        path.write_bytes(gzip.compress(CONTENT) if name == "a.gz" else CONTENT)
        if ".tar" in name:
            tarred(path, [("x.txt", CONTENT[:400_000])], "w:gz" if name.endswith("gz") else "w")
        path.write_bytes(path.read_bytes()[:200_000])
    source = Source("Set", "CC0", (on_record(server, path.read_bytes(), name),))
    with pytest.raises(DataError, match="Set could not be read"):
        provide(source, tmp_path / "cache" / "out")
    assert {file.name for file in (tmp_path / "cache").iterdir()} <= {name, ".out.lock"}


def _provide_in_process(source, folder, barrier):
    files.SCHEMES = ("http",)
    barrier.wait()
    provide(source, folder)


def test_several_processes_download_once(server, tmp_path):
    source = Source("Set", "CC0", (on_record(server, tarred(tmp_path / "x.tar", GOOD).read_bytes(), "set.tar"),))
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    barrier = context.Barrier(3)
    folder = tmp_path / "cache" / "set"
    processes = [context.Process(target=_provide_in_process, args=(source, folder, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert set(tree(folder)) == {"set/a/0.txt", "set/b.txt"} and server.asked == ["/set.tar"]
    assert not list(folder.parent.glob("set.tar*"))


def test_provide_takes_an_archive_put_there_by_hand(server, tmp_path):
    content = tarred(tmp_path / "set.tar", GOOD).read_bytes()
    provide(Source("Set", "CC0", (on_record(server, content, "set.tar"),)), tmp_path / "set")
    assert "set/b.txt" in tree(tmp_path / "set") and not server.asked


def test_provide_leaves_what_is_there(server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "own.txt").touch()
    provide(Source("Set", "CC0", (on_record(server),)), tmp_path / "set")
    assert not server.asked and [path.name for path in tmp_path.iterdir()] == ["set"]  # no lock: it may be read-only


def test_failures_say_what_to_do(server, tmp_path):
    (tmp_path / "file").touch()
    source = Source("My set", "CC0", ((f"{server.url}/gone.tar", "0" * 64, 12_000_000),), offline="digits/3")
    for folder, reason in ((tmp_path / "cache" / "set", "404"), (tmp_path / "file" / "set", "file")):
        with pytest.raises(DataError) as caught:
            provide(source, folder)
        for words in ("My set", str(folder), reason, source.archives[0][0], "12 MB", "CC0", "RDLIB_DATA",
                      'load_dataset("digits/3")'):
            assert words in str(caught.value), words


@pytest.mark.parametrize("family", SOURCES)
def test_records(family):
    source = SOURCES[family]
    assert source.title and source.licence and load_dataset(source.offline, n_train=1).train
    for url, hash_, size in source.archives:
        assert url.startswith("https://") and re.fullmatch("[0-9a-f]{64}", hash_) and size > 1000


def test_no_two_records_share_a_hash():
    hashes = [hash_ for source in SOURCES.values() for _, hash_, _ in source.archives]
    assert len(set(hashes)) == len(hashes) == 11


def test_categories():
    assert [len(set(names)) for names in (CATEGORIES["mvtec"], CATEGORIES["visa"], CATEGORIES["btad"])] == [15, 12, 3]


@pytest.mark.network
@pytest.mark.parametrize("record", [record for source in SOURCES.values() for record in source.archives],
                         ids=lambda record: record[0])
def test_every_address_answers(record):
    request = Request(record[0], method="HEAD", headers={"User-Agent": "rdlib"})
    with urlopen(request, timeout=30) as answer:
        assert answer.status == 200 and answer.url.startswith("https://")
        assert int(answer.headers["Content-Length"]) == record[2]


def picture(level):
    """A small gray PNG."""
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), level, np.uint8)).save(file, "png")
    return file.getvalue()


def test_visa_from_the_first_call(server, tmp_path, monkeypatch):
    """Its archive is downloaded, unpacked and read; once for all categories."""
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
    source = Source("VisA", "CC0", (on_record(server, (tmp_path / "v.tar").read_bytes(), "visa.tar"),))
    monkeypatch.setitem(SOURCES, "visa", source)
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path / "cache"))
    for category in ("candle", "pcb1"):
        data = load_dataset(f"visa/{category}", size=32)
        assert len(data.train) == 1 and data.test.labels == [1, 0] and data.test[0].mask.all()
    assert server.asked == ["/visa.tar"]


def test_mnist_from_the_first_call(server, tmp_path, monkeypatch):
    """Four files of gz become what torchvision reads; what cannot be downloaded has an alternative in its message."""
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path))
    records = []
    for part, classes in (("train", [3, 1, 3]), ("t10k", [3, 4])):
        labels = bytes([0, 0, 8, 1, 0, 0, 0, len(classes), *classes])
        images = bytes([0, 0, 8, 3, 0, 0, 0, len(classes), 0, 0, 0, 28, 0, 0, 0, 28])
        images += b"".join(bytes([20 * c]) * 784 for c in classes)
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            records.append(on_record(server, gzip.compress(content), f"{part}-{kind}-ubyte.gz"))
    last = server.files.popitem()
    monkeypatch.setitem(SOURCES, "mnist", Source("MNIST", "CC0", tuple(records), "MNIST/raw", "digits/3"))
    with pytest.raises(DataError, match=r"(?s)404.*load_dataset\(\"digits/3\"\)"):
        load_dataset("mnist/3")
    server.files.update([last])
    data = load_dataset("mnist/3")
    assert [len(data.train), data.test.defect_types] == [2, ["good", "4"]]
    assert data.test[1].image.shape == (3, 32, 32) and data.test[1].image.mul(255).eq(80).all()
    assert len(server.asked) == 5 and len(list((tmp_path / "mnist" / "MNIST" / "raw").iterdir())) == 4
    assert len(load_dataset("mnist/1").train) == 1 and len(server.asked) == 5


def category(prefix, good="train/good", **others):
    """Members of a category: a training image, and what else is given as place=level."""
    return [(f"{prefix}/{good}/0.png", picture(5)), (f"{prefix}/readme.txt", b"read me"),
            *((f"{prefix}/{place}/0.png", picture(level)) for place, level in others.items())]


VISA_TABLE = "object,split,label,image,mask\n" + "".join(
    f"pcb1,{split},{label},pcb1/Data/Images/{place}/0.png,{mask}\n" for split, label, place, mask in (
        ("train", "normal", "Normal", ""), ("test", "anomaly", "Anomaly", "pcb1/Data/Masks/Anomaly/0.png")))
ARCHIVES = {
    "all of MVTec AD": ("x.tar.xz", [*category("bottle"), *category("zipper"), ("license.txt", b"CC")],
                        ["mvtec/bottle", "mvtec/zipper"]),
    "a category of MVTec AD": ("data.bin", category("bottle"), ["mvtec/bottle"]),
    "MVTec AD in a folder": ("x.zip", category("mvtec_anomaly_detection/screw"), ["mvtec/screw"]),
    "VisA": ("VisA.tar", [*((f"pcb1/Data/{place}/0.png", picture(9)) for place in
                            ("Images/Normal", "Images/Anomaly", "Masks/Anomaly")),
                          ("split_csv/1cls.csv", VISA_TABLE.encode())], ["visa/pcb1"]),
    "BTAD": ("btad.zip", category("BTech_Dataset_transformed/02", "train/ok"), ["btad/02"]),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives_as_downloaded_are_found_by_load_dataset(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path / "cache"))
    name, members, expected = ARCHIVES[kind]
    mode = "w:xz" if name.endswith("xz") else "w"
    archive = (zipped if name.endswith("zip") else partial(tarred, mode=mode))(tmp_path / name, members)
    assert unpack_dataset(archive) == expected
    for found in expected:
        assert len(load_dataset(found, size=32).train) == 1
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")]
    with pytest.warns(UserWarning, match=f"has {', '.join(name.split('/')[1] for name in expected)} already"):
        assert unpack_dataset(str(archive)) == expected  # again, which changes nothing


def test_a_category_that_is_there_is_left(tmp_path, monkeypatch):
    (tmp_path / "mvtec/bottle").mkdir(parents=True)
    (tmp_path / "mvtec/bottle/own.txt").touch()
    archive = tarred(tmp_path / "a.tar", category("bottle") + category("pill"))
    with pytest.warns(UserWarning, match="mvtec has bottle already: left as it is"):
        assert unpack_dataset(archive, tmp_path) == ["mvtec/bottle", "mvtec/pill"]
    assert [path.name for path in (tmp_path / "mvtec/bottle").iterdir()] == ["own.txt"]
    assert (tmp_path / "mvtec/pill/train/good/0.png").is_file()


def test_other_folders_beside_categories_are_named(tmp_path):
    members = [*category("top/bottle"), *category("top/mine"), *category("more"), ("__MACOSX/x.txt", b"x"),
               ("license.txt", b"CC")]
    with pytest.warns(UserWarning, match=r"a\.tar also holds mine, more: not unpacked, since no category of mvtec"):
        assert unpack_dataset(tarred(tmp_path / "a.tar", members), tmp_path / "cache") == ["mvtec/bottle"]


def test_advice_fits_the_fault_of_an_archive(tmp_path, monkeypatch):
    twice = tarred(tmp_path / "twice.tar", [("a.txt", b"1"), ("A.txt", b"2")])
    with pytest.raises(DataError, match=r"two files named A\.txt.*\)\. Unpack it yourself if you trust it, or down"):
        unpack_dataset(twice, tmp_path / "cache")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(DataError, match=r"free space\)\. Check the path and the space on the disk, or down"):
        unpack_dataset(twice, tmp_path / "cache")


def test_btad_beside_a_download_of_it(tmp_path, monkeypatch):
    """The archive that is downloaded by name has a top folder, which is where load_dataset looks first."""
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path))
    (tmp_path / "btad/BTech_Dataset_transformed/01/train/ok").mkdir(parents=True)
    unpack_dataset(zipped(tmp_path / "b.zip", category("02", "train/ok")))
    assert len(load_dataset("btad/02").train) == 1


def test_other_archives_are_refused(tmp_path):
    for name, words in (("gone.zip", "cannot be unpacked .*Check the path"),
                        ("x.zip", "cannot be unpacked .*download it again"),
                        (".", "cannot be unpacked .*Is a directory.*Check the path"),
                        ("own.zip", r"no archive of MVTec AD, VisA or BTAD. It holds parts, readme.txt\."),
                        ("evil.tar", "cannot be unpacked .*outside the folder.*if you trust it")):
        if name == "x.zip":
            (tmp_path / name).write_bytes(b"damaged")
        elif name == "own.zip":
            zipped(tmp_path / name, [*category("parts"), ("readme.txt", b"own")])
        elif name == "evil.tar":
            tarred(tmp_path / name, [*category("bottle"), ("../evil.txt", b"!")])
        with pytest.raises(DataError, match=words):
            unpack_dataset(tmp_path / name, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir()) and not (tmp_path / "evil.txt").exists()
