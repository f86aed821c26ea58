"""How fast, and beside what: every metadata of speed comes from a file that one of these has written."""
