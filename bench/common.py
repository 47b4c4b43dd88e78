"""What the scripts in bench/ share: a daemon of their own, clients, tables, results.

A result is printed as Markdown; with --save it also goes to bench/results-NAME.md, with the date,
the machine, the commit and the command.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import platform
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("BUILD_DIR", ROOT / "build"))
sys.path.insert(0, str(ROOT / "tests/lib"))
sys.dont_write_bytecode = True
from rpc import Rpc  # noqa: E402

MIB = 1 << 20


def arguments(doc):
    parser = argparse.ArgumentParser(description=doc,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true",
                        help="write the result to bench/results-NAME.md too")
    return parser


class Bench:
    """A folder and a daemon; both are gone at the end."""

    def __init__(self, *options):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bellows-bench-"))
        self.started = []
        self.daemon = self.rpc = self.user = None
        self.options = options
        if os.getuid() == 0:  # Bellows needs no root, so it is measured without
            self.user = "nobody"
            os.chown(self.folder, pwd.getpwnam(self.user).pw_uid, -1)

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            if process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder)

    def start(self, command, **more):
        process = subprocess.Popen([str(word) for word in command], cwd=self.folder, **more)
        self.started.append(process)
        return process

    def start_daemon(self):
        """Returns the seconds from the start to the first answer."""
        path = str(self.folder / "rpc.sock")
        with open(self.folder / "log", "a") as log:
            begin = time.perf_counter()
            self.daemon = self.start([BUILD / "bellowsd", "-r", path, *self.options],
                                     stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     user=self.user)
        while True:
            try:
                self.rpc = Rpc(path)
                self.rpc.call("spdk_get_version")
                return time.perf_counter() - begin
            except (FileNotFoundError, ConnectionRefusedError):
                if self.daemon.poll() is not None:
                    sys.exit("bellowsd did not start:\n" + (self.folder / "log").read_text())
                time.sleep(0.0002)

    def stop_daemon(self):
        self.rpc.sock.close()
        self.daemon.terminate()
        if self.daemon.wait(30) != 0:
            sys.exit("bellowsd did not end well:\n" + (self.folder / "log").read_text())

    def file(self, name, size):
        """A file that the daemon may use."""
        path = self.folder / name
        path.touch()
        os.truncate(path, size)
        if self.user:
            os.chown(path, pwd.getpwnam(self.user).pw_uid, -1)
        return str(path)

    def export(self, bdev, server="S"):
        """Exports it on a unix socket; returns the URI."""
        path = self.folder / f"{server}.sock"
        if not any(s["name"] == server for s in self.rpc.call("nbd_get_servers")):
            self.rpc.call("nbd_create_server", name=server, path=str(path))
        self.rpc.call("nbd_add_export", server=server, bdev_name=bdev)
        return f"nbd+unix:///{bdev}?socket={path}"

    def connections(self):
        return [c for server in self.rpc.call("nbd_get_servers") for c in server["connections"]
                if c["state"] == "transmission"]

    def wait_for_connections(self, count, client):
        deadline = time.monotonic() + 60
        while len(self.connections()) < count:
            if client.poll() is not None or time.monotonic() > deadline:
                sys.exit("the client did not connect")
            time.sleep(0.05)

    def fio(self, uri, *options):
        """Starts fio, which runs until end_fio."""
        return self.start(["fio", "--name=client", "--ioengine=nbd", f"--uri={uri}",
                           "--time_based", "--runtime=3600", "--group_reporting",
                           "--output-format=json", f"--output={self.folder}/fio.json", *options],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)

    def end_fio(self, process):
        """Its report of the job; ends the script if it found anything wrong."""
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
        text = (self.folder / "fio.json").read_text()
        job = json.loads(text[text.index("{"):])["jobs"][0]
        if process.returncode not in (0, 128) or job["error"]:  # 128: it was interrupted
            sys.exit(f"fio found something wrong (status {process.returncode}):\n{said}")
        return job


def percentile(values, percent):
    """The value that this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def machine():
    model = platform.machine()
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            model = " ".join(line.split(":")[1].split())
            break
    load = os.getloadavg()[0]
    return (f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}, "
            f"load {load:.1f} before the start")


def commit():
    done = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout.strip() or "unknown"


class Result:
    """The page that comes out of a script."""

    def __init__(self, title, args):
        self.name = pathlib.Path(sys.argv[0]).name
        self.save = args.save
        command = " ".join(["./dev bench", self.name, *sys.argv[1:]])
        today = datetime.date.today().isoformat()
        self.lines = [f"# {title}", "", f"{today}, commit {commit()}", "", f"    {command}", "",
                      f"Machine: {machine()}", ""]

    def text(self, text):
        self.lines += [text, ""]

    def table(self, head, *rows):
        rows = [head, *[[str(cell) for cell in row] for row in rows]]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        for number, row in enumerate(rows):
            cells = [cell.ljust(widths[i]) if i == 0 else cell.rjust(widths[i])
                     for i, cell in enumerate(row)]
            self.lines.append("| " + " | ".join(cells) + " |")
            if number == 0:
                marks = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
                self.lines.append("| " + " | ".join(marks) + " |")
        self.lines.append("")

    def end(self):
        page = "\n".join(self.lines)
        print(page)
        if self.save:
            path = ROOT / "bench" / f"results-{self.name}.md"
            path.write_text(page.rstrip() + "\n")
            print(f"written to {path.relative_to(ROOT)}")
