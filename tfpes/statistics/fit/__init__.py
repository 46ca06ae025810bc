"""Estimators of means and scales."""
