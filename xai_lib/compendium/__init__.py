"""The machinery around the algorithms: study files, verdicts, runs, the book, and the `xai` command.

The algorithms never import it.
"""
