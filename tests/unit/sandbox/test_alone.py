"""The sandbox without the rest: no Ray, no torch, no wire, no learner, no actors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ALONE = """
import sys

class Absent:
    names = {"ray", "torch", "zmq", "vllm", "transformers", "msgpack", "datasets", "reasoning_gym", "actors", "learner"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

sys.meta_path.insert(0, Absent())
from sandbox import Grade, Pool, RewardConfig, SandboxConfig, Status, Submission, Verdict, answer_of, verifier

@verifier("shout")
def shout(submission):
    return (answer_of(submission.response) or "").isupper()

submissions = [
    Submission("exact", "<answer>4</answer>", {"answer": "4"}),
    Submission("math", r"\\boxed{(x+1)^2}", {"answer": "x^2+2x+1"}),
    Submission("stdio", "```python\\nprint(input())\\n```", {"tests": [{"stdin": "a", "stdout": "a"}]}),
    Submission("shout", "<answer>HEY</answer>", {}),
]
with Pool(SandboxConfig(workers=1), RewardConfig(language="en")) as pool:
    assert [verdict.status for verdict in pool.score(submissions, 120)] == ["ok"] * 4
import sandbox.cli, sandbox.server
sandbox.server.make_app(pool)
assert not Absent.names & {name.partition(".")[0] for name in sys.modules}
print("alone")
"""


def test_it_works_where_nothing_else_is_installed() -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r})\n{_ALONE}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd="/")
    assert ended.stdout == "alone\n", ended.stderr


_SCORE = """
import sys

class Absent:
    names = {
        "ray", "torch", "vllm", "transformers", "datasets", "reasoning_gym", "accelerate", "gguf", "httpx", "peft",
        "psutil", "safetensors", "tensorboard",
    }

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

sys.meta_path.insert(0, Absent())
from actors.cli import main

sys.argv = ["leeway", *sys.argv[1:]]
main()
"""


def test_leeway_score_works_without_what_training_needs(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    file = tmp_path / "in.jsonl"
    file.write_text('{"id": 1, "verifier": "math", "response": "\\\\boxed{x+x}", "answer": "2x"}\n')
    boot = f"import sys; sys.path.insert(0, {str(root)!r})\n{_SCORE}"
    for arguments in (["score", str(file)], ["sandbox", "score", str(file)]):
        command = [sys.executable, "-c", boot, *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert '"status": "ok"' in ended.stdout
