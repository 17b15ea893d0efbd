"""The configuration file: what is wrong in it is named by file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import RewardConfig, SandboxConfig
from sandbox.errors import ConfigError
from sandbox.settings import Settings, load


def _load(tmp_path: Path, content: str) -> Settings:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    return load(path)


def test_without_a_file_or_with_an_empty_one_the_defaults_stand(tmp_path: Path) -> None:
    assert load(None) == _load(tmp_path, "") == Settings(sandbox=SandboxConfig(), rewards=RewardConfig())


def test_an_option_replaces_the_number_of_workers_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("sandbox: {workers: 3, test_seconds: 1}\n")
    loaded = load(path, workers=5).sandbox
    assert (loaded.workers, loaded.test_seconds) == (5, 1.0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("sandbox: {workerz: 1}", "sandbox.workerz: there is no such key; did you mean `sandbox.workers`?"),
        ("rewards: {weights: {acuracy: 1}}", "did you mean `rewards.weights.accuracy`?"),
        ("sandbx: {}", "did you mean `sandbox`?"),
        ("workers: 2", "workers: there is no such key; did you mean `sandbox.workers`?"),
        ("format: boxed", "did you mean `rewards.format`?"),
        ("sandbox:", "sandbox: must be a section with keys of its own"),
        ("rewards: {weights: }", "rewards.weights: must be a section with keys of its own"),
        ("name: x\nmodel: {}\ntasks: {}", "this is a recipe; give a file with only `sandbox` and `rewards`"),
        ("sandbox: {xyz: 1}", "sandbox.xyz: there is no such key"),
        ("sandbox: {workers: 0}", "sandbox.workers: Input should be greater than or equal to 1"),
        ("sandbox: {workers: 0, test_seconds: -1}", "(and 1 more)"),
        ("rewards: {overlong_max_tokens: 1}", "overlong_cache_tokens must not exceed"),
        ("rewards: {language: no}", "rewards.language: Input should be a valid string"),
        ("sandbox:\n  workers: 1\n  workers: 2", "settings.yaml:3: the key 'workers' occurs twice"),
        ("- 1", "a mapping with the keys `sandbox` and `rewards`"),
        ("a: [", "settings.yaml:1: "),
        ("a: !!timestamp x", "not YAML"),
        ("a: 2026-13-01", "not YAML"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, content: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, content)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
