"""Changing the model while the worker runs.

changeover  watches the bundles' folders; verifies, loads and adopts a new one
link        `hamgate use` and `hamgate back`: points the watched link at another bundle
shadow      a second model judges what was committed; its differences are published, its verdicts are not
compare     `hamgate compare`: reads the shadow's topic
paired      what training says of two bundles on the same rows, as a file beside the candidate
drift       compares the scores with those of the bundle's evaluation
"""
