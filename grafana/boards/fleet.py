"""Fleet and faults: which processes there are, what befell them, the journal, and the machines."""

from grafana.panels import MUST_HOLD, NONE_IS_WELL, Board, Row, above, below, panel, quantiles

FLEET = Row(
    "Fleet",
    (
        panel(
            "Processes by role",
            "short",
            "On the membership list, and how many a pool is to have.",
            ("max by (role) (leeway_workers)", "{{role}}"),
            ("max by (role) (leeway_pool_size_wanted)", "{{role}} wanted"),
            runbook="Generator does not come up",
        ),
        panel(
            "Not at work",
            "short",
            "Processes that are silent, stuck or lost, by role.",
            ("max by (role) (leeway_unresponsive)", "{{role}}"),
            limit=NONE_IS_WELL,
            runbook="LeewayProcessUnresponsive",
        ),
        panel(
            "Scraped",
            "bool_yes_no",
            "Whether Prometheus reached each process. One that is gone for good leaves the list.",
            ("max by (member) (up)", "{{member}}"),
            kind="timeline",
            limit=MUST_HOLD,
            runbook="LeewayScrapeGone",
        ),
        panel(
            "Restarts by role",
            "short",
            "Processes replaced since the controller began. A steady climb is a crash loop.",
            ("max by (role) (leeway_restarts_total)", "{{role}}"),
            runbook="LeewayCrashLoop",
        ),
        panel(
            "Recovery",
            "s",
            "From a fault until work flowed again, by role and kind: median over the whole range.",
            (
                "histogram_quantile(0.5, sum by (le, role, fault) "
                "(increase(leeway_recovery_seconds_bucket[$__range])))",
                "{{role}} {{fault}}",
            ),
            runbook="Worker stuck",
        ),
        panel(
            "Versions of the software",
            "short",
            "Processes by the version that they run. More than one during a rolling update alone.",
            ("count by (version) (leeway_build_info)", "{{version}}"),
        ),
    ),
)
JOURNAL = Row(
    "Journal",
    (
        panel(
            "Writes",
            "s",
            "One transaction of the replay's journal. Slow disks hold up every group.",
            *quantiles("leeway_journal_write_seconds", shares=(0.5, 0.99)),
            limit=above("MAX_JOURNAL_SECONDS"),
            runbook="LeewayJournalSlow",
        ),
        panel(
            "Lag",
            "s",
            "Age of the oldest change that is not in the journal: what a crash could lose of the answers not yet sent.",
            ("max(leeway_journal_lag_seconds)", "lag"),
        ),
        panel(
            "Blocked",
            "bool_yes_no",
            "The journal cannot be written, and the run stands still.",
            ("max(leeway_journal_blocked)", "blocked"),
            kind="timeline",
            limit=NONE_IS_WELL,
            runbook="LeewayJournalBlocked",
        ),
        panel(
            "Size",
            "bytes",
            "Of the journal on its disk; it is made small again now and then.",
            ("sum(leeway_journal_size_bytes)", "journal"),
        ),
        panel(
            "Bytes written",
            "Bps",
            "Groups, calls and events written to the journal.",
            ("sum(rate(leeway_journal_written_bytes_total[W]))", "bytes/s"),
        ),
        panel(
            "Room on the disks",
            "bytes",
            "Free bytes of the disks that hold the run folder and the journal.",
            ("min by (folder) (leeway_disk_free_bytes)", "{{folder}}"),
            limit=below("MIN_DISK_FREE_BYTES"),
            runbook="LeewayDiskNearlyFull",
        ),
    ),
)
PROCESSES = Row(
    "Processes",
    (
        panel(
            "Memory",
            "bytes",
            "Resident memory by process. One that only grows will be killed.",
            ("max by (member) (process_resident_memory_bytes)", "{{member}}"),
        ),
        panel(
            "CPU",
            "short",
            "Cores that each process uses.",
            ("max by (member) (rate(process_cpu_seconds_total[W]))", "{{member}}"),
        ),
        panel(
            "Open files",
            "short",
            "File descriptors by process, sockets among them.",
            ("max by (member) (process_open_fds)", "{{member}}"),
        ),
    ),
)
BOARD = Board(
    "fleet",
    "Fleet and faults",
    "Which processes there are, what befell them, the journal, and the machines.",
    (FLEET, JOURNAL, PROCESSES),
)
