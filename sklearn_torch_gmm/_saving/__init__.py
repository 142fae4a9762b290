"""Estimators in directories and in pickles."""
