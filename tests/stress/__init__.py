"""Trials that break the program in every way that its users will: `make soak` runs them for an hour.

Each trial starts `cian` in a forked process, does something to it or to its files, and says what was wrong afterwards.
`docs/promises.md` says what is promised.
"""
