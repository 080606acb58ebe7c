"""Becomes another program that cannot outlive the process that started it.

Run by path with `python -I -S`, before any package of ours can be imported. The arguments are
the parent's pid, the signal to get when the parent dies, the uid and gid to become (or -1), and
the program with its arguments.

An exec shim in place of `preexec_fn`: Python code between fork and exec is not safe in a process
that has threads. The order matters: changing the uid clears the death signal, and a parent that
died before the signal was set is noticed only by asking again.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Never returns: the process is the program afterwards, or it has ended."""
    parent, death_signal, uid, gid = (int(value) for value in argv[:4])
    program = argv[4:]
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            sys.exit(f"cannot ask for a signal at the parent's death: errno {ctypes.get_errno()}")
    if os.getppid() != parent:
        sys.exit("the supervisor is gone already")
    try:
        os.execvpe(program[0], program, os.environ)
    except OSError as err:
        sys.exit(f"cannot start {program[0]}: {err.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
