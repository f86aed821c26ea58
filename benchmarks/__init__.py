"""Speed, beside that of peers: every figure in the documents comes from a result file that one of these wrote."""
