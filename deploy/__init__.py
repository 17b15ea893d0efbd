"""Manifests for Kubernetes: `render` fits them to a recipe, `check` says what a cluster would refuse."""
