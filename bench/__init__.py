"""Measurements that print a table. They are run by hand and hold nothing: tests do."""
