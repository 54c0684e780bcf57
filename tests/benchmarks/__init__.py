"""Benchmarks: numbers with their device, versions, runs and spread. Run by hand, never by the tests."""
