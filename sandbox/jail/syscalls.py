"""The system calls a model-written program may make, by architecture.

Everything else is refused with EPERM (ENOSYS for calls newer than 2019, so that C libraries use their fallbacks). What
needs a look at its arguments is in `sandbox.jail.seccomp`. Numbers: arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h of Linux.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

# The most frequent first: kernels without the seccomp action cache walk the list from its start.
_X86_64_ALLOWED = {
    "read": 0, "write": 1, "lseek": 8, "mmap": 9, "munmap": 11, "brk": 12, "close": 3, "fstat": 5, "futex": 202,
    "mprotect": 10, "mremap": 25, "madvise": 28, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
    "clock_gettime": 228, "exit": 60, "exit_group": 231, "poll": 7, "pread64": 17, "pwrite64": 18, "readv": 19,
    "writev": 20, "pipe": 22, "select": 23, "sched_yield": 24, "dup": 32, "dup2": 33, "pause": 34,
    "nanosleep": 35, "getitimer": 36, "alarm": 37, "setitimer": 38, "getpid": 39, "uname": 63, "getcwd": 79,
    "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104,
    "geteuid": 107, "getegid": 108, "getppid": 110, "getpgrp": 111, "getgroups": 115, "getresuid": 118,
    "getresgid": 120, "rt_sigpending": 127, "rt_sigtimedwait": 128, "rt_sigsuspend": 130, "sigaltstack": 131,
    "arch_prctl": 158, "gettid": 186, "time": 201, "sched_getaffinity": 204, "getdents64": 217, "set_tid_address": 218,
    "restart_syscall": 219, "clock_getres": 229, "clock_nanosleep": 230, "pselect6": 270, "ppoll": 271,
    "set_robust_list": 273, "dup3": 292, "pipe2": 293, "preadv": 295, "pwritev": 296, "getcpu": 309, "getrandom": 318,
    "rseq": 334, "close_range": 436,
}  # fmt: skip
_X86_64_FILES = {
    "newfstatat": 262, "stat": 4, "openat": 257, "open": 2, "lstat": 6, "access": 21, "faccessat": 269,
    "statx": 332, "faccessat2": 439,
}  # fmt: skip
_X86_64_SCRATCH = {
    "mkdir": 83, "rmdir": 84, "unlink": 87, "rename": 82, "chdir": 80, "fchdir": 81, "ftruncate": 77, "fsync": 74,
    "fdatasync": 75, "mkdirat": 258, "unlinkat": 263, "renameat": 264, "renameat2": 316,
}  # fmt: skip
_X86_64_CHECKED = {
    "clone": 56, "clone3": 435, "kill": 62, "tgkill": 234, "prlimit64": 302, "setrlimit": 160, "fcntl": 72, "ioctl": 16,
    "prctl": 157, "readlink": 89, "readlinkat": 267,
}  # fmt: skip
_AARCH64_ALLOWED = {
    "read": 63, "write": 64, "lseek": 62, "mmap": 222, "munmap": 215, "brk": 214, "close": 57, "fstat": 80, "futex": 98,
    "mprotect": 226, "mremap": 216, "madvise": 233, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139,
    "clock_gettime": 113, "exit": 93, "exit_group": 94, "pread64": 67, "pwrite64": 68, "readv": 65, "writev": 66,
    "sched_yield": 124, "dup": 23, "nanosleep": 101, "getitimer": 102, "setitimer": 103, "getpid": 172,
    "uname": 160, "getcwd": 17, "gettimeofday": 169, "getrlimit": 163, "getrusage": 165, "sysinfo": 179, "times": 153,
    "getuid": 174, "getgid": 176, "geteuid": 175, "getegid": 177, "getppid": 173, "getgroups": 158, "getresuid": 148,
    "getresgid": 150, "rt_sigpending": 136, "rt_sigtimedwait": 137, "rt_sigsuspend": 133, "sigaltstack": 132,
    "gettid": 178, "sched_getaffinity": 123, "getdents64": 61, "set_tid_address": 96, "restart_syscall": 128,
    "clock_getres": 114, "clock_nanosleep": 115, "pselect6": 72, "ppoll": 73, "set_robust_list": 99, "dup3": 24,
    "pipe2": 59, "preadv": 69, "pwritev": 70, "getcpu": 168, "getrandom": 278, "rseq": 293, "close_range": 436,
}  # fmt: skip
_AARCH64_FILES = {"newfstatat": 79, "openat": 56, "faccessat": 48, "statx": 291, "faccessat2": 439}
_AARCH64_SCRATCH = {
    "mkdirat": 34, "unlinkat": 35, "renameat": 38, "renameat2": 276, "chdir": 49, "fchdir": 50, "ftruncate": 46,
    "fsync": 82, "fdatasync": 83,
}  # fmt: skip
_AARCH64_CHECKED = {
    "clone": 220, "clone3": 435, "kill": 129, "tgkill": 131, "prlimit64": 261, "setrlimit": 164, "fcntl": 25,
    "ioctl": 29, "prctl": 167, "readlinkat": 78,
}  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    """One system-call interface.

    Attributes:
        audit: AUDIT_ARCH_* constant that seccomp reports for it.
        allowed: calls that are harmless whatever their arguments.
        files: calls that open or look at files by path; Landlock decides about them.
        scratch: calls that change files, for programs with a directory of their own; Landlock decides about them, too.
        checked: calls of which only some arguments are harmless.
        x32: calls with this bit set use another interface and are killed; 0 where there is none.
    """

    audit: int
    allowed: dict[str, int]
    files: dict[str, int]
    scratch: dict[str, int]
    checked: dict[str, int]
    x32: int


ARCHITECTURES = {
    "x86_64": Architecture(0xC000003E, _X86_64_ALLOWED, _X86_64_FILES, _X86_64_SCRATCH, _X86_64_CHECKED, 0x40000000),
    "aarch64": Architecture(0xC00000B7, _AARCH64_ALLOWED, _AARCH64_FILES, _AARCH64_SCRATCH, _AARCH64_CHECKED, 0),
}


def native() -> Architecture | None:
    """The architecture of this machine, or None if there is no table for it."""
    return ARCHITECTURES.get(platform.machine())
