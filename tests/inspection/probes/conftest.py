"""Probes are tried on the toy jobs of training."""

from ...training.conftest import everything, make_job, one_thread, toy_split, toys

__all__ = ["everything", "make_job", "one_thread", "toy_split", "toys"]
