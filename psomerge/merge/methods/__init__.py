"""Merge methods: how experts become one model. The ones that need no search are `psomerge merge`'s and the
baselines."""
