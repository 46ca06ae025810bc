"""What the four benchmarks of trained models share.

``data``: sets and their parts; ``losses``: what is compared; ``trainer``: one compiled
step for all losses; ``measures``: errors, slopes and shares of gradients; ``store``:
finished runs, kept in files; ``study``: runs by their settings.
"""
