"""Write every dashboard as JSON, and the kustomization that makes a ConfigMap of each.

python -m grafana.generate
"""

from pathlib import Path

import yaml

from grafana.boards import fleet, learner, overview, r1, rollouts, verifiers, weights
from grafana.frame import written

FOLDER = Path(__file__).parent
BOARDS = (overview.BOARD, r1.BOARD, rollouts.BOARD, learner.BOARD, weights.BOARD, verifiers.BOARD, fleet.BOARD)
MADE = "# Made by `python -m grafana.generate`. One ConfigMap a dashboard: one of near 1 MB would be refused.\n"


def current() -> dict[Path, str]:
    """Every file that is generated, with the text that it is to have."""
    files = {FOLDER / "dashboards" / f"{board.uid}.json": written(board, BOARDS) for board in BOARDS}
    return files | {FOLDER / "kustomization.yaml": _kustomization()}


def _kustomization() -> str:
    """Grafana's sidecar looks for the label `grafana_dashboard`; a fixed name lets it follow a change."""
    return MADE + yaml.safe_dump(
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "generatorOptions": {
                "disableNameSuffixHash": True,
                "labels": {"grafana_dashboard": "1", "app.kubernetes.io/name": "leeway"},
                "annotations": {"grafana_folder": "Leeway"},
            },
            "configMapGenerator": [
                {"name": f"{board.uid}-dashboard", "files": [f"dashboards/{board.uid}.json"]} for board in BOARDS
            ],
        },
        sort_keys=False,
    )


def main() -> None:
    for path, text in current().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
