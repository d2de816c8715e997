"""Tests of the Oracle store."""
