"""The table of objectives and their parts for docs/recipes.md, generated from the configuration itself."""

from __future__ import annotations

from learner.config import PRESETS, ObjectiveConfig

SOURCES: dict[str, tuple[str, str]] = {
    "grpo": ("GRPO", "Shao et al. 2024 (DeepSeekMath) eq. 3; DeepSeek-AI 2025 (R1) eq. 1-3"),
    "dr_grpo": ("Dr. GRPO", "Liu et al. 2025, section 3.2"),
    "dapo": ("DAPO", "Yu et al. 2025, eq. 8; its soft overlong punishment is `rewards.overlong_max_tokens`"),
    "gspo": ("GSPO", "Zheng et al. 2025, eq. 5 and 7"),
    "cispo": ("CISPO", "MiniMax 2025 (M1), eq. 4 and 5"),
    "sapo": (
        "SAPO",
        "Gao et al. 2025 (arXiv 2511.20347); no clip, but gates: `gate_positive`, `gate_negative`",
    ),
    "dppo": ("DPPO", "arXiv 2602.04879; no clip, but tokens over `divergence_bound` are left out"),
    "maxrl": ("MaxRL", "Tajwar et al. 2026 (arXiv 2602.02710); with PPO's clip"),
    "decoupled_ppo": ("Decoupled PPO", "Hilton et al. 2021; Fu et al. 2025 (AReaL), eq. 5"),
    "reinforce": ("REINFORCE, truncated weights", "Williams 1992; weights: Yao et al. 2025"),
}


def objectives_table() -> str:
    """Markdown: every `objective.name`, what it sets, and where it comes from."""
    lines = [
        "| `objective.name` | objective | loss | advantage | aggregation | clip | old policy | correction | source |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in PRESETS:
        c = ObjectiveConfig(name=name)
        title, source = SOURCES[name]
        clip = "none" if c.loss in ("reinforce", "sapo", "dppo") else f"{1 - c.clip_low:g} to {1 + c.clip_high:g}"
        correction = c.correction if c.correction == "none" else f"{c.correction}, C = {c.correction_high:g}"
        cells = [f"`{name}`", title, c.loss, c.advantage, c.aggregation, clip, c.old_policy, correction, source]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
