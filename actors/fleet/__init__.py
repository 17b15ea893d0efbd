"""A fleet without models: hundreds of roles on one machine, under the real control plane."""
