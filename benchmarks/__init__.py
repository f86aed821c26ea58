"""How fast, and beside what: every claim of speed comes from a file that one of these has written."""
