"""Saving and loading of estimators, in directories and in pickles."""
