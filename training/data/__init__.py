"""Messages: read, cleaned, de-duplicated, clustered, split, disguised."""
