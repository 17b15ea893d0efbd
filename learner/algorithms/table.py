"""The tables of objectives and of corrections for docs/recipes.md, generated from the configuration itself."""

from __future__ import annotations

from learner.objective import PRESETS, ObjectiveConfig

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
    "clip_cov": (
        "Clip-Cov",
        "Cui et al. 2025 (arXiv 2505.22617), eq. 10-12; `covariance_share` of the tokens with a covariance from "
        "`covariance_low` to `covariance_high` are left out, drawn from seed and version",
    ),
    "kl_cov": (
        "KL-Cov",
        "the same, eq. 13 and 14; `covariance_share` of the tokens, those with the largest covariance, pay "
        "`covariance_penalty`",
    ),
    "maxrl": ("MaxRL", "Tajwar et al. 2026 (arXiv 2602.02710); with PPO's clip"),
    "gdpo": (
        "GDPO",
        "Liu et al. 2026 (arXiv 2601.05242); the parts of the reward are normalised each on its own, and added up by "
        "`part_weights`",
    ),
    "decoupled_ppo": ("Decoupled PPO", "Hilton et al. 2021; Fu et al. 2025 (AReaL), eq. 5"),
    "reinforce": ("REINFORCE, truncated weights", "Williams 1992; weights: Yao et al. 2025"),
    "opd": (
        "On-policy distillation",
        "Lu et al. 2025 (Thinking Machines); Agarwal et al. 2024 (GKD, arXiv 2306.13649); a teacher's "
        "log-probabilities in place of rewards, see `distillation`",
    ),
}

CLIPLESS = ("reinforce", "sapo", "dppo", "kl_cov")

# Every correction but "none": its name, its weight of a token (rho_t: the ratio proximal / behaviour), its source.
CORRECTIONS: dict[str, tuple[str, str, str]] = {
    "token_tis": ("truncated importance sampling", "min(ρ_t, `correction_high`)", "Yao et al. 2025"),
    "sequence_tis": (
        "the same of whole completions",
        "min(∏ ρ_t, `correction_high`)",
        "Liu, Li et al. 2025 (When Speed Kills Stability)",
    ),
    "icepop": (
        "IcePop",
        "ρ_t from `correction_low` to `correction_high`, else 0",
        "Ling team 2025 (Ring-1T, arXiv 2510.18855)",
    ),
    "sequence_mask": (
        "geometric mask",
        "1 where the geometric mean of ρ_t over the completion is from `correction_low` to `correction_high`, else 0",
        "Liu, Li et al. 2025",
    ),
    "kpop": (
        "KPop",
        "ρ_t where max(KL(π ∥ μ), KL(μ ∥ π)) of the token against all others is at most `correction_divergence`, "
        "else 0",
        "Guo, Sun et al. 2026 (Taming Training-Inference Mismatch)",
    ),
    "trust_region": (
        "trust region masking",
        "1 where (log ρ_t)² / 2 is at most `correction_divergence` for every token of the completion, else 0",
        "Li, Liu et al. 2025 (arXiv 2512.23075), max criterion, estimated by k2",
    ),
}


def corrections_table() -> str:
    """Markdown: every `objective.correction`, what it makes of a token, and where it comes from."""
    lines = ["| `objective.correction` | name | weight of a token | source |", "|---|---|---|---|"]
    lines += [f"| `{key}` | {' | '.join(cells)} |" for key, cells in CORRECTIONS.items()]
    return "\n".join(lines) + "\n"


def objectives_table() -> str:
    """Markdown: every `objective.name`, what it sets, and where it comes from."""
    lines = [
        "| `objective.name` | objective | loss | advantage | aggregation | clip | old policy | correction | source |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in PRESETS:
        c = ObjectiveConfig(name=name)
        title, source = SOURCES[name]
        clip = "none" if c.loss in CLIPLESS else f"{1 - c.clip_low:g} to {1 + c.clip_high:g}"
        correction = c.correction if c.correction == "none" else f"{c.correction}, C = {c.correction_high:g}"
        cells = [f"`{name}`", title, c.loss, c.advantage, c.aggregation, clip, c.old_policy, correction, source]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
