"""Answers over HTTP: the app, the processes that run it, and how a new bundle takes the place of the old."""
