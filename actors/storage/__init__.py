"""What a run reads and keeps outside of its own disks: URIs that each process resolves for itself, by fsspec."""
