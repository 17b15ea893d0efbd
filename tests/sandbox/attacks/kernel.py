"""Attacks that call the odder corners of the kernel directly."""

from __future__ import annotations

from cases import call

call("io_uring_setup", "425, (8, b'\\0' * 200)")
call("userfaultfd", "(323, 282), (0,)")
call("memfd_create", "(319, 279), (b'x', 0)", control=True)
call("memfd_secret", "447, (0,)")
call("shmget", "(29, 194), (0, 4096, 0o1600)", control=True)
call("mq_open", "(240, 180), (b'x', 0o100, 0o600, 0)")
call("keyctl", "(250, 219), (0, -3, 1)")
call("add_key", "(248, 217), (b'user', b'x', b'y', 1, -1)")
call("bpf", "(321, 280), (0, b'\\0' * 128, 128)")
call("perf_event_open", "(298, 241), (b'\\0' * 128, 0, -1, -1, 0)")
call("unshare a user namespace", "(272, 97), (0x10000000,)")
call("setns", "(308, 268), (0, 0)")
call("clone3", "435, (b'\\0' * 88, 88)")
call("mount", "(165, 40), (b'none', b'/tmp', b'tmpfs', 0, 0)")
call("inotify_init1", "(294, 26), (0,)", control=True)
call("eventfd2", "(290, 19), (0, 0)", control=True)
call("epoll_create1", "(291, 20), (0,)", control=True)
call("signalfd4", "(289, 74), (-1, b'\\0' * 8, 8, 0)", control=True)
call(
    "timer_create with SIGKILL",
    "(222, 107), (0, b'\\0' * 8 + b'\\x09\\0\\0\\0' + b'\\0' * 52, b'\\0' * 8)",
    control=True,
)
call("process_vm_readv", "(310, 270), (@SENTINEL@, 0, 0, 0, 0, 0)", control=True)
call(
    "name_to_handle_at",
    "(303, 264), (-100, b'/etc/passwd', b'\\x80\\0\\0\\0' + b'\\0' * 200, b'\\0' * 8, 0)",
    control=True,
)
call("seccomp", "(317, 277), (0, 0, 0)")
call("landlock_create_ruleset", "444, (0, 0, 1)", control=True)
call("personality", "(135, 92), (0x0040000,)", control=True)
call("swapoff", "(168, 225), (b'/x',)")
call("x32 getpid", "(0x40000027, 172 + 100000), ()")
call("statfs", "(137, 43), (b'/', b'\\0' * 200)", control=True)
call("setpriority", "(141, 140), (0, 0, 10)", control=True)
call("sched_setaffinity", "(203, 122), (0, 8, b'\\x01' + b'\\0' * 7)", control=True)
call("mlock", "(149, 228), (0, 0)", control=True)
call("fallocate on stdin", "(285, 47), (0, 0, 0, 4096)")
