"""grafana/METRICS.md: every metric that a process exports."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric

from actors.observability import metrics
from actors.observability.exposition import EVERY, OF_ROLE
from docs.generate.markdown import MADE, table
from docs.generate.normal import NORMAL

EXPORTED = f"""\
# Metrics

Every process of a run serves `/metrics` for Prometheus; the controller's `/targets` lists them all
([operations](../docs/operations.md#prometheus)), with the labels `run`, `role` and `member`. A process exports what it
owns, what every process has (first table), and `process_*` and `python_*` of `prometheus_client`. Names have the prefix
`leeway_` and base units. A counter with known labels begins at zero, and no label holds what grows with a run.

Where OpenMetrics is asked for, as Prometheus does, the latencies of groups carry *exemplars* with the `group_id`. Every
counter and histogram has a series `_created`, the time from which it counts.

`role` as a label of our own (restarts, pools) and `role` of the target are two things: scrape with
`honor_labels: true`, or the former is called `exported_role`.

{MADE}"""

INTROS = {
    "every process": "",
    "controller": "Also serves the status page, see [operations](../docs/operations.md#status-page).",
    "replay": "The ledger's counts: issued = in flight + ready + delivered + trained + committed + dropped.",
    "generator": "",
    "verifier": "Those of the sandbox are served by `leeway sandbox serve` as well.",
    "scorer": "A run has scorers where `preferences` has a reward model.",
    "learner": "Rank 0 exports them; the other ranks what every process has.",
}

VLLM = """\
## vLLM

A generator with vLLM exports vLLM's own metrics, too, with the labels `model_name` and `engine`. Those that the
dashboards use:

| metric | type | unit | meaning |
| --- | --- | --- | --- |
| `vllm:num_requests_running` | gauge | requests | in the batch that the engine computes |
| `vllm:num_requests_waiting` | gauge | requests | waiting for room; for long: too many groups in flight |
| `vllm:kv_cache_usage_perc` | gauge | share | of the key-value cache; near 1 sequences are preempted |
| `vllm:num_preemptions_total` | counter | sequences | computed again for want of cache |
| `vllm:generation_tokens_total` | counter | tokens | sampled |
| `vllm:prompt_tokens_total` | counter | tokens | of prompts |
| `vllm:prefix_cache_hits_total` | counter | tokens | of prompts that were in the cache |
| `vllm:prefix_cache_queries_total` | counter | tokens | of prompts that were looked for there |
| `vllm:time_to_first_token_seconds` | histogram | seconds | of a request |
| `vllm:inter_token_latency_seconds` | histogram | seconds | between two tokens of a sequence |
| `vllm:e2e_request_latency_seconds` | histogram | seconds | of a request, a group's completions |
| `vllm:request_success_total` | counter | requests | ended, by `finished_reason` |"""


def exported_page() -> str:
    """Every metric by the process that exports it, with unit, labels, meaning and normal range.

    Raises:
        KeyError: NORMAL does not say what is normal for a metric.
    """
    parts = [EXPORTED]
    of = {"every process": (EVERY,)} | OF_ROLE
    head = ["metric", "type", "unit", "labels", "meaning", "normal"]
    for owner, intro in INTROS.items():
        found = sorted(row for registry in of[owner] for row in _rows(registry))
        parts += [f"## {owner.capitalize()}", *filter(None, [intro]), table(head, found)]
    return "\n\n".join([*parts, VLLM]) + "\n"


def names() -> set[str]:
    """Every metric of ours, as Prometheus calls its samples."""
    found: set[str] = set()
    for registry in (EVERY, *(registry for registries in OF_ROLE.values() for registry in registries)):
        for name, family, _ in _families(registry):
            found |= (
                {f"{name}{suffix}" for suffix in ("_bucket", "_sum", "_count")}
                if family.type == "histogram"
                else {name}
            )
    return found


def _rows(registry: CollectorRegistry) -> Iterator[list[str]]:
    for name, family, labels in _families(registry):
        shown = ", ".join(f"`{label}`" for label in labels)
        yield [f"`{name}`", family.type, unit_of(name), shown, family.documentation, NORMAL[name]]


def _families(registry: CollectorRegistry) -> Iterator[tuple[str, Metric, tuple[str, ...]]]:
    for collector in list(registry._collector_to_names):
        labels: tuple[str, ...] = tuple(getattr(collector, "_labelnames", ()))
        for family in collector.collect():
            if family.name.startswith("leeway"):
                suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
                # a collector of our own names its labels in what it collects
                yield (
                    family.name + suffix,
                    family,
                    labels or tuple(getattr(family, "_labelnames", ())) or INFO.get(family.name, ()),
                )


#: The labels of the metrics that are nothing but labels.
INFO = {
    "leeway_build": ("version", "python", "torch", "ray", "vllm"),
    "leeway_run": ("run", "recipe", "objective", "model"),
}
#: The unit of a metric by the end of its name; what ends otherwise counts what its name says.
_UNITS = ("bytes_per_second", "seconds", "bytes", "tokens", "versions", "groups", "accuracy", "info", "version")


def unit_of(name: str) -> str:
    """The unit in which a metric is, from its name."""
    stem = name.removesuffix("_total")
    unit = next((unit for unit in _UNITS if stem.endswith(f"_{unit}")), "")
    return {"": "number", "accuracy": "share", "info": "1", "bytes_per_second": "bytes/s"}.get(unit, unit)


assert metrics.BUSY in EVERY._collector_to_names, "importing it is what registers them all"
