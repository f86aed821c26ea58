"""Kubernetes: the base, its overlays and components by hand; the Helm chart made from them by `chart`."""
