"""Grafana's dashboards as code: `panels` says how one looks, `dashboards` what there is; `deploy.render` writes them."""
