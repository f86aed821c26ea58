"""How hamgate is run: containers, dashboards, and a broker of one's own."""
