"""The service levels as code, and the rules that Prometheus loads; `deploy.render` writes what is made."""
